"""What earlier releases have left in their stores is read, and goes on, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import open_store
from perdure.clock import VirtualClock
from perdure.engine import verification
from tests.releases import __main__ as keeping
from tests.releases.folders import DUMP, FILE, FOLDER, frozen, load, names, unpacked
from tests.stores import DURABLE
from tests.upgrades.fleet import rows

SEALED = "SELECT tenant_id, scope, operation_id, response FROM operation WHERE state = 'sealed' ORDER BY 1, 2, 3"
STEPS = "SELECT count(*) FROM event"


@pytest.fixture(params=DURABLE)
async def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Any]:
    """Give the URL of a copy of what a release has left."""

    async def make(release: str) -> str:
        if request.param == "file":
            return unpacked(release, tmp_path / "store.db")
        url: str = request.getfixturevalue("postgres_url")
        await load(release, url)
        return url

    return make


@pytest.mark.parametrize("release", names())
async def test_a_store_of_an_earlier_release_is_read_and_goes_on(release: str, made: Callable[[str], Any]) -> None:
    url = await made(release)
    sealed = [tuple(row) for row in await rows(url, SEALED)]
    assert sealed

    async with open_store(url, create=False, clock=VirtualClock(int(frozen(release).LATER.timestamp()) * 1_000_000)) as store:
        assert await verification.verify(store) == []
    await frozen(release).check(url)

    assert set(sealed) <= {tuple(row) for row in await rows(url, SEALED)}
    async with open_store(url, create=False) as store:
        assert await verification.verify(store) == []


@pytest.mark.parametrize("release", names())
async def test_both_kinds_of_store_hold_the_same(release: str, postgres_url: str, tmp_path: Path) -> None:
    await load(release, postgres_url)

    here, there = await rows(postgres_url, SEALED), await rows(unpacked(release, tmp_path / "store.db"), SEALED)

    assert [tuple(row) for row in here] == [tuple(row) for row in there]


def test_what_a_release_has_left_is_never_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    release = names()[-1]
    monkeypatch.setattr(keeping, "RELEASE", release)
    before = {name: (FOLDER / release / name).read_bytes() for name in (FILE, DUMP)}

    assert "never made again" in keeping.main()

    assert {name: (FOLDER / release / name).read_bytes() for name in (FILE, DUMP)} == before

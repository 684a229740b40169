"""A source with rows in every table, and places for targets of every durable kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.copying.rows import fill
from tests.stores import DURABLE, store_url

Place = Callable[[str], str]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return the URL of a new store of a kind; of a file that is not there yet, each time another one."""
    made: list[str] = []

    def new(kind: str) -> str:
        made.append(kind)
        folder = tmp_path / f"store-{len(made)}"
        folder.mkdir()
        return store_url(request, kind, folder)

    return new


@pytest.fixture(params=DURABLE)
async def source(request: pytest.FixtureRequest, place: Place) -> str:
    url = place(request.param)
    await fill(url)
    return url


@pytest.fixture(params=DURABLE)
def target(request: pytest.FixtureRequest, place: Place) -> str:
    return place(request.param)

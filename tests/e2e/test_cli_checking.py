"""`perdure package check` and `perdure check-upgrade`: what CI sees of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from perdure import VirtualClock, open_store
from perdure.deploying.findings import Progress
from tests.deploying.versions import COMPATIBLE, FLOWS, INCOMPATIBLE, archive_of, edited
from tests.deploying.world import lived
from tests.e2e.conftest import Call


@pytest.fixture
def url(place: str) -> str:
    """A store in which the shop has worked."""

    async def fill() -> None:
        clock = VirtualClock()
        async with open_store(place, clock=clock) as store:
            await lived(store, clock)

    asyncio.run(fill())
    return place


@pytest.fixture
def good(tmp_path: Path) -> str:
    return _written(tmp_path / "good.zip", edited(COMPATIBLE[4]))


@pytest.fixture
def bad(tmp_path: Path) -> str:
    return _written(tmp_path / "bad.zip", edited(INCOMPATIBLE[0]))


def _written(path: Path, flows: str) -> str:
    path.write_bytes(archive_of(flows))
    return str(path)


@pytest.mark.parametrize("command", [["package", "check"], ["check-upgrade", "--package"]])
def test_the_exit_status_says_whether_something_would_break(call: Call, url: str, good: str, bad: str, command: list[str]) -> None:
    status, shown, errors = call(*command, good, "--store", url)

    assert (status, errors) == (0, "")
    assert "shop: compatible" in shown
    status, shown, _ = call(*command, bad, "--store", url)
    assert status == 1
    assert "diverges at step reserve" in shown
    assert "shop: not compatible; 1 found that would break" in shown


def test_a_program_gets_one_document(call: Call, url: str, bad: str) -> None:
    status, shown, _ = call("package", "check", bad, "--store", url, "--json", "--sample", "5", "--type", "Order")

    assert status == 1
    report = json.loads(shown)
    assert (report["ok"], report["breaking"], report["candidate"]) == (False, 1, "shop")
    assert [(one["process_type"], one["version"], one["checked"]) for one in report["types"]] == [("Order", None, 2)]
    found = report["findings"][0]
    assert (found["result"], found["step"], found["message"], found["open"]) == ("diverges at step reserve", "reserve", "p1", True)


def test_an_app_is_checked_by_its_name(call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checked_shop.py").write_text(FLOWS)
    (tmp_path / "broken_shop.py").write_text(edited(INCOMPATIBLE[7]))

    assert call("check-upgrade", "--app", "checked_shop:app", "--store", url)[0] == 0
    status, shown, _ = call("check-upgrade", "--app", "broken_shop:app", "--store", url)
    assert status == 1
    assert "pick-1" in shown


def test_an_app_whose_module_ends_the_program_is_not_said_to_fit(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ending_shop.py").write_text(FLOWS + "\nraise SystemExit(0)\n")

    status, _, errors = call("check-upgrade", "--app", "ending_shop:app", "--store", url)

    assert (status, "importing it ends the program" in errors) == (2, True)


def test_wrong_usage_is_told_from_what_would_break(call: Call, url: str, good: str, tmp_path: Path) -> None:
    refused = tmp_path / "refused.zip"
    refused.write_bytes(b"nothing")

    assert call("check-upgrade", "--store", url)[0] == 2
    assert call("check-upgrade", "--app", "a:b", "--package", good, "--store", url)[0] == 2
    assert call("check-upgrade", "--app", "no_such_module:app", "--store", url)[0] == 2
    assert call("check-upgrade", "--app", "a:b", "--key", "0" * 64, "--store", url)[0] == 2
    assert call("package", "check", str(tmp_path / "none.zip"), "--store", url)[0] == 2
    assert call("package", "check", good, "--sample", "0", "--store", url)[0] == 2
    assert call("package", "check", good, "--key", "short", "--store", url)[0] == 2
    status, _, errors = call("package", "check", str(refused), "--store", url)
    assert (status, "package-archive-malformed" in errors) == (2, True)


def test_a_package_that_nobody_trusted_has_signed_is_not_imported(call: Call, url: str, tmp_path: Path) -> None:
    path = _written(tmp_path / "shop.zip", FLOWS)

    status, _, errors = call("package", "check", path, "--key", "0" * 64, "--store", url)

    assert (status, "package-untrusted" in errors) == (2, True)


def test_long_work_tells_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from perdure.cli.checking import _tell

    for done in (1, 10_000):
        _tell(Progress(done, 20_000, 3))

    assert capsys.readouterr().err == "10,000 of 20,000 processes; 3 found that would break\n"


def test_a_package_with_an_interpreter_of_its_own_is_checked_in_one(
    call: Call, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "apart.zip").write_bytes(archive_of(edited(INCOMPATIBLE[0]), apart=True))

    status, shown, _ = call("package", "check", str(tmp_path / "apart.zip"), "--store", url)

    assert status == 1
    assert "diverges at step reserve" in shown
    assert (tmp_path / "cache" / "perdure" / "environments").is_dir()

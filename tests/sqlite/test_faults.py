"""Every write, sync and truncation of every kind of transaction fails once, or from then on; then the store is opened again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from perdure import limits
from tests.sqlite.disk import Call, Disk, io_error, no_room
from tests.sqlite.script import REJECTED, ROUNDS, Told, check, empty_shop, perform, put
from tests.sqlite.shop import open_shop


@pytest.fixture(autouse=True)
def early_checkpoint(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 12)
    caplog.set_level(logging.CRITICAL)  # hundreds of poisoned stores say so


async def test_the_script_meets_every_kind_of_call(tmp_path: Path) -> None:
    path, disk, told = put(await empty_shop(tmp_path / "made"), tmp_path / "run"), Disk(), Told()

    await perform(path, disk.called, told)

    assert told.done == {act for acts in ROUNDS for act in acts} - REJECTED
    assert set(disk.calls) == {Call(method, kind) for method in ("write", "sync", "truncate") for kind in ("db", "wal")}
    check(apsw.Connection(str(path)), told)


@pytest.mark.parametrize("error", [io_error, no_room])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
async def test_whatever_fails_each_transaction_is_whole_or_absent_and_settled_rightly(
    tmp_path: Path, error: Callable[[Call], Exception], forever: bool
) -> None:
    template = await empty_shop(tmp_path / "made")
    number, unknown = 0, 0
    while True:
        path, disk, told = put(template, tmp_path / f"run{number}"), Disk(), Told()
        disk.fail_at(number, error, forever=forever)
        await perform(path, disk.called, told)
        if number >= len(disk.calls):
            break
        disk.heal()

        again = await open_shop(path, vfs=disk.called)
        settled = {act for act, outcome in told.unknown.items() if await again.settle(outcome)}
        there = check(again._file.writing, told)

        assert {act for act in told.unknown if act in there} == settled
        await again.backend.close()
        unknown += len(told.unknown)
        number += 1
    assert number > 40
    assert unknown or error is no_room

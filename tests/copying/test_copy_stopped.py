"""A copy that is stopped, at any moment, cannot be used, goes on where it was, and ends as if it had not been stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perdure import VirtualClock, copy_store, limits, open_store
from perdure.core.table import Table
from perdure.core.transfer import Contents, Import, Moved, Values, transfer
from perdure.errors import CopyFailed, CopyRefused, CopyUnfinished, EngineRunning, StoreNotFound
from perdure.identity import SYSTEM_RANDOMNESS
from perdure.store import connection
from perdure.tables import TABLES
from tests.copying.conftest import Place
from tests.copying.rows import EACH, fill
from tests.copying.test_copy_store import NextTick, contents

ROOT = Path(__file__).parents[2]
CHUNK = 5
COPIES_AND_IS_KILLED = f"""
import asyncio, os, signal, sys
from perdure import copy_store, limits
limits.COPY_ROWS = {CHUNK}
left = int(sys.argv[3])
def progress(moved):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(copy_store(sys.argv[1], sys.argv[2], progress=progress))
"""


class Stopped(Exception):
    """The copy was stopped by the test."""


class Stopping:
    """An import that stops at its call number `at`, or at one of that name: before it, or behind it."""

    def __init__(self, target: Import, at: int | str, *, behind: bool) -> None:
        self._target = target
        self._at = at
        self._behind = behind
        self.calls: list[str] = []

    async def _call(self, name: str, *arguments: Any) -> Any:
        self.calls.append(name)
        stops = self._at in {name, len(self.calls)}
        if stops and not self._behind:
            raise Stopped
        found = await getattr(self._target, name)(*arguments)
        if stops:
            raise Stopped
        return found

    async def begin(self, source: Contents, tables: Sequence[Table[Any]]) -> bool:
        return bool(await self._call("begin", source, tables))

    async def add(self, table: Table[Any], rows: Sequence[Values]) -> None:
        await self._call("add", table, rows)

    async def finish(self, source: Contents) -> None:
        await self._call("finish", source)

    async def last(self, table: Table[Any]) -> Values | None:
        return await self._target.last(table)

    async def contents(self) -> Contents:
        return await self._target.contents()

    async def rows(self, table: Table[Any], after: Values | None) -> list[Values]:
        return await self._target.rows(table, after)


async def copied_up_to(source: str, target: str, at: int | str, *, behind: bool) -> list[str]:
    """Copy up to a call; return the calls."""
    old = await connection(source, None, SYSTEM_RANDOMNESS, create=False)()
    new = await connection(target, None, SYSTEM_RANDOMNESS, create=True, unfinished=True)()
    stopping = Stopping(new.filling, at, behind=behind)
    try:
        async with old.exporting(TABLES, alone=True) as export:
            with suppress(Stopped):
                await transfer(export, stopping, tables=TABLES, progress=lambda _moved: None)
    finally:
        for database in (old, new):
            await database.backend.close()
            await database.close()
    return stopping.calls


async def test_a_copy_that_is_stopped_at_any_call_ends_like_one_that_was_not(
    source: str, place: Place, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COPY_ROWS", CHUNK)
    expected = await contents(source)
    calm = await copy_store(source, place("file"))

    await copied_up_to(source, target, "begin", behind=False)
    async with open_store(target) as store:
        assert (await store.info()).rows["event"] == 0, "nothing has begun"
    await copied_up_to(source, target, "begin", behind=True)
    added, runs, chunks = 0, 0, len(TABLES) * -(-EACH // CHUNK)
    while added < chunks:
        runs += 1
        behind = runs % 2 == 0
        calls = await copied_up_to(source, target, 1 + min(1 + 5 * runs % 12, chunks - added), behind=behind)
        assert calls[-1] == "add", "each run goes on behind the last"
        added += calls.count("add") - (not behind)
        if runs < 3:
            with pytest.raises(CopyUnfinished, match="run it again: perdure store copy"):
                await open_store(target)
    for behind in (False, True):
        with pytest.raises(CopyUnfinished):
            await open_store(target)
        assert await copied_up_to(source, target, "finish", behind=behind) == ["begin", "finish"]

    assert await contents(target) == expected
    assert await copy_store(source, target) == calm, "who did not hear of the end runs it again"


async def _copied_and_killed(source: str, target: str, at: int) -> int:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", COPIES_AND_IS_KILLED, source, target, str(at), cwd=ROOT)
    return await process.wait()


@pytest.mark.parametrize("kinds", [("file", "postgres"), ("postgres", "file")])
async def test_a_copy_that_is_killed_again_and_again_comes_to_its_end(kinds: tuple[str, str], place: Place) -> None:
    source, target = map(place, kinds)
    await fill(source)

    ended = [await _copied_and_killed(source, target, at) for at in (1, 30, 60, len(TABLES))]
    again = await copy_store(source, target)

    assert ended == [-signal.SIGKILL] * 4
    assert await contents(target) == await contents(source)
    assert again == await copy_store(source, place("file"))


# --- what is refused ---------------------------------------------------------------------------------------


def stop_at(what: str, table: str) -> Callable[[Moved], None]:
    def progress(moved: Moved) -> None:
        if (moved.what, moved.table) == (what, table):
            raise Stopped

    return progress


async def test_an_unfinished_copy_goes_on_only_from_its_own_source(source: str, target: str, place: Place) -> None:
    with pytest.raises(Stopped):
        await copy_store(source, target, progress=stop_at("copied", "event"))
    await fill(another := place("file"))

    with pytest.raises(CopyRefused, match=r"holds the unfinished copy of .*; go on with that one, or remove the target"):
        await copy_store(another, target)

    assert len(await copy_store(source, target)) == len(TABLES)


async def test_a_source_that_was_written_to_meanwhile_is_refused_at_once(source: str, target: str) -> None:
    with pytest.raises(Stopped):
        await copy_store(source, target, progress=stop_at("copied", "event"))
    async with open_store(source, clock=VirtualClock()) as store:
        await store.commit(NextTick())

    with pytest.raises(CopyRefused, match="was written to since the copy of it was begun; remove the target"):
        await copy_store(source, target)


async def test_a_change_of_what_has_arrived_is_found_in_the_end(source: str, target: str) -> None:
    with pytest.raises(Stopped):
        await copy_store(source, target, progress=stop_at("verified", "aging"))
    async with open_store(source, clock=VirtualClock()) as store:
        await store.streams.cas("new", None, 1)  # which takes no tick

    with pytest.raises(CopyFailed, match=r"table value: .* remove the target, and begin again"):
        await copy_store(source, target)
    with pytest.raises(CopyUnfinished):
        await open_store(target)


async def test_a_target_that_holds_something_is_left_as_it_is(source: str, target: str) -> None:
    async with open_store(target, clock=VirtualClock()) as store:
        await store.streams.cas("mine", None, 1)
    before = await contents(target)

    with pytest.raises(CopyRefused, match="expected a new store, or none, as the target; found one in use"):
        await copy_store(source, target)

    assert await contents(target) == before


async def test_a_target_that_is_open_is_refused(source: str, target: str) -> None:
    async with open_store(target):
        with pytest.raises(CopyRefused, match="another program has it open, or did not close it cleanly"):
            await copy_store(source, target)


async def test_a_store_on_which_an_engine_runs_is_neither_source_nor_target(source: str, target: str) -> None:
    for url in (source, target):
        async with open_store(url) as store:
            await store.exclusive("engine")
            with pytest.raises(EngineRunning, match="a copy needs both stores without an engine until it is done"):
                await copy_store(source, target)


async def test_a_store_is_not_copied_into_itself(source: str) -> None:
    with pytest.raises(CopyRefused, match="the same store"):
        await copy_store(source, source)


async def test_there_has_to_be_a_source(tmp_path: Path) -> None:
    target = tmp_path / "target.db"

    with pytest.raises(StoreNotFound):
        await copy_store(f"sqlite:///{tmp_path / 'none.db'}", f"sqlite:///{target}")
    with pytest.raises(StoreNotFound):
        await open_store(f"sqlite:///{target}", create=False)

"""A sweep is stopped before and after each of its transactions: nobody sees half of a process, and the next sweep ends as if nothing had happened."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure import Address, Engine, Retention, VirtualClock, open_store
from perdure.core.access import Access
from perdure.engine import inspection, verification
from perdure.engine.archive import Folder, read_archive
from perdure.engine.sweeper import Sweeper
from perdure.errors import ProcessNotFound
from tests.engine.keeping import DAY, Add, End, account_app, fill, say
from tests.engine.orders import Ledger

RETENTION = Retention(
    turns=timedelta(days=1), messages=timedelta(days=1), finished_processes=timedelta(days=1), tombstones=timedelta(days=10)
)


# A process that is removed has all its events still: they take more than one transaction.
AT_ONCE = Retention(finished_processes=timedelta(days=1), tombstones=timedelta(days=10))


class Stopped(Exception):
    """The process was killed."""


class Stopping:
    """A writer that is gone before its n-th transaction, or right after it."""

    def __init__(self, real: Any, nth: int, *, after: bool) -> None:
        self._real, self._left, self._after = real, nth, after

    async def run(self, write: Any) -> Any:
        [result] = await self.commit(write)
        return result

    async def commit(self, *writes: Any) -> Any:
        self._left -= 1
        if self._left <= 0 and not self._after:
            raise Stopped
        results = await self._real.commit(*writes)
        if self._left <= 0:
            raise Stopped
        return results


async def _made(path: Path) -> list[str]:
    """Make a store with something of every kind; return the ids of its processes that are over."""
    async with open_store(f"sqlite:///{path}", clock=VirtualClock()) as store, Engine(store, account_app(Ledger())) as engine:
        for name in ("lives", "ends"):
            await fill(engine, name, 40)
        await say(engine, End("ends"), "end")
        await engine.call(engine.app.type_named("greet").target, "Ann", id="g")
        await engine.deliver(Add("nobody", 1), id="parked", to=Address.key("nobody"))
        return [one.process_id for one in await inspection.processes(store, status="ended")]


def _rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row, without its version."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = {}
    for (table,) in list(connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")):
        if table not in {"writer", "migration", "counter"}:
            columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)) if name != "rev"]
            found[table] = sorted(connection.execute(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)  # of the schema
    connection.close()
    return found


async def _sweep(path: Path, nth: int | None, retention: Retention, *, after: bool = False) -> bool:
    """Sweep two days later; return whether it came to its end."""
    clock = VirtualClock()
    clock.advance(2 * DAY)
    async with open_store(f"sqlite:///{path}", clock=clock) as store:
        access: Access = store.access
        if nth is not None:
            access = access._replace(writer=Stopping(access.writer, nth, after=after))  # type: ignore[arg-type]  # run is all it needs
        archive = Folder(path.parent / f"{path.stem}-archive", clock.now)
        try:
            await Sweeper(access, retention, archive).sweep()
        except Stopped:
            return False
        return True


async def _whole_or_gone(path: Path, over: list[str]) -> None:
    async with open_store(f"sqlite:///{path}", clock=VirtualClock()) as store:
        assert await verification.verify(store) == []
        for process_id in over:
            try:
                info = await inspection.process(store, process_id)
            except ProcessNotFound:
                continue
            events = await inspection.timeline(store, process_id, limit=1_000)
            assert events, "its last turn stays for as long as anybody sees it"
            assert [event.seq for event in events] == list(range(info.first_event, info.events))


@pytest.mark.parametrize(("retention", "commits"), [(RETENTION, 12), (AT_ONCE, 3)], ids=["turns", "processes"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_sweep_that_is_stopped_at_any_commit_ends_as_if_nothing_had_happened(
    tmp_path: Path, retention: Retention, commits: int, *, after: bool
) -> None:
    made, undisturbed = tmp_path / "made.db", tmp_path / "undisturbed.db"
    over = await _made(made)
    shutil.copy(made, undisturbed)
    assert await _sweep(undisturbed, None, retention)
    expected, kept = _rows(undisturbed), list(read_archive(tmp_path / "undisturbed-archive"))
    stops = 0
    while True:
        path = tmp_path / f"{stops}.db"
        shutil.copy(made, path)
        if await _sweep(path, stops + 1, retention, after=after):
            break
        await _whole_or_gone(path, over)
        assert await _sweep(path, None, retention)

        assert _rows(path) == expected, f"stopped at commit {stops + 1}"
        again = [event for record in read_archive(tmp_path / f"{stops}-archive") for event in record.events]
        assert sorted(again, key=repr) == sorted((event for record in kept for event in record.events), key=repr)
        stops += 1
    assert stops > commits, "every kind of transaction, and pages of them"

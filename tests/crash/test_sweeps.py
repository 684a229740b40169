"""A sweep is stopped before and after each of its transactions: nobody sees half of a process, and the next sweep ends as if nothing had happened."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import Address, Engine, Retention, VirtualClock, open_store
from perdure.core.access import Access
from perdure.engine import inspection, verification
from perdure.engine.archive import Folder, read_archive
from perdure.engine.sweeper import Sweeper
from perdure.errors import ProcessNotFound
from tests.engine.keeping import DAY, Add, End, account_app, fill, say
from tests.engine.orders import Ledger
from tests.stores import DURABLE, Rows, Stores, stores

RETENTION = Retention(
    turns=timedelta(days=1), messages=timedelta(days=1), finished_processes=timedelta(days=1), tombstones=timedelta(days=10)
)


# A process that is removed has all its events still: they take more than one transaction.
AT_ONCE = Retention(finished_processes=timedelta(days=1), tombstones=timedelta(days=10))


STEP = {"file": 1, "postgres": 6}
"""On a server, the gate stops at each fourth commit, the soak at every one."""


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


async def _make(url: str) -> list[str]:
    """Fill a store with something of every kind; return the ids of its processes that are over."""
    async with open_store(url, clock=VirtualClock()) as store, Engine(store, account_app(Ledger())) as engine:
        for name in ("lives", "ends"):
            await fill(engine, name, 40)
        await say(engine, End("ends"), "end")
        await engine.call(engine.app.type_named("greet").target, "Ann", id="g")
        await engine.deliver(Add("nobody", 1), id="parked", to=Address.key("nobody"))
        return [one.process_id for one in await inspection.processes(store, status="ended")]


def _comparable(rows: Rows) -> dict[str, list[Any]]:
    """Every row, without its version."""
    return {
        table: sorted(([value for name, value in row.items() if name != "rev"] for row in found), key=repr)
        for table, found in rows.items()
        if table not in {"writer", "migration", "counter"}
    }


async def _sweep(url: str, archive: Path, nth: int | None, retention: Retention, *, after: bool = False) -> bool:
    """Sweep two days later; return whether it came to its end."""
    clock = VirtualClock()
    clock.advance(2 * DAY)
    async with open_store(url, clock=clock) as store:
        access: Access = store.access
        if nth is not None:
            access = access._replace(writer=Stopping(access.writer, nth, after=after))  # type: ignore[arg-type]  # run is all it needs
        try:
            await Sweeper(access, retention, Folder(archive, clock.now)).sweep()
        except Stopped:
            return False
        return True


async def _whole_or_gone(url: str, over: list[str]) -> None:
    async with open_store(url, clock=VirtualClock()) as store:
        assert await verification.verify(store) == []
        for process_id in over:
            try:
                info = await inspection.process(store, process_id)
            except ProcessNotFound:
                continue
            events = await inspection.timeline(store, process_id, limit=1_000)
            assert events, "its last turn stays for as long as anybody sees it"
            assert [event.seq for event in events] == list(range(info.first_event, info.events))


async def _every(having: Stores, folder: Path, retention: Retention, *, after: bool, step: int) -> int:
    """Stop a sweep at each `step`-th commit; return at how many."""
    undisturbed = folder / "undisturbed"
    with having.new() as made:
        over = await _make(made)
        with having.copy(made) as url:
            assert await _sweep(url, undisturbed, None, retention)
            expected, kept = _comparable(having.rows(url)), list(read_archive(undisturbed))
        for stops in itertools.count():
            archive, commit = folder / f"archive-{stops}", 1 + stops * step
            with having.copy(made) as url:
                if await _sweep(url, archive, commit, retention, after=after):
                    return stops
                await _whole_or_gone(url, over)
                assert await _sweep(url, archive, None, retention)

                assert _comparable(having.rows(url)) == expected, f"stopped at commit {commit}"
            again = [event for record in read_archive(archive) for event in record.events]
            assert sorted(again, key=repr) == sorted((event for record in kept for event in record.events), key=repr)
    raise AssertionError("it has no end")


KINDS = [(RETENTION, 12), (AT_ONCE, 3)]
"""What is kept, and how many commits a sweep has at least: every kind of transaction, and pages of them."""


@pytest.mark.parametrize(("retention", "commits"), KINDS, ids=["turns", "processes"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", DURABLE)
async def test_a_sweep_that_is_stopped_at_any_commit_ends_as_if_nothing_had_happened(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, retention: Retention, commits: int, *, after: bool
) -> None:
    stops = await _every(stores(request, kind, tmp_path), tmp_path, retention, after=after, step=STEP[kind])

    assert stops > commits // STEP[kind]


@pytest.mark.soak
@pytest.mark.parametrize(("retention", "commits"), KINDS, ids=["turns", "processes"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_sweep_that_is_stopped_at_any_commit_on_a_server_ends_as_if_nothing_had_happened(
    request: pytest.FixtureRequest, tmp_path: Path, retention: Retention, commits: int, *, after: bool
) -> None:
    assert await _every(stores(request, "postgres", tmp_path), tmp_path, retention, after=after, step=1) > commits

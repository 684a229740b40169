"""How I/O errors and a full disk end: a store that is in doubt stops, one that is not goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure import limits
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.clock import VirtualClock
from perdure.core.write import Write
from perdure.core.writer import Writer
from perdure.errors import NotFoundError, OutcomeUnknown, StoreFull, StoreUnavailable, TransactionRefused
from perdure.store import open_store
from tests.core.driving import Broken
from tests.core.shop import Note
from tests.sqlite.disk import Call, Disk, no_room
from tests.sqlite.script import Enter, Told, check, files_of, put
from tests.sqlite.shop import open_shop

WAL_SYNC, WAL_WRITE, DB_SYNC, DB_WRITE = Call("sync", "wal"), Call("write", "wal"), Call("sync", "db"), Call("write", "db")


class Shop:
    """A shop on a disk that can be made to fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = Disk()
        self.clock = VirtualClock()
        self.database: SqliteDatabase
        self.writer: Writer

    async def open(self) -> None:
        self.database = await open_shop(self.path, vfs=self.disk.called, clock=self.clock)
        self.writer = Writer(self.database.backend, on_signals=lambda _topics: None)
        await self.writer.start()

    async def close(self) -> None:
        await self.writer.close()
        await self.database.close()

    async def reopen(self) -> None:
        await self.close()
        await self.open()

    def there(self) -> set[Any]:
        return check(self.database._file.reading, Told())


@pytest.fixture
async def shop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Shop]:
    caplog.set_level(logging.CRITICAL)
    shop = Shop(tmp_path / "shop.db")
    await shop.open()
    yield shop
    shop.disk.heal()
    await shop.close()


@pytest.mark.parametrize("call", [WAL_SYNC, WAL_WRITE])
async def test_a_failed_commit_is_unknown_to_its_callers_and_stops_the_store(shop: Shop, call: Call) -> None:
    await shop.writer.run(Enter(1))
    shop.disk.fail_next(call)

    first, second = await asyncio.gather(shop.writer.run(Enter(2)), shop.writer.run(Enter(3)), return_exceptions=True)

    assert isinstance(first, OutcomeUnknown)
    assert isinstance(second, OutcomeUnknown)
    for read in (shop.writer.run(Enter(4)), shop.database.reader.counter("jobs"), shop.database.info(), shop.database.settle(first)):
        with pytest.raises(StoreUnavailable, match=r"reopened|open the store again"):
            await read


async def test_sqlite_itself_would_go_on_after_a_failed_sync(shop: Shop) -> None:
    """Why a store is stopped by us."""
    connection = apsw.Connection(str(shop.path), vfs=shop.disk.called)
    shop.disk.fail_next(WAL_SYNC)
    with pytest.raises(apsw.IOError):
        connection.execute("INSERT INTO line VALUES (1, 'a')")

    connection.execute("INSERT INTO line VALUES (2, 'b')")

    connection.close()


async def test_after_the_store_is_opened_again_the_outcome_is_settled_and_stays_so(shop: Shop, tmp_path: Path) -> None:
    await shop.writer.run(Enter(1))
    shop.disk.fail_next(WAL_SYNC)
    with pytest.raises(OutcomeUnknown) as caught:
        await shop.writer.run(Enter(2))

    await shop.reopen()
    settled = await shop.database.settle(caught.value)

    assert (Enter(2) in shop.there()) == settled
    assert await shop.database.settle(caught.value) == settled
    crashed = apsw.Connection(str(put(files_of(shop.path.parent), tmp_path / "crashed")))
    assert (Enter(2) in check(crashed, Told())) == settled


async def test_beside_another_open_store_a_failed_commit_did_not_happen_and_cannot_come_back(shop: Shop, tmp_path: Path) -> None:
    """A reader that stands still keeps the WAL from being emptied; the new writer's first commit overwrites what was left."""
    other = await open_shop(shop.path)
    await shop.writer.run(Enter(1))
    still = apsw.Connection(str(shop.path))
    still.execute("BEGIN; SELECT count(*) FROM job").fetchall()
    shop.disk.fail_next(WAL_SYNC)
    with pytest.raises(OutcomeUnknown) as caught:
        await shop.writer.run(Enter(2))
    await shop.writer.close()
    haunted = apsw.Connection(str(put(files_of(shop.path.parent), tmp_path / "haunted")))
    assert Enter(2) in check(haunted, Told()), "a crash of all at this moment brings it back"

    assert await other.settle(caught.value) is False

    crashed = apsw.Connection(str(put(files_of(shop.path.parent), tmp_path / "crashed")))
    assert check(crashed, Told()) == {Enter(1)}
    still.close()
    await other.backend.close()


async def test_an_opening_does_not_wait_for_ever_for_readers_of_other_processes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_OPEN_MS", 2)
    await shop.writer.run(Enter(1))
    still = apsw.Connection(str(shop.path))
    still.execute("BEGIN; SELECT count(*) FROM job").fetchall()
    await shop.writer.run(Enter(2))

    other = await open_shop(shop.path)

    assert check(other._file.reading, Told()) == {Enter(1), Enter(2)}
    still.close()
    await other.backend.close()


async def test_an_opening_empties_the_wal_before_it_believes_it(shop: Shop) -> None:
    await shop.writer.run(Enter(1))
    wal = shop.path.with_name("shop.db-wal")
    assert wal.stat().st_size > 0

    other = await open_shop(shop.path)

    assert wal.stat().st_size == 0
    await other.backend.close()


async def test_a_failed_checkpoint_stops_the_store_and_loses_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 1)
    shop.disk.fail_next(DB_SYNC)

    await shop.writer.run(Enter(1))
    with pytest.raises(StoreUnavailable):
        await shop.writer.run(Enter(2))

    await shop.reopen()
    assert shop.there() == {Enter(1)}
    await shop.writer.run(Enter(2))


async def test_a_failed_last_checkpoint_is_told_to_who_closes_and_loses_nothing(shop: Shop) -> None:
    await shop.writer.run(Enter(1))
    shop.disk.fail_next(DB_WRITE)

    with pytest.raises(StoreUnavailable):
        await shop.close()

    await shop.open()
    assert shop.there() == {Enter(1)}


async def test_a_full_disk_is_told_to_its_callers_and_the_writer_goes_on(shop: Shop) -> None:
    await shop.writer.run(Enter(1))
    shop.disk.fail_next(WAL_WRITE, no_room)

    told = await asyncio.gather(shop.writer.run(Enter(2)), shop.writer.run(Enter(3)), return_exceptions=True)

    assert [type(error) for error in told] == [StoreFull, StoreFull]
    assert shop.there() == {Enter(1)}
    await shop.writer.run(Enter(2))
    assert shop.there() == {Enter(1), Enter(2)}


async def test_a_full_disk_delays_a_checkpoint_and_the_writer_goes_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 1)
    shop.disk.fail_next(DB_WRITE, no_room)

    await shop.writer.run(Enter(1))
    await shop.writer.run(Enter(2))

    assert shop.there() == {Enter(1), Enter(2)}
    assert shop.disk.calls.count(DB_WRITE) > 1


async def test_a_store_on_a_full_disk_can_be_closed_and_opened_once_there_is_room(shop: Shop) -> None:
    await shop.writer.run(Enter(1))

    def full(_number: int, call: Call) -> None:
        if call.method == "write":
            raise no_room(call)

    shop.disk.trouble = full
    await shop.close()
    with pytest.raises(StoreFull):
        await shop.open()
    shop.disk.heal()
    await shop.open()

    assert shop.there() == {Enter(1)}
    assert await shop.database.reader.counter("jobs") == 1


async def test_a_poisoned_store_leaves_its_row_so_that_it_can_be_settled(shop: Shop) -> None:
    shop.disk.fail_next(WAL_SYNC)
    with pytest.raises(OutcomeUnknown) as caught:
        await shop.writer.run(Enter(1))

    await shop.reopen()

    assert (await shop.database.info()).writers == 2
    await shop.database.settle(caught.value)
    shop.clock.advance((limits.WRITER_ROW_DAYS + 1) * 86_400_000_000)
    await shop.reopen()
    with pytest.raises(NotFoundError, match="no row of this writer"):
        await shop.database.settle(caught.value)


async def test_a_read_that_fails_stops_the_store_too(shop: Shop) -> None:
    await shop.writer.run(Enter(1))
    await shop.reopen()

    shop.disk.unreadable = True
    with pytest.raises(StoreUnavailable):
        await shop.database.reader.counter("jobs")
    shop.disk.unreadable = False
    with pytest.raises(StoreUnavailable):
        await shop.writer.run(Enter(2))


async def test_the_locks_of_a_poisoned_store_are_free_at_once(shop: Shop) -> None:
    shop.disk.fail_next(WAL_SYNC)
    with pytest.raises(OutcomeUnknown):
        await shop.writer.run(Enter(1))

    other = await open_shop(shop.path)
    writer = Writer(other.backend, on_signals=lambda _topics: None)
    await writer.start()
    await writer.run(Enter(2))

    await writer.close()


async def test_of_a_thousand_one_that_fails_and_one_that_is_refused_leave_the_others_untouched(shop: Shop) -> None:
    writes: list[Write[Any]] = [Enter(n + 1) for n in range(1000)]
    writes[300], writes[700] = Broken(), Note(2**63)

    told = await asyncio.gather(*(shop.writer.run(write) for write in writes), return_exceptions=True)

    assert {n: type(error) for n, error in enumerate(told) if isinstance(error, Exception)} == {
        300: ZeroDivisionError,
        700: TransactionRefused,
    }
    assert shop.there() == {Enter(n + 1) for n in range(1000) if n not in {300, 700}}


async def test_a_writer_that_is_cancelled_while_it_waits_for_the_lock_leaves_it_to_others(shop: Shop) -> None:
    holder = apsw.Connection(str(shop.path))
    holder.execute("BEGIN IMMEDIATE")
    caller = asyncio.create_task(shop.writer.run(Enter(1)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert shop.database._file.under_way
    assert shop.writer._task is not None
    shop.writer._task.cancel()
    with pytest.raises(StoreUnavailable, match="cancelled"):
        await caller

    holder.close()
    await shop.reopen()

    await shop.writer.run(Enter(2))
    assert shop.there() == {Enter(2)}


async def test_the_outcome_of_a_writer_that_was_cancelled_in_its_commit_can_be_settled_after_a_clean_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SQLITE_QUICK_COMMIT", 0)  # in the thread, where it is held
    url = f"sqlite:///{tmp_path / 'a.db'}"
    store = await open_store(url)
    await store.streams.cas("a", None, 1)
    database: Any = store._database
    committing, may = threading.Event(), threading.Event()

    def hold() -> bool:
        committing.set()
        may.wait()
        return False

    database._file.writing.set_commit_hook(hold)
    caller = asyncio.create_task(store.streams.cas("a", 1, 2))
    await asyncio.to_thread(committing.wait)
    assert store.access.writer._task is not None
    store.access.writer._task.cancel()
    with pytest.raises(OutcomeUnknown) as caught:
        await caller
    may.set()
    await store.close()

    async with open_store(url) as again:
        committed = await again.settle(caught.value)
        assert await again.streams.read_value("a") == (2 if committed else 1)

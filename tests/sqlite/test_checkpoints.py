"""When the WAL is copied into the file, and when the loop looks for other processes' commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import apsw
import pytest

from perdure import limits
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.clock import VirtualClock
from perdure.core.writer import Writer
from perdure.errors import OutcomeUnknown
from tests.core.driving import job
from tests.core.shop import JOB
from tests.sqlite.disk import Call, Disk
from tests.sqlite.script import Enter
from tests.sqlite.shop import open_shop

IDLE = limits.SQLITE_IDLE_MS * 1000


class Shop:
    """A shop, its writer, and the calls that its disk gets."""

    def __init__(self, database: SqliteDatabase, disk: Disk, clock: VirtualClock) -> None:
        self.database = database
        self.disk = disk
        self.clock = clock
        self.writer = Writer(database.backend, on_signals=lambda _topics: None)
        self.wal = Path(f"{database._file.path}-wal")

    def copies(self) -> int:
        """The number of checkpoints so far, by the syncs of the file."""
        return self.disk.calls.count(Call("sync", "db"))

    async def quiet(self) -> None:
        """Let a checkpoint that was begun come to its end."""
        await self.database.backend._checkpoints.finished()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    disk, clock = Disk(), VirtualClock()
    database = await open_shop(tmp_path / "shop.db", vfs=disk.called, clock=clock)
    database._file.writing.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    shop = Shop(database, disk, clock)
    await shop.writer.start()
    yield shop
    await shop.writer.close()


async def test_a_long_wal_is_copied_and_begun_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 40)
    before = shop.copies()

    for n in range(60):
        await shop.writer.run(Enter(n))

    assert shop.copies() - before >= 5
    assert shop.wal.stat().st_size < 70 * 4_120


async def test_a_commit_costs_one_sync(shop: Shop) -> None:
    await shop.writer.run(Enter(0))
    before = shop.disk.calls.count(Call("sync", "wal"))

    for n in range(1, 11):
        await shop.writer.run(Enter(n))

    assert shop.disk.calls.count(Call("sync", "wal")) - before == 10


async def test_a_short_wal_is_left_alone(shop: Shop) -> None:
    before = shop.copies()

    await shop.writer.run(Enter(1))
    shop.clock.advance(10 * IDLE)
    await shop.quiet()

    assert shop.copies() == before


async def test_an_idle_writer_copies_what_there_is_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_IDLE_PAGES", 5)
    before = shop.copies()
    await shop.writer.run(Enter(1))

    shop.clock.advance(IDLE)
    await shop.quiet()
    assert shop.copies() == before + 1
    shop.clock.advance(5 * IDLE)
    await shop.quiet()

    assert shop.copies() == before + 1
    assert shop.clock.next_alarm() is None


async def test_a_busy_writer_is_not_idle(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_IDLE_PAGES", 5)
    before = shop.copies()
    for n in range(6):
        await shop.writer.run(Enter(n))
        shop.clock.advance(IDLE // 2)
    await shop.quiet()
    assert shop.copies() == before

    shop.clock.advance(IDLE)
    await shop.quiet()

    assert shop.copies() == before + 1


async def test_a_reader_that_stands_still_costs_no_copy_per_commit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The WAL cannot begin anew below it; only what is new is copied, and not after each commit."""
    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 40)
    still = apsw.Connection(str(shop.wal).removesuffix("-wal"))
    await shop.writer.run(Enter(100))
    still.execute("BEGIN; SELECT * FROM job").fetchall()
    before = shop.copies()

    for n in range(40):
        await shop.writer.run(Enter(n))

    assert shop.copies() - before <= 12
    still.close()


async def test_a_copy_that_another_process_makes_at_the_same_moment_is_no_error(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy() -> NoReturn:
        raise apsw.exception_for(apsw.SQLITE_BUSY)

    monkeypatch.setattr(limits, "SQLITE_WAL_PAGES", 1)
    monkeypatch.setattr(shop.database.backend._checkpoints, "_copy", busy)

    await shop.writer.run(Enter(1))
    await shop.quiet()

    await shop.writer.run(Enter(2))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- other processes' commits ----------------------------------------------------------------------------


async def test_whoever_listens_hears_of_another_processs_commit(shop: Shop) -> None:
    other = await open_shop(shop.database._file.path)
    heard = asyncio.Event()
    other.watch(1, heard.set)
    await asyncio.sleep(0)
    heard.clear()

    await shop.writer.run(job(1))

    async with asyncio.timeout(10):
        await heard.wait()
    assert await other.reader.get(JOB.key(1)) is not None
    other.watch(0, heard.set)
    await other.backend.close()


async def test_a_stores_own_commits_are_not_taken_for_anothers(shop: Shop) -> None:
    heard: list[None] = []
    shop.database.backend._look()
    shop.database.watch(1, lambda: heard.append(None))

    for n in range(5):
        await shop.writer.run(job(n))
        shop.database.backend._look()

    assert heard == []


async def test_nobody_looks_while_nobody_listens(shop: Shop) -> None:
    polls = [shop.database.backend._poll is not None]

    for listeners in (1, 2, 1, 0, 0):
        shop.database.watch(listeners, lambda: None)
        polls.append(shop.database.backend._poll is not None)

    assert polls == [False, True, True, True, False, False]


async def test_whoever_listens_hears_of_the_end_of_the_store(shop: Shop) -> None:
    """By its close or by an I/O error: a look then tells what happened, and nobody waits for ever."""
    heard = asyncio.Event()
    shop.database.watch(1, heard.set)
    await shop.writer.run(job(1))
    heard.clear()
    shop.disk.fail_next(Call("sync", "wal"))
    with pytest.raises(OutcomeUnknown):
        await shop.writer.run(job(2))

    async with asyncio.timeout(10):
        await heard.wait()
    heard.clear()
    await shop.writer.close()

    assert heard.is_set()
    shop.database.watch(1, heard.set)
    assert shop.database.backend._poll is None


async def test_a_look_keeps_out_of_a_batchs_way(shop: Shop) -> None:
    """The connection may be at work in its thread: it is not touched then."""
    shop.database._file.under_way += 1
    shop.database._file.writing.set_exec_trace(lambda *_args: pytest.fail("touched"))

    shop.database.backend._look()

    shop.database._file.writing.set_exec_trace(None)
    shop.database._file.under_way -= 1
    shop.database.watch(0, lambda: None)

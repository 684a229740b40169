"""The SQLite backend: what it reads, remembers, refuses and counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import limits
from perdure.backends.cache import RowCache
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.clock import VirtualClock
from perdure.core.backend import Wanted
from perdure.core.table import Index, Scan
from perdure.core.view import View
from perdure.core.writer import Writer
from perdure.errors import LeaseLost, StoreCorrupt, TransactionRefused, UsageError
from tests.core.driving import Broken, Look, job
from tests.core.shop import JOB, LETTER, LINE, OWNER, READY, Act, Create, Drop, Job, Letter, Line, Note, Owner, Take
from tests.sqlite.shop import open_shop

DAY = 86_400_000_000
NOTHING = Wanted((), ())


class Site:
    """Shops on one file, each with its writer."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.clock = VirtualClock()
        self.opened: list[tuple[SqliteDatabase, Writer]] = []

    async def open(self, **options: Any) -> tuple[SqliteDatabase, Writer]:
        database = await open_shop(self.path, clock=self.clock, **options)
        writer = Writer(database.backend, on_signals=lambda _topics: None)
        await writer.start()
        self.opened.append((database, writer))
        return database, writer


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    for _, writer in site.opened:
        await writer.close()


def statements(database: SqliteDatabase) -> list[str]:
    """Everything that the writing connection executes from now on."""
    seen: list[str] = []

    def trace(_cursor: Any, sql: str, _values: Any) -> bool:
        seen.append(sql)
        return True

    database._file.writing.set_exec_trace(trace)
    return seen


class Put(Act, frozen=True):
    """Insert one letter with any values."""

    key: Any
    at: Any

    def decide(self, view: View) -> None:
        assert view.get(LETTER.key(self.key, 1)) is None
        view.insert(LETTER.key(self.key, 1), Letter(None, self.at))


class Add(Act, frozen=True):
    """Read a number, add one to it, write it."""

    key: str

    def decide(self, view: View) -> int:
        held = view.get(OWNER.key(self.key))
        if held is None:
            view.insert(OWNER.key(self.key), Owner(None, 1))
            return 1
        view.update(OWNER.key(self.key), Owner(None, held.parked + 1))
        return held.parked + 1


class When(Act, frozen=True):
    """The store's time and a tick."""

    def decide(self, view: View) -> tuple[int, int]:
        view.count("looks", 1)
        return view.now, view.tick()


# --- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["inline", "thread"])
async def test_what_was_committed_is_read_back(site: Site, placement: Any) -> None:
    database, writer = await site.open(placement=placement)
    await writer.commit(job(1), job(2), Note(7))
    await writer.commit(Drop(1))

    assert await database.reader.get(JOB.key(1)) is None
    assert await database.reader.get(JOB.key(2)) == Job("a", "pending", 0, 0, 0)
    assert await database.reader.get(LINE.key(7)) == Line("line 7")
    assert await database.reader.scan(Scan(READY, ("a",), 5)) == [(JOB.key(2), Job("a", "pending", 0, 0, 0))]
    assert await database.reader.count(JOB) == 1
    assert await database.reader.counter("jobs") == 1
    assert await database.reader.counter("never counted") == 0


async def test_a_scan_tells_whether_the_range_ends(site: Site) -> None:
    database, writer = await site.open()
    await writer.commit(*(Create(id, "a", id % 2, 0) for id in range(6)))

    found = await database.backend.prefetch(
        Wanted((), (Scan(READY, ("a",), 6), Scan(READY, ("a",), 5), Scan(READY, ("b",), 5))), locked=False
    )
    await database.backend.abandon()

    (_, whole), (_, head), (_, none) = found.pages
    assert [key.parts[0] for key in whole.keys] == [0, 2, 4, 1, 3, 5]
    assert (whole.whole, whole.last) == (True, (1, 0, 5))
    assert (head.whole, head.last, head.limit) == (False, (1, 0, 3), 5)
    assert (none.keys, none.whole) == ((), True)


async def test_a_scan_goes_from_after_one_place_up_to_another(site: Site) -> None:
    database, writer = await site.open()
    await writer.commit(
        *(
            Create(
                id,
                "a",
                id // 2,
                id,
            )
            for id in range(8)
        )
    )

    async def ids(after: Any, upto: Any) -> list[Any]:
        return [key.parts[0] for key, _ in await database.reader.scan(Scan(READY, ("a",), 9, after, upto))]

    assert await ids((1,), None) == [4, 5, 6, 7]
    assert await ids((1, 2), (3, 6)) == [3, 4, 5, 6]
    assert await ids((1, 2, 2), (2,)) == [3, 4, 5]


async def test_text_is_ordered_by_bytes(site: Site) -> None:
    database, writer = await site.open()
    names = ["Z", "a", "é", "\U0001f600", "\uffff", "aa", "a b"]
    await writer.commit(*(Add(name) for name in names))

    found = await database.reader.scan(Scan(Index(OWNER, "owner", order=("key",)), (), 9))

    assert [key.parts[0] for key, _ in found] == sorted(names, key=str.encode)


async def test_reads_outside_of_a_batch_do_not_see_it(site: Site) -> None:
    database, writer = await site.open()
    await writer.run(Add("k"))
    await database.backend.prefetch(NOTHING, locked=False)
    database._file.writing.execute("UPDATE owner SET parked = 99")

    seen = await database.reader.get(OWNER.key("k"))
    await database.backend.abandon()

    assert seen == Owner(None, 1)


def test_reads_from_another_event_loop_are_refused(tmp_path: Path) -> None:
    database = asyncio.run(open_shop(tmp_path / "shop.db"))

    for read in (lambda: database.reader.get(JOB.key(1)), lambda: database.reader.count(JOB), database.info):
        with pytest.raises(UsageError, match="belongs to the event loop"):
            asyncio.run(read())
    database._file._close_connections()
    database._file._thread.shutdown()


# --- rows in memory --------------------------------------------------------------------------------------


async def test_a_row_is_read_from_the_file_once(site: Site) -> None:
    database, writer = await site.open()
    await writer.run(Add("k"))
    seen = statements(database)

    assert [await writer.run(Add("k")) for _ in range(3)] == [2, 3, 4]

    assert not [sql for sql in seen if sql.startswith("SELECT") and "owner" in sql]


async def test_rows_in_memory_are_dropped_when_another_process_has_committed(site: Site) -> None:
    _, first = await site.open()
    _, second = await site.open()

    assert [await writer.run(Add("k")) for writer in (first, second, first, first, second)] == [1, 2, 3, 4, 5]


async def test_a_row_in_memory_that_is_not_the_files_is_found_at_the_latest_when_it_is_written(site: Site) -> None:
    """The net under the memory: nobody can change the file unseen, except a bug of ours."""
    database, writer = await site.open()
    await writer.run(Add("k"))
    database._file.writing.execute("UPDATE owner SET parked = 10, rev = rev + 1")

    assert await writer.run(Add("k")) == 11


async def test_a_deleted_row_is_not_remembered(site: Site) -> None:
    _, writer = await site.open()
    await writer.run(job(1))
    await writer.run(Drop(1))

    assert await writer.run(Look(1)) is None
    await writer.run(job(1))


async def test_memory_holds_no_more_than_its_limits() -> None:
    cache, row = RowCache(), Line("x")
    for number in range(limits.CACHE_ROWS + 10):
        cache.put(JOB.key(number), (1, row), 0)
        cache.get(JOB.key(7))
        assert len(cache) <= limits.CACHE_ROWS + 1

    assert cache.get(JOB.key(7)) is not None, "what is used stays"
    assert cache.get(JOB.key(8)) is None

    large = limits.CACHE_BYTES // 10
    for number in range(1000):
        cache.put(LINE.key(number), (1, row), large)
        cache.get(LINE.key(3))
    assert len(cache) <= 12
    assert cache.get(LINE.key(3)) is not None


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [Put("lone \ud800", 1), Put("key", 2**63), Put("key", "text"), Put("key", None), Look(2**70), Note(-1)],
    ids=["surrogate", "65 bits", "text for a number", "null", "65 bits in a key", "check"],
)
async def test_what_the_database_cannot_hold_is_refused_alone(site: Site, bad: Any) -> None:
    database, writer = await site.open()
    database._file.writing.execute("CREATE TRIGGER t BEFORE INSERT ON line WHEN new.n < 0 BEGIN SELECT raise(ABORT, 'no'); END")

    told = await asyncio.gather(*(writer.run(write) for write in (job(1), bad, job(2), Broken())), return_exceptions=True)

    assert [type(error) for error in told] == [type(None), TransactionRefused, type(None), ZeroDivisionError]
    assert await database.reader.count(JOB) == 2


async def test_a_log_row_is_written_once(site: Site) -> None:
    _, writer = await site.open()
    await writer.run(Note(1))

    told = await asyncio.gather(*(writer.run(write) for write in (Note(1), Note(2), Note(2))), return_exceptions=True)

    assert [isinstance(error, TransactionRefused) for error in told] == [True, False, True]


async def test_a_batch_that_reads_damage_says_so_and_stops_the_store(site: Site) -> None:
    database, writer = await site.open()
    await writer.commit(*(Create(id, "a", 0, 0) for id in range(200)))
    page = database._file.writing.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'job_ready'").get
    await writer.close()
    with site.path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    _, writer = await site.open()

    with pytest.raises(StoreCorrupt):
        await writer.run(Take("a", 1, None, None, declared=False))


# --- time, ticks, counters, the writer's row -------------------------------------------------------------------


async def test_the_stores_time_does_not_go_back(site: Site) -> None:
    _, writer = await site.open()
    before, first = await writer.run(When())
    site.clock.advance(-5_000_000)

    now, tick = await writer.run(When())

    assert now == before
    assert tick > first


async def test_ticks_grow_over_all_writers_and_after_a_reopening(site: Site) -> None:
    _, first = await site.open()
    _, second = await site.open()
    ticks = [(await writer.run(When()))[1] for writer in (first, second, first, second, second, first)]
    await first.close()
    await second.close()

    _, third = await site.open()
    ticks.append((await third.run(When()))[1])

    assert ticks == sorted(set(ticks))


async def test_counters_are_the_sum_over_writers_and_survive_them(site: Site) -> None:
    first, one = await site.open()
    second, two = await site.open()
    for _ in range(3):
        await one.run(When())
    await two.run(When())

    assert await first.reader.counter("looks") == await second.reader.counter("looks") == 4
    await one.close()
    assert await second.reader.counter("looks") == 4
    assert second._file.reading.execute("SELECT node = '', value FROM counter ORDER BY 1").fetchall() == [(0, 1), (1, 3)]


async def test_a_writer_that_was_not_seen_for_long_is_folded_by_the_next_and_fenced(site: Site) -> None:
    first, one = await site.open()
    await one.run(When())
    site.clock.advance(limits.WRITER_ROW_DAYS * DAY + 1)

    second, two = await site.open()

    assert (await second.info()).writers == 1
    assert await second.reader.counter("looks") == 1
    with pytest.raises(LeaseLost):
        await one.run(When())
    await one.run(When())
    assert await first.reader.counter("looks") == 2
    await two.run(When())


async def test_a_writer_that_a_newer_one_replaced_writes_nothing_more(site: Site) -> None:
    database, writer = await site.open()
    await writer.run(Add("k"))
    database._file.writing.execute("UPDATE writer SET incarnation = incarnation + 1 WHERE node <> ''")

    with pytest.raises(LeaseLost):
        await writer.run(Add("k"))

    assert await writer.run(Add("k")) == 2


async def test_a_batch_writes_few_rows_besides_its_own(site: Site) -> None:
    database, writer = await site.open()
    await writer.run(When())
    before = database._file.writing.total_changes()

    await asyncio.gather(*(writer.run(When()) for _ in range(100)))

    assert database._file.writing.total_changes() - before == 2, "the writer's row and one counter"


async def test_the_lock_is_taken_before_the_first_read(site: Site) -> None:
    """The second batch waits for the first one's end and then reads what it wrote."""
    first, one = await site.open()
    second, _ = await site.open()
    await one.run(Add("k"))
    wanted = Wanted((OWNER.key("k"),), ())
    await first.backend.prefetch(wanted, locked=False)

    reading = asyncio.create_task(second.backend.prefetch(wanted, locked=False))
    await asyncio.sleep(0)  # it has begun
    first._file.writing.execute("UPDATE owner SET parked = 2, rev = 2; COMMIT")
    first.backend._open = False
    found = await reading
    await second.backend.abandon()

    assert found.rows[OWNER.key("k")] == (2, Owner(None, 2))


class Keyworded(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose fields may only be named."""

    owner: int | None = None
    parked: int


async def test_a_row_with_named_fields_is_made_as_well(site: Site) -> None:
    from perdure.core.table import Table

    database, writer = await site.open()
    await writer.run(Add("k"))

    row = await database.reader.get(Table("owner", ("key",), Keyworded).key("k"))

    assert row == Keyworded(parked=1)

"""The PostgreSQL backend by itself: what it reads, remembers, refuses and counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import limits
from perdure.backends.postgres.database import PostgresDatabase
from perdure.core.backend import Batch, BatchConflict, BatchRefused, Change, Wanted, WriterFenced
from perdure.core.table import Index, Scan
from perdure.core.view import View
from perdure.errors import (
    LeaseLost,
    NotFoundError,
    OutcomeUnknown,
    StoreBusy,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
    TransactionRefused,
    UsageError,
)
from perdure.store import open_store
from tests.core.driving import Broken, Look, job
from tests.core.shop import JOB, LETTER, LINE, OWNER, READY, Act, Create, Drop, Job, Letter, Line, Note, Owner
from tests.postgres.server import Server
from tests.postgres.shop import give_back, new_shop, open_shop
from tests.postgres.site import Site, add

DAY = 86_400_000_000


class Put(Act, frozen=True):
    """Insert one letter with any values."""

    key: Any
    at: Any

    def decide(self, view: View) -> None:
        assert view.get(LETTER.key(self.key, 1)) is None
        view.insert(LETTER.key(self.key, 1), Letter(None, self.at))


class When(Act, frozen=True):
    """The store's time and a tick, after a look at a row that is not there."""

    def decide(self, view: View) -> tuple[int, int]:
        view.get(OWNER.key("nobody"))
        view.count("looks", 1)
        return view.now, view.tick()


# --- reading -------------------------------------------------------------------------------------------


async def test_what_was_committed_is_read_back(site: Site) -> None:
    node = await site.open()
    await node.commit(job(1), job(2), Note(7))
    await node.commit(Drop(1))

    reader = node.reader
    assert await reader.get(JOB.key(1)) is None
    assert await reader.get(JOB.key(2)) == Job("a", "pending", 0, 0, 0)
    assert await reader.get(LINE.key(7)) == Line("line 7")
    assert await reader.scan(Scan(READY, ("a",), 5)) == [(JOB.key(2), Job("a", "pending", 0, 0, 0))]
    assert (await reader.count(JOB), await reader.counter("jobs"), await reader.counter("never counted")) == (1, 1, 0)


@pytest.mark.parametrize("locked", [False, True])
async def test_a_batch_reads_what_is_wanted_and_whether_each_range_ends(site: Site, locked: bool) -> None:
    node = await site.open()
    await node.commit(*(Create(id, "a", id % 2, 0) for id in range(6)))
    backend = (await site.open()).database.backend
    keys = (JOB.key(4), JOB.key(99), OWNER.key("nobody"), JOB.key(1))
    scans = (Scan(READY, ("a",), 6), Scan(READY, ("a",), 5), Scan(READY, ("b",), 5), Scan(READY, ("a",), 3, (0, 0, 2), (1, 0, 1)))

    found = await backend.prefetch(Wanted(keys, scans), locked=locked)
    await backend.abandon()

    assert {key: found.rows[key][1] for key in keys if key in found.rows} == {
        JOB.key(4): Job("a", "pending", 0, 0, 0),
        JOB.key(1): Job("a", "pending", 1, 0, 0),
    }
    assert found.rows[JOB.key(1)][0] == found.rows[JOB.key(4)][0] > 0, "they were inserted by one batch"
    pages = dict(found.pages)
    whole, head, none, within = (pages[scan] for scan in scans)
    assert [key.parts[0] for key in whole.keys] == [0, 2, 4, 1, 3, 5]
    assert (whole.whole, whole.last) == (True, (1, 0, 5))
    assert (head.whole, head.last, head.limit) == (False, (1, 0, 3), 5)
    assert (none.keys, none.whole) == ((), True)
    assert ([key.parts[0] for key in within.keys], within.whole) == ([4, 1], True)


async def test_a_scan_goes_from_after_one_place_up_to_another_in_both_directions(site: Site) -> None:
    node = await site.open()
    await node.commit(*(Create(id, "a", id // 2, id) for id in range(8)))

    async def ids(after: Any, upto: Any, *, backwards: bool = False) -> list[Any]:
        return [key.parts[0] for key, _ in await node.reader.scan(Scan(READY, ("a",), 9, after, upto, backwards=backwards))]

    assert await ids((1,), None) == [4, 5, 6, 7]
    assert await ids((1, 2), (3, 6)) == [3, 4, 5, 6]
    assert await ids((1, 2, 2), (2,)) == [3, 4, 5]
    assert await ids((3, 6), (1, 2), backwards=True) == [5, 4, 3, 2]
    assert await ids((1,), None, backwards=True) == [1, 0]


async def test_text_is_ordered_by_bytes(site: Site) -> None:
    node = await site.open()
    names = ["Z", "a", "é", "\U0001f600", "\uffff", "aa", "a b"]
    await node.run(add(*names))

    found = await node.reader.scan(Scan(Index(OWNER, "owner", order=("key",)), (), 9))

    assert [key.parts[0] for key, _ in found] == sorted(names, key=str.encode)


async def test_a_row_is_read_from_the_server_once(site: Site) -> None:
    node = await site.open()
    await node.run(add("k"))
    seen = node.statements()

    assert [await node.run(add("k")) for _ in range(3)] == [2, 3, 4]

    assert len(seen) == 3, "each batch is one statement, that writes"


async def test_a_new_batch_is_one_statement_that_reads_and_one_that_writes(site: Site) -> None:
    node = await site.open()
    seen = node.statements()

    await asyncio.gather(*(node.run(add(str(n), "all")) for n in range(50)))

    assert len(seen) == 2


async def test_a_deleted_row_is_not_remembered(site: Site) -> None:
    node = await site.open()
    await node.run(job(1))
    await node.run(Drop(1))

    assert await node.run(Look(1)) is None
    await node.run(job(1))


async def test_a_deleted_row_is_read_once(site: Site) -> None:
    node = await site.open()
    await node.run(job(1))
    await node.run(Drop(1))
    seen = node.statements()

    await node.run(job(1))

    assert len(seen) == 2, "it is looked for, and made; what was in memory of it would be a conflict"


async def test_stores_in_two_schemas_of_a_database_know_nothing_of_one_another(postgres_url: str, site: Site) -> None:
    async with open_store(f"{postgres_url}?schema=one") as one, open_store(f"{postgres_url}?schema=two") as two:
        await one.streams.cas("k", None, 1)
        await two.streams.cas("k", None, 2)
        assert [await store.streams.read_value("k") for store in (one, two)] == [1, 2]
        assert [(await store.info()).writers for store in (one, two)] == [1, 1]
        for store in (one, two):
            await store.exclusive("engine")

    assert await site.fetch("select count(*) from pg_class where relnamespace = 'public'::regnamespace") == [(0,)]


def test_reads_from_another_event_loop_are_refused(postgres_server: Server) -> None:
    async def opened() -> PostgresDatabase:
        database = await open_shop(url)
        database.backend._session.drop()
        return database

    url = asyncio.run(new_shop(postgres_server))
    database = asyncio.run(opened())

    for read in (lambda: database.reader.get(JOB.key(1)), lambda: database.reader.count(JOB), database.info, database.backend.fence):
        with pytest.raises(UsageError, match="belongs to the event loop"):
            asyncio.run(read())
    give_back(url)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [Put("lone \ud800", 1), Put("nul \0", 1), Put("key", 2**63), Put("key", "text"), Put("key", None), Look(2**70), Note(-1)],
    ids=["surrogate", "nul", "65 bits", "text for a number", "null", "65 bits in a key", "check"],
)
async def test_what_the_database_cannot_hold_is_refused_alone(site: Site, bad: Any) -> None:
    node = await site.open()
    await site.fetch("alter table perdure.line add constraint refused check (n >= 0)")

    told = await asyncio.gather(*(node.run(write) for write in (job(1), bad, job(2), Broken())), return_exceptions=True)

    assert [type(error) for error in told] == [type(None), TransactionRefused, type(None), ZeroDivisionError]
    assert await node.reader.count(JOB) == 2
    assert (await node.database.info()).writers == 1


async def test_a_log_row_is_written_once(site: Site) -> None:
    node = await site.open()
    await node.run(Note(1))

    told = await asyncio.gather(*(node.run(write) for write in (Note(1), Note(2), Note(2))), return_exceptions=True)

    assert [isinstance(error, TransactionRefused) for error in told] == [True, False, True]


class Insert(Act, frozen=True):
    """Insert a job without a look whether it is there, beside a letter that was looked for."""

    id: int

    def decide(self, view: View) -> None:
        if view.get(LETTER.key("k", self.id)) is None:
            view.insert(LETTER.key("k", self.id), Letter(None, 0))
        view.insert(JOB.key(self.id), Job("a", "pending", 0, 0, 0), unseen=True)


async def test_a_row_that_is_there_though_nobody_looked_is_refused_with_the_name_of_its_table(site: Site) -> None:
    node = await site.open()
    await node.run(job(1))

    told = await asyncio.gather(*(node.run(Insert(id)) for id in (1, 2)), return_exceptions=True)

    assert [type(error) for error in told] == [TransactionRefused, type(None)]
    assert "of job is there" in str(told[0])


MEANINGS: dict[str, type[Exception]] = {
    "40P01": BatchConflict,
    "40001": BatchConflict,
    "55P03": BatchConflict,
    "23505": BatchConflict,
    "25006": BatchConflict,
    "53100": StoreFull,
    "53200": StoreBusy,
    "57014": StoreBusy,
    "22003": TransactionRefused,
    "23514": TransactionRefused,
    "54000": TransactionRefused,
    "42501": StoreUnavailable,
    "42P01": StoreCorrupt,
    "3F000": StoreCorrupt,
    "XX001": StoreUnavailable,
}


@pytest.mark.parametrize("code", MEANINGS)
async def test_each_error_of_the_server_is_told_as_what_it_means(site: Site, code: str) -> None:
    node = await site.open()
    connection = await site.connect()
    await connection.execute(
        "create function pg_temp.fail() returns trigger language plpgsql as "
        f"$$ begin raise exception 'made up' using errcode = '{code}'; end $$"
    )
    await connection.execute("create trigger fails before insert on perdure.line execute function pg_temp.fail()")
    backend = node.database.backend
    await backend.prefetch(Wanted((), ()), locked=False)

    with pytest.raises((BatchConflict, BatchRefused)) as caught:
        await backend.apply(Batch(1, 1, [Change(LINE.key(1), 0, Line("a"))], list, {}))

    told = caught.value.cause if isinstance(caught.value, BatchRefused) else caught.value
    assert type(told) is MEANINGS[code]
    await connection.execute("drop trigger fails on perdure.line")
    await node.run(Note(1))


# --- time, ticks, counters, the writer's row -------------------------------------------------------------------


async def test_the_stores_time_does_not_go_back(site: Site) -> None:
    node = await site.open()
    before, first = await node.run(When())
    site.clock.advance(-5_000_000)

    now, tick = await node.run(When())

    assert now == before
    assert tick > first


async def test_ticks_grow_over_all_writers_and_after_a_reopening(site: Site) -> None:
    first, second = await site.open(), await site.open()
    ticks = [(await node.run(When()))[1] for node in (first, second, first, second, second, first)]
    await first.close()
    await second.close()

    third = await site.open()
    ticks.append((await third.run(When()))[1])

    assert ticks == sorted(set(ticks))


async def test_writers_that_decide_at_the_same_time_give_out_different_ticks(site: Site) -> None:
    nodes = [await site.open() for _ in range(4)]

    ticks = [tick for _, tick in await asyncio.gather(*(node.run(When()) for node in nodes for _ in range(10)))]

    assert len(set(ticks)) == 40


async def test_counters_are_the_sum_over_writers_and_survive_them(site: Site) -> None:
    one, two = await site.open(), await site.open()
    for _ in range(3):
        await one.run(When())
    await two.run(When())

    assert await one.reader.counter("looks") == await two.reader.counter("looks") == 4
    await one.close()
    assert await two.reader.counter("looks") == 4
    assert await site.fetch("select node = '', value from perdure.counter order by 1") == [(False, 1), (True, 3)]


async def test_a_writer_that_was_not_seen_for_long_is_folded_by_the_next_and_fenced(site: Site) -> None:
    one = await site.open()
    _, tick = await one.run(When())
    site.clock.advance(limits.WRITER_ROW_DAYS * DAY + 1)
    await site.fetch("update perdure.writer set open_until = 0")

    two = await site.open()

    assert (await two.database.info()).writers == 1
    assert await two.reader.counter("looks") == 1
    assert (await two.run(When()))[1] > tick
    told = await asyncio.gather(one.run(When()), return_exceptions=True)
    assert isinstance(told[0], Exception), "it has no row to write with any more"
    assert await two.reader.counter("looks") == 2


async def test_a_writer_that_writes_nothing_for_long_stays_while_its_store_is_open(site: Site) -> None:
    one = await site.open()
    site.clock.advance(limits.WRITER_ROW_DAYS * DAY + 1)

    two = await site.open()

    assert (await two.database.info()).writers == 2
    assert await one.run(add("k")) == 1


async def test_a_writer_that_a_newer_one_replaced_writes_nothing_more(site: Site) -> None:
    node = await site.open()
    await node.run(add("k"))
    await site.fetch("update perdure.writer set incarnation = incarnation + 1 where node <> ''")

    with pytest.raises(LeaseLost):
        await node.run(add("k"))

    assert await node.reader.get(OWNER.key("k")) == Owner(None, 1)
    assert await node.run(add("k")) == 2


async def test_a_batch_is_written_once_under_its_number(site: Site) -> None:
    """Whoever sends it again, with whatever in it, hears that it is not its turn."""
    node = await site.open()
    backend = node.database.backend
    for line in (1, 2):
        await backend.prefetch(Wanted((), ()), locked=False)
        if line == 1:
            await backend.apply(Batch(1, 1, [Change(LINE.key(line), 0, Line("a"))], list, {}))
    with pytest.raises(WriterFenced):
        await backend.apply(Batch(1, 1, [Change(LINE.key(2), 0, Line("a"))], list, {}))

    assert await node.reader.count(LINE) == 1


async def test_a_batch_is_settled_by_its_number_and_its_writer_fenced(site: Site) -> None:
    node = await site.open()
    await node.run(add("k"))
    await node.run(add("k"))
    [(name, batch)] = await site.fetch("select node, batch from perdure.writer where node <> ''")
    other = (await site.open()).database

    assert await other.settle(OutcomeUnknown(node=name, batch=batch, cause="cut"))
    assert not await other.settle(OutcomeUnknown(node=name, batch=batch + 1, cause="cut"))
    with pytest.raises(LeaseLost):
        await node.run(add("k"))
    with pytest.raises(NotFoundError, match="no row of this writer"):
        await other.settle(OutcomeUnknown(node="nobody", batch=1, cause="cut"))

"""Writers that meet on the same rows, ticks and locks, in an order that the test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import asyncpg
import msgspec
import pytest

from perdure.backends.postgres.statements import by_table
from perdure.clock import VirtualClock
from perdure.core.backend import Batch, BatchConflict, Change, Wanted
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.errors import OutcomeUnknown, StoreUnavailable
from perdure.messages.tables import MESSAGE, PARKING
from perdure.routing.tables import KEY
from perdure.store import open_store
from perdure.streams.tables import VALUE, ValueRow
from tests.postgres.adding import Add, Look
from tests.postgres.proxy import COMMITS, FENCES, WRITES, Link, Message, Proxy, after, answered, asked, hang_up, mute, refuse
from tests.postgres.test_races import WAITING, deadlocks
from tests.racing.racer import Tick

BLOCKED = "select count(*) from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def foreign(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    yield connection
    connection.terminate()


class Cross(msgspec.Struct, frozen=True):
    """Change one value and remove another."""

    changed: str
    removed: str

    def reads(self) -> Iterable[Read]:
        yield VALUE.key("acme", self.changed)
        yield VALUE.key("acme", self.removed)

    def decide(self, view: View) -> bool:
        rows = [view.get(VALUE.key("acme", name)) for name in (self.changed, self.removed)]
        if None in rows:
            return False
        view.update(VALUE.key("acme", self.changed), ValueRow(7, view.now))
        view.delete(VALUE.key("acme", self.removed))
        return True


class Remove(msgspec.Struct, frozen=True):
    """Remove a value."""

    key: str

    def reads(self) -> Iterable[Read]:
        yield VALUE.key("acme", self.key)

    def decide(self, view: View) -> None:
        view.delete(VALUE.key("acme", self.key))


async def both_blocked(connection: Any) -> None:
    """Return once two wait for somebody else's locks."""
    while await connection.fetchval(BLOCKED) < 2:
        pass


async def test_two_who_change_and_remove_the_same_rows_crosswise_do_not_wait_for_one_another(url: str, foreign: Any) -> None:
    before = await deadlocks(url)
    second = await asyncpg.connect(url)
    async with open_store(url) as one, open_store(url) as other:
        await one.commit(Add("a"), Add("b"))
        async with foreign.transaction():
            await foreign.execute("select 1 from perdure.value where key = 'a' for update")
            async with second.transaction():
                await second.execute("select 1 from perdure.value where key = 'b' for update")
                going = [asyncio.create_task(store.commit(write)) for store, write in ((one, Cross("b", "a")), (other, Cross("a", "b")))]
                await both_blocked(foreign)
            await both_blocked(foreign)

        assert sorted(await asyncio.gather(*going)) == [(False,), (True,)]
    await second.close()
    assert await deadlocks(url) == before


async def test_who_inserts_what_is_there_does_not_wait_for_who_deletes_it(url: str, foreign: Any) -> None:
    """Out of turn: that one may wait for its locks. The decision was behind anyway."""
    async with open_store(url) as store:
        await store.commit(Add())
        backend: Any = store.access.writer._backend
        async with foreign.transaction():
            await foreign.execute("delete from perdure.value")
            await backend.prefetch(Wanted([], []), locked=False)
            change = Change(VALUE.key("acme", "sum"), 0, ValueRow(7, 0))

            with pytest.raises(BatchConflict):
                await backend.apply(Batch(backend.row.batch + 1, 0, [change], list, {}))
            await backend.abandon()
        assert await store.commit(Add()) == (1,)


async def test_a_row_that_was_removed_and_made_anew_is_not_taken_for_the_one_in_memory(url: str) -> None:
    """Neither by who changes it nor by who only looks; its version has been counted as often."""
    async with open_store(url) as one, open_store(url) as other:
        await one.commit(Add("changed"))
        await one.commit(Add("seen"))
        assert await one.commit(Look("changed"), Look("seen")) == (1, 1)
        for key in ("changed", "seen"):
            await other.commit(Remove(key))
            await other.commit(Add(key, 10))

        assert await one.commit(Add("changed")) == (11,)
        assert await one.commit(Look("seen")) == (10,)


def test_rows_that_guard_ranges_are_locked_before_what_is_in_the_ranges() -> None:
    keys: list[Key[Any]] = [MESSAGE.key("acme", "", "m"), VALUE.key("acme", "v"), PARKING.key("acme", "tag t"), KEY.key("acme", "k")]

    assert list(by_table(keys)) == [PARKING, KEY, MESSAGE, VALUE]


async def test_stores_that_are_opened_at_once_give_out_different_ticks(url: str) -> None:
    clock = VirtualClock()
    stores = await asyncio.gather(*(open_store(url, clock=clock)._open() for _ in range(10)))

    ticks = [(await store.commit(Tick()))[0] for store in stores]
    for store in stores:
        await store.close()

    assert len(set(ticks)) == 10
    assert len({tick % 64 for tick in ticks}) == 10


async def test_ticks_grow_behind_a_batch_that_was_committed_while_the_writer_fenced(url: str, proxy: Proxy) -> None:
    async with open_store(proxy.url(url), clock=VirtualClock()) as store:
        ticks = list(await store.commit(Tick()))
        proxy.at(asked(WRITES), refuse("PD002", "made up"))
        late = proxy.at(asked(COMMITS), hang_up)

        async def deliver_behind(link: Link, message: Message) -> bool:
            link.send_on(message)
            connection = await asyncpg.connect(url)
            while not await connection.fetchval(WAITING):
                assert late.links
            await connection.close()
            await late.deliver()
            return False

        proxy.at(asked(FENCES), deliver_behind)
        ticks += (await store.commit(Look(), Tick(), Tick(), Tick()))[1:]

        ticks += await store.commit(Tick())

        assert late.seen.is_set()

    assert ticks == sorted(set(ticks))


async def test_a_decision_that_only_reads_is_not_disturbed_by_who_waits_for_its_rows(url: str, proxy: Proxy, foreign: Any) -> None:
    """Its rows are locked until it has seen that they still are what it has read."""
    async with open_store(proxy.url(url)) as store:
        await store.commit(Add())
        await store.commit(Look())
        await foreign.execute("update perdure.value set rev = rev + 1, value = 2")  # what is in memory is old
        changing: list[asyncio.Task[Any]] = []

        async def change() -> None:
            changing.append(asyncio.create_task(foreign.execute("update perdure.value set rev = rev + 1, value = value + 1")))
            connection = await asyncpg.connect(url)
            while not await connection.fetchval(WAITING):
                assert not changing[-1].done()
            await connection.close()

        proxy.at(asked("select (select count(*)"), after(change), nth=2)

        assert await store.commit(Look()) == (2,)
        await changing[0]


async def test_a_writer_that_is_cancelled_within_a_statement_tells_that_the_outcome_is_unknown(url: str, proxy: Proxy) -> None:
    store = await open_store(proxy.url(url))
    await store.commit(Add())
    written = proxy.at(answered(WRITES), mute)
    adding = asyncio.create_task(store.commit(Add()))
    await written.seen.wait()
    assert store.access.writer._task is not None
    store.access.writer._task.cancel()

    with pytest.raises(OutcomeUnknown) as caught:
        await adding
    with pytest.raises(StoreUnavailable):
        await store.commit(Add())
    await store.close()

    async with open_store(url) as again:
        assert await again.settle(caught.value)
        assert await again.commit(Add()) == (3,)

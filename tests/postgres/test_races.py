"""Several writers on one database: no update is lost, nothing is done twice, and nobody waits for who waits for them."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import pytest

from perdure.store import open_store
from perdure.streams.tables import VALUE
from tests.postgres.proxy import WRITES, Proxy, asked, refuse
from tests.racing import mistakes
from tests.racing.race import SOAK_SECONDS, problems, raced, raced_for, raced_here
from tests.racing.racer import NAMES, WATCH, Park, Take, Telling, Watch

ROUNDS = 4
GATE_SECONDS = 12
MISTAKES = ["upserts", "parks without a row"]  # whether others show is a matter of luck here; below it is not

WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def deadlocks(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("select pg_stat_force_next_flush()")
        return int(await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()"))
    finally:
        await connection.close()


def few(told: list[Telling]) -> int:
    """How many deadlocks are no storm.

    Locks are taken in one order, but a row that is inserted where another one is just deleted waits out of turn. The racers
    make and delete the same two rows all the time; the server ends such a wait after a second.
    """
    return sum(len(telling.ticks) for telling in told) // 50


async def test_nothing_is_lost_in_a_race_of_three_processes(url: str) -> None:
    before = await deadlocks(url)

    told = await raced(url, ROUNDS, racers=3)

    assert await problems(url, told) == []
    assert all(telling.added and telling.stream and telling.conversation for telling in told), "all got their turns"
    assert sum(telling.busy for telling in told) == 0
    assert await deadlocks(url) - before <= few(told)


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_shows_in_the_same_race(url: str, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistakes.make(mistake, monkeypatch.setattr)

    told = await raced_here(url, ROUNDS)

    assert await problems(url, told) != []


@pytest.mark.parametrize(("mistake", "nobody"), [("none", False), ("looks without a lock", True)])
async def test_of_two_who_each_look_whether_the_other_one_stays_one_stays(
    url: str, mistake: str, nobody: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistakes.make(mistake, monkeypatch.setattr)
    foreign = await asyncpg.connect(url)
    async with open_store(url) as one, open_store(url) as other:
        for number in (0, 1):
            await one.commit(Watch(number))
        async with foreign.transaction():
            await foreign.execute("select 1 from perdure.value for update")
            going = [asyncio.create_task(store.commit(Watch(number))) for number, store in enumerate((one, other))]
            while await foreign.fetchval(WAITING) < len(going):
                assert not any(task.done() for task in going)
        await asyncio.gather(*going)

        on = [row.value for name in WATCH if (row := await one.access.reader.get(VALUE.key("acme", name)))]
    await foreign.close()

    assert (on == [0, 0]) is nobody


@pytest.mark.parametrize(("mistake", "found"), [("none", [1, 2]), ("scans with the locks", [1])])
async def test_what_is_parked_while_a_taker_waits_for_the_name_is_taken(
    url: str, proxy: Proxy, mistake: str, found: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistakes.make(mistake, monkeypatch.setattr)
    foreign = await asyncpg.connect(url)
    async with open_store(proxy.url(url)) as store:
        await store.commit(Park(NAMES[0], 1))
        proxy.at(asked(WRITES), refuse("PD002", "made up"))  # so that it runs with locks
        async with foreign.transaction():
            await foreign.execute("update perdure.parking set parked = 2, rev = rev + 1")
            taking = asyncio.create_task(store.commit(Take(NAMES[0])))
            while not await foreign.fetchval(WAITING):
                assert not taking.done()
            await foreign.execute(
                "insert into perdure.message (tenant_id, source, message_id, digest, kind, status, address, parked_under, tick, accepted_at, "
                "note, sender, asked, payload, rev) select tenant_id, source, '2', digest, kind, status, address, parked_under, tick + 1, "
                "accepted_at, note, sender, asked, payload, rev from perdure.message"
            )

        assert await taking == (found,)
    await foreign.close()


def tell(told: list[Telling], seconds: float, stopped: int) -> None:
    """Print what was measured."""
    calls, refused, again = (sum(getattr(telling, what) for telling in told) for what in ("calls", "refused", "again"))
    sys.stdout.write(
        f"\n{len(told)} processes, {seconds:.0f} s: {calls / seconds:,.0f} calls per second, of which {refused / seconds:,.0f} came second, "
        f"and {again / seconds:,.0f} decided again; {stopped} deadlocks\n"
    )


@pytest.mark.parametrize("seconds", [GATE_SECONDS, pytest.param(SOAK_SECONDS, marks=pytest.mark.soak)], ids=["gate", "soak"])
async def test_nothing_is_lost_in_a_long_race(url: str, seconds: float) -> None:
    before = await deadlocks(url)

    told = await raced_for(url, seconds)

    stopped = await deadlocks(url) - before
    tell(told, seconds, stopped)
    assert await problems(url, told) == []
    assert stopped <= few(told)

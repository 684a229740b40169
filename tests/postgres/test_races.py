"""Several processes on one database: no update is lost, nothing is done twice, and nobody waits for who waits for them."""

from __future__ import annotations

import asyncpg
import pytest

from tests.racing.race import SOAK_SECONDS, problems, raced, raced_for

ROUNDS = 60
MISTAKES = ["upserts", "looks without a lock", "scans with the locks", "parks without a row"]


async def deadlocks(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("select pg_stat_force_next_flush()")
        return int(await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()"))
    finally:
        await connection.close()


async def test_nothing_is_lost_in_a_race_of_three_processes(url: str) -> None:
    before = await deadlocks(url)

    told = await raced(url, ROUNDS, racers=3)

    assert await problems(url, told) == []
    assert all(telling.added and telling.stream and telling.conversation for telling in told), "all got their turns"
    assert await deadlocks(url) - before == 0
    assert sum(telling.busy for telling in told) == 0


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_shows_in_the_same_race(url: str, mistake: str) -> None:
    told = await raced(url, ROUNDS, mistake=mistake)

    assert await problems(url, told) != []


@pytest.mark.soak
async def test_nothing_is_lost_in_a_long_race_of_three_processes(url: str) -> None:
    before = await deadlocks(url)

    told = await raced_for(url, SOAK_SECONDS, racers=3)

    assert await problems(url, told) == []
    assert await deadlocks(url) - before == 0

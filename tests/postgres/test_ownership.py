"""Leases on shards: two open stores on one database, each with a keeper of its own. Every look is the test's; expiry is written into the row."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from perdure import limits
from perdure.core.ownership import Renew
from perdure.errors import LeaseLost
from tests.postgres.owners import ALL, Node, Rows, node

HALF = limits.SHARDS // 2
pytestmark = pytest.mark.usefixtures("unhurried")


async def test_a_node_alone_owns_every_shard(one: Node, rows: Rows) -> None:
    await one.start()

    assert one.shards == ALL
    assert await rows.owned() == {one.name: ALL}
    assert all(one.ownership.owns(shard) for shard in ALL)
    assert one.ownership.safe()
    assert set((await rows.epochs()).values()) == {1}


async def test_a_second_node_gets_its_fair_share_and_nothing_is_owned_twice(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await two.start()
    assert two.shards == frozenset()

    await one.look()
    await two.look()

    assert len(one.shards) == len(two.shards) == HALF
    assert one.shards | two.shards == ALL
    assert await rows.owned() == {one.name: one.shards, two.name: two.shards}
    assert two.keeper.gains == [two.shards]
    assert {(await rows.epochs())[shard] for shard in two.shards} == {2}


async def test_shards_are_given_back_only_when_all_that_was_begun_is_committed(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await two.start()
    one.keeper.may.clear()

    looking = asyncio.create_task(one.look())
    await one.keeper.asked.wait()
    await two.look()

    assert not one.ownership.owns(max(ALL)), "nothing new begins"
    assert one.keeper.releasing[max(ALL)].held, "what was begun is committed"
    assert two.shards == frozenset()
    one.keeper.may.set()
    await looking
    assert not one.keeper.releasing[max(ALL)].held
    await two.look()
    assert one.keeper.released == [two.shards]
    assert await rows.owned() == {one.name: one.shards, two.name: two.shards}


async def test_what_is_given_back_ends_when_another_takes_over_meanwhile(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await two.start()
    one.keeper.may.clear()
    looking = asyncio.create_task(one.look())
    await one.keeper.asked.wait()
    await rows.expire(one)
    await two.look()

    with pytest.raises(LeaseLost):
        await one.renew()

    assert not any(lease.held for lease in one.keeper.releasing.values())
    assert two.shards == ALL
    one.keeper.may.set()
    await looking
    assert await rows.owned() == {two.name: ALL}
    assert one.shards == frozenset()


async def test_what_is_given_back_is_free_though_the_node_goes_on(one: Node, two: Node) -> None:
    await one.start()
    await two.start()
    await one.look()
    await two.look()

    await one.look()
    await two.look()

    assert (one.keeper.forgotten, two.keeper.forgotten) == ([], [])
    assert len(one.keeper.released) == 1


async def test_what_a_node_that_died_would_share_in_waits_for_no_second_lease(one: Node, two: Node, rows: Rows, url: str) -> None:
    await one.start()
    await two.start()
    async with node(url) as three:
        await three.start()  # and dies: nobody hears of it before its lease is over
        await rows.expire(two)  # as did this one, earlier

        await one.look()
        assert await rows.owned() == {one.name: one.shards, None: ALL - one.shards}, "the share of who may live"
        for _ in range(limits.LEASE_LOOKS + 1):
            await one.look()

        assert one.shards == ALL
        await one.look()
        assert one.shards == ALL, "nobody has wanted them"
        one.ownership._keeps_until = 0
        await one.look()
        await three.look()
        assert len(one.shards) == len(three.shards) == HALF, "it lives"


async def test_a_node_that_is_late_with_its_lease_gets_no_share_before_it_is_in_time_again(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await two.start()
    await rows.run("update perdure.writer set expires_at = expires_at - $2 where node = $1", two.name, 2 * limits.LEASE_RENEW_US + 1)

    await one.look()
    assert one.shards == ALL

    await two.renew()
    await one.look()
    assert len(one.shards) == HALF


async def test_a_clean_stop_frees_everything_at_once(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    lease = one.ownership.lease(0)

    await one.ownership.stop()
    await two.start()

    assert lease is not None
    assert not lease.held
    assert two.shards == ALL
    assert (await rows.writer(one))[1] is None
    assert not one.ownership.shards


async def test_an_expired_node_loses_its_shards_and_its_incarnation_is_raised_first(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await rows.expire(one)
    before, _ = await rows.writer(one)

    await two.start()

    assert await rows.writer(one) == (before + 1, None)
    assert two.shards == ALL


async def test_a_lease_that_is_not_over_is_left_alone(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    before = await rows.writer(one)

    await two.start()
    await two.look()

    assert await rows.writer(one) == before
    assert two.shards == frozenset()


async def test_a_takeover_waits_for_a_batch_in_flight_and_one_that_has_renewed_lives(one: Node, two: Node, rows: Rows, url: str) -> None:
    await one.start()
    await rows.expire(one)
    before, _ = await rows.writer(one)
    batch = await asyncpg.connect(url)
    transaction = batch.transaction()
    await transaction.start()
    await batch.execute("update perdure.writer set batch = batch, expires_at = 99999999999999999 where node = $1", one.name)

    takeover = asyncio.create_task(two.start())
    await until_somebody_waits(rows)
    assert not takeover.done()
    await transaction.commit()
    await takeover
    await batch.close()

    assert (await rows.writer(one))[0] == before
    assert two.shards == frozenset()
    assert await rows.owned() == {one.name: ALL}


async def test_a_takeover_waits_for_a_batch_in_flight_and_what_that_wrote_is_there(one: Node, two: Node, rows: Rows, url: str) -> None:
    await one.start()
    await rows.expire(one)
    batch = await asyncpg.connect(url)
    transaction = batch.transaction()
    await transaction.start()
    await batch.execute("update perdure.writer set batch = batch where node = $1", one.name)

    takeover = asyncio.create_task(two.start())
    await until_somebody_waits(rows)
    assert not takeover.done()
    await transaction.rollback()
    await takeover
    await batch.close()

    assert two.shards == ALL


async def test_a_fenced_node_drops_everything_before_it_writes_again(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    lease = one.ownership.lease(5)
    assert lease is not None
    await rows.expire(one)
    await two.start()

    with pytest.raises(LeaseLost):
        await one.store.access.writer.run(Renew(), lease=lease)

    assert not lease.held
    assert one.shards == frozenset()
    assert one.keeper.forgotten == [ALL]
    assert await rows.owned() == {two.name: ALL}


async def test_a_fenced_node_registers_again_and_gets_its_share(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await rows.expire(one)
    await two.start()
    with pytest.raises(LeaseLost):
        await one.renew()
    assert one.shards == frozenset()

    await one.look()
    await two.look()
    await one.look()

    assert (await rows.writer(one))[1] is not None
    assert len(one.shards) == len(two.shards) == HALF
    assert await rows.owned() == {one.name: one.shards, two.name: two.shards}
    assert one.keeper.gains == [one.shards]
    assert one.ownership.safe()


async def test_a_node_that_finds_its_shards_gone_drops_them_though_no_batch_was_refused(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await rows.expire(one)
    await two.start()

    await one.ownership._take()

    assert one.shards == frozenset()
    assert one.keeper.gains == []
    assert frozenset().union(*one.keeper.forgotten, *one.keeper.released) == ALL


async def test_an_unknown_commit_that_was_settled_costs_no_shard(one: Node, rows: Rows) -> None:
    await one.start()
    leases = [one.ownership.lease(shard) for shard in ALL]

    await one.store.access.writer._backend.fence()

    assert [one.ownership.lease(shard) for shard in ALL] == leases
    assert all(lease is not None and lease.held for lease in leases)
    assert one.keeper.forgotten == []
    assert (await rows.writer(one))[1] is not None


async def test_what_a_claim_gave_whose_answer_was_lost_is_owned(one: Node, rows: Rows) -> None:
    await one.start()
    one.ownership._drop([3, 4])  # as if the answer that names them had not come

    await one.look()

    assert one.shards == ALL
    assert one.keeper.gains == [frozenset({3, 4})]
    assert (await rows.epochs())[3] == 1


async def test_shards_of_a_node_whose_row_is_gone_are_free(one: Node, rows: Rows) -> None:
    await rows.run("update perdure.shard set node = 'gone', epoch = 7")

    await one.start()

    assert one.shards == ALL
    assert set((await rows.epochs()).values()) == {8}


async def test_shards_of_a_node_that_runs_no_engine_any_more_are_free(one: Node, two: Node, rows: Rows) -> None:
    await rows.run("update perdure.shard set node = $1", one.name)

    await two.start()

    assert two.shards == ALL


async def test_a_node_owns_nothing_from_before_it_registered(one: Node, rows: Rows) -> None:
    await rows.run("update perdure.shard set node = $1", one.name)

    await one.start()

    assert one.shards == ALL
    assert set((await rows.epochs()).values()) == {1}, "claimed anew: another node may have seen them as free"


async def test_an_open_store_without_an_engine_counts_for_no_share(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await two.renew()

    await one.look()

    assert one.shards == ALL
    assert (await rows.writer(two))[1] is None


async def test_a_batch_renews_the_lease_that_it_is_written_with(one: Node, rows: Rows) -> None:
    await one.start()
    await rows.run("update perdure.writer set expires_at = expires_at - 5000000 where node = $1", one.name)
    _, before = await rows.writer(one)
    one.ownership._safe_until = 0
    assert not one.ownership.safe()

    await one.renew()

    _, after = await rows.writer(one)
    assert before is not None
    assert after is not None
    assert after > before
    assert one.ownership.safe()


async def test_how_long_a_lease_is_safe_is_counted_from_before_it_was_asked_for(one: Node) -> None:
    one.ownership._on_renewed(1_000_000)

    assert one.ownership._safe_until == 1_000_000 + limits.LEASE_US - limits.LEASE_MARGIN_US
    assert not one.ownership.safe(), "the machine has been up for longer"


async def test_an_idle_node_renews_before_its_lease_is_over(one: Node, rows: Rows) -> None:
    await one.start()
    before = one.store.access.writer.commits
    await one.look()
    assert one.store.access.writer.commits == before

    one.ownership._renewed_at -= limits.LEASE_RENEW_US + 1
    await one.look()

    assert one.store.access.writer.commits == before + 1


async def test_a_node_whose_lease_is_over_claims_nothing(one: Node, two: Node, rows: Rows) -> None:
    await one.start()
    await rows.expire(one)
    one.ownership._drop(list(ALL))
    await rows.run("update perdure.shard set node = null")

    await one.ownership._take()

    assert one.shards == frozenset()


async def until_somebody_waits(rows: Rows) -> None:
    """Return once a statement waits for another's lock."""
    found: list[Any] = []
    while not found:
        found = await rows.run("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")

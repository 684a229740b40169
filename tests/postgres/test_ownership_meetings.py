"""Two nodes that look at the same shards at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from perdure import limits
from tests.engine.orders import holds
from tests.postgres.owners import ALL, Node, Rows, beside

TAKEN_OVER = "update perdure.writer set incarnation = incarnation + 1, expires_at = null where node = $1"
pytestmark = pytest.mark.usefixtures("unhurried")


async def test_shards_that_another_node_takes_meanwhile_are_not_taken_from_it(one: Node, two: Node, rows: Rows, url: str) -> None:
    """A row that was changed while a statement waited is judged by its new version, and everything else by what was there before."""
    await one.start()
    await two.start()
    await rows.run(TAKEN_OVER, one.name)
    async with beside(url) as busy, busy.connection.transaction():
        await busy.run("select 1 from perdure.writer where node = $1 for update", two.name)  # as its own batch does
        looking = asyncio.create_task(two.look())
        await rows.until_waits(two)
        await one.look()
        await one.look()
    await looking

    assert one.shards
    assert await rows.owned() == {one.name: one.shards} | ({two.name: two.shards} if two.shards else {})
    assert one.shards | two.shards == ALL


async def test_a_node_renews_its_lease_while_its_look_at_the_others_waits(
    one: Node, rows: Rows, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the batch of one that is late, say, whose row it wants to change."""
    monkeypatch.setattr(limits, "LEASE_LOOK_SECONDS", 0)
    await one.start()
    async with beside(url) as busy, busy.connection.transaction():
        await busy.run("lock table perdure.shard in access exclusive mode")
        await rows.until_waits(one)
        one.ownership._renewed_at = 0

        await holds(lambda: one.ownership._renewed_at)

        await rows.until_waits(one)

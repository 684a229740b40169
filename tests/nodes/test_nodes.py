"""Three nodes under load, killed and stopped past their leases: nothing is lost, nothing is handled twice, and no stale owner writes.

`stand_still` lets a node go on that has lost everything without having heard of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.nodes.fleet import Fleet, Node, fleet
from tests.nodes.proof import Findings, examine, prepare

SECONDS = int(os.environ.get("PERDURE_SOAK_NODES_SECONDS", "600"))
SHORT_LEASE = 2.0
LEASE = 10.0  # as in limits.py
EVERY = 5.0  # seconds between two kills


def tell(nodes: Fleet, found: Findings | None) -> None:
    """Print what was measured."""
    times = sorted(nodes.takeovers)
    middle = times[len(times) // 2] if times else 0.0
    sys.stdout.write(
        f"\n{len(nodes.all)} nodes, {len(times)} takeovers, median {middle:.1f} s, longest {max(times, default=0.0):.1f} s\n{found}\n"
    )


async def test_nodes_that_are_killed_and_stopped_lose_nothing_and_write_nothing_stale(postgres_url: str, tmp_path: Path) -> None:
    await prepare(postgres_url)
    async with fleet(postgres_url, tmp_path, lease=SHORT_LEASE) as nodes:
        await nodes.work(5)
        first, second, _ = nodes.nodes
        _, replacement = await asyncio.gather(nodes.kill(first), nodes.start())
        await nodes.stand_still(second)
        await nodes.work(5)
        await nodes.share()
        assert replacement in nodes.nodes

        await nodes.rest()
        found = await examine(postgres_url, nodes.acknowledged)
        await nodes.close()

    tell(nodes, found)
    assert found.holds, found
    assert found.writes
    assert found.effects


async def test_without_the_fence_the_same_check_finds_stale_writes(postgres_url: str, tmp_path: Path) -> None:
    await prepare(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    async with fleet(postgres_url, tmp_path, lease=SHORT_LEASE, more=["unfenced"]) as nodes:
        await nodes.work(2)
        stopped = nodes.nodes[0]
        await nodes.stand_still(stopped)
        stale = 0
        while not stale:
            stale = await connection.fetchval("select count(*) from proof.stale")
            assert stopped.process.returncode is None, nodes.errors
    await connection.close()

    sys.stdout.write(f"\n{stale} stale writes without the fence\n")


async def kill_again_and_again(nodes: Fleet, chance: random.Random, still: set[Node]) -> None:
    """Kill one of those that run every few seconds, and start another in its place."""
    loop, takeovers = asyncio.get_running_loop(), list[asyncio.Task[None]]()
    end = loop.time() + SECONDS
    while loop.time() < end:
        next_kill = loop.time() + EVERY
        takeovers.append(asyncio.create_task(nodes.kill(chance.choice([node for node in nodes.nodes if node not in still]))))
        await nodes.start()
        await asyncio.sleep(max(0.0, next_kill - loop.time()))
    await asyncio.gather(*takeovers)


async def stop_again_and_again(nodes: Fleet, chance: random.Random, still: set[Node]) -> None:
    """Let one after the other stand still past its lease."""
    while True:
        node = chance.choice(nodes.nodes)
        still.add(node)
        await nodes.stand_still(node)
        still.clear()
        await nodes.share()


@pytest.mark.soak
async def test_nodes_for_a_long_time(postgres_url: str, tmp_path: Path) -> None:
    await prepare(postgres_url)
    chance, still = random.Random(SECONDS), set[Node]()
    async with fleet(postgres_url, tmp_path, lease=LEASE) as nodes:
        stopping = asyncio.create_task(stop_again_and_again(nodes, chance, still))
        await kill_again_and_again(nodes, chance, still)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert stopping.cancelled(), stopping.exception()
        await nodes.rest()
        found = await examine(postgres_url, nodes.acknowledged)
        await nodes.close()

    tell(nodes, found)
    assert found.holds, found

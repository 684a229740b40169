"""Three nodes under load, and a server that is restarted and whose connections are cut, mute, delayed and late: they go on by themselves."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.nodes.fleet import Fleet, fleet
from tests.nodes.proof import Findings, examine, prepare
from tests.postgres.proxy import WRITES, Act, Proxy, answered, asked, cut, hang_up, hold, mute
from tests.postgres.server import Server

SECONDS = int(os.environ.get("PERDURE_SOAK_NODES_SECONDS", "600"))
SHORT_LEASE = 2.0
LEASE = 10.0  # as in limits.py
EVERY = 4.0  # seconds between two faults
LATER = 1.0  # seconds after which the server has what was held
Fault = Callable[["Network"], Awaitable[None]]


class Network:
    """The way to a server that is ours to break."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self.done: Counter[str] = Counter()

    async def do(self, fault: Fault) -> None:
        await fault(self)
        self.done[fault.__name__.replace("_", " ")] += 1

    async def at_a_write(self, act: Act, *, committed: bool = False) -> None:
        await self.proxy.at((answered if committed else asked)(WRITES), act).seen.wait()

    async def late(self, act: Act) -> None:
        held = self.proxy.at(asked(WRITES), act)
        await held.seen.wait()
        await asyncio.sleep(LATER)
        await held.deliver()

    async def restart(self, stop: Callable[[], None]) -> None:
        await asyncio.to_thread(stop)
        await asyncio.to_thread(self.server.start)


async def all_cut(network: Network) -> None:
    network.proxy.end_all()


async def cut_before_a_commit(network: Network) -> None:
    await network.at_a_write(cut)


async def cut_after_a_commit(network: Network) -> None:
    await network.at_a_write(cut, committed=True)


async def mute_before_a_commit(network: Network) -> None:
    await network.at_a_write(mute)


async def mute_after_a_commit(network: Network) -> None:
    await network.at_a_write(mute, committed=True)


async def a_write_delayed(network: Network) -> None:
    await network.late(hold)


async def a_write_delivered_late(network: Network) -> None:
    await network.late(hang_up)


async def server_killed(network: Network) -> None:
    await network.restart(network.server.kill)


async def server_restarted(network: Network) -> None:
    await network.restart(lambda: network.server.stop(immediate=False))


FAULTS: list[Fault] = [
    cut_after_a_commit,
    a_write_delivered_late,
    server_killed,
    cut_before_a_commit,
    a_write_delayed,
    all_cut,
    mute_after_a_commit,
    server_restarted,
    mute_before_a_commit,
]


@asynccontextmanager
async def broken(folder: Path, *, lease: float) -> AsyncIterator[tuple[Network, Fleet]]:
    with Server() as server:
        url = server.fresh()
        await prepare(url)
        async with Proxy(server.port) as proxy, fleet(url, folder, lease=lease, through=proxy.url(url)) as nodes:
            yield Network(server, proxy), nodes


async def found_at_rest(nodes: Fleet) -> Findings:
    await nodes.rest()
    found = await examine(nodes.url, nodes.acknowledged)
    await nodes.close()
    return found


async def test_nodes_go_on_by_themselves_whatever_happens_to_server_and_connections(tmp_path: Path) -> None:
    async with broken(tmp_path, lease=SHORT_LEASE) as (network, nodes):
        await nodes.work(3)
        for fault in FAULTS:
            await network.do(fault)
            await nodes.work(1)
        found = await found_at_rest(nodes)

    assert found.holds, found
    assert found.writes
    assert found.effects


@pytest.mark.soak
async def test_nodes_go_on_for_a_long_time(tmp_path: Path) -> None:
    chance, loop = random.Random(SECONDS), asyncio.get_running_loop()
    async with broken(tmp_path, lease=LEASE) as (network, nodes):
        end = loop.time() + SECONDS
        for number in itertools.count():
            if loop.time() >= end:
                break
            await network.do(FAULTS[number] if number < len(FAULTS) else chance.choice(FAULTS))
            await asyncio.sleep(EVERY)
        found = await found_at_rest(nodes)

    sys.stdout.write(f"\n{network.done.total()} faults: {dict(network.done)}\n{found}\n")
    assert found.holds, found

"""Deploys and rollbacks while 64 callers start processes: none fails, and each runs the version that it has recorded."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import msgspec
import pytest

from perdure import Engine, open_store
from perdure.packages.archive import Package
from tests.engine.orders import holds
from tests.nodes.fleet import Fleet, fleet
from tests.nodes.rollout import CALLERS, Callers, Rollout, Start, Verdict, judge, make_app, versions
from tests.stores import store_url

CHANGES = 16
MANY = int(os.environ.get("PERDURE_SOAK_CHANGES", "100"))
VERSIONS = 80  # more than stay loaded
LEASE = 2.0
KILL_EVERY = 8  # changes


async def roll_out_on_a_file(url: str, packages: list[Package], changes: int) -> tuple[Verdict, Rollout]:
    """Change routes under 64 callers in one engine."""
    starts: list[Start] = []
    async with open_store(url) as store, Engine(store, make_app()) as engine:
        rollout = Rollout(store, packages)
        await rollout.begin()
        callers = Callers(engine, "c", CALLERS, insist=False, heard=starts.append)

        async def some_start() -> None:
            seen = len(starts)
            await holds(lambda: len(starts) >= seen + CALLERS or callers.done)

        await rollout.run(changes, some_start)
        await callers.rest()
        return await judge(store, packages, rollout.changes, starts), rollout


async def roll_out_on_nodes(url: str, folder: Path, packages: list[Package], changes: int, *, kill: bool) -> tuple[Verdict, Rollout]:
    """Change routes under 64 callers on three nodes; with `kill`, one of these is killed now and then, and another comes."""
    async with open_store(url) as store:
        rollout, chance, killed = Rollout(store, packages), random.Random(changes), list[asyncio.Task[None]]()
        await rollout.begin()
        more = [str(CALLERS // 3 + 1)]
        async with fleet(url, folder, lease=LEASE, program="tests.nodes.caller", more=more) as nodes:

            async def some_start() -> None:
                if kill and rollout.done // KILL_EVERY > len(killed):
                    killed.append(asyncio.create_task(nodes.kill(chance.choice(nodes.nodes))))
                    await nodes.start()
                seen = replies(nodes)
                await nodes.comes(lambda: replies(nodes) >= seen + CALLERS // 2, nodes.nodes[0])

            await rollout.run(changes, some_start)
            await asyncio.gather(*killed)
            await nodes.rest()
            starts = [msgspec.json.decode(line, type=Start) for node in nodes.all for line in node.said("start")]
            found = await judge(store, packages, rollout.changes, starts)
            found.left += refusals(nodes)
            await nodes.close()
        return found, rollout


def replies(nodes: Fleet) -> int:
    """Return how many starts were answered."""
    return sum(len(node.said("reply")) for node in nodes.all)


def refusals(nodes: Fleet) -> list[str]:
    """Return what callers were refused with."""
    return [text for node in nodes.all for text in node.said("failed")]


def tell(found: Verdict, rollout: Rollout) -> None:
    """Print what was seen."""
    sys.stdout.write(
        f"\n{rollout.done} deploys and rollbacks, {rollout.refused} rollbacks refused, {rollout.collected} packages collected; "
        f"{found.starts} starts answered, {found.processes} processes on {found.used} versions\n"
    )


async def test_no_start_fails_while_versions_are_deployed_and_rolled_back_on_a_file(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    found, rollout = await roll_out_on_a_file(store_url(request, "file", tmp_path), versions(CHANGES // 2), CHANGES)

    tell(found, rollout)
    assert found.holds, found
    assert found.used > 2


async def test_no_start_fails_while_versions_are_deployed_and_rolled_back_on_three_nodes(postgres_url: str, tmp_path: Path) -> None:
    found, rollout = await roll_out_on_nodes(postgres_url, tmp_path, versions(CHANGES // 2), CHANGES, kill=False)

    tell(found, rollout)
    assert found.holds, found
    assert found.used > 2


@pytest.mark.soak
async def test_no_start_fails_in_a_hundred_deploys_and_rollbacks_on_a_file(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    found, rollout = await roll_out_on_a_file(store_url(request, "file", tmp_path), versions(VERSIONS), MANY)

    tell(found, rollout)
    assert found.holds, found


@pytest.mark.soak
@pytest.mark.parametrize("kill", [False, True], ids=["calm", "killed"])
async def test_no_start_fails_in_a_hundred_deploys_and_rollbacks_on_three_nodes(postgres_url: str, tmp_path: Path, kill: bool) -> None:
    found, rollout = await roll_out_on_nodes(postgres_url, tmp_path, versions(VERSIONS), MANY, kill=kill)

    tell(found, rollout)
    assert found.holds, found


async def test_the_judge_finds_what_a_stale_route_and_a_wrong_version_would_bring(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    packages = versions(2)
    async with open_store(store_url(request, "file", tmp_path)) as store, Engine(store, make_app()) as engine:
        rollout = Rollout(store, packages)
        await rollout.begin()
        starts: list[Start] = []
        callers = Callers(engine, "c", 1, insist=False, heard=starts.append)
        await holds(lambda: starts)
        await callers.rest()
        start = starts[0]
        first = rollout.changes
        await rollout.begin()
        later = msgspec.structs.replace(start, id="later", asked=rollout.changes[-1].done + 1, answered=rollout.changes[-1].done + 2)
        found = await judge(store, packages, rollout.changes, [later])
        assert (len(found.stale), found.lost) == (1, ["later"])
        found = await judge(store, list(reversed(packages)), first[:2], [start])
        assert len(found.other) == found.processes > 0

"""Workers that are killed, and workers that stand still beyond their lease and go on: each command is done, and once.

Source: the research on commands, 3.1 "many replicas", 5.2 and 5.3.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import App, CommandRetry, Engine, Store, open_store
from perdure.commands.states import TERMINAL, CommandState
from perdure.server.serving import serving
from tests.commands.worker_program import LEASE, Done
from tests.gate.tree import ROOT
from tests.stores import DURABLE, store_url

COMMANDS = int(os.environ.get("PERDURE_SOAK_COMMANDS", "10000"))
SOME = 60
WORKERS = 10
EVERY = 0.4  # seconds between two kills
STANDS_STILL = LEASE.total_seconds() + 2
RETRY = CommandRetry(max_attempts=100, initial=0)


class Crew:
    """Some workers, each a process of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)
        self.running: list[asyncio.subprocess.Process] = []
        self.killed = 0
        self.stood_still = 0
        self._still: set[asyncio.Task[None]] = set()

    async def hire(self) -> None:
        program = ("-m", "tests.commands.worker_program", self._url, f"w{next(self._numbers)}")
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        self.running.append(process)

    async def lose(self, chance: random.Random) -> None:
        """Kill one, or let one stand still for longer than its lease."""
        process = self.running.pop(chance.randrange(len(self.running)))
        if chance.random() < 0.25:
            self.stood_still += 1
            task = asyncio.create_task(self._stand_still(process))
            self._still.add(task)
            task.add_done_callback(self._still.discard)
        else:
            self.killed += 1
            process.kill()
            await process.wait()
            await self.hire()

    async def _stand_still(self, process: asyncio.subprocess.Process) -> None:
        process.send_signal(signal.SIGSTOP)
        await self.hire()
        await asyncio.sleep(STANDS_STILL)
        process.send_signal(signal.SIGCONT)
        self.running.append(process)

    async def dismiss(self) -> None:
        await asyncio.gather(*self._still)
        for process in self.running:
            process.kill()
        await asyncio.gather(*(process.wait() for process in self.running))


@asynccontextmanager
async def crew_of(store: Store) -> AsyncIterator[Crew]:
    async with Engine(store, App("none")) as engine, serving(engine, dev=True) as server:
        crew = Crew(server.url)
        try:
            for _ in range(WORKERS):
                await crew.hire()
            yield crew
        finally:
            await crew.dismiss()


async def created(store: Store, count: int) -> list[str]:
    made = [store.commands.create_command("acme", "work", params=msgspec.json.encode(n), retry=RETRY) for n in range(count)]
    return [one.command_id for one in await asyncio.gather(*made)]


async def wrong(store: Store, command_id: str, n: int) -> list[str]:
    """Return what is not as it should be of one command."""
    commands = store.commands
    status, events = await commands.get_command_status(command_id), await commands.history(command_id, limit=1_000)
    assert status is not None
    result = await commands.get_result(command_id)
    if status.state != CommandState.SUCCEEDED or not isinstance(result, bytes):
        return [f"{command_id} is {status.state}"]
    done, kinds = msgspec.json.decode(result, type=Done), Counter(event.kind for event in events)
    last = [event for event in events if event.kind == "leased"][-1]
    found = []
    if (done.n, done.attempt, done.worker) != (n, status.attempt, status.worker):
        found.append(f"{command_id}: the result is of {done}, the command ended in attempt {status.attempt} of {status.worker}")
    if (last.attempt, last.actor) != (done.attempt, done.worker):
        found.append(f"{command_id}: it was leased last by {last.actor} in attempt {last.attempt}, and the result is of {done}")
    if kinds["succeeded"] != 1 or kinds["leased"] != status.attempt or kinds["lease-expired"] + kinds["released"] != status.attempt - 1:
        found.append(f"{command_id}: {dict(kinds)} in {status.attempt} attempts")
    if status.failures != kinds["lease-expired"] or [event.attempt for event in events] != sorted(event.attempt for event in events):
        found.append(f"{command_id}: {status.failures} failures, {[(event.kind, event.attempt) for event in events]}")
    return found


async def all_done(store: Store, ids: list[str], crew: Crew) -> dict[str, Any]:
    """Let workers be lost until everything is done, then say what is wrong."""
    chance = random.Random(len(ids))
    waiting = asyncio.ensure_future(asyncio.gather(*(store.commands.wait_command(one, 10**12) for one in ids)))
    while not (await asyncio.wait((waiting,), timeout=EVERY))[0]:
        await crew.lose(chance)
    states = Counter(str(one.state) for one in waiting.result())
    assert set(states) <= {str(state) for state in TERMINAL}
    again = sum(one.attempt - 1 for one in waiting.result())
    faults = [fault for n, one in enumerate(ids) for fault in await wrong(store, one, n)]
    return {"states": dict(states), "killed": crew.killed, "stood still": crew.stood_still, "again": again, "wrong": faults}


@pytest.mark.parametrize("kind", DURABLE)
async def test_commands_are_done_once_though_workers_are_lost(request: Any, tmp_path: Path, kind: str) -> None:
    async with open_store(store_url(request, kind, tmp_path)) as store, crew_of(store) as crew:
        found = await all_done(store, await created(store, SOME), crew)

    assert found["wrong"] == []
    assert found["states"] == {"SUCCEEDED": SOME}
    assert found["killed"] + found["stood still"]


@pytest.mark.soak
@pytest.mark.parametrize("kind", DURABLE)
async def test_very_many_commands_are_done_once_though_workers_are_lost(request: Any, tmp_path: Path, kind: str) -> None:
    async with open_store(store_url(request, kind, tmp_path)) as store, crew_of(store) as crew:
        found = await all_done(store, await created(store, COMMANDS), crew)

    sys.stdout.write(f"\n{kind}: {found}\n")
    assert found["wrong"] == []
    assert found["states"] == {"SUCCEEDED": COMMANDS}
    assert found["again"]

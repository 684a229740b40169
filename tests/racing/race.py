"""Races of several processes on one store: the racers, and what does not fit together afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec

from perdure import limits
from perdure.commands.contract import Succeeded
from perdure.conversations.conversation import DurableConversation
from perdure.errors import PerdureError
from perdure.store import Store, open_store
from tests.contracts.registry import ACME
from tests.racing.racer import NAMES, TASKS, Racer, Take, Telling

ROOT = Path(__file__).parents[2]
SOAK_SECONDS = int(os.environ.get("PERDURE_SOAK_RACE_SECONDS", "30"))


@asynccontextmanager
async def python(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that is ready; killed in the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@asynccontextmanager
async def racing(url: str, rounds: int, *, racers: int = 2, mistake: str = "none") -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Racers, let go at once; without a number of `rounds` until they are told to end."""
    async with AsyncExitStack() as stack:
        starting = [python("-m", "tests.racing.racer", url, str(number), str(rounds), mistake) for number in range(racers)]
        processes = list(await asyncio.gather(*(stack.enter_async_context(each) for each in starting)))
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        yield processes


async def told_by(processes: list[asyncio.subprocess.Process]) -> list[Telling]:
    outputs = await asyncio.gather(*(process.communicate(b"") for process in processes))
    return [msgspec.json.decode(output, type=Telling) for output, _ in outputs]


async def raced_here(url: str, rounds: int) -> list[Telling]:
    """Race two open stores of this process."""
    async with open_store(url) as one, open_store(url) as other:
        return list(await asyncio.gather(*(Racer(store, number).rounds(rounds * TASKS) for number, store in enumerate((one, other)))))


async def raced(url: str, rounds: int, *, racers: int = 2, mistake: str = "none") -> list[Telling]:
    """Return what the racers were told in so many rounds."""
    async with racing(url, rounds, racers=racers, mistake=mistake) as processes:
        return await told_by(processes)


async def raced_for(url: str, seconds: float, *, racers: int = 2) -> list[Telling]:
    """Return what the racers were told in so many seconds."""
    async with racing(url, 0, racers=racers) as processes:
        with suppress(TimeoutError):
            await asyncio.wait_for(processes[0].wait(), seconds)
        return await told_by(processes)


async def problems(url: str, told: list[Telling]) -> list[str]:
    """What does not fit together, of what the processes were told and what is in the store."""
    found = [error for telling in told for error in telling.errors]
    found += ["nobody was on watch"] * sum(telling.nobody_on_watch for telling in told)
    found += _once("tick", [tick for telling in told for tick in telling.ticks])
    async with open_store(url) as store:
        try:
            found += await _of_streams(store, told) + await _of_keys(store, told) + await _of_commands(store, told)
        except PerdureError as error:  # it cannot even be read
            found.append(f"{type(error).__name__}: {error}")
    return found


def _once(what: str, names: list[int] | list[str]) -> list[str]:
    return [f"{what} {name} was given {count} times" for name, count in Counter(names).items() if count != 1]


async def _of_streams(store: Store, told: list[Telling]) -> list[str]:
    found = []
    if (total := await store.streams.read_value("sum", tenant_id=ACME)) != sum(telling.added for telling in told):
        found.append(f"the sum is {total}, with {[telling.added for telling in told]} added")
    entries: dict[int, str] = {}
    while page := await store.streams.read_from("race", len(entries), limits.PAGE_MAX, tenant_id=ACME):
        entries |= {entry.seq: entry.payload.decode() for entry in page}
    if Counter(item for telling in told for item in telling.stream.items()) != Counter(entries.items()):
        found.append("the stream is not what was acknowledged")
    conversation = await DurableConversation.recover("race", store, tenant_id=ACME)
    if sorted(seq for telling in told for seq in telling.conversation) != list(range(conversation.expected_seq)):
        found.append("the conversation is not what was acknowledged")
    found += [f"{number} was parked under a name that was held" for telling in told for number in telling.stuck]
    left = [number for name in NAMES for number in (await store.commit(Take(name)))[0] or ()]
    if Counter(number for telling in told for number in telling.parked) != Counter(
        left + [number for telling in told for number in telling.taken + telling.stuck]
    ):
        found.append("what was taken is not what was parked")
    return found


async def _of_commands(store: Store, told: list[Telling]) -> list[str]:
    """Whatever was not done in the race is done now; then each is done, and was done once."""
    made: dict[str, set[str]] = {}
    for telling in told:
        for key, command_id in telling.commands.items():
            made.setdefault(key, set()).add(command_id)
    found = [f"the key {key} has made the commands {ids}" for key, ids in made.items() if len(ids) > 1]
    done = [command_id for telling in told for command_id in telling.done]
    while leases := await store.commands.lease("race", tenant_id=ACME, max_leases=limits.COMMAND_LEASES_MAX):
        for lease in leases:
            if await store.commands.complete(lease.command_id, lease.token, Succeeded(), tenant_id=ACME):
                done.append(lease.command_id)
    found += _once("command done", done)
    if lost := {command_id for ids in made.values() for command_id in ids} - set(done):
        found.append(f"{len(lost)} commands were never given out: {sorted(lost)[:3]}")
    return found


async def _of_keys(store: Store, told: list[Telling]) -> list[str]:
    found = _once("operation", [name for telling in told for name in telling.started])
    owners: dict[str, set[str]] = {}
    for telling in told:
        for key, owner in telling.owners.items():
            owners.setdefault(key, set()).add(owner)
    found += [f"{key} has owners {names}" for key, names in owners.items() if len(names) > 1]
    if await store.processes.len() != len(owners):
        found.append("the counter of keys is wrong")
    if await store.access.reader.counter("ticks") != sum(len(telling.ticks) for telling in told):
        found.append("the counter of ticks is wrong")
    return found + [str(difference) for difference in await store.processes.verify(ACME)]

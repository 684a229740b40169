"""Several processes on one file: nobody's update is lost, nobody waits for ever, and locks end with their holder."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from perdure import limits
from perdure.conversations.conversation import DurableConversation
from perdure.errors import EngineRunning, StoreBusy
from perdure.store import open_store
from tests.contracts.registry import ACME
from tests.sqlite.racer import Telling

ROUNDS = 30
SECONDS = int(os.environ.get("PERDURE_SOAK_RACE_SECONDS", "30"))
ROOT = Path(__file__).parents[2]
HOLDS_THE_LOCK = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("ready", flush=True)
sys.stdin.read()
"""
HOLDS_ITS_READ = HOLDS_THE_LOCK.replace("BEGIN IMMEDIATE", "BEGIN; SELECT * FROM store")
HOLDS_A_NAME = """
import asyncio, sys, perdure
async def main():
    async with perdure.open_store("sqlite:///" + sys.argv[1]) as store:
        await store.exclusive("engine")
        print("ready", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


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
async def racing(path: Path, variant: str, rounds: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Two racers, let go at once."""
    arguments = [("-m", "tests.sqlite.racer", str(path), str(number), str(rounds), variant) for number in (0, 1)]
    async with python(*arguments[0]) as first, python(*arguments[1]) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        yield [first, second]


async def told_by(processes: list[asyncio.subprocess.Process]) -> list[Telling]:
    outputs = await asyncio.gather(*(process.communicate(b"") for process in processes))
    return [msgspec.json.decode(output, type=Telling) for output, _ in outputs]


async def problems(path: Path, told: list[Telling]) -> list[str]:
    """What does not fit together, of what the processes were told and what is in the file."""
    found = [error for telling in told for error in telling.errors]
    found += ["nobody was on watch"] * sum(telling.nobody_on_watch for telling in told)
    async with open_store(f"sqlite:///{path}") as store:
        if (total := await store.streams.read_value("sum", tenant_id=ACME)) != sum(telling.added for telling in told):
            found.append(f"the sum is {total}, with {[telling.added for telling in told]} added")
        entries: dict[int, str] = {}
        while page := await store.streams.read_from("race", len(entries), limits.PAGE_MAX, tenant_id=ACME):
            entries |= {entry.seq: entry.payload.decode() for entry in page}
        acknowledged = [item for telling in told for item in telling.stream.items()]
        if Counter(acknowledged) != Counter(entries.items()):
            found.append("the stream is not what was acknowledged")
        conversation = await DurableConversation.recover("race", store, tenant_id=ACME)
        sequences = sorted(seq for telling in told for seq in telling.conversation)
        if sequences != list(range(conversation.expected_seq)):
            found.append("the conversation is not what was acknowledged")
        started = Counter(id for telling in told for id in telling.started)
        found += [f"operation {id} was started {count} times" for id, count in started.items() if count != 1]
        owners: dict[str, set[str]] = {}
        for telling in told:
            for key, owner in telling.owners.items():
                owners.setdefault(key, set()).add(owner)
        found += [f"{key} has owners {names}" for key, names in owners.items() if len(names) > 1]
        if await store.processes.len() != len(owners):
            found.append("the counter of keys is wrong")
        found += [str(difference) for difference in await store.processes.verify(ACME)]
    return found


async def test_no_update_is_lost_in_a_race_of_two_processes(tmp_path: Path) -> None:
    async with racing(tmp_path / "race.db", "right", ROUNDS) as processes:
        told = await told_by(processes)

    assert await problems(tmp_path / "race.db", told) == []
    assert all(telling.added and telling.stream and telling.conversation for telling in told), "both got their turns"


async def test_a_backend_that_reads_before_it_takes_the_lock_fails_the_same_test(tmp_path: Path) -> None:
    async with racing(tmp_path / "race.db", "reads-first", ROUNDS) as processes:
        told = await told_by(processes)

    assert await problems(tmp_path / "race.db", told) != []


@pytest.mark.soak
async def test_no_update_is_lost_in_a_long_race_of_two_processes(tmp_path: Path) -> None:
    async with racing(tmp_path / "race.db", "right", 0) as processes:
        with suppress(TimeoutError):
            await asyncio.wait_for(processes[0].wait(), SECONDS)
        told = await told_by(processes)

    assert await problems(tmp_path / "race.db", told) == []
    assert sum(telling.added for telling in told) > 100 * SECONDS


# --- locks ------------------------------------------------------------------------------------------------


async def test_a_stopped_process_that_holds_the_lock_makes_callers_busy_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, turns = tmp_path / "a.db", 0
    async with open_store(f"sqlite:///{path}") as store:
        async with python("-c", HOLDS_THE_LOCK, str(path)) as holder:
            holder.send_signal(signal.SIGSTOP)
            monkeypatch.setattr(limits, "SQLITE_BUSY_MS", 50)
            caller = asyncio.create_task(store.streams.cas("a", None, 1))
            while not caller.done():
                await asyncio.sleep(0)
                turns += 1

            with pytest.raises(StoreBusy):
                await caller
            assert await store.streams.read_value("a") is None, "reading goes on"
        await store.streams.cas("a", None, 1)
    assert turns > 100


async def test_a_stopped_process_that_reads_hinders_neither_opening_nor_writing_nor_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SQLITE_OPEN_MS", 20)
    path = tmp_path / "a.db"
    async with open_store(f"sqlite:///{path}") as first:
        await first.streams.cas("a", None, 1)
        async with python("-c", HOLDS_ITS_READ, str(path)) as holder:
            holder.send_signal(signal.SIGSTOP)
            await first.streams.cas("a", 1, 2)

            async with open_store(f"sqlite:///{path}") as second:
                await second.streams.cas("a", 2, 3)

    async with open_store(f"sqlite:///{path}") as store:
        assert await store.streams.read_value("a") == 3


async def test_what_a_process_holds_alone_is_free_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with python("-c", HOLDS_A_NAME, str(path)) as holder, open_store(f"sqlite:///{path}") as store:
        with pytest.raises(EngineRunning, match=r"another open store, holds 'engine'; .*stop that one first"):
            await store.exclusive("engine")

        holder.kill()
        await holder.wait()

        await store.exclusive("engine")
        assert (await store.info()).writers == 2, "the killed one's row is still there"

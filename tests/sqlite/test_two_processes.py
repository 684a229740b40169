"""Several processes on one file: nobody's update is lost, nobody waits for ever, and locks end with their holder."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from perdure import limits
from perdure.errors import EngineRunning, StoreBusy
from perdure.store import open_store
from tests.racing.race import SOAK_SECONDS, problems, python, raced, raced_for

ROUNDS = 30
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


async def test_no_update_is_lost_in_a_race_of_two_processes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'race.db'}"

    told = await raced(url, ROUNDS)

    assert await problems(url, told) == []
    assert all(telling.added and telling.stream and telling.conversation for telling in told), "both got their turns"


async def test_a_backend_that_reads_before_it_takes_the_lock_fails_the_same_test(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'race.db'}"

    told = await raced(url, ROUNDS, mistake="reads first")

    assert await problems(url, told) != []


@pytest.mark.soak
async def test_no_update_is_lost_in_a_long_race_of_two_processes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'race.db'}"

    told = await raced_for(url, SOAK_SECONDS)

    assert await problems(url, told) == []
    assert sum(telling.added for telling in told) > 30 * SOAK_SECONDS


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

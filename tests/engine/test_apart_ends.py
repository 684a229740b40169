"""What ends an interpreter of a version's own ends no process, and nothing of the engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure import App, Engine, Store, VirtualClock, limits
from perdure.clock import SECOND
from tests.engine.orders import eventually, holds, reaches
from tests.engine.shop import reply, run, send
from tests.engine.works import did, works
from tests.packages.built import deploy

NODE = App("node")
APART = works(apart=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("how", ["exit", "kill"])
async def test_a_step_in_the_middle_of_which_it_ends_is_run_again_and_those_recorded_are_not(
    how: str, store: Store, tmp_path: Path, place: Path
) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        assert await run(engine, "steady", str(place), how, id="s") == f"survived {how}"
    assert did(place) == ["before", f"ends by {how}", f"ends by {how}"]


async def test_a_step_that_runs_at_most_once_is_not_run_again(store: Store, tmp_path: Path, place: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        assert await run(engine, "once", str(place), id="o") == "nobody knows"
    assert did(place) == ["ends by kill"]


async def test_processes_that_wait_come_back_and_one_under_way_is_run_again(
    store: Store, clock: VirtualClock, tmp_path: Path, place: Path
) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "asleep", 60, id="a")
        await send(engine, "lasting", str(place), id="l")
        await reaches(engine, "a", "waiting")
        await holds(lambda: did(place) == ["began a step"])
        first = engine.versions.apart[APART.identity]

        os.kill(first, signal.SIGKILL)

        await holds(lambda: did(place) == ["began a step", "began a step"])
        assert engine.versions.apart[APART.identity] != first
        clock.advance(60 * SECOND)
        assert await reply(engine, "a") == "awake"


async def test_one_that_hangs_is_killed_and_its_process_run_again(
    store: Store, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "APART_CALL_SECONDS", 0.5)
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        assert await run(engine, "hangs", str(place), id="h") == "came through"


async def test_a_message_that_ends_it_each_time_becomes_a_dead_letter_and_is_tried_later_each_time(
    store: Store, clock: VirtualClock, tmp_path: Path
) -> None:
    await deploy(store, APART)
    ends = limits.POISON_SOLO_AFTER + limits.POISON_ATTEMPTS
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "poison", id="p")

        async def over() -> bool:
            if clock.next_alarm() is not None and APART.identity not in engine.versions.apart:
                clock.advance(SECOND)
            return (await engine.process("p")).status == "failed"

        await eventually(over)
        assert f"the engine crashed {ends} times" in await reply(engine, "p")
        assert await run(engine, "where", id="w")


async def test_it_ends_with_its_engine(store: Store, tmp_path: Path, place: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "lasting", str(place), id="l")
        await holds((place / "done").exists)
        child = engine.versions.apart[APART.identity]
    assert did(place) == ["began a step", "stopped a step"]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await holds(lambda: did(place)[2:] == ["began a step"])
        await engine.cancel("l", reason="enough")
        assert "enough" in await reply(engine, "l")
    assert did(place)[3:] == ["stopped a step", "cleaned up"]


async def test_a_step_times_out_by_the_engines_clock(store: Store, clock: VirtualClock, tmp_path: Path, place: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "late", str(place), id="l")
        await holds(lambda: (place / "done").exists() and clock.next_alarm() is not None)

        clock.advance(30 * SECOND)

        assert await reply(engine, "l") == "too late"


async def _lines_up_to(stream: asyncio.StreamReader, start: bytes) -> AsyncIterator[bytes]:
    async for line in stream:
        yield line
        if line.startswith(start):
            return


async def test_it_ends_when_its_engine_is_killed_even_while_its_code_keeps_the_loop(tmp_path: Path, place: Path) -> None:
    arguments = (f"sqlite:///{tmp_path / 'store.db'}", str(tmp_path / "environments"), str(place))
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engine.apart_parent", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert engine.stdout is not None
    told = [line async for line in _lines_up_to(engine.stdout, b"child ")][-1]
    child = os.pidfd_open(int(told.split()[-1]))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(child, ended.set)  # a descriptor of a process is readable when that has ended

    engine.kill()

    await engine.wait()
    await ended.wait()
    asyncio.get_running_loop().remove_reader(child)
    os.close(child)


async def test_one_that_ends_again_and_again_is_started_later_each_time(store: Store, clock: VirtualClock, tmp_path: Path) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        pauses: list[int] = []
        for number in range(5):
            await send(engine, "where", id=f"w{number}")
            clock.advance(pauses[-1] if pauses else 0)
            await reaches(engine, f"w{number}", "ended")
            if number == 3:
                clock.advance(limits.APART_SOON_US)  # it has lived long enough to begin anew
            os.kill(engine.versions.apart[APART.identity], signal.SIGKILL)
            await holds(lambda: not engine.versions.apart and engine.versions.paused(APART.identity) is not None)
            pauses.append(engine.versions.paused(APART.identity) or 0)
        assert pauses == [0, 1 * SECOND, 2 * SECOND, 0, 1 * SECOND]

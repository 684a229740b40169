"""Turns of 0, 2 and 4 steps through `Engine.call`, the same with handlers that use CPU, and messages into one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from benchmarks.measure import LEVELS, closed_loop, fresh_engine, ours, report
from perdure import App, Engine, Process, on
from perdure.engine import inspection

Handler = Callable[[Process, int], Coroutine[Any, Any, int]]
EVENTS_OF_A_TURN = 3  # received, started, finished

app = App("benchmark")


async def number(value: int) -> int:
    return value


@app.process
async def none(_p: Process, value: int) -> int:
    return value


@app.process
async def two(p: Process, value: int) -> int:
    for step in range(2):
        await p.step(number, step)
    return value


@app.process
async def four(p: Process, value: int) -> int:
    for step in range(4):
        await p.step(number, step)
    return value


def burn(milliseconds: float) -> None:
    """Hold the interpreter for so long, as a handler that computes does."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass


@app.process
async def busy(p: Process, value: int) -> int:
    await p.step(number, value)
    burn(1)
    return await p.step(number, value)


class Tick(msgspec.Struct, tag="tick"):
    n: int


@app.process
class Meter(Process):
    total: int = 0

    @on(Tick, start=True, key=lambda _message: "meter")
    async def tick(self, message: Tick) -> int:
        self.total += message.n
        return self.total


async def _call(engine: Engine, handler: Handler, n: int) -> int:
    return await engine.call(handler, n)


async def workflows() -> None:
    """Workflows per second by concurrency."""
    for what, handler in (("turn of 0 steps", none), ("turn of 2 steps", two), ("workflow of 4 steps", four)):
        for clients in LEVELS:
            async with fresh_engine(app) as engine:
                writer = engine.store.access.writer
                result = await closed_loop(partial(_call, engine, handler), clients)
                report(benchmark=what, **ours(), **result, commits=writer.commits)


async def with_cpu() -> None:
    """Turns of 2 steps whose handlers use 1 ms of CPU each: the loop is busy, commits must not starve."""
    for clients in LEVELS:
        async with fresh_engine(app) as engine:
            writer = engine.store.access.writer
            result = await closed_loop(partial(_call, engine, busy), clients)
            report(benchmark="turn of 2 steps, 1 ms of CPU each", **ours(), **result, commits=writer.commits)


async def one_process() -> None:
    """Messages into one process: turns of no step, ahead of the disk."""
    for clients in LEVELS:
        async with fresh_engine(app) as engine:
            writer = engine.store.access.writer
            before = writer.commits
            result = await closed_loop(partial(_tick, engine), clients)
            turns = (await only_process(engine)).events // EVENTS_OF_A_TURN
            report(benchmark="messages into one process", **ours(), **result, commits_per_turn=(writer.commits - before) / max(1, turns))


async def _tick(engine: Engine, n: int) -> int:
    return await engine.call(Meter.tick, Tick(n))


async def only_process(engine: Engine) -> inspection.ProcessInfo:
    """Return the one process there is."""
    [process] = await inspection.processes(engine.store)
    return process

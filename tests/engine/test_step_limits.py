"""Steps that are stopped, in a real engine: after a limit of time, or because nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure import App, Engine, Process, Retry, Store, VirtualClock, step_info
from perdure.engine import inspection
from perdure.engine.turn import Turn
from perdure.errors import CannotTimeOut, StepOutcomeUnknown, StepTimedOut, UsageError
from tests.engine.conftest import Running
from tests.engine.orders import holds, reaches

SECOND = 1_000_000


def app_of(handler: Any) -> tuple[App, Any]:
    app = App("careful")
    return app, app.process(handler)


async def events_of(store: Store, process_id: str) -> list[tuple[str, str]]:
    return [(entry.event, entry.name) for entry in await inspection.timeline(store, process_id) if entry.name]


@asynccontextmanager
async def under_way(running: Running, handler: Any, begun: list[int]) -> AsyncIterator[tuple[Engine, asyncio.Future[Any]]]:
    """Call a handler as process `j`, and wait until its step has begun."""
    app, registered = app_of(handler)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(registered, id="j"))
        await holds(lambda: bool(begun))
        yield engine, call


# --- a limit of time -------------------------------------------------------------------------------


async def test_an_attempt_that_takes_too_long_is_cancelled_and_tried_again(running: Running, clock: VirtualClock) -> None:
    attempts: list[int] = []
    stopped: list[int] = []

    async def slow() -> str:
        number = step_info().attempt
        attempts.append(number)
        try:
            if number < 3:
                await asyncio.Event().wait()
        finally:
            stopped.append(number)
        return f"attempt {number}"

    async def job(p: Process) -> str:
        return await p.step(slow, timeout=5, retry=Retry(max_attempts=3, initial=1, factor=1, jitter=0, retry_on=(StepTimedOut,)))

    app, handler = app_of(job)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        for number in (1, 2):
            await holds(lambda number=number: len(attempts) == number)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            clock.advance(5 * SECOND - 1)
            await asyncio.sleep(0)
            assert len(stopped) == number - 1
            clock.advance(1)
            await reaches(engine, "j", "waiting")
            clock.advance(1 * SECOND)
        assert await call == "attempt 3"
    assert stopped == [1, 2, 3]


async def test_the_last_attempt_that_takes_too_long_is_an_error_with_a_type(running: Running, clock: VirtualClock) -> None:
    begun: list[int] = []

    async def slow() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    async def job(p: Process) -> str:
        try:
            await p.step(slow, timeout=2.5)
        except TimeoutError as error:
            return f"{type(error).__name__}: {error}"
        return "in time"

    async with under_way(running, job, begun) as (_, call):
        clock.advance(3 * SECOND)
        assert await call == "StepTimedOut: process j (default), message j: step 'slow', attempt 1, took over 2.5 s"


async def test_what_a_step_returns_although_it_is_cancelled_counts(running: Running, clock: VirtualClock) -> None:
    begun: list[int] = []

    async def finishes() -> str:
        begun.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "?"

    async def job(p: Process) -> str:
        return await p.step(finishes, timeout=1)

    async with under_way(running, job, begun) as (_, call):
        clock.advance(1 * SECOND)
        assert await call == "done all the same"


async def nothing() -> None:
    pass


def plain() -> None:
    pass


@pytest.mark.parametrize(
    ("function", "options", "error"),
    [
        (plain, {"timeout": 1}, CannotTimeOut),
        (plain, {"timeout": 1}, TypeError),
        (nothing, {"timeout": 0}, UsageError),
        (nothing, {"timeout": -1}, UsageError),
        (nothing, {"abandon": True}, UsageError),
        (nothing, {"probe": nothing}, UsageError),
        (nothing, {"probe": 7, "at_most_once": True}, UsageError),
    ],
)
async def test_options_that_cannot_be_meant_are_refused(
    running: Running, function: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    async def job(p: Process) -> str:
        try:
            await p.step(function, **options)
        except error as refused:
            return str(refused)
        return "?"

    app, handler = app_of(job)
    async with running(app) as engine:
        assert await engine.call(handler, id="j") != "?"


# --- threads ---------------------------------------------------------------------------------------


class OnThread:
    """A plain function that goes on until it is let go, and says where it is."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.free: dict[int, threading.Event] = {1: threading.Event(), 2: threading.Event()}

    def work(self) -> str:
        number = step_info().attempt
        self.begun.append(number)
        self.free[number].wait()
        self.ended.append(number)
        return f"attempt {number}"


async def called_off(engine: Engine) -> None:
    """Wait until the turn has called off a step whose thread goes on."""
    resident = engine._owner.residents["default", "j"]
    await holds(lambda: resident.turn is not None and resident.turn.outlived)


async def test_a_turn_does_not_end_before_the_thread_of_a_step_that_it_called_off(running: Running, clock: VirtualClock) -> None:
    thread = OnThread()

    async def job(p: Process) -> int:
        index, _ = await p.first(p.step(thread.work), p.sleep(1))
        await p.step(nothing)
        return index

    async with under_way(running, job, thread.begun) as (engine, call):
        clock.advance(1 * SECOND)
        await called_off(engine)
        assert not call.done()
        assert ("StepCompleted", "work") not in await events_of(engine.store, "j")
        thread.free[1].set()
        assert await call == 1
        assert [name for event, name in await events_of(engine.store, "j") if event == "StepCompleted"] == ["nothing", "work"]


async def test_its_outcome_is_recorded_in_the_middle_of_the_turn_and_no_replay_minds(running: Running, clock: VirtualClock) -> None:
    thread = OnThread()

    async def job(p: Process) -> int:
        index, _ = await p.first(p.step(thread.work), p.sleep(1))
        await p.sleep(100)
        return index

    async with under_way(running, job, thread.begun) as (engine, call):
        clock.advance(1 * SECOND)
        resident = engine._owner.residents["default", "j"]
        await holds(lambda: isinstance(resident.turn, Turn) and resident.turn._lingering)  # the step is called off
        thread.free[1].set()
        await reaches(engine, "j", "waiting")
        assert ("StepCompleted", "work") in await events_of(engine.store, "j")
        await engine.close()
        await asyncio.gather(call, return_exceptions=True)
    clock.advance(100 * SECOND)
    app, handler = app_of(job)
    async with running(app) as engine:
        assert await engine.call(handler, id="j") == 1
    assert thread.begun == [1]


async def test_an_error_of_a_step_that_was_called_off_is_recorded_and_not_tried_again(running: Running, clock: VirtualClock) -> None:
    thread = OnThread()

    def breaks() -> None:
        thread.work()
        raise ValueError("broken")

    async def job(p: Process) -> int:
        index, _ = await p.first(p.step(breaks, retry=Retry(max_attempts=5)), p.sleep(1))
        return index

    async with under_way(running, job, thread.begun) as (engine, call):
        clock.advance(1 * SECOND)
        await called_off(engine)
        thread.free[1].set()
        assert await call == 1
        assert ("StepFailed", "breaks") in await events_of(engine.store, "j")
    assert thread.begun == [1]


async def test_with_abandon_nobody_waits_for_the_thread_and_its_outcome_is_dropped(
    running: Running, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    thread = OnThread()

    async def job(p: Process) -> int:
        index, _ = await p.first(p.step(thread.work, abandon=True), p.sleep(1))
        return index

    async with under_way(running, job, thread.begun) as (engine, call):
        clock.advance(1 * SECOND)
        assert await call == 1
        assert thread.ended == []
        thread.free[1].set()
        await holds(lambda: "was left to itself, and returned: that does not count" in caplog.text)
        assert ("StepCompleted", "work") not in await events_of(engine.store, "j")


async def test_the_late_outcome_of_an_abandoned_attempt_is_not_that_of_the_next(
    running: Running, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    thread = OnThread()

    async def job(p: Process) -> str:
        return await p.step(thread.work, timeout=1, abandon=True, retry=Retry(max_attempts=2, initial=1, jitter=0))

    app, handler = app_of(job)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        await holds(lambda: thread.begun == [1])
        clock.advance(1 * SECOND)
        await reaches(engine, "j", "waiting")
        clock.advance(1 * SECOND)
        await holds(lambda: thread.begun == [1, 2])
        thread.free[1].set()
        await holds(lambda: "left to itself" in caplog.text)
        assert not call.done()
        thread.free[2].set()
        assert await call == "attempt 2"


async def test_a_step_that_was_called_off_before_a_thread_was_free_never_runs(store: Store, clock: VirtualClock) -> None:
    thread = OnThread()
    ran: list[str] = []

    def never() -> None:
        ran.append("never")

    async def job(p: Process) -> int:
        busy = asyncio.create_task(p.step(thread.work))
        index, _ = await p.first(p.step(never), p.sleep(1))
        return index if await busy else -1

    app, handler = app_of(job)
    async with Engine(store, app, max_threads=1) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        await holds(lambda: bool(thread.begun))
        clock.advance(1 * SECOND)
        await reaches(engine, "j", "runnable")
        await holds(lambda: not engine._owner.residents["default", "j"]._tasks.keys() - {"work"})
        thread.free[1].set()
        assert await call == 1
    assert ran == []


@pytest.mark.parametrize("abandon", [True, False])
async def test_a_cancellation_waits_for_a_thread_unless_it_is_abandoned(running: Running, *, abandon: bool) -> None:
    thread = OnThread()

    async def job(p: Process) -> str:
        try:
            return await p.step(thread.work, abandon=abandon)
        except asyncio.CancelledError:
            return "cancelled"

    async with under_way(running, job, thread.begun) as (engine, call):
        await engine.cancel("j")
        if not abandon:
            thread.free[1].set()
        assert await call == ("cancelled" if abandon else "attempt 1")
        thread.free[1].set()
        await holds(lambda: bool(thread.ended))


async def test_arguments_that_do_not_fit_are_the_outcome_of_a_step_with_options_and_of_a_probe(
    running: Running, clock: VirtualClock
) -> None:
    begun, hangs = asyncio.Event(), asyncio.Event()

    async def one(name: str) -> str:
        begun.set()
        await hangs.wait()
        return name

    async def none() -> str:
        return "never asked"

    async def job(p: Process) -> list[str]:
        step: Any = p.step
        said = []
        try:
            await step(one, "a", "b", timeout=1)
        except TypeError as error:
            said.append(type(error).__name__)
        try:
            await step(one, "a", at_most_once=True, timeout=1, probe=none, name="probed")
        except StepOutcomeUnknown as error:
            said.append(type(error).__name__)
        return said

    app, handler = app_of(job)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        await holds(begun.is_set)
        clock.advance(1 * SECOND)
        assert await call == ["TypeError", "StepOutcomeUnknown"]

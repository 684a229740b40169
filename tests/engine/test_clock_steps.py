"""Somebody sets the machine's clock: timers are neither lost, nor doubled, nor late by the step for ever."""

from __future__ import annotations

import asyncio

from perdure import App, Process, Store, SystemClock, VirtualClock
from perdure.clock import SECOND
from perdure.conversations.tables import PROCESS
from tests.engine.conftest import Running
from tests.engine.orders import eventually, reaches

HOUR = 3600 * SECOND


class Machine:
    """A machine's two clocks, in nanoseconds."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000 * 10**9, 5 * 10**9

    def passes(self, micros: int) -> None:
        self.wall += micros * 1000
        self.steady += micros * 1000


def clock_of(machine: Machine) -> SystemClock:
    return SystemClock(lambda: machine.wall, lambda: machine.steady)


def test_the_clock_says_what_the_machine_says() -> None:
    machine = Machine()
    clock = clock_of(machine)
    first = clock.now()
    machine.passes(10 * SECOND)

    assert (first, clock.now()) == (1_700_000_000 * SECOND, 1_700_000_010 * SECOND)


def test_a_step_forwards_is_followed_at_once() -> None:
    machine = Machine()
    clock = clock_of(machine)
    before = clock.now()
    machine.wall += HOUR * 1000

    assert clock.now() == before + HOUR


def test_after_a_step_backwards_time_goes_on_at_half_speed_until_the_machine_has_caught_up() -> None:
    machine = Machine()
    clock = clock_of(machine)
    before = clock.now()
    machine.wall -= HOUR * 1000
    seen = [clock.now()]
    for _ in range(20_000):
        machine.passes(1)  # however often it is asked
        seen.append(clock.now())
    machine.passes(10 * SECOND)

    assert seen[0] == before
    assert seen == sorted(seen)
    assert seen[-1] == before + 10_000
    assert clock.now() == before + 10_000 + 5 * SECOND

    machine.passes(2 * HOUR)
    assert clock.now() == machine.wall // 1000


async def test_an_alarm_rings_when_the_clock_is_there_and_not_before() -> None:
    machine = Machine()
    clock = clock_of(machine)
    rung: list[int] = []
    clock.call_at(clock.now() - 1, lambda: rung.append(1))
    clock.call_at(clock.now() + HOUR, lambda: rung.append(2)).cancel()
    late = clock.call_at(clock.now() + 1, lambda: rung.append(3))
    await eventually(lambda: _is(rung, [1]))
    await asyncio.sleep(0)
    assert rung == [1]

    machine.wall += HOUR * 1000
    await eventually(lambda: _is(rung, [1, 3]))
    late.cancel()


async def _is(rung: list[int], expected: list[int]) -> bool:
    return rung == expected


async def test_a_timer_fires_once_over_steps_of_the_clock(running: Running, clock: VirtualClock) -> None:
    app, woken = App("steps"), list[str]()

    @app.process
    async def sleeper(p: Process, name: str, seconds: float) -> str:
        await p.sleep(seconds)
        woken.append(name)
        return name

    async with running(app) as engine:
        tasks = [asyncio.ensure_future(engine.call(sleeper, name, seconds, id=name)) for name, seconds in (("a", 10), ("b", 7200))]
        for name in ("a", "b"):
            await reaches(engine, name, "waiting")
        clock.advance(-HOUR)
        await engine.store.commit()
        clock.advance(HOUR + 10 * SECOND)
        assert await tasks[0] == "a"

        clock.advance(3 * HOUR)
        assert await tasks[1] == "b"
        clock.advance(-2 * HOUR)
        await engine.store.commit()
        clock.advance(4 * HOUR)
        await engine.store.commit()

    assert woken == ["a", "b"]


async def test_timers_due_at_one_instant_all_fire_once_and_messages_get_through_in_between(running: Running, clock: VirtualClock) -> None:
    app, order = App("due"), list[str]()

    @app.process
    async def sleeper(p: Process) -> None:
        await p.sleep(60)
        order.append("timer")

    @app.process
    async def message(_p: Process) -> None:
        order.append("message")

    async with running(app) as engine:
        tasks = [asyncio.ensure_future(engine.call(sleeper, id=f"s{number}")) for number in range(1200)]
        for number in range(1200):
            await reaches_waiting(engine.store, f"s{number}")
        clock.advance(SECOND)  # some are in memory, some are not
        clock.advance(60 * SECOND)
        await eventually(lambda: _some(order))
        await engine.call(message)
        await asyncio.gather(*tasks)
        clock.advance(HOUR)
        await engine.store.commit()

    assert order.count("timer") == 1200
    assert order.index("message") < 600


async def _some(order: list[str]) -> bool:
    return bool(order)


async def reaches_waiting(store: Store, process_id: str) -> None:
    """Wait until a process is stored as waiting."""

    async def waits() -> bool:
        row = await store.access.reader.get(PROCESS.key("default", process_id))
        return row is not None and row.status == "waiting"

    await eventually(waits)

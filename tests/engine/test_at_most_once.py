"""Steps that run at most once in a real engine: dropped after each commit, taking too long, asked about."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest

from perdure import Engine, NotDone, Process, Retry, VirtualClock, open_store, step_info
from perdure.errors import NotInTurn, StepOutcomeUnknown
from tests.engine.conftest import Running
from tests.engine.orders import crash, holds
from tests.engine.test_step_limits import SECOND, OnThread, app_of, plain


class Bank:
    """Where effects happen: each is noted as it happens, and answered after a while."""

    def __init__(self) -> None:
        self.paid: list[tuple[str, int]] = []
        self.down = {"shaky": 1}
        self.answers = asyncio.Event()
        self.answers.set()

    async def pay(self, what: str) -> str:
        self.paid.append((what, step_info().attempt))
        await asyncio.sleep(0)
        await self.answers.wait()
        if self.down.get(what, 0) >= step_info().attempt:
            raise ConnectionError(f"{what} is down")
        return f"{what} paid"

    async def was_paid(self, what: str) -> str | NotDone:
        """A bank whose books do not have the first try."""
        return NotDone() if step_info().attempt == 1 else f"{what} found"

    def was_paid_on_a_thread(self, what: str) -> str | type[NotDone]:
        return f"{what} found" if (what, step_info().attempt) in self.paid else NotDone


async def told(call: Any) -> str:
    try:
        return str(await call)
    except StepOutcomeUnknown as error:
        return type(error).__name__


def paying(bank: Bank) -> Any:
    """A process that pays five times: before others, three at once, after others."""

    async def job(p: Process) -> list[str]:
        pay = partial(p.step, bank.pay, at_most_once=True)
        first = await told(pay("alone"))
        rest = (
            pay("a", probe=bank.was_paid),
            pay("b", probe=bank.was_paid_on_a_thread),
            pay("shaky", retry=Retry(max_attempts=3, initial=0, jitter=0)),
        )
        return [first, *await asyncio.gather(*(told(call) for call in rest)), await told(pay("last"))]

    return job


async def crashed_and_resumed(bank: Bank, clock: VirtualClock, *, crash_after: int, rounds: int) -> list[str]:
    """Drop the engine after a commit, and after some rounds of the loop more, and return what the process comes to."""
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        app, handler = app_of(paying(bank))
        engine = Engine(store, app)
        await engine.__aenter__()
        base = store.access.writer.commits
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        await holds(lambda: store.access.writer.commits - base >= crash_after or call.done())
        for _ in range(rounds):
            await asyncio.sleep(0)
        await crash(engine)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with Engine(store, app) as engine:
            result: list[str] = await engine.call(handler, id="j")
            assert await engine.call(handler, id="j") == result
    return result


async def test_no_crash_makes_an_effect_happen_twice(clock: VirtualClock) -> None:
    """The engine is dropped after its n-th commit, for every n, with what has begun by then; the ledger has each attempt once."""
    results: set[str] = set()
    for crash_after in range(1, 16):
        for rounds in (0, 3):
            bank = Bank()
            results.update(await crashed_and_resumed(bank, clock, crash_after=crash_after, rounds=rounds))
            assert max(Counter(bank.paid).values()) == 1, f"no attempt begins twice: {crash_after}, {bank.paid}"
            sure = Counter(what for what, _ in bank.paid if what in ("alone", "b", "last"))
            assert max(sure.values()) == 1, f"what no failure and no probe has denied happens once: {crash_after}, {bank.paid}"
    assert results == {"StepOutcomeUnknown", "a paid", "b paid", "b found", "last paid", "shaky paid", "alone paid"}


async def test_who_runs_at_most_once_and_takes_too_long_is_asked_about(running: Running, clock: VirtualClock) -> None:
    bank = Bank()
    bank.answers.clear()

    async def job(p: Process) -> list[str]:
        try:
            await p.step(bank.pay, "a", at_most_once=True, timeout=1, retry=Retry(max_attempts=3))
        except StepOutcomeUnknown as error:
            said = str(error)
        return [said, await p.step(bank.pay, "b", at_most_once=True, timeout=1, probe=bank.was_paid_on_a_thread)]

    app, handler = app_of(job)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        for count in (1, 2):
            await holds(lambda count=count: len(bank.paid) == count)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            clock.advance(1 * SECOND)
        said, found = await call
    assert "it did not end in time" in said
    assert found == "b found"
    assert bank.paid == [("a", 1), ("b", 1)]


async def test_a_thread_that_goes_on_is_no_matter_for_a_probe(running: Running, clock: VirtualClock) -> None:
    """It may still do what the probe has not found."""
    thread = OnThread()
    asked: list[str] = []

    def probe() -> NotDone:
        asked.append("?")
        return NotDone()

    async def job(p: Process) -> str:
        return await p.step(thread.work, at_most_once=True, timeout=1, abandon=True, probe=probe)

    app, handler = app_of(job)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        await holds(lambda: thread.begun == [1])
        clock.advance(1 * SECOND)
        with pytest.raises(StepOutcomeUnknown, match="did not end in time"):
            await call
        thread.free[1].set()
        await holds(lambda: thread.ended == [1])
    assert asked == []


async def never(begun: list[str], verb: str) -> str:
    begun.append(verb)
    return await asyncio.Event().wait() and verb


async def test_a_step_or_a_probe_uses_no_verbs(running: Running, clock: VirtualClock) -> None:
    async def job(p: Process) -> list[str]:
        async def within(verb: str) -> str:
            try:
                getattr(p, verb)(*([plain] if verb == "step" else ["x"] if verb == "patched" else []))
            except NotInTurn:
                return verb
            return "?"

        verbs = ("step", "now", "random", "uuid", "patched")
        tried = [await p.step(within, verb, timeout=9, name=verb) for verb in verbs]
        hung = partial(never, begun)
        probed = [await p.step(hung, verb, at_most_once=True, timeout=1, probe=within, name=f"probed {verb}") for verb in verbs]
        return [*tried, *probed]

    begun: list[str] = []
    app, handler = app_of(job)
    async with running(app) as engine:
        call = asyncio.ensure_future(engine.call(handler, id="j"))
        for count in range(1, 6):
            await holds(lambda count=count: len(begun) == count)  # type: ignore[misc]  # mypy knows no defaults of lambdas
            clock.advance(1 * SECOND)
        assert await call == 2 * ["step", "now", "random", "uuid", "patched"]

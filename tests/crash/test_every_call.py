"""Every call of the writer to its backend fails once, before it or after it, in a run with every kind of the engine's transactions.

Whatever fails, the store is reopened, the same messages are delivered again, and the outcome is that of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perdure import Address, Engine, Store, VirtualClock, open_store
from perdure.core.backend import Backend, Batch, CommitUnknown
from perdure.engine import inspection, verification
from perdure.errors import PerdureError, StoreUnavailable
from tests.engine.orders import Approve, Broadcast, Close, Comment, Ledger, Place, eventually, make_app, reaches
from tests.stores import DURABLE, Stores, stores

CALLS = ("prefetch", "apply", "applied")
STEP = {"file": 1, "postgres": 7}
"""Of a server, the gate lets each seventh call fail, the soak every one: a run takes some five times as long."""


class Failing:
    """A backend whose n-th call of a kind fails, and then every other: what an I/O error does. `applied` fails after the commit."""

    def __init__(self, call: str, nth: int, real: Backend) -> None:
        self._real = real
        self._call = call
        self._left = nth
        self.broken = False
        self.kinds: set[str] = set()

    def _hit(self, call: str) -> None:
        if self.broken:
            raise StoreUnavailable("broken")
        if call == self._call:
            self._left -= 1
            if self._left == 0:
                self.broken = True
                raise CommitUnknown("injected") if call != "prefetch" else StoreUnavailable("injected")

    async def fence(self) -> Any:
        self._hit("fence")
        return await self._real.fence()

    async def prefetch(self, wanted: Any, *, locked: bool) -> Any:
        self._hit("prefetch")
        return await self._real.prefetch(wanted, locked=locked)

    def read_now(self, wanted: Any) -> Any:
        self._hit("prefetch")
        return self._real.read_now(wanted)

    async def apply(self, batch: Batch) -> None:
        self._hit("apply")
        await self._real.apply(batch)
        self._hit("applied")

    async def abandon(self) -> None:
        await self._real.abandon()

    async def close(self) -> None:
        await self._real.close()


async def _drive(engine: Engine, clock: VirtualClock) -> None:
    """Deliver the same messages, whatever of it was accepted before; the clock is moved by the caller of the first run."""
    await engine.deliver(Comment("1", "early"), id="m0")
    await engine.deliver(Broadcast("comment:late", "kept"), id="m1", keep_for=timedelta(days=9))
    await engine.deliver(Comment("7", "nobody"), id="m2", expires_after=timedelta(days=1))
    await engine.deliver(Place("1", total=500), id="m3")
    await engine.deliver(Approve("1"), id="m4", to=Address.key("order:1"))
    await engine.deliver(Comment("1", "late"), id="m5", wait=True)
    await engine.deliver(Broadcast("comment:late", "news"), id="m6")
    await engine.deliver(Place("2", total=500), id="m7")
    await engine.deliver(Close("1"), id="m8", wait=True)
    [second] = [one for one in await inspection.processes(engine.store) if one.process_type == "Order" and one.status != "ended"]
    await eventually(partial(_waits_or_is_over, engine, second.process_id))  # over, where the clock was put forward before it failed
    clock.advance(timedelta(days=4) // timedelta(microseconds=1))
    await reaches(engine, second.process_id, "idle")
    await eventually(lambda: _is(engine, "m2", "dead"))
    if (await inspection.dead_letters(engine.store))[0].redriven_as is None:
        await engine.redrive("m2")
    for number in (0, 1, 5, 6):
        await eventually(partial(_over, engine, f"m{number}"))


async def _waits_or_is_over(engine: Engine, process_id: str) -> bool:
    return (await inspection.process(engine.store, process_id)).status in ("waiting", "idle")


async def _is(engine: Engine, message_id: str, status: str) -> bool:
    return (await engine.explain(message_id)).status == status


async def _over(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status in ("done", "dead")


async def _outcome(store: Store, ledger: Ledger) -> dict[str, Any]:
    processes = {one.open_message or one.process_type: one for one in await inspection.processes(store)}
    messages = [one for one in await inspection.messages(store) if not one.message_id.startswith("pd-")]
    fields = [(await inspection.process(store, one.process_id)).fields for one in await inspection.processes(store)]
    return {
        "open": sorted(processes),
        "messages": [(one.message_id, one.status, one.copies, one.reply) for one in messages],
        "fields": sorted(str(field) for field in fields),
        "steps": sorted({effect.split(" hears ")[-1] for effect in ledger.effects}),
        "findings": await verification.verify(store),
    }


async def _run(url: str, wrap: Callable[[Backend], Backend]) -> tuple[dict[str, Any], bool]:
    """Run until it fails, then again on the reopened store; return the outcome, and whether it failed."""
    ledger, clock = Ledger(), VirtualClock()
    failed = False
    try:
        async with open_store(url, clock=clock) as store:
            store.access.writer._backend = wrap(store.access.writer._backend)
            async with Engine(store, make_app(ledger)) as engine:
                await _drive_or_fail(engine, clock)
            outcome = await _outcome(store, ledger)
    except PerdureError:
        failed = True
    if failed:
        async with open_store(url, clock=clock) as store:
            async with Engine(store, make_app(ledger)) as engine:
                await _drive(engine, clock)
            outcome = await _outcome(store, ledger)
    return outcome, failed


async def _drive_or_fail(engine: Engine, clock: VirtualClock) -> None:
    """Drive, but stop when the writer has stopped: nobody would answer."""
    driving = asyncio.ensure_future(_drive(engine, clock))
    while not driving.done():
        await asyncio.sleep(0)
        if engine.store.access.writer._poison is not None:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
            raise StoreUnavailable("the writer has stopped")
    await driving


async def _every(made: Stores, call: str, step: int) -> None:
    """Let each `step`-th call of a kind fail, in a run of its own."""
    with made.new() as url:
        expected, failed = await _run(url, lambda backend: backend)
    assert not failed
    assert expected["findings"] == []
    failures = 0
    for nth in itertools.count(1, step):
        with made.new() as url:
            outcome, failed = await _run(url, partial(Failing, call, nth))
        assert outcome == expected, f"{call} number {nth}"
        if not failed:
            break
        failures += 1
    assert failures >= 15 // step, f"only {failures} calls of {call} were made to fail"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", DURABLE)
async def test_whichever_call_fails_the_outcome_is_that_of_an_undisturbed_run(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, call: str
) -> None:
    await _every(stores(request, kind, tmp_path), call, STEP[kind])


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
async def test_whichever_call_fails_on_a_server_the_outcome_is_that_of_an_undisturbed_run(
    request: pytest.FixtureRequest, tmp_path: Path, call: str
) -> None:
    await _every(stores(request, "postgres", tmp_path), call, 1)

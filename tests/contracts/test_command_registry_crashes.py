"""Contract 2: each call of the writer to its backend fails once, before it or after it, in a run with every kind of transaction.

Research on commands, section 3.1 (a crash at every step) and section 5.2 (a crash between two steps): whatever fails, everything that
follows from the commands is there when the store is opened again (a, b, c), whoever asked for something may ask again (a, e), no attempt
is given out twice (h), and each command can still be done, once. The gate tries a share of it, the soak everything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandRegistry, Progress, Succeeded
from perdure.commands.states import TERMINAL
from perdure.commands.writes import (
    Cancel,
    Complete,
    Create,
    ExpireDue,
    GiveBack,
    RaiseAttempt,
    Redrive,
    Renew,
    SetParams,
    SetState,
    Take,
)
from perdure.core.ownership import Lease
from perdure.core.write import Write
from perdure.core.writer import Writer
from perdure.errors import LeaseLost, PerdureError
from perdure.store import open_store
from tests.contracts.commands import MINUTE, OOPS, PENDING, PENDING_UPLOAD, SUCCEEDED, check, create, lease
from tests.crash.test_every_call import CALLS, Failing
from tests.stores import DURABLE, Stores, stores

KEYS = [f"k{number}" for number in range(5)]
WRITES = (Create, SetParams, Take, Renew, Complete, GiveBack, Cancel, Redrive, ExpireDue, RaiseAttempt, SetState)
NEVER = 1 << 30
STEP = {"prefetch": 5}
"""In the gate each commit fails, before it and after it, and each fifth look: those change nothing. A run on a server takes some five
times as long, so there one call fails for each kind of write."""


async def asked_for(commands: CommandRegistry, clock: VirtualClock) -> tuple[list[str], str]:
    """Ask for the commands of those who repeat what failed, and return their ids; the last one's params come afterwards."""
    ids = [await create(commands, idempotency_key=key, params=b"1", delay=SECOND * (key == "k4")) for key in KEYS]
    upload = await create(commands, initial_state=PENDING_UPLOAD, idempotency_key="u", deadline=clock.now() + 30 * MINUTE)
    await commands.set_params(upload, b"2")
    return ids, upload


async def everything(commands: CommandRegistry, clock: VirtualClock) -> None:
    """What may happen to commands, each kind of transaction once at least."""
    ids, upload = await asked_for(commands, clock)
    late = await create(commands, idempotency_key="late", deadline=clock.now() + SECOND)
    taken = {one.command_id: one.token for one in await lease(commands, max_leases=10)}
    await commands.renew(ids[0], taken[ids[0]], progress=Progress(fraction=0.5))
    await commands.complete(ids[0], taken[ids[0]], Succeeded(result=b"3"))
    await commands.complete(ids[1], taken[ids[1]], OOPS)
    await commands.release(ids[2], taken[ids[2]])
    await commands.cancel(ids[3])
    await commands.release(ids[3], taken[ids[3]])
    await commands.redrive(ids[3])
    clock.advance(SECOND)
    await commands.expire_due(clock.now())
    await commands.redrive(late)
    await commands.increment_attempt(ids[4])
    await commands.update_command_state(upload, PENDING)


async def the_rest(commands: CommandRegistry, clock: VirtualClock) -> None:
    """Do whatever is left, in the ordinary way."""
    clock.advance(10 * MINUTE)
    for page in itertools.count():
        for one in await lease(commands, max_leases=10):
            await commands.complete(one.command_id, one.token, Succeeded(result=b"4"))
        clock.advance(10 * MINUTE)
        left = [one for one in (await commands.list_commands(limit=1000)).commands if one.state not in TERMINAL]
        if not left:
            return
        assert page < 10, left


def _fails_at(writer: Writer, call: str, kind: type[Any]) -> None:
    """Let a call fail that the first write of this kind makes."""
    backend = writer._backend = Failing(call, NEVER, writer._backend)
    run = writer.run

    async def watched(write: Write[Any], *, size: int = 0, lease: Lease | None = None) -> Any:
        if type(write) is kind:
            backend._left = min(1, backend._left)
        return await run(write, size=size, lease=lease)

    writer.run = watched  # type: ignore[method-assign]


def _fails_nth(writer: Writer, call: str, nth: int) -> None:
    writer._backend = Failing(call, nth, writer._backend)


async def attempts_grow(commands: CommandRegistry, command_id: str) -> None:
    """Each time that a command is given out it is the next attempt, unless somebody has set its state by hand."""
    last = 0
    for event in await commands.history(command_id, limit=limits.PAGE_MAX):
        if event.kind == "leased":
            assert event.attempt > last, f"attempt {event.attempt} of {command_id} was given out twice"
        last = {"leased": event.attempt, "state-set": 0}.get(event.kind, last)


async def _run(made: Stores, prepare: Callable[[Writer], None]) -> bool:
    """Let one call fail; return whether there was one."""
    clock, failed = VirtualClock(), False
    with made.new() as url:
        try:
            async with open_store(url, clock=clock) as store:
                prepare(store.access.writer)
                await everything(store.commands, clock)
        except LeaseLost:
            raise
        except PerdureError:
            failed = True
        async with open_store(url, clock=clock) as store:
            await check(store)
            before = (await store.commands.list_commands(limit=1000)).commands
            assert all([await store.commands.get_result(one.command_id) == b"3" for one in before if one.state == SUCCEEDED])
            ids, upload = await asked_for(store.commands, clock)
            assert len({*ids, upload}) == len(KEYS) + 1
            await the_rest(store.commands, clock)
            await check(store)
            assert [await store.commands.get_params(one) for one in (*ids, upload)] == [b"1"] * len(KEYS) + [b"2"]
            after = {one.command_id: one for one in (await store.commands.list_commands(limit=1000)).commands}
            assert {one.command_id for one in before} <= after.keys()
            for command_id in after:
                await attempts_grow(store.commands, command_id)
            for one in before:
                if one.state in TERMINAL:
                    assert (one.state, one.completed_at) == (after[one.command_id].state, after[one.command_id].completed_at)
    return failed


async def _every(made: Stores, call: str, step: int) -> None:
    """Let each `step`-th call of a kind fail, in a run of its own."""
    failures = 0
    for nth in itertools.count(1, step):
        if not await _run(made, partial(_fails_nth, call=call, nth=nth)):
            break
        failures += 1
    assert failures >= 20 // step, f"only {failures} calls of {call} were made to fail"


@pytest.mark.parametrize("call", CALLS)
async def test_whichever_call_fails_every_command_can_still_be_done(request: pytest.FixtureRequest, tmp_path: Path, call: str) -> None:
    await _every(stores(request, "file", tmp_path), call, STEP.get(call, 1))


@pytest.mark.parametrize("call", CALLS)
async def test_whichever_kind_of_write_fails_on_a_server_every_command_can_still_be_done(
    request: pytest.FixtureRequest, tmp_path: Path, call: str
) -> None:
    made = stores(request, "postgres", tmp_path)
    for kind in WRITES[CALLS.index(call) :: len(CALLS)]:
        assert await _run(made, partial(_fails_at, call=call, kind=kind)), f"no {call} of {kind.__name__} was made to fail"


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", DURABLE)
async def test_whichever_of_all_calls_fails_every_command_can_still_be_done(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, call: str
) -> None:
    await _every(stores(request, kind, tmp_path), call, 1)

"""Contract 2: every call of the writer to its backend fails once, before it or after it, in a run with every kind of transaction.

Research on commands, section 3.1 (a crash at every step) and section 5.2 (a crash between two steps): whatever fails, everything that
follows from the commands is there when the store is opened again, and each command can still be done, once.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandRegistry, Progress, Succeeded
from perdure.commands.states import TERMINAL
from perdure.errors import LeaseLost, PerdureError
from perdure.store import open_store
from tests.contracts.commands import MINUTE, OOPS, PENDING, PENDING_UPLOAD, SUCCEEDED, check, create, lease
from tests.crash.test_every_call import CALLS, Failing
from tests.stores import DURABLE, Stores, stores

KEYS = [f"k{number}" for number in range(5)]
STEP = {"file": 5, "postgres": 9}
"""Each fifth call fails, of a server each ninth: a run takes some five times as long."""


async def everything(commands: CommandRegistry, clock: VirtualClock) -> None:
    """What may happen to commands, each kind of transaction once at least."""
    ids = [await create(commands, idempotency_key=key, params=b"1", delay=SECOND * (key == "k4")) for key in KEYS]
    upload = await create(commands, initial_state=PENDING_UPLOAD, idempotency_key="u", deadline=clock.now() + 30 * MINUTE)
    await commands.set_params(upload, b"2")
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
        if not [one for one in left if one.state != PENDING_UPLOAD]:
            return
        assert page < 10, left


async def _run(made: Stores, call: str, nth: int) -> bool:
    """Let one call fail; return whether there was one."""
    clock, failed = VirtualClock(), False
    with made.new() as url:
        try:
            async with open_store(url, clock=clock) as store:
                store.access.writer._backend = Failing(call, nth, store.access.writer._backend)
                await everything(store.commands, clock)
        except LeaseLost:
            raise
        except PerdureError:
            failed = True
        async with open_store(url, clock=clock) as store:
            await check(store)
            before = (await store.commands.list_commands(limit=1000)).commands
            assert all([await store.commands.get_result(one.command_id) == b"3" for one in before if one.state == SUCCEEDED])
            made_again = [await create(store.commands, idempotency_key=key, params=b"1", delay=SECOND * (key == "k4")) for key in KEYS]
            assert len(set(made_again)) == len(KEYS)
            await the_rest(store.commands, clock)
            await check(store)
            after = {one.command_id: one for one in (await store.commands.list_commands(limit=1000)).commands}
            assert {one.command_id for one in before} <= after.keys()
            for one in before:
                if one.state in TERMINAL:
                    assert (one.state, one.completed_at) == (after[one.command_id].state, after[one.command_id].completed_at)
    return failed


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", DURABLE)
async def test_whichever_call_fails_every_command_can_still_be_done(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, call: str
) -> None:
    made, failures = stores(request, kind, tmp_path), 0
    for nth in itertools.count(1, STEP[kind]):
        if not await _run(made, call, nth):
            break
        failures += 1
    assert failures >= 20 // STEP[kind], f"only {failures} calls of {call} were made to fail"

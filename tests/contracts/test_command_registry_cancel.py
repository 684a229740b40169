"""Contract 2: commands that are not to be done any more, in every state. Research on commands, section 6 (5)."""

from __future__ import annotations

import pytest

from perdure.clock import VirtualClock
from perdure.commands.contract import CommandRegistry, Failed, Stopped, Succeeded
from perdure.commands.states import CommandState
from perdure.errors import IllegalTransition, LeaseLost
from perdure.store import Store
from tests.contracts.commands import (
    CANCELLED,
    DISPATCHED,
    FAILED,
    LEASE,
    OOPS,
    PENDING,
    PENDING_UPLOAD,
    SUCCEEDED,
    bring_to,
    check,
    create,
    kinds,
    lease,
    state_of,
    take,
)

OPEN = {PENDING_UPLOAD, PENDING, DISPATCHED}


@pytest.fixture
def commands(store: Store) -> CommandRegistry:
    return store.commands


@pytest.mark.parametrize("state", CommandState)
async def test_what_nobody_has_is_cancelled_at_once_and_what_is_over_stays(store: Store, clock: VirtualClock, state: CommandState) -> None:
    commands = store.commands
    command_id = await bring_to(commands, state, clock)
    before = await commands.get_command_status(command_id)

    assert await commands.cancel(command_id, reason="not needed", actor="ann") == (CANCELLED if state in OPEN else state)

    if state in OPEN:
        event = (await commands.history(command_id))[-1]
        assert (event.kind, event.actor, event.detail) == ("cancelled", "ann", "not needed")
    else:
        assert await commands.get_command_status(command_id) == before
    assert await lease(commands) == []
    await check(store)


async def test_a_worker_is_told_when_it_renews_and_stops(store: Store) -> None:
    commands = store.commands
    command_id = await create(commands)
    token = (await take(commands)).token

    assert await commands.cancel(command_id, reason="not needed") == DISPATCHED
    renewal = await commands.renew(command_id, token)
    assert (renewal.cancel_requested, renewal.reason) == (True, "not needed")
    await check(store)
    assert await commands.complete(command_id, token, Stopped(message="half done"))

    assert await state_of(commands, command_id) == CANCELLED
    events = await commands.history(command_id)
    assert [event.kind for event in events] == ["created", "leased", "cancel-requested", "cancelled"]
    assert (events[-1].actor, events[-1].detail) == ("w", "half done")
    await check(store)


async def test_who_asks_twice_asks_once(commands: CommandRegistry) -> None:
    command_id = await create(commands)
    await take(commands)

    assert [await commands.cancel(command_id, reason=reason) for reason in "ab"] == [DISPATCHED, DISPATCHED]

    assert (await kinds(commands, command_id)).count("cancel-requested") == 1


async def test_nobody_stops_what_nobody_asked_to_stop(commands: CommandRegistry) -> None:
    command_id = await create(commands)
    token = (await take(commands)).token

    with pytest.raises(IllegalTransition, match="nobody asked"):
        await commands.complete(command_id, token, Stopped())

    assert await commands.complete(command_id, token, Succeeded())


@pytest.mark.parametrize(
    ("how", "state"), [("done", SUCCEEDED), ("failed", FAILED), ("tried", CANCELLED), ("released", CANCELLED), ("gone", CANCELLED)]
)
async def test_it_ends_as_its_worker_says_and_is_not_given_out_again(
    store: Store, clock: VirtualClock, how: str, state: CommandState
) -> None:
    commands = store.commands
    command_id = await create(commands)
    token = (await take(commands)).token
    await commands.cancel(command_id)

    if how == "done":
        assert await commands.complete(command_id, token, Succeeded())
    elif how == "failed":
        assert await commands.complete(command_id, token, Failed(code="x"))
    elif how == "tried":
        assert await commands.complete(command_id, token, OOPS)
    elif how == "released":
        await commands.release(command_id, token)
    else:
        clock.advance(LEASE)
        assert await commands.expire_due(clock.now()) == 1

    assert await state_of(commands, command_id) == state
    assert await lease(commands) == []
    await check(store)


async def test_what_is_set_back_by_hand_can_still_be_cancelled(store: Store) -> None:
    commands = store.commands
    command_id = await create(commands)
    token = (await take(commands)).token
    await commands.cancel(command_id)
    await commands.update_command_state(command_id, PENDING)
    with pytest.raises(LeaseLost):
        await commands.renew(command_id, token)

    assert await commands.cancel(command_id) == CANCELLED, "no worker has it"
    await check(store)

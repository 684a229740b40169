"""Contract 2: the seed's methods, and the table of transitions.

Groups of the seed's own tests (research on commands, section 3): S1, R5, R6, V20, V21.
"""

from __future__ import annotations

import msgspec
import pytest

from perdure.clock import VirtualClock
from perdure.commands.contract import CommandEnvelopeData, CommandMetadata, CommandRegistry, DeploymentModel, Succeeded
from perdure.commands.states import TERMINAL, CommandState, can_transition
from perdure.errors import CommandNotFound, IllegalTransition
from perdure.identity import TenantId
from perdure.store import Store
from tests.contracts.commands import (
    CANCELLED,
    DISPATCHED,
    EXPIRED,
    FAILED,
    LEASE,
    PENDING,
    PENDING_UPLOAD,
    SUCCEEDED,
    Reopen,
    bring_to,
    check,
    create,
    kinds,
    lease,
    state_of,
    take,
)

TABLE = {
    PENDING_UPLOAD: {PENDING_UPLOAD, PENDING, FAILED, EXPIRED, CANCELLED},
    PENDING: {PENDING, DISPATCHED, FAILED, EXPIRED, CANCELLED},
    DISPATCHED: {PENDING, DISPATCHED, SUCCEEDED, FAILED, EXPIRED, CANCELLED},
    SUCCEEDED: {SUCCEEDED},
    FAILED: {FAILED},
    EXPIRED: {EXPIRED},
    CANCELLED: {CANCELLED},
}
PAIRS = [(before, after) for before in CommandState for after in CommandState]


@pytest.fixture
def commands(store: Store) -> CommandRegistry:
    return store.commands


# --- S1, section 1.3, section 6 (3) -------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_the_table_of_transitions_is_that_of_the_design(before: CommandState, after: CommandState) -> None:
    assert can_transition(before, after) is (after in TABLE[before])


@pytest.mark.parametrize(("before", "after"), PAIRS)
async def test_a_state_is_set_where_the_table_leads_there_and_nowhere_else(
    store: Store, clock: VirtualClock, before: CommandState, after: CommandState
) -> None:
    commands = store.commands
    command_id = await bring_to(commands, before, clock)
    found = await commands.get_command_status(command_id)
    events = await kinds(commands, command_id)
    assert found is not None
    assert found.state == before
    clock.advance(5)

    if before == after:
        await commands.update_command_state(command_id, after, dispatched_at=7, response_size_bytes=9, error=msgspec.Raw(b'"x"'))
        assert await commands.get_command_status(command_id) == found, "it is a no-op that changes no field"
        assert await kinds(commands, command_id) == events
    elif after in TABLE[before]:
        await commands.update_command_state(command_id, after)
        assert await state_of(commands, command_id) == after
        assert await kinds(commands, command_id) == [*events, "state-set"]
    else:
        with pytest.raises(IllegalTransition, match=f"{before}.*{after}"):
            await commands.update_command_state(command_id, after)
        assert await commands.get_command_status(command_id) == found
        assert await kinds(commands, command_id) == events
    await check(store)


@pytest.mark.parametrize("state", [state for state in CommandState if state in TERMINAL])
async def test_section_1_5_1_a_terminal_command_is_never_resurrected(
    commands: CommandRegistry, clock: VirtualClock, state: CommandState
) -> None:
    """R6, and the first bug that the seed's system had to fix."""
    command_id = await bring_to(commands, state, clock)

    for after in CommandState:
        if after != state:
            with pytest.raises(IllegalTransition):
                await commands.update_command_state(command_id, after)
    assert await state_of(commands, command_id) == state
    assert await lease(commands) == []


async def test_what_is_pending_again_by_hand_is_given_out_again(store: Store) -> None:
    command_id = await create(store.commands)
    before = await take(store.commands)
    await store.commands.update_command_state(command_id, PENDING)
    await check(store)

    after = await take(store.commands)

    assert after.command_id == command_id
    assert after.token > before.token


async def test_what_was_set_dispatched_is_given_to_nobody(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands)
    clock.advance(3)

    await store.commands.update_command_state(command_id, DISPATCHED)

    assert await lease(store.commands) == []
    found = await store.commands.get_command_status(command_id)
    assert found is not None
    assert (found.dispatched_at, found.lease_expires_at) == (clock.now(), None)
    await check(store)


# --- create ----------------------------------------------------------------------------------------------------


async def test_a_new_command_has_what_was_said_and_nothing_else(store: Store, clock: VirtualClock) -> None:
    """R5, V1: the target is in status and envelope."""
    commands, now = store.commands, clock.now()

    made = await commands.create_command("site", "pick", deadline=now + 9, target="arm", params=b'{"n":1}', priority=3, actor="ann")

    command_id = made.command_id
    assert command_id.startswith("cmd_")
    assert made == CommandMetadata(
        command_id=command_id, deployment_model=DeploymentModel.PULL, tenant_id=TenantId("default"), state=PENDING
    )
    assert await commands.get_command_metadata(command_id) == CommandEnvelopeData(
        command_id=command_id,
        deployment_id="site",
        command="pick",
        attempt=1,
        deadline=now + 9,
        state=PENDING,
        deployment_model=DeploymentModel.PULL,
        target="arm",
    )
    found = await commands.get_command_status(command_id)
    assert found is not None
    assert (found.deployment_id, found.target, found.command, found.deadline) == ("site", "arm", "pick", now + 9)
    assert (found.attempt, found.failures, found.priority) == (1, 0, 3)
    assert (found.created_at, found.available_at) == (now, now)
    assert (found.request_size_bytes, found.response_size_bytes) == (7, None)
    assert [found.dispatched_at, found.completed_at, found.lease_expires_at, found.error, found.progress] == [None] * 5
    assert (found.dead, found.redriven_as, found.cancel_requested, found.worker) == (False, None, False, "")
    assert await commands.get_params(command_id) == b'{"n":1}'
    assert await commands.get_result(command_id) is None
    await check(store)


async def test_ids_are_made_and_never_twice(commands: CommandRegistry) -> None:
    assert len({await create(commands) for _ in range(50)}) == 50


async def test_a_command_waits_for_its_params_before_it_waits_for_a_worker(store: Store) -> None:
    """Section 5.2, upload-complete: no step between `PENDING` and its place in the queue."""
    commands = store.commands
    command_id = await create(commands, initial_state=PENDING_UPLOAD, request_size_bytes=4)
    assert await lease(commands) == []

    await commands.set_params(command_id, b"[10]")
    await check(store)

    taken = await take(commands)
    assert (taken.command_id, taken.params) == (command_id, b"[10]")
    assert await kinds(commands, command_id) == ["created", "uploaded", "leased"]


async def test_params_that_are_given_again_change_nothing_and_others_are_refused(store: Store) -> None:
    """Section 5.2: repeating upload-complete is no error; section 5.3: it cannot give out the command twice."""
    commands = store.commands
    command_id = await create(commands, initial_state=PENDING_UPLOAD)
    await commands.set_params(command_id, b"1")
    await take(commands)

    await commands.set_params(command_id, b"1")
    with pytest.raises(IllegalTransition):
        await commands.set_params(command_id, b"2")

    assert await lease(commands) == []
    assert await state_of(commands, command_id) == DISPATCHED
    assert await commands.get_params(command_id) == b"1"


async def test_params_of_what_is_over_are_refused(commands: CommandRegistry) -> None:
    command_id = await create(commands, initial_state=PENDING_UPLOAD)
    await commands.cancel(command_id)

    with pytest.raises(IllegalTransition):
        await commands.set_params(command_id, b"1")

    assert await commands.get_params(command_id) is None


# --- update and attempts -----------------------------------------------------------------------------------------


async def test_optional_fields_overwrite_only_when_they_are_given(commands: CommandRegistry, clock: VirtualClock) -> None:
    command_id = await create(commands)
    await commands.update_command_state(command_id, DISPATCHED, dispatched_at=7, response_size_bytes=5, error=msgspec.Raw(b'{"code":"a"}'))
    await commands.update_command_state(command_id, PENDING)
    await commands.update_command_state(command_id, FAILED, completed_at=9)

    found = await commands.get_command_status(command_id)

    assert found is not None
    assert (found.dispatched_at, found.response_size_bytes, found.completed_at) == (7, 5, 9)
    assert found.error == msgspec.Raw(b'{"code":"a"}')


async def test_attempts_start_at_one_and_grow_until_it_is_over(store: Store) -> None:
    """Section 3.1: increments after the end."""
    commands = store.commands
    command_id = await create(commands)

    assert [await commands.increment_attempt(command_id) for _ in range(2)] == [2, 3]
    assert (await take(commands)).attempt == 3
    await commands.update_command_state(command_id, FAILED)
    with pytest.raises(IllegalTransition):
        await commands.increment_attempt(command_id)

    found = await commands.get_command_status(command_id)
    assert found is not None
    assert found.attempt == 3
    await check(store)


async def test_of_a_command_that_is_not_there_every_method_says_so(store: Store) -> None:
    """Section 1.1, V20: an unknown id was `1`, or silently nothing."""
    commands, unknown = store.commands, "cmd_none"

    assert await commands.get_command_metadata(unknown) is None
    assert await commands.get_command_status(unknown) is None
    assert await commands.get_params(unknown) is None
    assert await commands.get_result(unknown) is None
    for call in (
        commands.update_command_state(unknown, FAILED),
        commands.increment_attempt(unknown),
        commands.set_params(unknown, b"1"),
        commands.renew(unknown, 1),
        commands.release(unknown, 1),
        commands.complete(unknown, 1, Succeeded()),
        commands.cancel(unknown),
        commands.redrive(unknown),
        commands.wait_command(unknown, LEASE),
        commands.history(unknown),
    ):
        with pytest.raises(CommandNotFound, match=unknown):
            await call
    await check(store)


async def test_everything_is_there_after_a_restart(store: Store, reopen: Reopen, clock: VirtualClock) -> None:
    """Section 3.1: restart durability."""
    ids = [await bring_to(store.commands, state, clock, params=b"1" if state != PENDING_UPLOAD else None) for state in CommandState]
    before = [await store.commands.get_command_status(command_id) for command_id in ids]
    histories = [await store.commands.history(command_id) for command_id in ids]

    store = await reopen()

    assert [await store.commands.get_command_status(command_id) for command_id in ids] == before
    assert [await store.commands.history(command_id) for command_id in ids] == histories
    assert (await take(store.commands)).command_id == ids[1]
    await check(store)

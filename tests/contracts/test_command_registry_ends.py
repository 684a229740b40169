"""Contract 2: how commands end: by results, failures and their policy, deadlines and cancellation.

Groups of the seed's own tests (research on commands, section 3): V16, V18, V19, V21, and section 6 (5), (6).
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import (
    CommandError,
    CommandOutcome,
    CommandRegistry,
    CommandRetry,
    CommandStatus,
    Failed,
    Stopped,
    Succeeded,
)
from perdure.errors import IllegalTransition, LeaseLost
from perdure.store import Store
from tests.contracts.commands import (
    CANCELLED,
    DISPATCHED,
    EXPIRED,
    FAILED,
    HOPELESS,
    LEASE,
    MINUTE,
    OOPS,
    PENDING,
    PENDING_UPLOAD,
    SUCCEEDED,
    bring_to,
    check,
    create,
    kept_apart,
    kinds,
    lease,
    state_of,
    take,
)


@pytest.fixture
def commands(store: Store) -> CommandRegistry:
    return store.commands


async def status(commands: CommandRegistry, command_id: str) -> CommandStatus:
    found = await commands.get_command_status(command_id)
    assert found is not None
    return found


def error_of(found: CommandStatus) -> CommandError:
    assert found.error is not None
    return msgspec.json.decode(found.error, type=CommandError)


# --- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, limits.COMMAND_RESULT_MAX])
async def test_a_result_is_kept_as_it_is(store: Store, clock: VirtualClock, size: int) -> None:
    commands, result = store.commands, b'"' + b"x" * (size - 2) + b'"'
    command_id = await create(commands, params=b"1")
    taken = await take(commands)
    clock.advance(9)

    assert await commands.complete(command_id, taken.token, Succeeded(result=result)) is True

    found = await status(commands, command_id)
    assert (found.state, found.completed_at, found.response_size_bytes, found.error) == (SUCCEEDED, clock.now(), size, None)
    assert (found.lease_expires_at, found.worker) == (None, "w")
    assert await commands.get_result(command_id) == result
    assert await kinds(commands, command_id) == ["created", "leased", "succeeded"]
    await check(store)


async def test_a_result_that_is_kept_apart_is_named(store: Store) -> None:
    commands, blob = store.commands, await kept_apart(store, bytes(5_000_000))
    command_id = await create(commands)

    await commands.complete(command_id, (await take(commands)).token, Succeeded(result=blob))

    assert await commands.get_result(command_id) == blob
    assert (await status(commands, command_id)).response_size_bytes == blob.size


@pytest.mark.parametrize("outcome", [Succeeded(result=b"1"), HOPELESS, OOPS, Failed(code="x", details=b"[1]", retryable=True)])
async def test_who_says_the_same_again_hears_the_same(store: Store, outcome: CommandOutcome) -> None:
    """V16, section 5.2: an answer that was lost on its way; the first one is kept."""
    commands = store.commands
    command_id = await create(commands)
    token = (await take(commands)).token
    assert await commands.complete(command_id, token, outcome) is True
    found, events = await commands.get_command_status(command_id), await kinds(commands, command_id)

    assert await commands.complete(command_id, token, outcome) is True
    assert await commands.complete(command_id, token, Succeeded(result=b"2")) is False
    assert await commands.complete(command_id, token, Failed(code="other")) is False

    assert await commands.get_command_status(command_id) == found
    assert await kinds(commands, command_id) == events
    await check(store)


async def test_who_stopped_hears_the_same_again(commands: CommandRegistry) -> None:
    command_id = await create(commands)
    token = (await take(commands)).token
    await commands.cancel(command_id)

    assert [await commands.complete(command_id, token, Stopped()) for _ in range(2)] == [True, True]
    assert await commands.complete(command_id, token, Succeeded()) is False


async def test_who_failed_while_it_was_to_stop_hears_the_same_again(commands: CommandRegistry) -> None:
    command_id = await create(commands)
    token = (await take(commands)).token
    await commands.cancel(command_id)

    assert [await commands.complete(command_id, token, OOPS) for _ in range(2)] == [True, True]
    assert await commands.complete(command_id, token, HOPELESS) is False
    assert await state_of(commands, command_id) == CANCELLED


async def test_who_says_it_again_after_somebody_else_had_the_command_has_lost_it(commands: CommandRegistry, clock: VirtualClock) -> None:
    command_id = await create(commands)
    token = (await take(commands)).token
    await commands.complete(command_id, token, OOPS)
    clock.advance(SECOND)
    await commands.release(command_id, (await take(commands)).token)

    with pytest.raises(LeaseLost):
        await commands.complete(command_id, token, OOPS)
    with pytest.raises(LeaseLost):
        await commands.complete(command_id, token, Succeeded())


async def test_of_two_opposite_ends_at_once_one_counts(store: Store) -> None:
    """V18: state and result agree, and the other one is told."""
    commands = store.commands
    for _ in range(10):
        command_id = await create(commands)
        token = (await take(commands)).token

        counts = await asyncio.gather(
            commands.complete(command_id, token, HOPELESS), commands.complete(command_id, token, Succeeded(result=b"1"))
        )

        assert sorted(counts) == [False, True]
        failed = await state_of(commands, command_id) == FAILED
        assert counts[0] is failed
        assert await commands.get_result(command_id) == (None if failed else b"1")
    await check(store)


# --- failures, section 5.4 ---------------------------------------------------------------------------------------------


async def test_a_failure_for_good_ends_the_command_with_its_reason(store: Store) -> None:
    """V21."""
    commands = store.commands
    command_id = await create(commands)

    assert await commands.complete(command_id, (await take(commands)).token, Failed(code="no-stock", message="none left", details=b"[7]"))

    found = await status(commands, command_id)
    assert (found.state, found.failures, found.dead) == (FAILED, 1, False)
    assert error_of(found) == CommandError(code="no-stock", message="none left", details=msgspec.Raw(b"[7]"))
    assert (await commands.history(command_id))[-1].detail == "no-stock: none left"
    assert await commands.get_result(command_id) is None
    await check(store)


async def test_a_message_of_the_greatest_length_is_kept(commands: CommandRegistry) -> None:
    """Section 5.4: an error above 24 KiB could not be stored, and was done again without end."""
    most = "é" * (limits.COMMAND_MESSAGE_MAX // 2)
    command_id = await create(commands)

    await commands.complete(command_id, (await take(commands)).token, Failed(code="x", message=most, details=most_details()))

    assert error_of(await status(commands, command_id)).message == most


def most_details() -> bytes:
    return b'"' + b"x" * (limits.COMMAND_MESSAGE_MAX - 2) + b'"'


async def test_a_failed_attempt_is_followed_by_another_after_longer_and_longer_waits_and_then_it_is_dead(
    store: Store, clock: VirtualClock
) -> None:
    commands = store.commands
    command_id = await create(commands, retry=CommandRetry(max_attempts=4, initial=2.0, factor=3.0, maximum=10.0, jitter=0.0))
    for attempt, wait in enumerate([2, 6, 10], 1):
        taken = await take(commands)
        assert taken.attempt == attempt
        await commands.complete(command_id, taken.token, OOPS)
        found = await status(commands, command_id)
        assert (found.state, found.failures, found.attempt) == (PENDING, attempt, attempt + 1)
        assert error_of(found).code == "oops", "it says why it failed last"
        assert found.available_at == clock.now() + wait * SECOND
        await check(store)
        clock.advance(wait * SECOND - 1)
        assert await lease(commands) == []
        clock.advance(1)

    await commands.complete(command_id, (await take(commands)).token, OOPS)

    found = await status(commands, command_id)
    assert (found.state, found.failures, found.attempt, found.dead) == (FAILED, 4, 4, True)
    assert await kinds(commands, command_id) == ["created", *["leased", "attempt-failed"] * 4, "failed"]
    await check(store)


async def test_what_succeeds_after_failures_has_no_error(commands: CommandRegistry, clock: VirtualClock) -> None:
    command_id = await create(commands)
    await commands.complete(command_id, (await take(commands)).token, OOPS)
    clock.advance(SECOND)

    await commands.complete(command_id, (await take(commands)).token, Succeeded())

    found = await status(commands, command_id)
    assert (found.state, found.error, found.failures) == (SUCCEEDED, None, 1)


async def test_a_code_that_is_not_worth_it_is_not_tried_again(store: Store) -> None:
    command_id = await create(store.commands, retry=CommandRetry(give_up_on=("no-such-item", "oops")))

    await store.commands.complete(command_id, (await take(store.commands)).token, OOPS)

    found = await status(store.commands, command_id)
    assert (found.state, found.dead, found.failures) == (FAILED, True, 1)


async def test_a_worker_that_goes_away_again_and_again_makes_a_dead_letter(store: Store, clock: VirtualClock) -> None:
    """A handler that panicked was redelivered every lease period for ever."""
    commands = store.commands
    command_id = await create(commands)
    for attempt in (1, 2, 3):
        assert (await take(commands)).attempt == attempt
        clock.advance(LEASE)
        assert await commands.expire_due(clock.now()) == 1
        await check(store)

    found = await status(commands, command_id)
    assert (found.state, found.dead, found.failures) == (FAILED, True, 3)
    assert error_of(found).code == "lease-expired"
    assert await lease(commands) == []


async def test_waits_vary_from_command_to_command_and_never_beyond_their_share(commands: CommandRegistry, clock: VirtualClock) -> None:
    waits = set()
    for _ in range(20):
        command_id = await create(commands, retry=CommandRetry(initial=10.0, jitter=0.5))
        await commands.complete(command_id, (await take(commands)).token, OOPS)
        waits.add((await status(commands, command_id)).available_at - clock.now())

    assert len(waits) == 20
    assert all(5 * SECOND <= wait <= 10 * SECOND for wait in waits)


# --- dead letters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [FAILED, EXPIRED, CANCELLED])
async def test_what_was_not_done_is_driven_again_once_as_a_new_command(store: Store, clock: VirtualClock, state: object) -> None:
    commands = store.commands
    old = await bring_to(commands, state, clock, params=b"[1]", target="arm", priority=2, traceparent="00-a")  # type: ignore[arg-type]  # of CommandState
    before = await status(commands, old)

    again = await asyncio.gather(*(commands.redrive(old, actor="ann") for _ in range(5)))

    assert set(again) == {f"{old}~2"}
    found = await status(commands, again[0])
    assert (found.state, found.attempt, found.failures, found.deadline) == (PENDING, 1, 0, None)
    assert (found.target, found.priority, found.traceparent, found.max_attempts) == ("arm", 2, "00-a", 3)
    after = await status(commands, old)
    assert after == msgspec.structs.replace(before, redriven_as=again[0])
    assert (await kinds(commands, old))[-1] == "redriven"
    assert (await take(commands, target="arm")).params == b"[1]"
    await check(store)


async def test_what_was_driven_again_can_be_driven_again(commands: CommandRegistry) -> None:
    command_id = await create(commands)
    first = command_id
    for number in range(2, 13):
        await commands.cancel(command_id)
        command_id = await commands.redrive(command_id)
        assert command_id == f"{first}~{number}"


@pytest.mark.parametrize("state", [PENDING_UPLOAD, PENDING, DISPATCHED, SUCCEEDED])
async def test_what_is_not_over_or_was_done_is_not_driven_again(commands: CommandRegistry, clock: VirtualClock, state: object) -> None:
    command_id = await bring_to(commands, state, clock)  # type: ignore[arg-type]  # of CommandState

    with pytest.raises(IllegalTransition):
        await commands.redrive(command_id)


async def test_what_waited_for_params_of_a_known_size_waits_again(commands: CommandRegistry) -> None:
    command_id = await create(commands, initial_state=PENDING_UPLOAD, request_size_bytes=3)
    await commands.cancel(command_id)

    assert await state_of(commands, await commands.redrive(command_id)) == PENDING_UPLOAD


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [False, True])
async def test_a_command_that_is_not_done_by_its_deadline_expires_once(store: Store, clock: VirtualClock, held: bool) -> None:
    """V19: it cannot be leased, and the second look finds nothing."""
    commands = store.commands
    command_id = await create(commands, deadline=clock.now() + MINUTE)
    taken = await lease(commands, lease_for=10 * MINUTE) if held else []
    clock.advance(MINUTE - 1)
    assert await commands.expire_due(clock.now()) == 0
    await check(store)

    clock.advance(1)
    assert [await commands.expire_due(clock.now()) for _ in range(2)] == [1, 0]

    found = await status(commands, command_id)
    assert (found.state, found.completed_at, found.dead) == (EXPIRED, clock.now(), False)
    assert error_of(found).code == "command-expired"
    assert await lease(commands) == []
    for lost in taken:
        with pytest.raises(LeaseLost, match="EXPIRED"):
            await commands.renew(command_id, lost.token)
        assert await commands.complete(command_id, lost.token, Succeeded()) is False
    assert await commands.get_result(command_id) is None
    await check(store)


async def test_the_deadline_of_what_waits_for_params_passes_too(store: Store, clock: VirtualClock) -> None:
    """Section 1.5 (8)."""
    command_id = await create(store.commands, initial_state=PENDING_UPLOAD, deadline=clock.now() + 1)
    clock.advance(1)

    assert await store.commands.expire_due(clock.now()) == 1

    assert await state_of(store.commands, command_id) == EXPIRED
    await check(store)


async def test_a_lease_gives_out_nothing_whose_deadline_has_passed(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands, deadline=clock.now() + 1)
    clock.advance(1)

    assert await lease(store.commands) == []

    assert await state_of(store.commands, command_id) == EXPIRED
    await check(store)


async def test_a_result_after_the_deadline_does_not_count_and_who_said_it_is_told(store: Store, clock: VirtualClock) -> None:
    """Section 5.3: a late result got an answer as if it counted, and was shown with the state EXPIRED."""
    commands = store.commands
    command_id = await create(commands, deadline=clock.now() + 5)
    token = (await take(commands)).token
    clock.advance(5)

    with pytest.raises(LeaseLost, match="deadline"):
        await commands.renew(command_id, token)
    assert await commands.complete(command_id, token, Succeeded(result=b"1")) is False

    assert await state_of(commands, command_id) == EXPIRED
    assert await commands.get_result(command_id) is None
    await check(store)


async def test_more_than_one_look_can_hold_is_done_in_one_call(store: Store, clock: VirtualClock) -> None:
    """Section 5.5: a pass stopped after so many."""
    many = 2 * limits.COMMAND_DUE_CHUNK + 1
    for number in range(many):
        await create(store.commands, deadline=clock.now() + 1 + number % 3, deployment_id=f"d{number % 7}")
    clock.advance(3)

    assert await store.commands.expire_due(clock.now()) == many
    await check(store)


async def test_nobody_expires_what_is_due_by_somebody_elses_clock(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands, deadline=clock.now() + MINUTE)

    assert await store.commands.expire_due(clock.now() + 2 * MINUTE) == 0

    assert await state_of(store.commands, command_id) == PENDING

"""Contract 3, `begin`: leases, fencing, conflicts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import limits
from perdure.clock import VirtualClock
from perdure.errors import AlreadySealed, InvalidIdentifier, LeaseLost, UsageError
from perdure.operations.contract import (
    Attached,
    Conflict,
    Failed,
    Indeterminate,
    OperationState,
    Policy,
    Replay,
    Retry,
    SealedResponse,
    Started,
    Verdict,
)
from perdure.operations.store import Operations
from perdure.store import Store
from tests.contracts.operations import (
    ANSWER,
    CHARGE,
    LEASE,
    OTHER_ANSWER,
    OTHER_REQUEST,
    RECEIPT,
    RETAIN,
    begin,
    crash_after_the_mark,
    named,
    seal,
    start,
)

Reopen = Callable[[], Awaitable[Store]]
VOLATILE, IDEMPOTENT, PERSISTENT = Policy
REPLAY = Replay(SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json"))


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


# --- live ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", Policy)
async def test_of_many_who_begin_one_id_at_once_exactly_one_is_started(operations: Operations, policy: Policy) -> None:
    verdicts = await asyncio.gather(*(begin(operations, policy=policy) for _ in range(200)))

    assert Counter(type(verdict) for verdict in verdicts) == {Started: 1, Attached: 199}


async def test_many_who_begin_many_ids_are_all_started_with_tokens_of_their_own(operations: Operations) -> None:
    verdicts = await asyncio.gather(*(begin(operations, named(str(n))) for n in range(100)))

    assert len({verdict.token for verdict in verdicts if isinstance(verdict, Started)}) == 100


@pytest.mark.parametrize("policy", Policy)
async def test_whoever_begins_a_live_operation_is_attached_until_its_lease_ends(
    operations: Operations, clock: VirtualClock, policy: Policy
) -> None:
    first = await start(operations, policy=policy)

    clock.advance(LEASE - 1)
    assert await begin(operations, policy=policy) == Attached()
    clock.advance(1)
    second = await start(operations, policy=policy)

    assert second > first


async def test_a_stale_token_seals_marks_and_removes_nothing(operations: Operations, clock: VirtualClock) -> None:
    stale = await start(operations)
    clock.advance(LEASE)
    fresh = await start(operations)

    with pytest.raises(LeaseLost):
        await operations.mark_started(CHARGE, stale)
    with pytest.raises(LeaseLost):
        await seal(operations, response=OTHER_ANSWER, token=stale)
    with pytest.raises(LeaseLost):
        await operations.remove(CHARGE, token=stale)

    await operations.mark_started(CHARGE, fresh)
    await seal(operations, token=fresh)
    assert await begin(operations) == REPLAY


async def test_a_leased_operation_takes_the_token_to_seal_and_to_remove(operations: Operations) -> None:
    token = await start(operations)

    with pytest.raises(LeaseLost):
        await seal(operations)
    with pytest.raises(LeaseLost):
        await operations.remove(CHARGE)
    with pytest.raises(LeaseLost):
        await seal(operations, token=token + 1)

    await operations.remove(CHARGE, token=token)
    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN
    assert await start(operations) > token


async def test_an_elapsed_lease_takes_no_token_to_remove(operations: Operations, clock: VirtualClock) -> None:
    await start(operations)
    clock.advance(LEASE)
    await operations.remove(CHARGE)

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN


async def test_what_is_sealed_is_looked_at_before_the_token(operations: Operations) -> None:
    token = await start(operations)
    await seal(operations, token=token)

    await seal(operations)
    await seal(operations, token=token + 7)
    with pytest.raises(AlreadySealed):
        await seal(operations, response=OTHER_ANSWER, token=token)
    with pytest.raises(AlreadySealed):
        await operations.mark_started(CHARGE, token)


async def test_a_holder_that_was_late_may_seal_if_nobody_took_over(operations: Operations, clock: VirtualClock) -> None:
    token = await crash_after_the_mark(operations, clock)
    await seal(operations, token=token)

    assert await begin(operations) == REPLAY


async def test_a_holder_that_is_late_may_not_begin_with_its_effect(operations: Operations, clock: VirtualClock) -> None:
    token = await start(operations)
    clock.advance(LEASE)

    with pytest.raises(LeaseLost):
        await operations.mark_started(CHARGE, token)

    assert await start(operations) > token


async def test_the_holder_of_a_removed_operation_has_lost_its_lease(operations: Operations, clock: VirtualClock) -> None:
    token = await start(operations)
    clock.advance(LEASE)
    await operations.remove(CHARGE)

    with pytest.raises(LeaseLost):
        await seal(operations, token=token)
    with pytest.raises(LeaseLost):
        await operations.mark_started(CHARGE, token)
    await operations.remove(CHARGE, token=token)

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN


async def test_the_mark_may_be_repeated(operations: Operations, clock: VirtualClock) -> None:
    token = await start(operations)
    await operations.mark_started(CHARGE, token)
    before = await operations.find_operation(CHARGE)
    clock.advance(1)
    await operations.mark_started(CHARGE, token)

    assert await operations.find_operation(CHARGE) == before


# --- conflict ----------------------------------------------------------------------------------------------


async def live(operations: Operations, clock: VirtualClock) -> None:
    await start(operations)


async def elapsed(operations: Operations, clock: VirtualClock) -> None:
    await start(operations)
    clock.advance(LEASE)


async def indeterminate(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)


async def freed(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)
    await operations.resolve(CHARGE, Retry(), "ann")


async def sealed(operations: Operations, clock: VirtualClock) -> None:
    await seal(operations, token=await start(operations))


async def failed(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)
    await operations.resolve(CHARGE, Failed(response=b'"no"'), "ann")


async def expired(operations: Operations, clock: VirtualClock) -> None:
    await sealed(operations, clock)
    clock.advance(RETAIN)
    assert await operations.sweep(clock.now()) == 1


async def bound_late(operations: Operations, clock: VirtualClock) -> None:
    await operations.admit(CHARGE)
    assert await begin(operations) == Indeterminate()


STATES = [live, elapsed, indeterminate, freed, sealed, failed, expired, bound_late]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_another_method_or_another_request_is_a_conflict_in_every_state(
    operations: Operations, reopen: Reopen, clock: VirtualClock, state: Callable[[Operations, VirtualClock], Awaitable[None]]
) -> None:
    await state(operations, clock)
    operations = Operations((await reopen()).access)
    before = await operations.find_operation(CHARGE)

    for policy in Policy:
        assert await begin(operations, method="refund", policy=policy) == Conflict()
        assert await begin(operations, request_digest=OTHER_REQUEST, policy=policy) == Conflict()

    assert await operations.find_operation(CHARGE) == before


async def test_the_policy_of_the_first_begin_is_bound(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock, policy=PERSISTENT)

    assert await begin(operations, policy=IDEMPOTENT) == Indeterminate()


# --- without a request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "verdict"), [(VOLATILE, Indeterminate), (IDEMPOTENT, Started), (PERSISTENT, Indeterminate)], ids=list(Policy)
)
async def test_an_operation_admitted_without_a_request_counts_as_crashed_and_is_bound_by_the_first_begin(
    operations: Operations, reopen: Reopen, policy: Policy, verdict: type[Verdict]
) -> None:
    await operations.admit(CHARGE)

    assert isinstance(await begin(operations, policy=policy), verdict)

    operations = Operations((await reopen()).access)
    assert await begin(operations, policy=policy) == (Attached() if verdict is Started else Indeterminate())
    assert await begin(operations, policy=policy, request_digest=OTHER_REQUEST) == Conflict()


async def test_an_operation_admitted_without_a_request_that_may_be_retried_is_started(operations: Operations) -> None:
    await operations.admit(CHARGE)
    await operations.resolve(CHARGE, Retry(), "ann")

    assert isinstance(await begin(operations), Started)


async def test_an_operation_sealed_without_a_request_is_replayed_to_every_request(operations: Operations) -> None:
    await seal(operations)

    assert await begin(operations) == REPLAY
    assert await begin(operations, method="refund", request_digest=OTHER_REQUEST) == REPLAY


# --- at the door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"request_digest": b""},
        {"request_digest": b"x" * 31},
        {"request_digest": "x" * 32},
        {"policy": "sometimes"},
        {"lease_for": 0},
        {"lease_for": 1.5},
        {"lease_for": limits.DURATION_MAX + 1},
        {"retain": -1},
        {"retain": limits.DURATION_MAX + 1},
        {"method": ""},
        {"method": "a\0b"},
        {"method": "m" * (limits.METHOD_MAX + 1)},
    ],
    ids=lambda changes: "{}={:.10}".format(*map(str, *changes.items())),
)
async def test_a_request_that_breaks_the_rules_is_refused_before_anything_is_written(
    operations: Operations, changes: dict[str, Any]
) -> None:
    with pytest.raises((UsageError, InvalidIdentifier)):
        await begin(operations, **changes)

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN


async def test_the_longest_lease_and_retention_are_kept(operations: Operations, clock: VirtualClock) -> None:
    token = await start(operations, lease_for=limits.DURATION_MAX, retain=limits.DURATION_MAX)
    clock.advance(limits.DURATION_MAX - 1)
    assert await begin(operations) == Attached()
    await seal(operations, token=token)
    clock.advance(limits.DURATION_MAX)

    assert await operations.sweep(clock.now()) == 1

"""Contract 3: waiting, resolving, retention, and what people see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.errors import (
    AlreadySealed,
    InvalidIdentifier,
    LeaseLost,
    OperationExpired,
    OperationNotFound,
    PayloadTooLarge,
    SchemaMissing,
    UsageError,
)
from perdure.operations.contract import (
    PASSING,
    Attached,
    Expired,
    Failed,
    OperationState,
    Policy,
    Replay,
    Resolution,
    Retry,
    Sealed,
    SealedResponse,
    Started,
)
from perdure.operations.store import Operations
from perdure.store import Store
from tests.contracts.operations import (
    ANSWER,
    CHARGE,
    LEASE,
    NO_SCHEMAS,
    OTHER_ANSWER,
    RECEIPT,
    RECEIPT_SCHEMAS,
    RETAIN,
    begin,
    crash_after_the_mark,
    named,
    seal,
    start,
)

Reopen = Callable[[], Awaitable[Store]]
SEALED = SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")
DONE = Sealed(response=ANSWER, root_type=RECEIPT, registry=RECEIPT_SCHEMAS)


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


async def waiting(operations: Operations, duration: int = 60 * SECOND) -> asyncio.Task[SealedResponse | None]:
    """Return a task that waits for the answer and listens already."""
    task = asyncio.create_task(operations.wait_sealed(CHARGE, duration))
    await asyncio.sleep(0)
    return task


# --- waiting ----------------------------------------------------------------------------------------------


async def test_whoever_waits_gets_the_answer_when_it_is_sealed(operations: Operations) -> None:
    token = await start(operations)
    tasks = [await waiting(operations) for _ in range(10)]

    await seal(operations, token=token)

    assert await asyncio.gather(*tasks) == [SEALED] * 10


async def test_whoever_waits_for_a_sealed_operation_gets_the_answer_at_once(operations: Operations) -> None:
    await seal(operations)

    assert await operations.wait_sealed(CHARGE, 0) == SEALED


async def test_whoever_waits_longer_than_the_timeout_gets_none(operations: Operations, clock: VirtualClock) -> None:
    await start(operations)
    assert await operations.wait_sealed(CHARGE, 0) is None
    task = await waiting(operations, 10 * SECOND)

    clock.advance(10 * SECOND - 1)
    await operations.lookup(CHARGE)
    assert not task.done()
    clock.advance(1)

    assert await task is None


async def test_a_wait_outlasts_everything_but_the_seal(operations: Operations, clock: VirtualClock) -> None:
    task = await waiting(operations, 10 * LEASE)
    token = await start(operations)
    await operations.mark_started(CHARGE, token)
    clock.advance(LEASE)
    await operations.resolve(CHARGE, Retry(), "ann")
    token = await start(operations)
    await operations.remove(CHARGE, token=token)
    assert not task.done()

    await seal(operations)

    assert await task == SEALED


async def test_a_failure_reaches_whoever_waits(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)
    task = await waiting(operations)

    await operations.resolve(CHARGE, Failed(response=b'"no"'), "ann")

    assert await task == SealedResponse(response=b'"no"', root_type=None, codec="json", outcome="error")


async def test_a_cancelled_wait_detaches_and_leaves_the_operation_alone(operations: Operations) -> None:
    token = await start(operations)
    gone, stays = await waiting(operations), await waiting(operations)

    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await begin(operations) == Attached()
    await seal(operations, token=token)

    assert await stays == SEALED
    assert operations._access.signals._listeners == {}


async def test_there_is_nothing_to_wait_for_after_the_eviction(operations: Operations, clock: VirtualClock) -> None:
    await seal(operations, token=await start(operations))
    clock.advance(RETAIN)
    await operations.sweep(clock.now())

    with pytest.raises(OperationExpired):
        await operations.wait_sealed(CHARGE, 0)


async def test_a_timeout_is_no_less_than_nothing_and_no_more_than_a_century(operations: Operations) -> None:
    for timeout in (-1, limits.DURATION_MAX + 1):
        with pytest.raises(UsageError, match="timeout"):
            await operations.wait_sealed(CHARGE, timeout)


# --- resolving ----------------------------------------------------------------------------------------------


async def test_a_person_says_it_was_done(operations: Operations, reopen: Reopen, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)
    await operations.resolve(CHARGE, DONE, "ann")

    operations = Operations((await reopen()).access)

    assert await begin(operations) == Replay(SEALED)
    info = await operations.find_operation(CHARGE)
    assert info is not None
    assert (info.actor, info.outcome, info.changed_at, info.indeterminate) == ("ann", "ok", clock.now(), False)


async def test_a_person_says_it_failed_and_the_failure_is_replayed(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)
    await operations.resolve(CHARGE, Failed(response=b'"no"'), "ann")

    assert await begin(operations) == Replay(SealedResponse(response=b'"no"', root_type=None, codec="json", outcome="error"))


async def test_a_person_says_it_may_be_retried_and_the_old_holder_is_fenced_off(operations: Operations, clock: VirtualClock) -> None:
    old = await crash_after_the_mark(operations, clock)
    await operations.resolve(CHARGE, Retry(), "ann")
    assert await operations.list_elapsed("acme") == []

    with pytest.raises(LeaseLost):
        await seal(operations, response=OTHER_ANSWER, token=old)
    verdict = await begin(operations)

    assert isinstance(verdict, Started)
    assert verdict.token > old
    info = await operations.find_operation(CHARGE)
    assert info is not None
    assert (info.actor, info.attempts, info.started) == ("ann", 2, False)


@pytest.mark.parametrize("outcome", [DONE, Failed(response=b'"no"'), Retry()], ids=lambda outcome: type(outcome).__name__)
async def test_what_somebody_works_on_is_not_resolved(operations: Operations, clock: VirtualClock, outcome: Resolution) -> None:
    await start(operations)
    with pytest.raises(LeaseLost):
        await operations.resolve(CHARGE, outcome, "ann")
    assert await operations.lookup(CHARGE) is OperationState.ADMITTED

    clock.advance(LEASE)
    await operations.resolve(CHARGE, outcome, "ann")


async def test_what_is_sealed_is_resolved_with_its_own_answer_only(operations: Operations) -> None:
    await seal(operations)
    before = await operations.find_operation(CHARGE)

    await operations.resolve(CHARGE, DONE, "ann")
    for other in (Failed(response=ANSWER), Retry(), Sealed(response=OTHER_ANSWER, root_type=RECEIPT, registry=NO_SCHEMAS)):
        with pytest.raises(AlreadySealed):
            await operations.resolve(CHARGE, other, "ann")

    assert await operations.find_operation(CHARGE) == before


async def test_what_is_unknown_or_evicted_is_not_resolved(operations: Operations, clock: VirtualClock) -> None:
    with pytest.raises(OperationNotFound):
        await operations.resolve(CHARGE, DONE, "ann")
    await seal(operations, token=await start(operations, retain=0))
    await operations.sweep(clock.now())

    for outcome in (DONE, Retry()):
        with pytest.raises(OperationExpired):
            await operations.resolve(CHARGE, outcome, "ann")


async def test_a_resolution_that_breaks_the_rules_is_refused_and_nothing_changes(operations: Operations) -> None:
    await operations.admit(CHARGE)
    before = await operations.find_operation(CHARGE)

    with pytest.raises(InvalidIdentifier, match="actor"):
        await operations.resolve(CHARGE, Retry(), "")
    with pytest.raises(PayloadTooLarge):
        await operations.resolve(CHARGE, Failed(response=b"x" * (limits.RESPONSE_MAX + 1)), "ann")
    with pytest.raises(SchemaMissing):
        await operations.resolve(CHARGE, Sealed(response=ANSWER, root_type=RECEIPT, registry=NO_SCHEMAS), "ann")

    assert await operations.find_operation(CHARGE) == before


# --- retention ------------------------------------------------------------------------------------------------


async def test_an_answer_is_kept_for_its_retention_from_the_seal_on(operations: Operations, clock: VirtualClock) -> None:
    token = await start(operations)
    clock.advance(LEASE)
    await seal(operations, token=token)

    clock.advance(RETAIN - 1)
    assert await operations.sweep(clock.now()) == 0
    assert await begin(operations) == Replay(SEALED)
    assert await operations.sweep(clock.now() + 1) == 1
    assert await operations.sweep(clock.now() + 1) == 0


async def test_an_evicted_operation_is_never_taken_for_unknown(operations: Operations, reopen: Reopen, clock: VirtualClock) -> None:
    await seal(operations, token=await start(operations))
    clock.advance(RETAIN)
    await operations.sweep(clock.now())

    operations = Operations((await reopen()).access)

    assert await operations.lookup(CHARGE) is OperationState.EXPIRED
    assert await operations.get_sealed(CHARGE) is None
    assert await begin(operations) == Expired()
    with pytest.raises(OperationExpired):
        await operations.admit(CHARGE)
    with pytest.raises(OperationExpired):
        await seal(operations)
    with pytest.raises(OperationExpired):
        await operations.mark_started(CHARGE, 1)
    await operations.remove(CHARGE)
    assert await operations.lookup(CHARGE) is OperationState.EXPIRED


@pytest.mark.parametrize("policy", Policy)
async def test_what_has_no_answer_is_never_evicted(operations: Operations, clock: VirtualClock, policy: Policy) -> None:
    await operations.admit(named("admitted"))
    await start(operations, named("live"), policy=policy, retain=0, lease_for=limits.DURATION_MAX)
    await start(operations, named("elapsed"), policy=policy, retain=0)
    await crash_after_the_mark(operations, clock, named("crashed"), policy=policy, retain=0)

    assert await operations.sweep(clock.now() + limits.DURATION_MAX) == 0
    assert {info.state for info in await operations.list_operations("acme")} == {OperationState.ADMITTED}


async def test_an_answer_without_a_retention_is_kept_for_ever(operations: Operations, clock: VirtualClock) -> None:
    await seal(operations)
    clock.advance(limits.DURATION_MAX)

    assert await operations.sweep(clock.now()) == 0
    assert await operations.get_sealed(CHARGE) == SEALED


async def test_a_sweep_goes_through_all_that_is_due_page_by_page(operations: Operations, clock: VirtualClock) -> None:
    async def seal_one(n: int) -> None:
        operation_id = named(str(n), tenant_id=f"t{n % 3}")
        await seal(operations, operation_id, token=await start(operations, operation_id, retain=n % 7))

    count = 2 * limits.READ_PAGE + 1
    await asyncio.gather(*(seal_one(n) for n in range(count)))

    assert await operations.sweep(clock.now() - 1) == 0
    assert sum(await asyncio.gather(*(operations.sweep(clock.now() + 6) for _ in range(2)))) == count


async def test_a_key_over_http_is_forgotten_some_time_after_its_eviction_and_nothing_else_is(
    operations: Operations, clock: VirtualClock
) -> None:
    passing, lasting, late = named("1", scope=f"{PASSING}shop"), named("1", scope="shop"), named("2", scope=f"{PASSING}shop")
    for operation_id in (passing, lasting):
        await seal(operations, operation_id, token=await start(operations, operation_id, retain=0))
    assert await operations.sweep(clock.now()) == 2
    clock.advance(1)
    await seal(operations, late, token=await start(operations, late, retain=0))
    assert await operations.sweep(clock.now()) == 1

    clock.advance(limits.IDEMPOTENCY_KNOWN_US - 2)
    assert await operations.forget(clock.now()) == 0
    clock.advance(1)
    assert await operations.forget(clock.now()) == 1

    assert await operations.lookup(passing) is OperationState.UNKNOWN
    assert await operations.lookup(late) is OperationState.EXPIRED
    assert await operations.lookup(lasting) is OperationState.EXPIRED
    assert await operations.forget(clock.now() + limits.DURATION_MAX) == 1
    assert await operations.lookup(lasting) is OperationState.EXPIRED


async def test_what_was_forgotten_may_come_again_and_is_forgotten_again(operations: Operations, clock: VirtualClock) -> None:
    operation_id = named("1", scope=f"{PASSING}shop")
    for _ in range(2):
        await seal(operations, operation_id, token=await start(operations, operation_id, retain=0))
        await operations.sweep(clock.now())
        clock.advance(limits.IDEMPOTENCY_KNOWN_US)

        assert await operations.forget(clock.now()) == 1
        assert await operations.find_operation(operation_id) is None


async def test_keys_are_forgotten_page_by_page(operations: Operations, clock: VirtualClock) -> None:
    async def seal_one(n: int) -> None:
        operation_id = named(str(n), scope=f"{PASSING}{n % 3}", tenant_id=f"t{n % 3}")
        await seal(operations, operation_id, token=await start(operations, operation_id, retain=0))

    count = 2 * limits.READ_PAGE + 1
    await asyncio.gather(*(seal_one(n) for n in range(count)))
    await operations.sweep(clock.now())
    clock.advance(limits.IDEMPOTENCY_KNOWN_US)

    assert sum(await asyncio.gather(*(operations.forget(clock.now()) for _ in range(2)))) == count
    assert await operations.list_operations("t0") == []


# --- what people see --------------------------------------------------------------------------------------------


async def test_an_unknown_operation_is_not_found(operations: Operations) -> None:
    assert await operations.find_operation(CHARGE) is None


async def test_operations_are_listed_by_scope_and_value_of_one_tenant_in_pages(operations: Operations) -> None:
    wanted = [("a", "1"), ("a", "10"), ("a", "2"), ("b", "0"), ("Ä", "x")]
    for scope, value in reversed(wanted):
        await operations.admit(named(value, scope=scope))
        await operations.admit(named(value, scope=scope, tenant_id="other"))

    first = await operations.list_operations("acme", limit=2)
    rest = await operations.list_operations("acme", after=first[-1])

    assert [(info.scope, info.value) for info in first + rest] == wanted
    assert await operations.list_operations("acme", after=rest[-1]) == []
    assert await operations.list_operations("nobody") == []


async def test_operations_whose_holder_is_gone_are_listed_oldest_first(operations: Operations, clock: VirtualClock) -> None:
    await operations.admit(named("admitted"))
    await start(operations, named("late"), lease_for=3 * LEASE)
    await start(operations, named("unmarked"), lease_for=2 * LEASE)
    await crash_after_the_mark(operations, clock, named("again"), policy=Policy.IDEMPOTENT)
    await crash_after_the_mark(operations, clock, named("crashed"))
    await seal(operations, named("sealed"), token=await start(operations, named("sealed"), lease_for=1))

    first = await operations.list_elapsed("acme", limit=1)
    rest = await operations.list_elapsed("acme", after=first[-1])

    assert [(info.value, info.indeterminate) for info in first + rest] == [("again", False), ("crashed", True), ("unmarked", False)]
    clock.advance(LEASE)
    assert [info.value for info in await operations.list_elapsed("acme", after=rest[-1])] == ["late"]
    assert await operations.list_elapsed("other") == []


async def test_a_page_is_1_to_the_limit(operations: Operations) -> None:
    for limit in (0, limits.PAGE_MAX + 1):
        with pytest.raises(UsageError, match="limit"):
            await operations.list_operations("acme", limit=limit)
        with pytest.raises(UsageError, match="limit"):
            await operations.list_elapsed("acme", limit=limit)
    with pytest.raises(InvalidIdentifier):
        await operations.list_operations("no/tenant")

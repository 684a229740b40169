"""Contract 3: defects that are known of the seed's system, by their numbers, each with what holds here instead. Operations.

Some lie in parts without a counterpart here (sessions, conduits, connections); their tests are about what those were for.

Source: the list of defects in the research on operations.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from perdure.clock import VirtualClock
from perdure.core.access import Access
from perdure.core.signals import Signals
from perdure.core.view import View
from perdure.core.writer import Writer
from perdure.errors import (
    LeaseLost,
    PerdureError,
    StoreUnavailable,
    TransactionRefused,
)
from perdure.operations.contract import (
    Attached,
    Conflict,
    Expired,
    Failed,
    Indeterminate,
    OperationInfo,
    OperationState,
    Policy,
    Replay,
    Retry,
    SealedResponse,
    Started,
)
from perdure.operations.store import Operations
from perdure.operations.tables import OPERATION, OperationRow
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
from tests.core.memory import MemoryBackend

Reopen = Callable[[], Awaitable[Store]]
SEALED = SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


async def on_dictionaries(clock: VirtualClock) -> tuple[Operations, MemoryBackend, Writer]:
    backend, signals = MemoryBackend(clock=clock), Signals(clock)
    writer = Writer(backend, on_signals=signals.publish)
    await writer.start()
    return Operations(Access(writer, backend, signals, clock, os.urandom)), backend, writer


async def test_defect_02_an_answer_is_replayed_after_any_number_of_restarts(operations: Operations, reopen: Reopen) -> None:
    await seal(operations, token=await start(operations))

    for _ in range(3):
        operations = Operations((await reopen()).access)
        assert await begin(operations) == Replay(SEALED)


async def test_defect_03_a_restart_runs_no_pending_call_again(operations: Operations, reopen: Reopen, clock: VirtualClock) -> None:
    await operations.mark_started(CHARGE, await start(operations))

    operations = Operations((await reopen()).access)

    assert await begin(operations) == Attached()
    clock.advance(LEASE)
    assert await begin(operations) == Indeterminate()


async def test_defect_04_two_callers_may_use_one_id(operations: Operations) -> None:
    await seal(operations, named("1", scope="client a"))

    assert await operations.get_sealed(named("1", scope="client b")) is None
    assert await operations.get_sealed(named("1", scope="client a", tenant_id="other")) is None
    assert isinstance(await begin(operations, named("1", scope="client b")), Started)


async def test_defect_05_the_request_stays_bound_after_the_seal(operations: Operations) -> None:
    await seal(operations, token=await start(operations))

    assert await begin(operations, method="refund") == Conflict()
    assert await begin(operations, request_digest=OTHER_REQUEST) == Conflict()


async def test_defect_06_nobody_sees_an_answer_before_it_is_durable(clock: VirtualClock) -> None:
    operations, backend, writer = await on_dictionaries(clock)
    waiting = asyncio.create_task(operations.wait_sealed(CHARGE, LEASE))
    seen: list[bool] = []
    backend.before = lambda call: seen.append(waiting.done()) if call == "commit" else None

    await seal(operations)
    assert await waiting == SEALED
    assert seen == [False]

    def lost(call: str) -> None:
        if call == "commit":
            raise StoreUnavailable("the disk is gone")

    backend.before = lost
    waiting = asyncio.create_task(operations.wait_sealed(named("2"), LEASE))
    with pytest.raises(StoreUnavailable):
        await seal(operations, named("2"))
    assert not waiting.done()
    assert await operations.get_sealed(named("2")) is None
    waiting.cancel()
    backend.before = lambda _call: None
    await writer.close()


async def test_defect_07_looking_and_deciding_are_one(operations: Operations) -> None:
    verdicts = await asyncio.gather(*(begin(operations) for _ in range(50)))

    assert sum(isinstance(verdict, Started) for verdict in verdicts) == 1


class Insert(msgspec.Struct, frozen=True):
    row: OperationRow

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        key = OPERATION.key("acme", "checkout", "payment-1")
        assert view.get(key) is None
        view.insert(key, self.row)


@pytest.mark.parametrize(("state", "response"), [("sealed", None), ("admitted", b"x"), ("expired", b"x")])
async def test_defect_07_what_is_sealed_has_an_answer_and_nothing_else_has(store: Store, state: str, response: bytes | None) -> None:
    row = OperationRow(state=state, outcome="ok" if state == "sealed" else "", created_at=1, changed_at=1, response=response)

    with pytest.raises(TransactionRefused):
        await store.commit(Insert(row))


async def test_defect_08_an_idempotent_operation_is_tracked_like_any_other(operations: Operations, clock: VirtualClock) -> None:
    first = await start(operations, policy=Policy.IDEMPOTENT)
    assert await begin(operations, policy=Policy.IDEMPOTENT) == Attached()

    clock.advance(LEASE)
    second = await start(operations, policy=Policy.IDEMPOTENT)
    with pytest.raises(LeaseLost):
        await seal(operations, response=OTHER_ANSWER, token=first)
    await seal(operations, token=second)

    assert await begin(operations, policy=Policy.IDEMPOTENT) == Replay(SEALED)


async def test_defect_15_whoever_gives_up_cannot_make_the_operation_run_again(operations: Operations, clock: VirtualClock) -> None:
    token = await start(operations, policy=Policy.VOLATILE)
    await operations.mark_started(CHARGE, token)
    with pytest.raises(LeaseLost):
        await operations.remove(CHARGE)
    assert await begin(operations, policy=Policy.VOLATILE) == Attached()

    clock.advance(LEASE)

    assert await begin(operations, policy=Policy.VOLATILE) == Indeterminate()


@pytest.mark.parametrize("first", ["seal", "remove"])
async def test_defect_15_of_a_seal_and_a_removal_the_first_wins(operations: Operations, first: str) -> None:
    await seal(operations, named("other"))  # the first answer of a type takes another transaction for its schemas
    token = await start(operations, policy=Policy.VOLATILE)
    calls = [seal(operations, token=token), operations.remove(CHARGE, token=token)]

    outcomes = await asyncio.gather(*(calls if first == "seal" else reversed(calls)), return_exceptions=True)

    if first == "seal":
        assert outcomes == [None, None]
        assert await begin(operations, policy=Policy.VOLATILE) == Replay(SEALED)
    else:
        assert [type(outcome) for outcome in outcomes] == [type(None), LeaseLost]
        assert isinstance(await begin(operations, policy=Policy.VOLATILE), Started)


async def test_defect_16_answers_do_not_grow_for_ever_and_evicted_ids_are_known(operations: Operations, clock: VirtualClock) -> None:
    await seal(operations, token=await start(operations))
    await start(operations, named("live"), lease_for=2 * RETAIN)
    clock.advance(RETAIN)
    assert await operations.sweep(clock.now()) == 1

    info = await operations.find_operation(CHARGE)
    assert info is not None
    assert (info.state, info.response_bytes, info.retain_until) == (OperationState.EXPIRED, 0, None)
    assert await begin(operations) == Expired()
    assert await begin(operations, named("live")) == Attached()


async def test_defect_17_every_facade_over_a_store_sees_the_same_operations(store: Store) -> None:
    one, other = Operations(store.access), Operations(store.access)
    token = await start(one)

    assert await begin(other) == Attached()
    await seal(other, token=token)
    assert await begin(one) == Replay(SEALED)


async def test_defect_19_a_store_that_fails_says_so_in_every_call(operations: Operations, store: Store) -> None:
    await store.close()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: operations.admit(CHARGE),
        lambda: operations.lookup(CHARGE),
        lambda: operations.get_sealed(CHARGE),
        lambda: seal(operations),
        lambda: operations.remove(CHARGE),
        lambda: begin(operations),
        lambda: operations.mark_started(CHARGE, 1),
        lambda: operations.wait_sealed(CHARGE, 1),
        lambda: operations.resolve(CHARGE, Retry(), "ann"),
        lambda: operations.sweep(0),
        lambda: operations.find_operation(CHARGE),
        lambda: operations.list_operations("acme"),
        lambda: operations.list_elapsed("acme"),
        lambda: operations.schema_source().get_schema(RECEIPT.hash),
        lambda: operations.schema_source().closure(RECEIPT.hash),
    ]

    for call in calls:
        with pytest.raises(StoreUnavailable):
            await call()


async def history(operations: Operations, clock: VirtualClock) -> list[object]:
    """Return what every step of one long history answers."""
    seen: list[object] = []

    async def note(step: Awaitable[object]) -> None:
        try:
            answer = await step
        except PerdureError as error:
            answer = error.code
        seen.append("started" if isinstance(answer, Started) else answer)

    for policy in Policy:
        operation_id = named(policy)
        await note(operations.admit(operation_id))
        await note(begin(operations, operation_id, policy=policy))
        await note(operations.remove(operation_id))
        clock.advance(LEASE)
        await note(operations.remove(operation_id))
        for token in (1, None):
            await note(begin(operations, operation_id, policy=policy, method="other" if token else "charge"))
            await note(seal(operations, operation_id, token=token))
            clock.advance(LEASE)
        await note(begin(operations, operation_id, policy=policy, method="other"))
        await note(seal(operations, operation_id))
        await note(operations.sweep(clock.now() + RETAIN))
        await note(begin(operations, operation_id, policy=policy, method="other"))
    return seen


async def test_defect_21_there_is_one_meaning_on_every_backend(operations: Operations, clock: VirtualClock) -> None:
    other_clock = VirtualClock(clock.now())
    dictionaries, _, writer = await on_dictionaries(other_clock)

    assert await history(operations, clock) == await history(dictionaries, other_clock)

    await writer.close()


async def test_defect_22_tokens_grow_when_the_clock_goes_back(operations: Operations, clock: VirtualClock, reopen: Reopen) -> None:
    tokens = [await start(operations, named("1"))]
    clock.advance(-1000 * LEASE)
    tokens.append(await start(operations, named("2")))
    operations = Operations((await reopen()).access)
    tokens.append(await start(operations, named("3")))

    assert tokens == sorted(set(tokens))


async def test_defect_23_an_operation_can_be_listed_inspected_and_resolved(operations: Operations, clock: VirtualClock) -> None:
    created = clock.now()
    await crash_after_the_mark(operations, clock)
    [found] = await operations.list_elapsed("acme")
    assert found == await operations.find_operation(CHARGE)
    assert found == OperationInfo(
        tenant_id="acme",
        scope="checkout",
        value="payment-1",
        state=OperationState.ADMITTED,
        indeterminate=True,
        method="charge",
        policy=Policy.PERSISTENT,
        attempts=1,
        started=True,
        lease_expires_at=created + LEASE,
        outcome=None,
        response_bytes=0,
        actor="",
        created_at=created,
        changed_at=created,
        retain_until=None,
    )

    await operations.resolve(CHARGE, Failed(response=b'"no"'), "ann")

    assert await operations.list_elapsed("acme") == []
    [resolved] = await operations.list_operations("acme")
    assert (resolved.state, resolved.outcome, resolved.actor) == (OperationState.SEALED, "error", "ann")
    assert resolved.lease_expires_at is None
    assert (resolved.created_at, resolved.changed_at, resolved.retain_until) == (created, clock.now(), clock.now() + RETAIN)

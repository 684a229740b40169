"""Contract 3: the crash matrix, what a retry is told after a crash at each point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from perdure.clock import VirtualClock
from perdure.core.view import View
from perdure.errors import AlreadySealed, RejectedError
from perdure.operations.contract import Expired, Failed, Indeterminate, Policy, Replay, Sealed, SealedResponse, Started, Verdict
from perdure.operations.store import Operations
from perdure.operations.tables import OPERATION
from perdure.operations.writes import seal_in, sealed_of
from perdure.store import Store
from tests.contracts.operations import (
    ANSWER,
    CHARGE,
    LEASE,
    OTHER_ANSWER,
    RECEIPT,
    RECEIPT_SCHEMAS,
    RETAIN,
    begin,
    crash_after_the_mark,
    seal,
    start,
)

Reopen = Callable[[], Awaitable[Store]]


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


# "marked" is `mark_started`, which comes before the first effect.

RUN, AGAIN, UNSURE, DONE, GONE = Started, Started, Indeterminate, Replay, Expired
MATRIX: list[tuple[str, list[type[Verdict]]]] = [
    # crash point                          volatile idempotent persistent
    ("before the admission is committed", [RUN, RUN, RUN]),
    ("admitted, not marked", [RUN, RUN, RUN]),
    ("marked, before the effect", [UNSURE, RUN, UNSURE]),
    ("after the effect, before the seal", [UNSURE, AGAIN, UNSURE]),
    ("sealed, before the reply", [DONE, DONE, DONE]),
    ("after the reply, before it is acknowledged", [DONE, DONE, DONE]),
    ("after the eviction", [GONE, GONE, GONE]),
]
CELLS = [(point, policy, verdict) for point, verdicts in MATRIX for policy, verdict in zip(Policy, verdicts, strict=True)]


async def run_until(point: str, operations: Operations, clock: VirtualClock, policy: Policy) -> None:
    """Do what a holder does, up to the crash."""
    steps = [name for name, _ in MATRIX].index(point)
    if steps == 0:
        return
    token = await start(operations, policy=policy)
    if steps >= 2:
        await operations.mark_started(CHARGE, token)
    if steps >= 4:
        await seal(operations, token=token)
    if steps >= 6:
        clock.advance(RETAIN)
        await operations.sweep(clock.now())


@pytest.mark.parametrize(("point", "policy", "verdict"), CELLS, ids=[f"{point}-{policy}" for point, policy, _ in CELLS])
async def test_a_retry_is_told_what_the_crash_matrix_says(
    operations: Operations, reopen: Reopen, clock: VirtualClock, point: str, policy: Policy, verdict: type[Verdict]
) -> None:
    await run_until(point, operations, clock, policy)

    operations = Operations((await reopen()).access)
    clock.advance(LEASE)

    assert type(await begin(operations, policy=policy)) is verdict


async def test_a_probe_seals_what_was_left_indeterminate_exactly_once(operations: Operations, clock: VirtualClock) -> None:
    await crash_after_the_mark(operations, clock)
    found = [Sealed(response=answer, root_type=RECEIPT, registry=RECEIPT_SCHEMAS) for answer in (ANSWER, OTHER_ANSWER) * 10]

    outcomes = await asyncio.gather(
        *(operations.resolve(CHARGE, answer, f"probe-{n}") for n, answer in enumerate(found)), return_exceptions=True
    )

    verdict = await begin(operations)
    assert isinstance(verdict, Replay)
    assert [outcome is None for outcome in outcomes] == [answer.response == verdict.sealed.response for answer in found]
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {AlreadySealed}


class EffectAndSeal(msgspec.Struct, frozen=True):
    """An effect in the store itself, sealed with it: the fourth column."""

    fails: bool = False

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> bool:
        view.count("charges", 1)
        done = seal_in(view, OPERATION.key("acme", "checkout", "payment-1"), ANSWER)
        assert sealed_of(view, OPERATION.key("acme", "checkout", "payment-1")) is not None
        if self.fails:
            raise RejectedError("the process died here")
        return done


@pytest.mark.parametrize("admitted", [False, True])
async def test_an_effect_that_is_sealed_with_itself_happens_once(
    store: Store, operations: Operations, reopen: Reopen, admitted: bool
) -> None:
    if admitted:
        await operations.admit(CHARGE)
    with pytest.raises(RejectedError):
        await store.commit(EffectAndSeal(fails=True))
    assert await store.access.reader.counter("charges") == 0
    assert await operations.get_sealed(CHARGE) is None

    assert await store.commit(EffectAndSeal()) == (True,)

    store = await reopen()
    assert await store.access.reader.counter("charges") == 1
    operations = Operations(store.access)
    assert await begin(operations) == Replay(SealedResponse(response=ANSWER, root_type=None, codec="json"))
    with pytest.raises(AlreadySealed):
        await operations.resolve(CHARGE, Failed(response=ANSWER), "ann")

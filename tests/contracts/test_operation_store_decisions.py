"""Contract 3: the pure decisions, without a store."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.backend import Found
from perdure.core.view import View
from perdure.operations.contract import OperationState, OperationStore, Policy, Replay
from perdure.operations.courses import Course, course_of, is_held, topic_of
from perdure.operations.store import Operations
from perdure.operations.tables import OPERATION, OperationRow
from perdure.operations.writes import Begin, seal_in

NOW = 1_000
REQUEST, OTHER = b"r" * 32, b"o" * 32
KEY = OPERATION.key("acme", "checkout", "1")
START, ATTACH, REPLAY, INDETERMINATE, CONFLICT, EXPIRED = Course


def row(state: OperationState = OperationState.ADMITTED, **changes: object) -> OperationRow:
    """Return the row of an operation that was begun and whose lease has elapsed."""
    sealed = state is OperationState.SEALED
    begun: dict[str, object] = {
        "method": "charge",
        "request_digest": REQUEST,
        "policy": Policy.PERSISTENT,
        "token": 7,
        "lease_expires_at": NOW,
    }
    begun |= {"outcome": "ok", "codec": "json", "response": b"1"} if sealed else {}
    return OperationRow(state=state, created_at=1, changed_at=1, **{**begun, **changes})  # type: ignore[arg-type]


def course(found: OperationRow | None, *, method: str = "charge", digest: bytes = REQUEST, policy: Policy = Policy.PERSISTENT) -> Course:
    return course_of(found, method=method, request_digest=digest, policy=policy, now=NOW)


ADMITTED_ONLY = OperationRow(state=OperationState.ADMITTED, started=1, created_at=1, changed_at=1)
SEALED_ONLY = OperationRow(state=OperationState.SEALED, outcome="ok", codec="json", response=b"1", created_at=1, changed_at=1)
COURSES = [
    ("absent", None, START),
    ("leased", row(lease_expires_at=NOW + 1), ATTACH),
    ("leased, marked", row(lease_expires_at=NOW + 1, started=1), ATTACH),
    ("leased, idempotent", row(lease_expires_at=NOW + 1, policy=Policy.IDEMPOTENT), ATTACH),
    ("elapsed at this instant", row(lease_expires_at=NOW), START),
    ("elapsed, volatile", row(policy=Policy.VOLATILE), START),
    ("elapsed, marked, volatile", row(policy=Policy.VOLATILE, started=1), INDETERMINATE),
    ("elapsed, marked, persistent", row(started=1), INDETERMINATE),
    ("elapsed, marked, idempotent", row(policy=Policy.IDEMPOTENT, started=1), START),
    ("freed", row(lease_expires_at=None), START),
    ("admitted without a request", ADMITTED_ONLY, INDETERMINATE),
    ("admitted without a request, freed", msgspec.structs.replace(ADMITTED_ONLY, started=0), START),
    ("sealed", row(OperationState.SEALED), REPLAY),
    ("sealed with an error", row(OperationState.SEALED, outcome="error"), REPLAY),
    ("sealed without a request", SEALED_ONLY, REPLAY),
    ("expired", row(OperationState.EXPIRED), EXPIRED),
]


@pytest.mark.parametrize(("found", "expected"), [pytest.param(found, expected, id=name) for name, found, expected in COURSES])
def test_what_a_begin_comes_to(found: OperationRow | None, expected: Course) -> None:
    assert course(found) is expected


def test_an_operation_admitted_without_a_request_runs_if_the_first_request_is_idempotent() -> None:
    assert course(ADMITTED_ONLY, policy=Policy.IDEMPOTENT) is START


ROWS = st.builds(
    row,
    st.sampled_from([OperationState.ADMITTED, OperationState.SEALED, OperationState.EXPIRED]),
    policy=st.sampled_from(Policy),
    started=st.integers(0, 1),
    lease_expires_at=st.none() | st.integers(NOW - 2, NOW + 2),
)


@given(ROWS, st.sampled_from(Policy))
@settings(deadline=None)
def test_another_request_is_a_conflict_whatever_the_row(found: OperationRow, policy: Policy) -> None:
    assert course(found, method="refund", policy=policy) is CONFLICT
    assert course(found, digest=OTHER, policy=policy) is CONFLICT


@given(ROWS, st.sampled_from(Policy))
@settings(deadline=None)
def test_only_what_nobody_holds_and_what_cannot_happen_twice_is_started(found: OperationRow, policy: Policy) -> None:
    safe = not found.started or found.policy == Policy.IDEMPOTENT

    assert (course(found, policy=policy) is START) == (found.state == OperationState.ADMITTED and not is_held(found, NOW) and safe)


def test_the_row_of_an_engines_reply_needs_no_schema_no_request_and_no_lease() -> None:
    view = View(now=NOW, last_tick=0)
    view.load(Found(NOW, 0, [KEY], {}, []))

    assert seal_in(view, KEY, b"1")
    assert not seal_in(view, KEY, b"1")
    assert not seal_in(view, KEY, b"2", outcome="error")

    [change] = view.changes()
    assert change.row == OperationRow(state="sealed", outcome="ok", codec="json", created_at=NOW, changed_at=NOW, response=b"1")
    assert view.signals() == (topic_of(KEY),) == ("operation/acme/checkout/1",)


@pytest.mark.parametrize("state", [OperationState.SEALED, OperationState.EXPIRED])
def test_what_is_final_stays_whatever_is_sealed_over_it(state: OperationState) -> None:
    view = View(now=NOW, last_tick=0)
    view.load(Found(NOW, 0, [KEY], {KEY: (1, row(state, lease_expires_at=None))}, []))

    assert not seal_in(view, KEY, b"2")

    assert view.changes() == []
    assert view.signals() == ()


def test_a_decision_is_the_same_however_often_it_is_made() -> None:
    begin = Begin(key=KEY, method="charge", request_digest=REQUEST, policy=Policy.VOLATILE, lease_for=1, retain=0)
    view = View(now=NOW, last_tick=0)
    view.load(Found(NOW, 0, [KEY], {}, []))
    view.begin()

    first = begin.decide(view)
    changes = view.changes()
    view.rollback()

    assert begin.decide(view) == first
    assert view.changes() == changes


def test_a_replay_has_the_outcome() -> None:
    view = View(now=NOW, last_tick=0)
    view.load(Found(NOW, 0, [KEY], {KEY: (1, row(OperationState.SEALED, outcome="error"))}, []))
    verdict = Begin(key=KEY, method="charge", request_digest=REQUEST, policy=Policy.VOLATILE, lease_for=1, retain=0).decide(view)

    assert isinstance(verdict, Replay)
    assert verdict.sealed.outcome == "error"
    assert view.changes() == []


def test_the_facade_is_the_contract() -> None:
    contract: type[OperationStore] = Operations

    public = {name for name in vars(OperationStore) if not name.startswith("_")}
    assert public == {name for name in vars(contract) if not name.startswith("_")}

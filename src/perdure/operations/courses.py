"""What the row of an operation means, and what a `begin` comes to.

Source: contracts.md, "3. OperationStore".
"""

from __future__ import annotations

from enum import Enum, auto
from typing import assert_never

from perdure.clock import Micros
from perdure.core.table import Key
from perdure.operations.contract import OperationState, Policy, SealedResponse
from perdure.operations.tables import OperationRow
from perdure.schemas import TypeRef


class Course(Enum):
    """What a `begin` comes to."""

    START = auto()
    ATTACH = auto()
    REPLAY = auto()
    INDETERMINATE = auto()
    CONFLICT = auto()
    EXPIRED = auto()


def course_of(row: OperationRow | None, *, method: str, request_digest: bytes, policy: str, now: Micros) -> Course:
    """Return what a `begin` with this request comes to.

    Source: contracts.md, `begin`; the crash matrix that it names.
    """
    if row is None:
        return Course.START
    if row.method and (row.method, row.request_digest) != (method, request_digest):
        return Course.CONFLICT
    match OperationState(row.state):
        case OperationState.SEALED:
            return Course.REPLAY
        case OperationState.EXPIRED:
            return Course.EXPIRED
        case OperationState.ADMITTED:
            if is_held(row, now):
                return Course.ATTACH  # an idempotent one, too: safe to repeat is not safe to run twice at once
            return Course.INDETERMINATE if may_not_rerun(row, policy) else Course.START
        case OperationState.UNKNOWN:
            raise AssertionError("what is unknown has no row")
        case state:
            assert_never(state)


def is_held(row: OperationRow, now: Micros) -> bool:
    """Tell whether somebody has the right to work on an operation. At the very end of its lease, nobody has."""
    return row.lease_expires_at is not None and now < row.lease_expires_at


def may_not_rerun(row: OperationRow, policy: str) -> bool:
    """Tell whether an admitted operation that nobody holds may have had an effect that must not happen twice."""
    return bool(row.started) and (row.policy or policy) != Policy.IDEMPOTENT


def answer_in(row: OperationRow | None) -> SealedResponse | None:
    """Return the answer in a row; None when there is none."""
    if row is None or row.response is None:
        return None
    root_type = TypeRef(row.root_type) if row.root_type else None
    return SealedResponse(response=row.response, root_type=root_type, codec=row.codec, outcome="error" if row.outcome == "error" else "ok")


def topic_of(key: Key[OperationRow]) -> str:
    """Return the topic that is signalled when an operation is sealed."""
    return f"operation/{'/'.join(map(str, key.parts))}"

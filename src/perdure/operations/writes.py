"""Pure decisions about operations.

Source: contracts.md, "3. OperationStore".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.table import Key, Read, Scalar, Scan
from perdure.core.view import View
from perdure.errors import AlreadySealed, LeaseLost, OperationExpired, OperationNotFound
from perdure.operations.contract import (
    PASSING,
    Attached,
    Conflict,
    Expired,
    Indeterminate,
    OperationState,
    Outcome,
    Replay,
    SealedResponse,
    Started,
    Verdict,
)
from perdure.operations.courses import Course, answer_in, course_of, is_held, topic_of
from perdure.operations.tables import FORGETTING, OPERATION, RETENTION, SCHEMA, TOMBSTONE, OperationRow, SchemaRow, TombstoneRow
from perdure.schemas import Schema

replace = msgspec.structs.replace
ADMITTED, SEALED, EXPIRED = str(OperationState.ADMITTED), str(OperationState.SEALED), str(OperationState.EXPIRED)


# --- for transactions of other rooms -------------------------------------------------------------------


def admit(view: View, key: Key[OperationRow]) -> None:
    """Admit an operation that is absent; one that is admitted or sealed stays as it is.

    Raises:
        OperationExpired: its answer was evicted.
    """
    row = view.get(key)
    if row is None:
        # Whoever admits an operation does not say when its effect begins.
        view.insert(key, OperationRow(state=ADMITTED, started=1, created_at=view.now, changed_at=view.now))
    elif row.state == EXPIRED:
        raise _expired(key)


def seal_in(view: View, key: Key[OperationRow], response: bytes, *, outcome: str = "ok", codec: str = "json", root_type: str = "") -> bool:
    """Seal an operation in the transaction of its effects, and wake who waits for it.

    The caller's transaction is the fence: no token is asked for. No schema is stored: `root_type` names one that is
    stored already, or none.

    Args:
        view: the transaction's.
        key: of the operation, admitted or not.
        response: the answer.
        outcome: `error` when the answer is a failure.
        codec: what wrote the answer.
        root_type: the hash of its schema; empty for none.

    Returns:
        False when it was sealed or evicted before: the first answer stays, whatever this one is.
    """
    row = view.get(key)
    if row is None:
        now = view.now
        view.insert(
            key,
            OperationRow(
                state=SEALED, outcome=outcome, codec=codec, root_type=root_type, created_at=now, changed_at=now, response=response
            ),
        )
    elif row.state != ADMITTED:
        return False
    else:
        view.update(
            key,
            replace(
                row,
                state=SEALED,
                lease_expires_at=None,
                outcome=outcome,
                codec=codec,
                root_type=root_type,
                retain_until=None if row.retain is None else view.now + row.retain,
                changed_at=view.now,
                response=response,
            ),
        )
    view.signal(topic_of(key))
    return True


def sealed_of(view: View, key: Key[OperationRow]) -> SealedResponse | None:
    """Return the answer of a sealed operation, None for any other."""
    return answer_in(view.get(key))


def evict(view: View, key: Key[OperationRow], row: OperationRow) -> None:
    """Remove the answer of a sealed operation, and leave a tombstone."""
    tombstone = replace(row, state=EXPIRED, outcome="", codec="", root_type="", response=None, retain_until=None, changed_at=view.now)
    view.update(key, tombstone)


# --- writes ---------------------------------------------------------------------------------------------------


class _OnOperation(msgspec.Struct, frozen=True, kw_only=True):
    key: Key[OperationRow]

    def reads(self) -> Iterable[Read]:
        """Name the operation."""
        yield self.key


class Admit(_OnOperation, frozen=True, kw_only=True):
    """Admit an operation if it is unknown."""

    def decide(self, view: View) -> None:
        """See `admit`."""
        admit(view, self.key)


class Begin(_OnOperation, frozen=True, kw_only=True):
    """Look and decide at once; the arguments are those of `OperationStore.begin`."""

    method: str
    request_digest: bytes
    policy: str
    lease_for: Micros
    retain: Micros

    def decide(self, view: View) -> Verdict:
        """Take the lease if the operation may run, and return the verdict."""
        row = view.get(self.key)
        match course_of(row, method=self.method, request_digest=self.request_digest, policy=self.policy, now=view.now):
            case Course.START:
                return self._start(view, row)
            case Course.ATTACH:
                return Attached()
            case Course.REPLAY:
                sealed = answer_in(row)
                assert sealed is not None, f"{_named(self.key)} is sealed and has an answer"
                return Replay(sealed)
            case Course.INDETERMINATE:
                assert row is not None, "what is unknown is started"
                if not row.method:
                    view.update(self.key, replace(self._bound(row), changed_at=view.now))
                return Indeterminate()
            case Course.CONFLICT:
                return Conflict()
            case Course.EXPIRED:
                return Expired()
            case course:
                assert_never(course)

    def _bound(self, row: OperationRow) -> OperationRow:
        if row.method:
            return row
        return replace(row, method=self.method, request_digest=self.request_digest, policy=self.policy, retain=self.retain)

    def _start(self, view: View, row: OperationRow | None) -> Started:
        bound = self._bound(OperationRow(state=ADMITTED, created_at=view.now, changed_at=view.now) if row is None else row)
        token = view.tick()
        started = replace(bound, token=token, lease_expires_at=view.now + self.lease_for, attempts=bound.attempts + 1, changed_at=view.now)
        if row is None:
            view.insert(self.key, started)
        else:
            view.update(self.key, started)
        return Started(token)


class MarkStarted(_OnOperation, frozen=True, kw_only=True):
    """Record that an effect may have happened from now on."""

    token: int

    def decide(self, view: View) -> None:
        """Write the mark, if the lease stands."""
        row = view.get(self.key)
        if row is not None and row.state == SEALED:
            raise AlreadySealed(f"{_named(self.key)} was sealed meanwhile; do not begin, its answer is in `get_sealed`")
        if row is not None and row.state == EXPIRED:
            raise _expired(self.key)
        # An elapsed lease is refused even if nobody took over: without the mark, whoever asks next runs it afresh.
        if row is None or row.token != self.token or not is_held(row, view.now):
            raise LeaseLost(f"{_named(self.key)}: the lease of token {self.token} has ended; do not begin with the effect")
        if not row.started:
            view.update(self.key, replace(row, started=1, changed_at=view.now))


class Remove(_OnOperation, frozen=True, kw_only=True):
    """Delete an admitted operation."""

    token: int | None

    def decide(self, view: View) -> None:
        """Delete it, unless it is final or somebody else's."""
        row = view.get(self.key)
        if row is None or row.state != ADMITTED:
            return
        _check_right(view, self.key, row, self.token)
        view.delete(self.key)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation is to be sealed with. `root_type` is empty for an answer without a type."""

    response: bytes
    outcome: Outcome
    codec: str
    root_type: str


class Seal(_OnOperation, frozen=True, kw_only=True):
    """Seal an operation together with the schemas of its answer.

    `schemas` are what its type reaches, verified. While the type's own schema is stored, with all that it reaches,
    they are not looked at, so they may be left out at first.
    """

    answer: Answer
    token: int | None
    schemas: tuple[Schema, ...] = ()

    def reads(self) -> Iterable[Read]:
        """Name the operation and the schemas."""
        yield self.key
        yield from _schema_keys(self.answer, self.schemas)

    def decide(self, view: View) -> bool:
        """Return True once it is sealed with this answer; False, with nothing changed, if it takes the schemas."""
        row = view.get(self.key)
        if row is None:
            if self.token is not None:
                raise LeaseLost(f"{_named(self.key)} was removed; the lease of token {self.token} went with it")
        elif _is_sealed_with(self.key, row, self.answer):
            return True
        else:
            _check_right(view, self.key, row, self.token)
        return _seal(view, self.key, self.answer, self.schemas)


class Resolve(_OnOperation, frozen=True, kw_only=True):
    """Say how an operation ended that nobody works on. Without an answer, it may start again. `schemas` as for `Seal`."""

    answer: Answer | None
    actor: str
    schemas: tuple[Schema, ...] = ()

    def reads(self) -> Iterable[Read]:
        """Name the operation and the schemas."""
        yield self.key
        if self.answer is not None:
            yield from _schema_keys(self.answer, self.schemas)

    def decide(self, view: View) -> bool:
        """Return True once it is resolved; False, with nothing changed, if it takes the schemas."""
        row = view.get(self.key)
        if row is None:
            raise OperationNotFound(f"{_named(self.key)} is unknown; `begin` starts it")
        if _is_sealed_with(self.key, row, self.answer):
            return True
        if is_held(row, view.now):
            raise LeaseLost(
                f"{_named(self.key)} is worked on until {row.lease_expires_at}; wait for its answer or for the end of the lease"
            )
        if self.answer is not None:
            done = _seal(view, self.key, self.answer, self.schemas)
            if done:
                view.update(self.key, replace(_present(view, self.key), actor=self.actor))
            return done
        # Without the token, what the last holder says later does not count.
        freed = replace(row, token=0, lease_expires_at=None, started=0, actor=self.actor, changed_at=view.now)
        view.update(self.key, freed)
        return True


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Evict one page of answers whose retention is over at `now`, behind the place `after`."""

    now: Micros
    after: tuple[Scalar, ...] | None = None

    def _scan(self) -> Scan[OperationRow]:
        return Scan(RETENTION, (), limits.READ_PAGE, self.after, (self.now,))

    def reads(self) -> Iterable[Read]:
        """Name the page."""
        yield self._scan()

    def decide(self, view: View) -> tuple[int, tuple[Scalar, ...] | None]:
        """Leave tombstones; return how many, and the place to go on from, None at the end."""
        rows = view.scan(self._scan())
        for key, row in rows:
            evict(view, key, row)
            tombstone = TOMBSTONE.key(*key.parts)
            if str(key.parts[1]).startswith(PASSING) and view.get(tombstone) is None:
                view.insert(tombstone, TombstoneRow(view.now + limits.IDEMPOTENCY_KNOWN_US))
        return len(rows), RETENTION.order_of(rows[-1][0].parts, rows[-1][1]) if len(rows) == limits.READ_PAGE else None


class Forget(msgspec.Struct, frozen=True, kw_only=True):
    """Remove one page of operations whose tombstones are over at `now`."""

    now: Micros

    def _scan(self) -> Scan[TombstoneRow]:
        return Scan(FORGETTING, (), limits.READ_PAGE, upto=(self.now,))

    def reads(self) -> Iterable[Read]:
        """Name the page."""
        yield self._scan()

    def decide(self, view: View) -> int:
        """Remove operations and tombstones, and return how many; less than a page is the end."""
        rows = view.scan(self._scan())
        for tombstone, _ in rows:
            key = OPERATION.key(*tombstone.parts)
            row = view.get(key)
            if row is not None and row.state == EXPIRED:
                view.delete(key)
            view.delete(tombstone)
        return len(rows)


# --- inside -----------------------------------------------------------------------------------------------------


def _schema_keys(answer: Answer, schemas: tuple[Schema, ...]) -> Iterable[Key[SchemaRow]]:
    if answer.root_type:
        yield SCHEMA.key(answer.root_type)
    for schema in schemas:
        yield SCHEMA.key(schema.hash)


def _seal(view: View, key: Key[OperationRow], answer: Answer, schemas: tuple[Schema, ...]) -> bool:
    if answer.root_type and view.get(SCHEMA.key(answer.root_type)) is None:
        if not schemas:
            return False
        for schema in schemas:
            if view.get(SCHEMA.key(schema.hash)) is None:
                view.insert(SCHEMA.key(schema.hash), SchemaRow(schema.document))
        assert view.get(SCHEMA.key(answer.root_type)) is not None, "the schemas that come along hold the root"
    return seal_in(view, key, answer.response, outcome=answer.outcome, codec=answer.codec, root_type=answer.root_type)


def _is_sealed_with(key: Key[OperationRow], row: OperationRow, answer: Answer | None) -> bool:
    """Tell whether an operation has this very answer; raise when it has another one, or had one."""
    if row.state == EXPIRED:
        raise _expired(key)
    if row.state != SEALED:
        return False
    if answer is None or (row.response, row.outcome, row.codec, row.root_type) != (
        answer.response,
        answer.outcome,
        answer.codec,
        answer.root_type,
    ):
        raise AlreadySealed(f"{_named(key)} has another answer already, which is final; read it with `get_sealed`")
    return True


def _check_right(view: View, key: Key[OperationRow], row: OperationRow, token: int | None) -> None:
    if token is None:
        if is_held(row, view.now):
            raise LeaseLost(f"{_named(key)} is leased until {row.lease_expires_at}; pass the token that `begin` gave")
    elif token != row.token:
        raise LeaseLost(f"{_named(key)}: token {token} is stale; whoever took over goes on with it")


def _present(view: View, key: Key[OperationRow]) -> OperationRow:
    row = view.get(key)
    assert row is not None, f"{_named(key)} is there"
    return row


def _expired(key: Key[OperationRow]) -> OperationExpired:
    return OperationExpired(f"{_named(key)}: its answer was evicted when its retention was over; a new request needs a new id")


def _named(key: Key[OperationRow]) -> str:
    return f"operation {'/'.join(map(str, key.parts))}"

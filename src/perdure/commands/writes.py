"""Pure decisions about commands.

Source: contracts.md, "2. CommandRegistry"; commands.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from perdure import limits
from perdure.clock import Micros, text_of
from perdure.commands.contract import (
    CommandError,
    CommandMetadata,
    DeploymentModel,
    Progress,
    Renewal,
)
from perdure.commands.queueing import (
    PARAMS,
    RESULT,
    Apart,
    Ended,
    blob_of,
    cancelled,
    check_transition,
    failed_attempt,
    held_by,
    holder_of,
    make_ready,
    noted,
    over,
    present,
    put_body,
    replace,
    save,
    settle_due,
)
from perdure.commands.states import TERMINAL, CommandState
from perdure.commands.tables import (
    BODY,
    COMMAND,
    COMMAND_KEY,
    DUE_ALL,
    DUE_QUEUE,
    EVENTS,
    OVER,
    PUSH_ENDPOINT,
    READY_ALL,
    READY_NAMED,
    BodyRow,
    CommandKeyRow,
    CommandRow,
    PushEndpointRow,
    ReadyRow,
)
from perdure.core.table import Key, Read, Scalar, Scan
from perdure.core.view import View
from perdure.errors import DeadlinePassed, IdempotencyConflict, IllegalTransition, StaleLease
from perdure.identity import TenantId

_NUMBERED: Final = "~"


class NewCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command before it is created. `delay` counts from then on, `deadline` is an instant; `digest` is of its params."""

    tenant_id: str
    command_id: str
    deployment_id: str
    target: str
    name: str
    state: CommandState
    params: BodyRow | None
    request_size: int | None
    retry: bytes
    priority: int = 0
    delay: Micros = 0
    deadline: Micros | None = None
    traceparent: str = ""
    idempotency_key: str = ""
    digest: bytes = b""
    actor: str = ""
    detail: str = ""

    @property
    def key(self) -> Key[CommandRow]:
        """The key of its row."""
        return COMMAND.key(self.tenant_id, self.command_id)

    def endpoints(self) -> Iterable[Key[PushEndpointRow]]:
        """Return the keys of the endpoints that it may be sent to, in the order in which they are asked for."""
        yield PUSH_ENDPOINT.key(self.tenant_id, self.deployment_id, self.target)
        if self.target:
            yield PUSH_ENDPOINT.key(self.tenant_id, self.deployment_id, "")


def _endpoint_of(view: View, new: NewCommand) -> str | None:
    """Return the target of the endpoint that a command is sent to; None when workers ask for it."""
    for key in new.endpoints():
        row = view.get(key)
        if row is not None and row.enabled:
            return str(key.parts[2])
    return None


def create(view: View, new: NewCommand, *, ended: Ended, apart: Apart) -> CommandRow:
    """Create a command in somebody's transaction and return its row. A deadline that has passed ends it at once."""
    endpoint = _endpoint_of(view, new)
    row = CommandRow(
        deployment_id=new.deployment_id,
        target=new.target,
        name=new.name,
        model=DeploymentModel.PULL if endpoint is None else DeploymentModel.PUSH,
        endpoint=endpoint or "",
        retry=new.retry,
        priority=new.priority,
        tick=view.tick(),
        created_at=view.now,
        deadline=new.deadline,
        traceparent=new.traceparent,
        idempotency_key=new.idempotency_key,
        state=new.state,
        available_at=view.now + new.delay,
        ready=int(new.state == CommandState.PENDING and not new.delay),
        request_size=new.request_size,
    )
    if new.params is not None:
        put_body(view, BODY.key(*new.key.parts, PARAMS), new.params, apart=apart)
    row = noted(view, new.key, row, "created", actor=new.actor, detail=new.detail)
    if new.deadline is not None and new.deadline <= view.now:
        error = CommandError(code="command-expired", message="its deadline had passed when it was created")
        row = over(view, new.key, noted(view, new.key, row, "expired"), CommandState.EXPIRED, ended=ended, error=error)
    return save(view, new.key, None, row)


class Create(msgspec.Struct, frozen=True, kw_only=True):
    """Create a command, once for its idempotency key."""

    new: NewCommand
    ended: Ended
    apart: Apart

    @property
    def _key(self) -> Key[CommandKeyRow]:
        new = self.new
        return COMMAND_KEY.key(new.tenant_id, new.deployment_id, new.target, new.name, new.idempotency_key)

    def reads(self) -> Iterable[Read]:
        """Name the command, its key, and where it may be sent."""
        yield self.new.key
        yield from self.new.endpoints()
        if self.new.idempotency_key:
            yield self._key

    def decide(self, view: View) -> CommandMetadata:
        """Return the command that there is now."""
        new = self.new
        if new.idempotency_key:
            made = view.get(self._key)
            if made is not None:
                return self._made_before(view, made)
            view.insert(self._key, CommandKeyRow(new.command_id, new.digest))
        if new.deadline is not None and new.deadline <= view.now:
            raise DeadlinePassed(f"deadline: {text_of(new.deadline)} is not in the future; it is {text_of(view.now)}")
        assert view.get(new.key) is None, f"{new.command_id} is a new name"
        row = create(view, new, ended=self.ended, apart=self.apart)
        return _metadata(new.key, row, duplicate=False)

    def _made_before(self, view: View, made: CommandKeyRow) -> CommandMetadata:
        if made.digest != self.new.digest:
            raise IdempotencyConflict(
                f"idempotency key {self.new.idempotency_key!r} has made command {made.command_id} of other params; a new request needs a new key"
            )
        key = COMMAND.key(self.new.tenant_id, made.command_id)
        return _metadata(key, present(view, key), duplicate=True)


def _metadata(key: Key[CommandRow], row: CommandRow, *, duplicate: bool) -> CommandMetadata:
    return CommandMetadata(
        command_id=str(key.parts[1]),
        deployment_model=DeploymentModel(row.model),
        tenant_id=TenantId(str(key.parts[0])),
        state=CommandState(row.state),
        duplicate=duplicate,
    )


class _OnCommand(msgspec.Struct, frozen=True, kw_only=True):
    key: Key[CommandRow]

    def reads(self) -> Iterable[Read]:
        """Name the command."""
        yield self.key


class SetParams(_OnCommand, frozen=True, kw_only=True):
    """Give a command its params."""

    params: BodyRow
    actor: str
    apart: Apart

    def decide(self, view: View) -> None:
        """Store them, and let it wait for a worker."""
        row = present(view, self.key)
        if row.state != CommandState.PENDING_UPLOAD:
            if view.get(BODY.key(*self.key.parts, PARAMS)) == self.params:
                return
            raise IllegalTransition(f"command {self.key.parts[1]!s}: it is {row.state}, and its params are what they are")
        put_body(view, BODY.key(*self.key.parts, PARAMS), self.params, apart=self.apart)
        after = noted(view, self.key, replace(row, request_size=self.params.size), "uploaded", actor=self.actor)
        save(view, self.key, row, make_ready(view, after, at=max(row.available_at, view.now)))


class SetState(_OnCommand, frozen=True, kw_only=True):
    """Set a command's state."""

    state: CommandState
    dispatched_at: Micros | None
    completed_at: Micros | None
    response_size: int | None
    error: bytes | None
    actor: str
    ended: Ended

    def decide(self, view: View) -> None:
        """Set it, if it leads there."""
        row = present(view, self.key)
        if row.state == self.state:
            return
        check_transition(self.key, row, self.state)
        after = noted(view, self.key, row, "state-set", actor=self.actor, detail=f"{row.state} to {self.state}")
        after = replace(
            after,
            dispatched_at=row.dispatched_at if self.dispatched_at is None else self.dispatched_at,
            response_size=row.response_size if self.response_size is None else self.response_size,
            error=row.error if self.error is None else self.error,
        )
        if self.state in TERMINAL:
            after = over(view, self.key, after, self.state, ended=self.ended)
            after = after if self.completed_at is None else replace(after, completed_at=self.completed_at)
        elif self.state == CommandState.PENDING:
            after = make_ready(view, after, at=max(row.available_at, view.now))
        else:
            after = replace(
                after,
                state=self.state,
                ready=0,
                dispatched_at=view.now if self.dispatched_at is None else self.dispatched_at,
            )
        save(view, self.key, row, after)


class RaiseAttempt(_OnCommand, frozen=True, kw_only=True):
    """Raise the number of a command's attempt."""

    actor: str

    def decide(self, view: View) -> int:
        """Return the new number."""
        row = present(view, self.key)
        if row.state in TERMINAL:
            raise IllegalTransition(f"command {self.key.parts[1]!s}: it is {row.state}, and has no further attempt")
        after = noted(view, self.key, replace(row, attempt=row.attempt + 1), "attempt-raised", actor=self.actor)
        return save(view, self.key, row, after).attempt


# --- leases ---------------------------------------------------------------------------------------------


class Leased(msgspec.Struct, frozen=True):
    """A command that was given out, and its row as of then."""

    command_id: str
    row: CommandRow


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """Give out commands that wait. `hints` are those that were seen waiting, so that their rows are loaded with the batch."""

    tenant_id: str
    deployment_id: str
    target: str
    names: tuple[str, ...] | None
    max_leases: int
    lease_for: Micros
    worker: str
    ended: Ended
    hints: tuple[str, ...] = ()

    def reads(self) -> Iterable[Read]:
        """Name the heads of the queue, and what was seen there."""
        yield from self.heads()
        for command_id in self.hints:
            yield COMMAND.key(self.tenant_id, command_id)

    @property
    def _queue(self) -> tuple[str, str, str]:
        return self.tenant_id, self.deployment_id, self.target

    def heads(self) -> Iterable[Scan[ReadyRow]]:
        """Return what to look at for commands that may be given out."""
        if self.names is None:
            yield Scan(READY_ALL, self._queue, self.max_leases)
        else:
            for name in self.names:
                yield Scan(READY_NAMED, (*self._queue, name), self.max_leases)

    def decide(self, view: View) -> list[Leased] | None:
        """Do what is due in this queue, and give out its first commands; None when more is due than one transaction does."""
        due = view.scan(Scan(DUE_QUEUE, self._queue, limits.COMMAND_DUE_CHUNK, upto=(view.now,)))
        for key, _ in due:
            settle_due(view, key, ended=self.ended)
        if len(due) == limits.COMMAND_DUE_CHUNK:
            return None  # what waits next may be overdue
        found = [key for scan in self.heads() for key, _ in view.scan(scan)]
        taken: list[Leased] = []
        size = 0
        for ready in first_of(found, self.max_leases):
            command = COMMAND.key(self.tenant_id, ready.parts[6])
            row = present(view, command)
            size += _inline_size(row)
            if taken and size > limits.COMMAND_LEASE_BYTES_MAX:
                break
            taken.append(Leased(str(command.parts[1]), give_out(view, command, lease_for=self.lease_for, worker=self.worker)))
        return taken


def give_out(view: View, key: Key[CommandRow], *, lease_for: Micros, worker: str) -> CommandRow:
    """Give a command out, and return its row as of then."""
    row = present(view, key)
    given = replace(
        row,
        state=CommandState.DISPATCHED,
        ready=0,
        token=view.tick(),
        holder=1,
        lease_expires_at=view.now + lease_for,
        worker=worker,
        dispatched_at=view.now,
        progress=None,
    )
    return save(view, key, row, noted(view, key, given, "leased", actor=worker))


def _inline_size(row: CommandRow) -> int:
    """Return the bytes of a command's params that come with its lease, at most: what is larger than the limit is kept apart."""
    size = row.request_size or 0
    return size if size <= limits.COMMAND_PARAMS_MAX else 0


def first_of(found: Sequence[Key[ReadyRow]], count: int) -> list[Key[ReadyRow]]:
    """Return the first of what several looks at one queue have found."""
    return sorted(found, key=_place)[:count]


def _place(key: Key[ReadyRow]) -> tuple[Scalar, ...]:
    return key.parts[3:]


class Renew(_OnCommand, frozen=True, kw_only=True):
    """Extend a lease."""

    token: int
    lease_for: Micros
    progress: Progress | None

    def decide(self, view: View) -> Renewal:
        """Extend it, if it is the present one."""
        row = present(view, self.key)
        held_by(self.key, row, self.token)
        if row.deadline is not None and view.now >= row.deadline:
            raise StaleLease(f"command {self.key.parts[1]!s}: its deadline has passed; stop working on it")
        progress = row.progress if self.progress is None else msgspec.json.encode(self.progress)
        after = save(view, self.key, row, replace(row, lease_expires_at=view.now + self.lease_for, progress=progress))
        assert after.lease_expires_at is not None, "it was set"
        return Renewal(
            lease_expires_at=after.lease_expires_at,
            deadline=row.deadline,
            cancel_requested=bool(row.cancel_requested),
            reason=row.cancel_reason,
        )


class GiveBack(_OnCommand, frozen=True, kw_only=True):
    """Give a command back that was not done."""

    token: int
    delay: Micros
    error: str
    ended: Ended

    def decide(self, view: View) -> None:
        """Let it wait again, unless somebody wants it to stop."""
        row = present(view, self.key)
        held_by(self.key, row, self.token)
        after = noted(view, self.key, row, "released", actor=row.worker, detail=self.error)
        if row.cancel_requested:
            after = cancelled(view, self.key, after, ended=self.ended, detail="it was given back")
        else:
            after = replace(make_ready(view, after, at=view.now + self.delay), attempt=row.attempt + 1)
        save(view, self.key, row, after)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: in `SUCCEEDED` with a result, in `FAILED` with an error, or in `CANCELLED`."""

    state: CommandState
    result: BodyRow | None = None
    error: CommandError | None = None
    retryable: bool = False


class Complete(_OnCommand, frozen=True, kw_only=True):
    """Say how an attempt ended."""

    token: int
    ending: Ending
    ended: Ended
    apart: Apart
    least: Micros = 0

    def decide(self, view: View) -> bool:
        """Return whether it counts. Before `least` has passed, there is no further attempt."""
        row = present(view, self.key)
        if not row.holder and row.completed_by == self.token == row.token:
            return self._said_before(view, row)
        if row.state in TERMINAL:
            return False
        held_by(self.key, row, self.token)
        if row.deadline is not None and view.now >= row.deadline:
            error = CommandError(code="command-expired", message="it was completed after its deadline")
            after = noted(view, self.key, row, "expired", actor=row.worker)
            save(view, self.key, row, over(view, self.key, after, CommandState.EXPIRED, ended=self.ended, error=error))
            return False
        save(view, self.key, row, replace(self._end(view, row), completed_by=self.token))
        return True

    def _end(self, view: View, row: CommandRow) -> CommandRow:
        ending = self.ending
        if ending.state == CommandState.SUCCEEDED:
            row = noted(view, self.key, replace(row, error=None), "succeeded", actor=row.worker)
            return over(view, self.key, row, CommandState.SUCCEEDED, ended=self.ended, body=ending.result, apart=self.apart)
        assert ending.error is not None, "what is not done has a reason"
        if ending.state == CommandState.CANCELLED:
            if not row.cancel_requested:
                raise IllegalTransition(f"command {self.key.parts[1]!s}: nobody asked for it to stop; release it, or let it fail")
            return cancelled(view, self.key, row, ended=self.ended, actor=row.worker, detail=ending.error.message)
        if ending.retryable and row.cancel_requested:
            return cancelled(view, self.key, row, ended=self.ended, detail=f"attempt {row.attempt} failed: {ending.error.code}")
        if ending.retryable:
            row = noted(view, self.key, row, "attempt-failed", actor=row.worker, detail=ending.error.code)
        return failed_attempt(view, self.key, row, ending.error, retryable=ending.retryable, ended=self.ended, least=self.least)

    def _said_before(self, view: View, row: CommandRow) -> bool:
        if self.ending.state == CommandState.SUCCEEDED:
            return row.state == CommandState.SUCCEEDED and view.get(BODY.key(*self.key.parts, RESULT)) == self.ending.result
        if self.ending.state == CommandState.CANCELLED:
            return row.state == CommandState.CANCELLED
        stopped = self.ending.retryable and row.state == CommandState.CANCELLED
        return stopped or row.error == msgspec.json.encode(self.ending.error)


# --- people -----------------------------------------------------------------------------------------------


class Cancel(_OnCommand, frozen=True, kw_only=True):
    """Ask for a command not to be done."""

    reason: str
    actor: str
    ended: Ended

    def decide(self, view: View) -> CommandState:
        """Return its state after that."""
        row = present(view, self.key)
        if row.state in TERMINAL or (row.cancel_requested and row.holder):
            return CommandState(row.state)
        asked = replace(row, cancel_requested=1, cancel_reason=self.reason)
        if row.holder:
            after = noted(view, self.key, asked, "cancel-requested", actor=self.actor, detail=self.reason)
        else:
            after = cancelled(view, self.key, asked, ended=self.ended, actor=self.actor, detail=self.reason)
        return CommandState(save(view, self.key, row, after).state)


class Redrive(_OnCommand, frozen=True, kw_only=True):
    """Make a new command of one that was not done."""

    actor: str
    ended: Ended
    apart: Apart

    def decide(self, view: View) -> str:
        """Return the id of the new one."""
        row = present(view, self.key)
        if row.redriven_as:
            return row.redriven_as
        if row.state not in TERMINAL or row.state == CommandState.SUCCEEDED:
            raise IllegalTransition(f"command {self.key.parts[1]!s}: it is {row.state}; only one that was not done is driven again")
        tenant_id, command_id = map(str, self.key.parts)
        params = view.get(BODY.key(tenant_id, command_id, PARAMS))
        new = NewCommand(
            tenant_id=tenant_id,
            command_id=_next_name(command_id),
            deployment_id=row.deployment_id,
            target=row.target,
            name=row.name,
            state=CommandState.PENDING_UPLOAD if params is None and row.request_size is not None else CommandState.PENDING,
            params=params,
            request_size=row.request_size,
            retry=row.retry,
            priority=row.priority,
            traceparent=row.traceparent,
            actor=self.actor,
            detail=f"again, of {command_id}",
        )
        assert view.get(new.key) is None, f"{command_id} is driven again once"
        create(view, new, ended=self.ended, apart=self.apart)
        after = noted(view, self.key, replace(row, redriven_as=new.command_id, dead=0), "redriven", actor=self.actor, detail=new.command_id)
        save(view, self.key, row, after)
        return new.command_id


def _next_name(command_id: str) -> str:
    name, _, number = command_id.rpartition(_NUMBERED)
    return f"{name}{_NUMBERED}{int(number) + 1}" if name and number.isdigit() else f"{command_id}{_NUMBERED}2"


class RemoveOver(msgspec.Struct, frozen=True, kw_only=True):
    """Remove some commands that were over for `age`, with all that is kept of them; dead letters stay until people decide."""

    age: Micros
    apart: Apart

    def _scan(self, now: Micros) -> Scan[CommandRow]:
        return Scan(OVER, (), limits.SWEEP_COMMANDS, upto=(now - self.age,))

    def reads(self) -> Iterable[Read]:
        """Name nothing: the page depends on the time."""
        return ()

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many were removed, and whether there may be more."""
        rows = view.scan(self._scan(view.now))
        removed = sum(self._remove(view, key, row) for key, row in rows)
        return removed, len(rows) == limits.SWEEP_COMMANDS or removed < len(rows)

    def _remove(self, view: View, key: Key[CommandRow], row: CommandRow) -> bool:
        """Remove one, if what is left of its history fits into this transaction."""
        events = view.scan(Scan(EVENTS, key.parts, limits.SWEEP_CHUNK))
        for event, _ in events:
            view.delete(event)
        if len(events) == limits.SWEEP_CHUNK:
            return False
        named = COMMAND_KEY.key(key.parts[0], row.deployment_id, row.target, row.name, row.idempotency_key)
        for part in (PARAMS, RESULT):
            body = BODY.key(*key.parts, part)
            if (found := view.get(body)) is not None:
                view.delete(body)
                if (blob := blob_of(found)) is not None:
                    self.apart.let_go(view, holder_of(body), blob)
        if row.idempotency_key and view.get(named) is not None:
            view.delete(named)
        view.delete(key)
        return True


class ExpireDue(msgspec.Struct, frozen=True, kw_only=True):
    """Do what is due for some commands, the first ones."""

    now: Micros
    ended: Ended

    def reads(self) -> Iterable[Read]:
        """Name them."""
        yield Scan(DUE_ALL, (), limits.COMMAND_DUE_CHUNK, upto=(self.now,))

    def decide(self, view: View) -> int:
        """Return for how many."""
        due = [key for key, _ in view.scan(Scan(DUE_ALL, (), limits.COMMAND_DUE_CHUNK, upto=(min(self.now, view.now),)))]
        for key in due:
            settle_due(view, key, ended=self.ended)
        return len(due)

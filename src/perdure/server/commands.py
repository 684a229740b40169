"""Commands over HTTP: sending and following them, and the work of workers.

Source: commands.md.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.commands.contract import (
    Body,
    CommandFilter,
    CommandRegistry,
    CommandRetry,
    CommandStatus,
    Lease,
    Progress,
)
from perdure.commands.states import CommandState
from perdure.commands.wire import left_ms, outcome_of, ref_of
from perdure.errors import CommandNotFound, NotAllowed, RequestInvalid, StaleLease, UsageError
from perdure.headers import traceparent_of
from perdure.protocol.commands import (
    Cancellation,
    CommandHappening,
    CommandHistory,
    CommandList,
    CommandProblem,
    CommandView,
    Completed,
    CompleteRequest,
    DrivenAgain,
    LeasedCommand,
    LeaseRequest,
    Leases,
    Name,
    NewCommand,
    ProgressNote,
    ReleaseRequest,
    Renewed,
    RenewRequest,
    RetryPolicy,
    State,
    StateNow,
    WaitFor,
    nothing,
)
from perdure.protocol.processes import Limit
from perdure.protocol.text import PLACES_CURSOR, cursor
from perdure.server.doorkeeper import nothing_here
from perdure.server.messages import at
from perdure.server.route import Answer, Call, answer
from perdure.server.waiting import has_left, unless_over
from perdure.tokens.contract import WORK

_LEFT: Final = "the worker that asked for it has left"


class CommandQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait until it is over."""

    wait_ms: WaitFor = 0


class LeaseQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait for work when there is none."""

    wait_ms: WaitFor = 0


class CommandsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which commands, and which page of them; what is left out does not count."""

    deployment: Name | None = None
    target: Name | None = None
    command: Name | None = None
    state: State | None = None
    dead: bool | None = None
    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[str, cursor(PLACES_CURSOR)] | None = None


class HistoryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of a history."""

    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[int, msgspec.Meta(ge=1, le=limits.SEQUENCE_MAX, description="`next` of the page before.")] | None = None


# --- sending and following ------------------------------------------------------------------------------


async def send(call: Call) -> Answer:
    """Create a command; with `wait_ms`, answer once it is over."""
    new: NewCommand = call.body
    commands, clock = commands_of(call), call.engine.store.access.clock
    made = await commands.create_command(
        new.deployment,
        new.command,
        CommandState.PENDING_UPLOAD if new.upload else CommandState.PENDING,
        None if new.deadline_ms is None else clock.now() + new.deadline_ms * 1_000,
        tenant_id=call.tenant,
        target=new.target,
        params=None if new.upload else bytes(new.params),
        idempotency_key=_key(call),
        retry=_retry(new.retry),
        priority=new.priority,
        delay=new.delay_ms * 1_000,
        traceparent=traceparent_of(call.headers),
        actor=actor_of(call),
    )
    return answer(await _view(call, made.command_id, wait_ms=call.query.wait_ms), status=201)


async def show(call: Call) -> Answer:
    """Return a command as it stands; with `wait_ms`, once it is over."""
    return answer(await _view(call, call.parts["id"], wait_ms=call.query.wait_ms))


async def cancel(call: Call) -> Answer:
    """Ask for a command not to be done."""
    body: Cancellation = call.body
    command_id = call.parts["id"]
    state = await commands_of(call).cancel(command_id, tenant_id=call.tenant, reason=body.reason, actor=actor_of(call))
    return answer(StateNow(command_id=command_id, state=_state(state)))


async def redrive(call: Call) -> Answer:
    """Make a new command of one that was not done."""
    new_id = await commands_of(call).redrive(call.parts["id"], tenant_id=call.tenant, actor=actor_of(call))
    return answer(DrivenAgain(command_id=new_id))


async def history(call: Call) -> Answer:
    """Return what happened to a command."""
    after, limit = call.query.after, call.query.limit
    events = await commands_of(call).history(call.parts["id"], tenant_id=call.tenant, after=after, limit=limit)
    shown = [CommandHappening(at=at(one.at), kind=one.kind, attempt=one.attempt, actor=one.actor, detail=one.detail) for one in events]
    return answer(CommandHistory(events=shown, next=(after or 0) + len(shown) if len(shown) == limit else None))


async def listed(call: Call) -> Answer:
    """Return a page of commands."""
    query: CommandsQuery = call.query
    matching = CommandFilter(
        deployment_id=query.deployment,
        target=query.target,
        command=query.command,
        state=None if query.state is None else CommandState(query.state),
        dead=query.dead,
    )
    page = await commands_of(call).list_commands(tenant_id=call.tenant, matching=matching, after=query.after, limit=query.limit)
    return answer(CommandList(commands=[view_of(one, None) for one in page.commands], next=page.next))


async def _view(call: Call, command_id: str, *, wait_ms: int) -> CommandView:
    commands = commands_of(call)
    waited = await unless_over(call, commands.wait_command(command_id, wait_ms * 1_000, tenant_id=call.tenant))
    status = waited or await commands.get_command_status(command_id, tenant_id=call.tenant)
    if status is None:
        raise CommandNotFound(nothing_here())
    result = await commands.get_result(command_id, tenant_id=call.tenant) if status.state == CommandState.SUCCEEDED else None
    return view_of(status, result)


def view_of(status: CommandStatus, result: Body | None) -> CommandView:
    """Return a command as it goes over the wire."""
    progress = status.progress
    return CommandView(
        command_id=status.command_id,
        deployment=status.deployment_id,
        target=status.target,
        command=status.command,
        state=_state(status.state),
        attempt=status.attempt,
        failures=status.failures,
        max_attempts=status.max_attempts,
        priority=status.priority,
        created_at=at(status.created_at),
        available_at=at(status.available_at),
        dispatched_at=at(status.dispatched_at),
        completed_at=at(status.completed_at),
        deadline=at(status.deadline),
        worker=status.worker,
        progress=None if progress is None else ProgressNote(fraction=progress.fraction, note=progress.note),
        cancel_requested=status.cancel_requested,
        error=None if status.error is None else _problem(status.error),
        result=msgspec.Raw(result) if isinstance(result, bytes) else nothing(),
        result_blob=ref_of(result),
        dead=status.dead,
        redriven_as=status.redriven_as,
    )


class _Stored(CommandProblem, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error as a worker told it; of any other, all is shown as details."""


def _problem(error: msgspec.Raw) -> CommandProblem:
    try:
        return msgspec.json.decode(error, type=_Stored)
    except msgspec.ValidationError:  # it was set as it is, and may be any JSON
        return CommandProblem(code="failed", details=error)


# --- work ---------------------------------------------------------------------------------------------------


async def lease(call: Call) -> Answer:
    """Give a worker commands; with `wait_ms`, as soon as there are some."""
    body: LeaseRequest = call.body
    deployment, target = call.parts["deployment"], body.target or ""
    if not call.principal.may(WORK, deployment=deployment, target=target):
        raise NotAllowed(f"the token may not work for target {target!r} of deployment {deployment!r}")
    commands = commands_of(call)
    asked = commands.lease(
        deployment,
        tenant_id=call.tenant,
        target=body.target,
        names=body.names,
        max_leases=body.max_leases,
        lease_for=body.lease_ms * 1_000,
        wait=call.query.wait_ms * 1_000,
        worker=body.worker,
    )
    leases = await unless_over(call, asked) or []
    if leases and await has_left(call):  # nobody will work on them
        back = (commands.release(one.command_id, one.token, tenant_id=call.tenant, error=_LEFT) for one in leases)
        await asyncio.gather(*back, return_exceptions=True)
        leases = []
    now = call.engine.store.access.clock.now()
    return answer(Leases(leases=[_leased(one, now) for one in leases]))


def _leased(one: Lease, now: Micros) -> LeasedCommand:
    return LeasedCommand(
        command_id=one.command_id,
        token=one.token,
        attempt=one.attempt,
        command=one.command,
        target=one.target,
        params=msgspec.Raw(one.params) if isinstance(one.params, bytes) else nothing(),
        params_blob=ref_of(one.params),
        lease_ms=left_ms(one.lease_expires_at, now) or 0,
        deadline_ms=left_ms(one.deadline, now),
        traceparent=one.traceparent,
    )


async def renew(call: Call) -> Answer:
    """Extend a lease."""
    body: RenewRequest = call.body
    await check_work(call)
    progress = None if body.progress is None else Progress(fraction=body.progress.fraction, note=body.progress.note)
    renewal = await commands_of(call).renew(
        call.parts["id"], body.token, tenant_id=call.tenant, lease_for=body.lease_ms * 1_000, progress=progress
    )
    now = call.engine.store.access.clock.now()
    renewed = Renewed(
        lease_ms=left_ms(renewal.lease_expires_at, now) or 0,
        deadline_ms=left_ms(renewal.deadline, now),
        cancel_requested=renewal.cancel_requested,
        reason=renewal.reason,
    )
    return answer(renewed)


async def release(call: Call) -> Answer:
    """Take a command back that was not done."""
    body: ReleaseRequest = call.body
    await check_work(call)
    command_id = call.parts["id"]
    try:
        await commands_of(call).release(command_id, body.token, tenant_id=call.tenant, delay=body.delay_ms * 1_000, error=body.error)
    except StaleLease:
        if not await call.again():
            raise
        # It has no lease: this very request has given it back, before the server died.
    return answer(StateNow(command_id=command_id, state=await state_now(call)))


async def complete(call: Call) -> Answer:
    """Take in how an attempt ended."""
    body: CompleteRequest = call.body
    await check_work(call)
    command_id = call.parts["id"]
    try:
        outcome = outcome_of(body.outcome)
    except UsageError as error:
        raise RequestInvalid(str(error)) from None
    counted = await commands_of(call).complete(command_id, body.token, outcome, tenant_id=call.tenant)
    return answer(Completed(command_id=command_id, counted=counted, state=await state_now(call)))


async def check_work(call: Call) -> None:
    """Let a worker through to commands that are its own; others look like what is not there. Raises CommandNotFound."""
    found = await commands_of(call).get_command_metadata(call.parts["id"], tenant_id=call.tenant)
    if found is None or not call.principal.may(WORK, deployment=found.deployment_id, target=found.target or ""):
        raise CommandNotFound(nothing_here())


async def state_now(call: Call) -> State:
    """Return the state of the command that is asked for. Raises CommandNotFound."""
    found = await commands_of(call).get_command_metadata(call.parts["id"], tenant_id=call.tenant)
    if found is None:
        raise CommandNotFound(nothing_here())
    return _state(found.state)


# --- inside ------------------------------------------------------------------------------------------------


def _key(call: Call) -> str | None:
    """Return what makes the effect of a request one; the length keeps `a` with the key `b c` apart from `a b` with the key `c`."""
    name = call.principal.name
    return None if call.key is None else f"http {len(name)} {name} {call.key}"


def commands_of(call: Call) -> CommandRegistry:
    """Return the commands of the server's store."""
    return call.engine.store.commands


def actor_of(call: Call) -> str:
    """Return who asks, for the history."""
    return f"token {call.principal.name}"[: limits.ACTOR_MAX]


def _state(state: CommandState) -> State:
    name: Any = str(state)
    found: State = name
    return found


def _retry(policy: RetryPolicy | None) -> CommandRetry:
    if policy is None:
        return CommandRetry()
    return CommandRetry(
        max_attempts=policy.max_attempts,
        initial=policy.initial_ms / 1_000,
        factor=policy.factor,
        maximum=policy.maximum_ms / 1_000,
        jitter=policy.jitter,
        give_up_on=tuple(policy.give_up_on),
    )

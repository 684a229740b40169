"""The facade of contract 2: checks at the door, then one transaction or one read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.commands.arguments import (
    body_of,
    body_row,
    checked_command_id,
    checked_error,
    checked_filter,
    checked_instant,
    checked_line,
    checked_name,
    checked_names,
    checked_priority,
    checked_progress,
    checked_retry,
    checked_size,
    checked_span,
    checked_state,
    checked_target,
    checked_token,
    digest_of,
    ending_of,
)
from perdure.commands.contract import (
    DEFAULT_RETRY,
    EVERYTHING,
    LEASE_FOR,
    Body,
    CommandEnvelopeData,
    CommandEvent,
    CommandFilter,
    CommandMetadata,
    CommandOutcome,
    CommandPage,
    CommandRetry,
    CommandStatus,
    DeploymentModel,
    Lease,
    Progress,
    Renewal,
)
from perdure.commands.queueing import NOTHING_APART, PARAMS, RESULT, Apart, Ended, command_topic, held_by, no_command, nobody, queue_topic
from perdure.commands.states import TERMINAL, CommandState
from perdure.commands.tables import (
    BODY,
    COMMAND,
    COMMANDS,
    DUE_ALL,
    DUE_QUEUE,
    EVENTS,
    OF_DEPLOYMENT,
    CommandRow,
)
from perdure.commands.writes import (
    Cancel,
    Complete,
    Create,
    ExpireDue,
    GiveBack,
    Leased,
    NewCommand,
    RaiseAttempt,
    Redrive,
    Renew,
    SetParams,
    SetState,
    Take,
    first_of,
)
from perdure.core.access import Access
from perdure.core.table import Key, Scan
from perdure.errors import UsageError
from perdure.identity import DEFAULT_TENANT, TenantId, checked_count, checked_text, uuid7

PREFIX: Final = "cmd_"
_LEFT: Final = "whoever asked for it has left"
_CURSOR: Final = re.compile(r"([0-9]{1,19}):(.+)")


class Commands:
    """The commands of one open store; a `CommandRegistry`.

    Args:
        access: of the store.
        ended: called in each transaction that ends a command, so that whoever waits for it is told in the same one.
        apart: what keeps the blobs that they refer to.
    """

    def __init__(self, access: Access, *, ended: Ended = nobody, apart: Apart = NOTHING_APART) -> None:
        self._access = access
        self._ended = ended
        self._apart = apart

    # --- making and following -------------------------------------------------------------------------

    async def create_command(
        self,
        deployment_id: str,
        command_name: str,
        initial_state: CommandState = CommandState.PENDING,
        deadline: Micros | None = None,
        *,
        request_size_bytes: int | None = None,
        tenant_id: str = DEFAULT_TENANT,
        target: str | None = None,
        params: Body | None = None,
        idempotency_key: str | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: Micros = 0,
        traceparent: str = "",
        actor: str = "",
    ) -> CommandMetadata:
        """See `CommandRegistry.create_command`."""
        now = self._access.clock.now()
        body = None if params is None else body_row(params, what="params", limit=limits.COMMAND_PARAMS_MAX)
        size = checked_size(request_size_bytes, what="request_size_bytes")
        state = checked_state(initial_state)
        if state not in {CommandState.PENDING, CommandState.PENDING_UPLOAD}:
            raise UsageError(f"initial_state: expected PENDING or PENDING_UPLOAD, found {state}")
        if state == CommandState.PENDING_UPLOAD and body is not None:
            raise UsageError("initial_state: PENDING_UPLOAD is for params that come later, and these are here already")
        if body is not None and size not in {None, body.size}:
            raise UsageError(f"request_size_bytes: the params are {body.size} bytes, found {size}")
        new = NewCommand(
            tenant_id=TenantId(tenant_id),
            command_id=PREFIX + uuid7(now=now, randomness=self._access.randomness),
            deployment_id=checked_name(deployment_id, what="deployment_id"),
            target=checked_target(target),
            name=checked_name(command_name, what="command_name"),
            state=state,
            params=body,
            request_size=size if body is None else body.size,
            retry=checked_retry(retry),
            priority=checked_priority(priority),
            delay=checked_span(delay, what="delay", least=0, most=limits.COMMAND_DELAY_MAX_US),
            deadline=checked_instant(deadline, what="deadline"),
            traceparent=checked_line(traceparent, what="traceparent", limit=limits.TRACEPARENT_MAX),
            idempotency_key=_checked_key(idempotency_key),
            digest=digest_of(body, size),
            actor=checked_line(actor, what="actor", limit=limits.ACTOR_MAX),
        )
        return await self._access.writer.run(
            Create(new=new, ended=self._ended, apart=self._apart), size=0 if body is None else len(body.data or b"")
        )

    async def set_params(self, command_id: str, params: Body, *, tenant_id: str = DEFAULT_TENANT, actor: str = "") -> None:
        """See `CommandRegistry.set_params`."""
        body = body_row(params, what="params", limit=limits.COMMAND_PARAMS_MAX)
        actor = checked_line(actor, what="actor", limit=limits.ACTOR_MAX)
        write = SetParams(key=_key(tenant_id, command_id), params=body, actor=actor, apart=self._apart)
        await self._access.writer.run(write, size=len(body.data or b""))

    async def get_command_metadata(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> CommandEnvelopeData | None:
        """See `CommandRegistry.get_command_metadata`."""
        row = await self._access.reader.get(_key(tenant_id, command_id))
        if row is None:
            return None
        return CommandEnvelopeData(
            command_id=command_id,
            deployment_id=row.deployment_id,
            command=row.name,
            attempt=row.attempt,
            deadline=row.deadline,
            state=CommandState(row.state),
            deployment_model=DeploymentModel(row.model),
            target=row.target or None,
        )

    async def get_command_status(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> CommandStatus | None:
        """See `CommandRegistry.get_command_status`."""
        key = _key(tenant_id, command_id)
        row = await self._access.reader.get(key)
        return None if row is None else status_of(key, row)

    async def get_params(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> Body | None:
        """See `CommandRegistry.get_params`."""
        return body_of(await self._access.reader.get(BODY.key(*_key(tenant_id, command_id).parts, PARAMS)))

    async def get_result(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT) -> Body | None:
        """See `CommandRegistry.get_result`."""
        return body_of(await self._access.reader.get(BODY.key(*_key(tenant_id, command_id).parts, RESULT)))

    async def update_command_state(
        self,
        command_id: str,
        state: CommandState,
        *,
        dispatched_at: Micros | None = None,
        completed_at: Micros | None = None,
        response_size_bytes: int | None = None,
        error: msgspec.Raw | None = None,
        tenant_id: str = DEFAULT_TENANT,
        actor: str = "",
    ) -> None:
        """See `CommandRegistry.update_command_state`."""
        state = checked_state(state)
        if completed_at is not None and state not in TERMINAL:
            raise UsageError(f"completed_at: a command that becomes {state} is not completed")
        write = SetState(
            key=_key(tenant_id, command_id),
            state=state,
            dispatched_at=checked_instant(dispatched_at, what="dispatched_at"),
            completed_at=checked_instant(completed_at, what="completed_at"),
            response_size=checked_size(response_size_bytes, what="response_size_bytes"),
            error=checked_error(error),
            actor=checked_line(actor, what="actor", limit=limits.ACTOR_MAX),
            ended=self._ended,
        )
        await self._access.writer.run(write)

    async def increment_attempt(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, actor: str = "") -> int:
        """See `CommandRegistry.increment_attempt`."""
        write = RaiseAttempt(key=_key(tenant_id, command_id), actor=checked_line(actor, what="actor", limit=limits.ACTOR_MAX))
        return await self._access.writer.run(write)

    # --- work -------------------------------------------------------------------------------------------

    async def lease(
        self,
        deployment_id: str,
        *,
        tenant_id: str = DEFAULT_TENANT,
        target: str | None = None,
        names: Iterable[str] | None = None,
        max_leases: int = 1,
        lease_for: Micros = LEASE_FOR,
        wait: Micros = 0,
        worker: str = "",
    ) -> list[Lease]:
        """See `CommandRegistry.lease`."""
        take = Take(
            tenant_id=TenantId(tenant_id),
            deployment_id=checked_name(deployment_id, what="deployment_id"),
            target=checked_target(target),
            names=checked_names(names),
            max_leases=checked_count(max_leases, what="max_leases", most=limits.COMMAND_LEASES_MAX),
            lease_for=_checked_lease(lease_for),
            worker=checked_line(worker, what="worker", limit=limits.WORKER_MAX),
            ended=self._ended,
        )
        deadline = self._access.clock.now() + checked_span(wait, what="wait", least=0, most=limits.COMMAND_WAIT_US)
        topic = queue_topic(take.tenant_id, take.deployment_id, take.target)
        with self._access.signals.listen(topic) as listener:
            while True:
                due, leases = await self._unless_left(take)
                now = self._access.clock.now()
                if leases or now >= deadline:
                    return leases
                await listener.wait(deadline if due is None else min(deadline, max(due, now)))

    async def _unless_left(self, take: Take) -> tuple[Micros | None, list[Lease]]:
        """Return when something is due in a queue, and what was given out. Who is cancelled meanwhile leaves nothing behind.

        A commit that is under way cannot be called off: it is waited for, and what it has given out goes back.
        """
        taking = asyncio.ensure_future(self._take(take))
        taken: list[Leased] = []
        try:
            due, taken = await asyncio.shield(taking)
            return due, await self._leases(take.tenant_id, taken)
        except BaseException:
            await asyncio.wait((taking,))
            if not taking.cancelled() and taking.exception() is None:
                await self._give_back(take, taking.result()[1])
            raise

    async def _give_back(self, take: Take, taken: list[Leased]) -> None:
        back = (self.release(one.command_id, one.row.token, tenant_id=take.tenant_id, error=_LEFT) for one in taken)
        # What cannot be given back comes back by itself, at the end of its lease.
        await asyncio.gather(*back, return_exceptions=True)

    async def _take(self, take: Take) -> tuple[Micros | None, list[Leased]]:
        """Return when something is due in a queue, and what was given out. A look decides nothing: it spares empty transactions."""
        reader, now = self._access.reader, self._access.clock.now()
        due = await reader.scan(Scan(DUE_QUEUE, (take.tenant_id, take.deployment_id, take.target), 1))
        next_due = None if not due else int(due[0][0].parts[0] or 0)
        found = [key for scan in take.heads() for key, _ in await reader.scan(scan)]
        if not found and (next_due is None or next_due > now):
            return next_due, []
        hints = tuple(str(key.parts[6]) for key in first_of(found, take.max_leases))
        take = msgspec.structs.replace(take, hints=hints)
        while (taken := await self._access.writer.run(take)) is None:
            pass  # each time less is due
        return next_due if taken else now, taken  # somebody else was faster: what is due since then was not seen

    async def _leases(self, tenant_id: str, taken: list[Leased]) -> list[Lease]:
        if not taken:
            return []
        params = await self._access.reader.get_all([BODY.key(tenant_id, one.command_id, PARAMS) for one in taken])
        return [
            Lease(
                command_id=one.command_id,
                token=one.row.token,
                attempt=one.row.attempt,
                deployment_id=one.row.deployment_id,
                target=one.row.target or None,
                command=one.row.name,
                params=body_of(body),
                lease_expires_at=one.row.lease_expires_at or 0,
                deadline=one.row.deadline,
                traceparent=one.row.traceparent,
            )
            for one, body in zip(taken, params, strict=True)
        ]

    async def renew(
        self,
        command_id: str,
        token: int,
        *,
        tenant_id: str = DEFAULT_TENANT,
        lease_for: Micros = LEASE_FOR,
        progress: Progress | None = None,
    ) -> Renewal:
        """See `CommandRegistry.renew`."""
        write = Renew(
            key=_key(tenant_id, command_id),
            token=checked_token(token),
            lease_for=_checked_lease(lease_for),
            progress=checked_progress(progress),
        )
        return await self._access.writer.run(write)

    async def release(self, command_id: str, token: int, *, tenant_id: str = DEFAULT_TENANT, delay: Micros = 0, error: str = "") -> None:
        """See `CommandRegistry.release`."""
        write = GiveBack(
            key=_key(tenant_id, command_id),
            token=checked_token(token),
            delay=checked_span(delay, what="delay", least=0, most=limits.COMMAND_DELAY_MAX_US),
            error=checked_line(error, what="error", limit=limits.REASON_MAX),
            ended=self._ended,
        )
        await self._access.writer.run(write)

    async def check_lease(self, command_id: str, token: int, *, tenant_id: str = DEFAULT_TENANT) -> None:
        """See `CommandRegistry.check_lease`."""
        key = _key(tenant_id, command_id)
        row = await self._access.reader.get(key)
        if row is None:
            raise no_command(key)
        held_by(key, row, checked_token(token))

    async def complete(self, command_id: str, token: int, outcome: CommandOutcome, *, tenant_id: str = DEFAULT_TENANT) -> bool:
        """See `CommandRegistry.complete`."""
        ending = ending_of(outcome)
        write = Complete(key=_key(tenant_id, command_id), token=checked_token(token), ending=ending, ended=self._ended, apart=self._apart)
        return await self._access.writer.run(write, size=0 if ending.result is None else len(ending.result.data or b""))

    async def expire_due(self, now: Micros) -> int:
        """See `CommandRegistry.expire_due`."""
        write = ExpireDue(now=checked_span(now, what="now", least=0, most=limits.INSTANT_MAX), ended=self._ended)
        total = done = await self._access.writer.run(write)
        while done == limits.COMMAND_DUE_CHUNK:
            done = await self._access.writer.run(write)
            total += done
        return total

    async def next_due(self) -> Micros | None:
        """See `CommandRegistry.next_due`."""
        found = await self._access.reader.scan(Scan(DUE_ALL, (), 1))
        return None if not found else int(found[0][0].parts[0] or 0)

    # --- people -----------------------------------------------------------------------------------------

    async def cancel(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, reason: str = "", actor: str = "") -> CommandState:
        """See `CommandRegistry.cancel`."""
        write = Cancel(
            key=_key(tenant_id, command_id),
            reason=checked_line(reason, what="reason", limit=limits.REASON_MAX),
            actor=checked_line(actor, what="actor", limit=limits.ACTOR_MAX),
            ended=self._ended,
        )
        return await self._access.writer.run(write)

    async def redrive(self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, actor: str = "") -> str:
        """See `CommandRegistry.redrive`."""
        actor = checked_line(actor, what="actor", limit=limits.ACTOR_MAX)
        write = Redrive(key=_key(tenant_id, command_id), actor=actor, ended=self._ended, apart=self._apart)
        return await self._access.writer.run(write)

    async def wait_command(
        self,
        command_id: str,
        timeout: Micros,  # noqa: ASYNC109  # it is measured by the store's clock, which a test may drive
        *,
        tenant_id: str = DEFAULT_TENANT,
    ) -> CommandStatus:
        """See `CommandRegistry.wait_command`."""
        key, clock = _key(tenant_id, command_id), self._access.clock
        deadline = clock.now() + checked_span(timeout, what="timeout", least=0, most=limits.DURATION_MAX)
        with self._access.signals.listen(command_topic(key)) as listener:
            while True:
                row = await self._access.reader.get(key)
                if row is None:
                    raise no_command(key)
                if row.state in TERMINAL or clock.now() >= deadline:
                    return status_of(key, row)
                await listener.wait(deadline)

    async def history(
        self, command_id: str, *, tenant_id: str = DEFAULT_TENANT, after: int | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> list[CommandEvent]:
        """See `CommandRegistry.history`."""
        key = _key(tenant_id, command_id)
        place = None if after is None or after == 0 else (checked_count(after, what="after", most=limits.SEQUENCE_MAX) - 1,)
        scan = Scan(EVENTS, key.parts, checked_count(limit, what="limit", most=limits.PAGE_MAX), after=place)
        rows = await self._access.reader.scan(scan)
        if not rows and await self._access.reader.get(key) is None:
            raise no_command(key)
        return [CommandEvent(at=row.at, kind=row.kind, attempt=row.attempt, actor=row.actor, detail=row.detail) for _, row in rows]

    async def list_commands(
        self,
        *,
        tenant_id: str = DEFAULT_TENANT,
        matching: CommandFilter = EVERYTHING,
        after: str | None = None,
        limit: int = limits.PAGE_DEFAULT,
    ) -> CommandPage:
        """See `CommandRegistry.list_commands`."""
        tenant, limit = TenantId(tenant_id), checked_count(limit, what="limit", most=limits.PAGE_MAX)
        place, matching = None if after is None else _place(after), checked_filter(matching)
        found: list[CommandStatus] = []
        for _ in range(limits.LIST_ROWS_MAX // limits.READ_PAGE):
            if matching.deployment_id is None:
                scan = Scan(COMMANDS, (tenant,), limits.READ_PAGE, after=place, backwards=True)
            else:
                scan = Scan(OF_DEPLOYMENT, (tenant, matching.deployment_id), limits.READ_PAGE, after=place, backwards=True)
            rows = await self._access.reader.scan(scan)
            for key, row in rows:
                place = (row.tick, str(key.parts[1]))
                if _matches(matching, row):
                    found.append(status_of(key, row))
                if len(found) == limit:
                    return CommandPage(commands=found, next=_cursor(place))
            if len(rows) < limits.READ_PAGE:
                return CommandPage(commands=found, next=None)
        return CommandPage(commands=found, next=None if place is None else _cursor(place))


def _cursor(place: tuple[int, str]) -> str:
    return f"{place[0]}:{place[1]}"


def _place(cursor: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if found is None or int(found[1]) > limits.SEQUENCE_MAX:
        raise UsageError(f"after: {cursor!r:.{limits.REPR_MAX}} is no `next` of such a page")
    return int(found[1]), checked_command_id(found[2])


def _matches(matching: CommandFilter, row: CommandRow) -> bool:
    return (
        (matching.target is None or matching.target == row.target)
        and (matching.command is None or matching.command == row.name)
        and (matching.state is None or matching.state == row.state)
        and (matching.dead is None or matching.dead == bool(row.dead))
    )


def _key(tenant_id: str, command_id: str) -> Key[CommandRow]:
    return COMMAND.key(TenantId(tenant_id), checked_command_id(command_id))


def _checked_key(key: str | None) -> str:
    return "" if key is None else checked_text(key, what="idempotency_key", limit=limits.COMMAND_KEY_MAX)


def _checked_lease(lease_for: Micros) -> Micros:
    return checked_span(lease_for, what="lease_for", least=limits.COMMAND_LEASE_MIN_US, most=limits.COMMAND_LEASE_MAX_US)


def status_of(key: Key[CommandRow], row: CommandRow) -> CommandStatus:
    """Return a command as people see it."""
    return CommandStatus(
        command_id=str(key.parts[1]),
        tenant_id=str(key.parts[0]),
        deployment_id=row.deployment_id,
        target=row.target or None,
        command=row.name,
        deployment_model=DeploymentModel(row.model),
        state=CommandState(row.state),
        attempt=row.attempt,
        failures=row.failures,
        max_attempts=msgspec.json.decode(row.retry, type=CommandRetry).max_attempts,
        priority=row.priority,
        deadline=row.deadline,
        created_at=row.created_at,
        available_at=row.available_at,
        dispatched_at=row.dispatched_at,
        completed_at=row.completed_at,
        lease_expires_at=row.lease_expires_at,
        worker=row.worker,
        progress=None if row.progress is None else msgspec.json.decode(row.progress, type=Progress),
        cancel_requested=bool(row.cancel_requested),
        error=None if row.error is None else msgspec.Raw(row.error),
        request_size_bytes=row.request_size,
        response_size_bytes=row.response_size,
        dead=bool(row.dead),
        redriven_as=row.redriven_as or None,
        traceparent=row.traceparent,
    )

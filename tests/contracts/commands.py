"""Commands for the tests of contract 2, and what has to be true of a whole store of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from perdure import limits
from perdure.blob import Blob
from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandRegistry, CommandRetry, Failed, Lease
from perdure.commands.states import TERMINAL, CommandState
from perdure.commands.tables import COMMAND_EVENT, COMMANDS, DUE, EVENTS, PUSH_READY, READY
from perdure.core.table import Scan
from perdure.identity import DEFAULT_TENANT
from perdure.store import Store

Reopen = Callable[[], Awaitable[Store]]
LEASE = 60 * SECOND
MINUTE = 60 * SECOND
STEADY = CommandRetry(max_attempts=3, initial=1.0, factor=2.0, maximum=300.0, jitter=0.0)
LOOKS = 300_000
OOPS = Failed(code="oops", message="it broke", retryable=True)
HOPELESS = Failed(code="hopeless", message="it never will")
PENDING_UPLOAD, PENDING, DISPATCHED, SUCCEEDED, FAILED, EXPIRED, CANCELLED = CommandState


async def create(commands: CommandRegistry, name: str = "pick", **changes: Any) -> str:
    """Create a command for deployment `site`, and return its id."""
    made = await commands.create_command(changes.pop("deployment_id", "site"), name, **{"retry": STEADY, **changes})
    return made.command_id


async def kept_apart(store: Store, data: bytes, content_type: str = "text/csv") -> Blob:
    """Put bytes into the default tenant's blobs."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return await store.blobs.put(DEFAULT_TENANT, chunks(), content_type=content_type)


async def lease(commands: CommandRegistry, **changes: Any) -> list[Lease]:
    return await commands.lease(changes.pop("deployment_id", "site"), **{"worker": "w", **changes})


async def take(commands: CommandRegistry, **changes: Any) -> Lease:
    """Take the one command that waits."""
    [taken] = await lease(commands, **changes)
    return taken


async def bring_to(commands: CommandRegistry, state: CommandState, clock: VirtualClock, **changes: Any) -> str:
    """Create a command and bring it to a state, in the way it usually gets there."""
    if state == PENDING_UPLOAD:
        return await create(commands, initial_state=PENDING_UPLOAD, **changes)
    if state == EXPIRED:
        command_id = await create(commands, deadline=clock.now() + 1, **changes)
        clock.advance(1)
        await commands.expire_due(clock.now())
        return command_id
    command_id = await create(commands, **changes)
    if state == CANCELLED:
        await commands.cancel(command_id)
    elif state != PENDING:
        await commands.update_command_state(command_id, DISPATCHED)
        if state != DISPATCHED:
            await commands.update_command_state(command_id, state)
    return command_id


async def state_of(commands: CommandRegistry, command_id: str) -> CommandState:
    found = await commands.get_command_status(command_id)
    assert found is not None
    return found.state


async def kinds(commands: CommandRegistry, command_id: str) -> list[str]:
    return [event.kind for event in await commands.history(command_id, limit=limits.PAGE_MAX)]


async def waits_until(clock: VirtualClock, instant: int) -> None:
    """Let the loop run until somebody waits for this instant."""
    for _ in range(LOOKS):
        if any(when == instant and alarm.callback is not None for when, _, alarm in clock._alarms):
            return
        await asyncio.sleep(0)
    raise AssertionError(f"nobody waits until {instant}")


async def check(store: Store, *tenants: str) -> None:
    """Everything that follows from the commands of these tenants, who are all there are, is there, and nothing else."""
    reader, ready, due, events = store.access.reader, 0, 0, 0
    for tenant_id in tenants or (DEFAULT_TENANT,):
        rows = await reader.scan(Scan(COMMANDS, (tenant_id,), limits.LIST_ROWS_MAX))
        for key, row in rows:
            assert (row.completed_at is not None) == (row.state in TERMINAL), row
            assert (row.lease_expires_at is not None) == bool(row.holder), row
            assert not row.ready or row.state == PENDING, row
            if row.ready:
                ready += 1
                table, target = (PUSH_READY, row.endpoint) if row.model == "push" else (READY, row.target)
                place = (tenant_id, row.deployment_id, target, row.priority, row.available_at, row.tick, key.parts[1])
                found = await reader.get(table.key(*place))
                assert found is not None, f"{key.parts[1]!s} is in the queue"
                assert found.name == row.name
            times = [] if row.state in TERMINAL else [at for at in (row.deadline, row.lease_expires_at) if at is not None]
            if row.state == PENDING and not row.ready:
                times.append(row.available_at)
            assert row.due_at == min(times, default=None), row
            if row.due_at is not None:
                due += 1
                there = await reader.get(DUE.key(row.due_at, *key.parts))
                assert there is not None, f"{key.parts[1]!s} is among what is due"
                assert (there.deployment_id, there.target) == (row.deployment_id, row.target)
            numbers = [one.parts[2] for one, _ in await reader.scan(Scan(EVENTS, key.parts, limits.PAGE_MAX))]
            assert numbers == list(range(row.events)), f"the history of {key.parts[1]!s} has no gap"
            events += row.events
    assert await reader.count(READY) + await reader.count(PUSH_READY) == ready, "nobody else is in the queue"
    assert await reader.count(DUE) == due, "nothing else is due"
    assert await reader.count(COMMAND_EVENT) == events

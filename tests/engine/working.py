"""A shop whose processes give work to workers elsewhere, and a worker that a test holds in its hands."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from perdure import App, Engine, Process, limits
from perdure.clock import SECOND
from perdure.commands.contract import CommandOutcome, CommandRetry, CommandStatus, Lease, Succeeded
from perdure.commands.states import CommandState
from perdure.core.table import Index, Scan
from perdure.engine import verification
from perdure.errors import CommandFailed
from perdure.messages.tables import AWAITED_REPLY, MESSAGE, MessageStatus
from perdure.store import Store
from tests.contracts.commands import check
from tests.engine.orders import eventually

DONE = Succeeded(result=b"1")
ONCE = CommandRetry(max_attempts=1)


class Picked(msgspec.Struct):
    shelf: str
    count: int


class Go(msgspec.Struct, tag="go"):
    pass


class Shop:
    """Its processes; `log` is what their code has come to, runs and replays alike."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.app = App("shop")

        @self.app.process
        async def pick(p: Process, count: int) -> Picked:
            """Wait for the result of a command."""
            return await p.command("site", "pick", {"count": count}, result=Picked, target="arm")

        @self.app.process
        async def tries(p: Process, how: str) -> list[Any]:
            """Tell how a command failed."""
            deadline = timedelta(seconds=9) if how == "deadline" else None
            try:
                return ["done", await p.command("site", how, retry=ONCE, deadline=deadline)]
            except CommandFailed as error:
                return [type(error).__name__, error.error_code, str(error), error.details]

        @self.app.process
        async def later(p: Process) -> list[Any]:
            """Send two, do something else, then wait for one."""
            first, one = p.command_async("site", "one", result=int)
            second, _ = p.command_async("site", "two")
            self.log += [first, second]
            await p.receive(Go)
            return [await one, first, second]

        @self.app.process
        async def races(p: Process) -> list[Any]:
            """Whoever comes first."""
            index, value = await p.first(p.command("site", "slow"), p.command("site", "fast"), p.receive(Go))
            return [index, value]

        @self.app.process
        async def many(p: Process, count: int) -> list[int]:
            return list(await asyncio.gather(*(p.command("site", "one", number, result=int) for number in range(count))))

        self.pick, self.tries, self.later, self.races, self.many = pick, tries, later, races, many


async def work(engine: Engine, outcome: CommandOutcome = DONE, **changes: Any) -> Lease:
    """Take the next command, as soon as there is one, and end it."""
    taken = await take(engine, **changes)
    assert await engine.store.commands.complete(taken.command_id, taken.token, outcome)
    return taken


async def take(engine: Engine, **changes: Any) -> Lease:
    found: list[Lease] = []

    async def got() -> bool:
        found.extend(await engine.store.commands.lease("site", lease_for=600 * SECOND, worker="w", **changes))
        return bool(found)

    await eventually(got)
    return found[0]


async def commands_of(store: Store) -> list[CommandStatus]:
    """All there are, the oldest first."""
    return (await store.commands.list_commands(limit=1000)).commands[::-1]


async def comes_to(engine: Engine, command_id: str, state: CommandState) -> None:
    async def there() -> bool:
        found = await engine.store.commands.get_command_status(command_id)
        return found is not None and found.state == state

    await eventually(there)


async def awaited(store: Store) -> int:
    """Return how many replies somebody waits for."""
    return len(await store.access.reader.scan(Scan(Index(AWAITED_REPLY, "awaited_reply", order=AWAITED_REPLY.key_columns), (), 10)))


async def whole(engine: Engine) -> None:
    """Nothing is wrong in the store, and no mail is left: what nobody waits for has not come."""
    await check(engine.store)
    assert await verification.verify(engine.store) == []
    rows = await engine.store.access.reader.scan(Scan(Index(MESSAGE, "message", order=MESSAGE.key_columns), (), limits.READ_PAGE))
    assert [row for _, row in rows if row.status == MessageStatus.QUEUED] == []

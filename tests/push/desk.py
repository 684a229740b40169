"""An engine that pushes to a site on loopback, by a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from perdure import App, Engine, Store, VirtualClock, limits
from perdure.clock import SECOND
from perdure.commands.contract import CommandRetry, CommandStatus
from perdure.protocol.push import PushedCommand
from perdure.sending.targets import Allowed
from perdure.webhooks.secrets import PREFIX
from tests.sending.site import Site

LOOPBACK = Allowed(networks=("127.0.0.0/8",))
SECRET = PREFIX + "c2VzYW1lLXNlc2FtZS1zZXNhbWUtc2VzYW1l"
HOUR = 3_600 * SECOND
QUICK = 50_000  # microseconds, for what never answers
AT_ONCE = CommandRetry(max_attempts=3, initial=0)
LOOKS = 200_000


class Desk:
    """What a test holds."""

    def __init__(self, store: Store, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock

    async def send(self, name: str = "pick", *, deployment: str = "site", **options: Any) -> str:
        options = {"params": b'{"count":3}', "retry": AT_ONCE, **options}
        return (await self.store.commands.create_command(deployment, name, **options)).command_id

    async def status(self, command_id: str) -> CommandStatus:
        found = await self.store.commands.get_command_status(command_id)
        assert found is not None
        return found

    async def kinds(self, command_id: str) -> list[str]:
        return [event.kind for event in await self.store.commands.history(command_id, limit=limits.PAGE_MAX)]

    async def comes_to(self, command_id: str, *kinds: str) -> CommandStatus:
        """Wait until the history of a command is this one, and return its state."""
        found: list[str] = []
        for _ in range(LOOKS):
            found = await self.kinds(command_id)
            if tuple(found) == kinds:
                return await self.status(command_id)
            await asyncio.sleep(0)
        raise AssertionError(f"it never came to {kinds}, but to {found}")

    async def until(self, holds: Callable[[], object]) -> None:
        """Let the loop run until something holds."""
        for _ in range(LOOKS):
            if holds():
                return
            await self.store.access.reader.counter("")
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")

    async def rests(self) -> None:
        """Let whatever is under way come to its end: nobody is told when nothing happens."""
        for _ in range(50):
            await self.store.access.reader.counter("")
            await asyncio.sleep(0)


@asynccontextmanager
async def pushing(store: Store, allowed: Allowed | None = LOOPBACK) -> AsyncIterator[Engine]:
    async with Engine(store, App("desk"), push_allowed=allowed) as engine:
        yield engine


def pushed(request: bytes) -> tuple[dict[str, str], bytes, PushedCommand]:
    """Return the headers of what a site got, its body, and the command in it."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
    return {name.lower(): value for name, value in lines}, body, msgspec.json.decode(body, type=PushedCommand)


async def black_hole(*_: object) -> None:
    """Take a request, and never say anything."""
    await asyncio.Event().wait()


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a request, and break off."""
    writer.transport.abort()


def in_turn(*answers: bytes | Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return what answers with one after another; with the last one again and again."""
    left = list(answers)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = left.pop(0) if len(left) > 1 else left[0]
        if callable(now):
            await now(reader, writer)
        else:
            writer.write(now)
            await writer.drain()
            writer.close()

    return respond


def commands_at(site: Site) -> list[PushedCommand]:
    return [pushed(request)[2] for request in site.requests]

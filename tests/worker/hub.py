"""A server with commands, and workers that go by the same clock, which only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from perdure import App, CommandContext, CommandRetry, Engine, Store, VirtualClock, Worker, open_store
from perdure.clock import SECOND
from perdure.commands.contract import CommandStatus
from perdure.server.serving import serving

AT_ONCE = CommandRetry(initial=0)
LEASE = timedelta(seconds=60)
LOOKS = 20_000


class Hub:
    """What a test holds."""

    def __init__(self, store: Store, clock: VirtualClock, url: str) -> None:
        self.store = store
        self.clock = clock
        self.url = url

    def worker(self, **options: Any) -> Worker:
        options = {"deployment": "acme", "lease": LEASE, "clock": self.clock, "name": "w", **options}
        return Worker(self.url, **options)

    async def send(self, name: str, params: bytes = b"null", **options: Any) -> str:
        options = {"retry": AT_ONCE, **options}
        return (await self.store.commands.create_command("acme", name, params=params, **options)).command_id

    async def status(self, command_id: str) -> CommandStatus:
        found = await self.store.commands.get_command_status(command_id)
        assert found is not None
        return found

    async def over(self, command_id: str) -> CommandStatus:
        return await asyncio.wait_for(self.store.commands.wait_command(command_id, 10**12), 10)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop run until something holds; no time of the clock passes."""
        for _ in range(LOOKS):
            if holds():
                return
            await asyncio.sleep(0.0005)
        raise AssertionError("it never came to that")

    async def pass_time(self, holds: Callable[[], bool]) -> None:
        """Let a second of the clock pass again and again, with time for requests in between, until something holds."""
        for _ in range(LOOKS):
            if holds():
                return
            self.clock.advance(SECOND)
            await asyncio.sleep(0.01)
        raise AssertionError("it never came to that")

    async def others_are_served(self) -> None:
        """Let another worker do a few commands: by then, whoever asked for one that was there has got it."""
        worker = self.worker(deployment="others")

        @worker.command("other")
        async def other(_context: CommandContext) -> None:
            return None

        async with at_work(worker):
            for _ in range(5):
                made = await self.store.commands.create_command("others", "other")
                await self.over(made.command_id)

    @asynccontextmanager
    async def at_work(self, worker: Worker) -> AsyncIterator[None]:
        """Let a worker work, and stop it while time passes."""
        working = asyncio.create_task(worker.work())
        try:
            yield
        finally:
            worker.stop()
            await self.pass_time(working.done)
            await working

    async def until_status(self, command_id: str, holds: Callable[[CommandStatus], bool]) -> CommandStatus:
        for _ in range(LOOKS):
            found = await self.status(command_id)
            if holds(found):
                return found
            await asyncio.sleep(0.0005)
        raise AssertionError(f"it never came to that: {found}")

    async def kinds(self, command_id: str) -> list[str]:
        return [event.kind for event in await self.store.commands.history(command_id)]


@asynccontextmanager
async def hub_on(clock: VirtualClock, *, dev: bool = True) -> AsyncIterator[Hub]:
    async with (
        open_store("sqlite:///:memory:", clock=clock) as store,
        Engine(store, App("none")) as engine,
        serving(engine, dev=dev) as server,
    ):
        yield Hub(store, clock, server.url)


@asynccontextmanager
async def at_work(*workers: Worker) -> AsyncIterator[None]:
    """Let workers work, and stop them."""
    tasks = [asyncio.create_task(worker.work()) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

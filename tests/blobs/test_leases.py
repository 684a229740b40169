"""Large params and results within the lease of their attempt. Source: the research on commands, C14 and C16; commands.md, "Worker"."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Store, VirtualClock, limits
from perdure.client.client import Client
from perdure.client.connection import _Request
from perdure.worker.context import CommandContext
from perdure.worker.worker import Worker
from tests.blobs.bytes import noise, put, rows
from tests.blobs.serving import served, working

MINUTE = 60 * 1_000_000
LARGE = noise(2 * limits.MIB)


class Held:
    """Holds the requests of one kind until a test lets them go on, and counts all."""

    def __init__(self, worker: Worker, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held, self.go_on, self.renewed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        begin = worker.connection._begin

        async def held(request: _Request, token: str | None) -> Any:
            if f"{request.method} {request.path.rpartition('/')[2]}" == what:
                self.held.set()
                await self.go_on.wait()
            answer = await begin(request, token)
            if request.path.endswith("/renew"):
                self.renewed.set()
            return answer

        monkeypatch.setattr(worker.connection, "_begin", held)


async def test_params_that_come_too_slowly_use_up_the_deadline_and_no_handler_runs(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, ran = await put(store, LARGE), []
    made = await store.commands.create_command("acme", "work", deadline=clock.now() + MINUTE, params=blob)
    async with served(store) as server:
        worker = Worker(server.url, deployment="acme", clock=clock)

        @worker.command("work")
        async def work(context: CommandContext, params: bytes) -> None:
            ran.append(1)

        held = Held(worker, "GET params", monkeypatch)
        async with working(worker):
            await held.held.wait()
            [attempt] = [task for _, task in worker._attempts.values()]
            waiting = asyncio.ensure_future(store.commands.wait_command(made.command_id, 10 * MINUTE))
            clock.advance(MINUTE)
            status = await waiting
            await attempt

    assert (status.state, ran) == ("EXPIRED", [])


@pytest.mark.parametrize("what", ["GET params", "PUT result"])
async def test_the_lease_is_renewed_while_large_ones_are_on_their_way(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    made = await store.commands.create_command("acme", "work", params=await put(store, LARGE))
    async with served(store) as server, Client(server.url) as client:
        worker = Worker(server.url, deployment="acme", clock=clock)

        @worker.command("work")
        async def work(context: CommandContext, params: bytes) -> bytes:
            return params

        held = Held(worker, what, monkeypatch)
        async with working(worker):
            await held.held.wait()
            for _ in range(6):  # twice the time of the lease
                held.renewed.clear()
                clock.advance(MINUTE // 3)
                await held.renewed.wait()
            held.go_on.set()
            view = await client.wait_command(made.command_id)

    assert (view.state, view.attempt) == ("SUCCEEDED", 1)


async def test_a_result_that_is_uploaded_after_the_lease_was_lost_does_not_count(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await store.commands.create_command("acme", "work")
    async with served(store) as server:
        worker = Worker(server.url, deployment="acme", clock=clock)

        @worker.command("work")
        async def work(context: CommandContext) -> bytes:
            return LARGE

        held = Held(worker, "PUT result", monkeypatch)
        async with working(worker):
            await held.held.wait()
            [attempt] = [task for _, task in worker._attempts.values()]
            await store.commands.cancel(made.command_id)
            clock.advance(2 * MINUTE)
            await store.commands.wait_command(made.command_id, 10 * MINUTE)
            held.go_on.set()
            await attempt
        status = await store.commands.get_command_status(made.command_id)

    assert status is not None
    assert status.state == "CANCELLED"
    assert await rows(store) == {}

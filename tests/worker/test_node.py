"""A worker in another language, with the standard library only. Source: issue of commands, "must show" 8."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perdure import App, Engine, VirtualClock, open_store
from perdure.clock import SECOND
from perdure.commands.states import CommandState
from perdure.server.serving import serving
from perdure.tokens.contract import Grant
from tests.gate.tree import ROOT
from tests.worker.hub import hub_on

WORKER = ROOT / "examples" / "node_worker" / "worker.mjs"
MOST_LINES = 60


@asynccontextmanager
async def node(*arguments: str, token: str = "", lease_ms: int = 30_000) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(WORKER), *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PERDURE_TOKEN": token, "PERDURE_LEASE_MS": str(lease_ms)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_in_node_does_commands_and_stops_when_it_has_finished_them() -> None:
    async with open_store("sqlite:///:memory:") as store, Engine(store, App("none")) as engine, serving(engine) as server:
        token = (await store.tokens.create("node", [Grant.parse("command:work=acme/n1")], tenant="default")).text
        commands = store.commands
        last = (await commands.create_command("acme", "sleep", params=b'{"ms":500}', target="n1")).command_id
        first = (await commands.create_command("acme", "upper", params=b'{"text":"Gr\xc3\xbc\xc3\x9fe"}', target="n1")).command_id
        async with node(server.url, "acme", "n1", token=token) as process:
            done = await commands.wait_command(first, 30_000_000)
            process.send_signal(signal.SIGTERM)  # it has got both, and has the other one still
            ended = await commands.wait_command(last, 30_000_000)
            assert await asyncio.wait_for(process.wait(), 10) == 0

        assert (done.state, await commands.get_result(first)) == ("SUCCEEDED", '{"text":"GRÜSSE"}'.encode())
        assert done.worker.startswith("node ")
        assert (ended.state, await commands.get_result(last)) == ("SUCCEEDED", b'{"slept":500}')


async def test_a_worker_in_node_renews_its_lease_and_stops_when_somebody_asks_for_that() -> None:
    clock = VirtualClock()
    async with hub_on(clock) as hub, node(hub.url, "acme", lease_ms=1_500):
        sent = await hub.send("sleep", b'{"ms":3600000}')
        status = await hub.until_status(sent, lambda one: one.lease_expires_at is not None)
        for _ in range(3):  # twice as long as one lease lasts
            before = status.lease_expires_at or 0
            clock.advance(SECOND)
            status = await hub.until_status(sent, lambda one, before=before: (one.lease_expires_at or 0) > before)  # type: ignore[misc]
        await hub.store.commands.cancel(sent)
        ended = await hub.over(sent)

    assert (ended.state, ended.attempt) == (CommandState.CANCELLED, 1)


def test_it_is_short() -> None:
    assert len(WORKER.read_text().splitlines()) < MOST_LINES

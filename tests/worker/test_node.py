"""A worker in another language, with the standard library only. Source: issue of commands, "must show" 8."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perdure import App, Engine, open_store
from perdure.server.serving import serving
from perdure.tokens.contract import Grant
from tests.gate.tree import ROOT

WORKER = ROOT / "examples" / "node_worker" / "worker.mjs"
MOST_LINES = 60


@asynccontextmanager
async def node(*arguments: str, token: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(WORKER), *arguments), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PERDURE_TOKEN": token}
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


def test_it_is_short() -> None:
    assert len(WORKER.read_text().splitlines()) < MOST_LINES

"""Commands over HTTP: how soon a waiting worker has one, and how many are done per second, on both databases.

The server is a process of its own, as it is in use; clients and workers share this one.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import SHORT, closed_loop, ours, report
from perdure import App, Client, CommandContext, Worker
from perdure.client.connection import Connection
from perdure.protocol.commands import Completed, CompleteRequest, DidIt, LeaseRequest, Leases
from tests.postgres.server import Server

app = App("commands")
WAITING = 100  # workers that wait for the next command
ROUNDS = 20 if SHORT else 500
LEVELS = (1, 16) if SHORT else (1, 16, 64, 256)
WARM_UP = 5
_LEASES = "/v1/tenants/default/deployments/acme/leases"


@asynccontextmanager
async def served(store: str) -> AsyncIterator[str]:
    """Run `perdure serve` on a store, and yield its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "perdure", "serve", "--dev", "--port", "0", "--store", store, "--app", "benchmarks.commands:app"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        while not (line := (await process.stdout.readline()).decode()).startswith("listening on "):
            assert line, "the server has ended"
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        await process.wait()


async def pickup(url: str, backend: str) -> None:
    """Send one command after the other while many workers wait; measure from before it is sent until a worker has it."""
    came: asyncio.Queue[tuple[float, str, int]] = asyncio.Queue()

    async def wait_for_work(connection: Connection) -> None:
        while True:
            leases = await connection.send(
                "POST", _LEASES, Leases, body=LeaseRequest(), query={"wait_ms": 30_000}, once=False, wait=30_000_000
            )
            for one in leases.leases:
                came.put_nowait((time.perf_counter(), one.command_id, one.token))

    async with Connection(url) as connection, Client(url) as client:
        workers = [asyncio.create_task(wait_for_work(connection)) for _ in range(WAITING)]
        taken: list[float] = []
        for _ in range(ROUNDS + WARM_UP):
            begin = time.perf_counter()
            sent = asyncio.create_task(client.send_command("acme", "work"))
            at, command_id, token = await came.get()
            taken.append((at - begin) * 1_000)
            await sent
            path = f"/v1/tenants/default/commands/{command_id}/complete"
            await connection.send("POST", path, Completed, body=CompleteRequest(token=token, outcome=DidIt()), once=False)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    taken = sorted(taken[WARM_UP:])
    named: dict[str, Any] = {**ours(), "backend": backend}
    report(
        benchmark="command pickup",
        **named,
        waiting=WAITING,
        commands=len(taken),
        p50_ms=statistics.median(taken),
        p99_ms=taken[int(len(taken) * 0.99)],
        most_ms=taken[-1],
    )


async def throughput(url: str, backend: str) -> None:
    """Send commands and wait for their results, by concurrency."""
    for clients in LEVELS:
        worker = Worker(url, deployment="acme", max_concurrency=max(4, clients))

        async def work(_context: CommandContext, params: int) -> int:
            return params

        worker.command("work")(work)
        running = asyncio.create_task(worker.work())
        async with Client(url) as client:

            async def call(n: int) -> object:
                return await client.command("acme", "work", n, result=int)

            figures = await closed_loop(call, clients)
        worker.stop()
        await running
        named: dict[str, Any] = {**ours(), "backend": backend}
        report(benchmark="commands", **named, **figures)


async def commands() -> None:
    """Measure both, on both databases."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        async with served(f"sqlite:///{folder}/bench.db") as url:
            await pickup(url, "sqlite")
            await throughput(url, "sqlite")
    with Server() as server:
        async with served(server.fresh()) as url:
            await pickup(url, "postgresql")
            await throughput(url, "postgresql")

"""Where the time of a workflow of 4 steps goes: this program's processor, the server's, and waiting for commits."""

# ruff: noqa: SLF001  # what is inside is what it measures

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import SHORT, ours, report
from benchmarks.turns import app, four
from perdure import Engine, Store, open_store
from tests.postgres.server import Server

TIMES = 100 if SHORT else 10_000
ALONE = 1 if SHORT else 10  # a single client does a part of it
CLIENTS = (1, 64, 256)
TICK = 1_000_000 / os.sysconf("SC_CLK_TCK")  # microseconds


class Watch:
    """Counts what a writer asks its database for, and how long it waits for the answers."""

    def __init__(self, store: Store) -> None:
        self.asked = 0
        self.waited = 0.0
        self._backend: Any = store.access.writer._backend
        self._server: int | None = None

    async def begin(self) -> None:
        """Begin to count."""
        if hasattr(self._backend, "_session"):
            [(self._server,)] = await self._backend._session.rows("select pg_backend_pid()")
            self._watch(self._backend._session, "rows")
        else:
            self._watch_commits()

    def server_us(self) -> float:
        """Return how long the server's process for this writer has been running, as far as this machine tells; 0 when there is none."""
        if self._server is None:
            return 0.0
        fields = Path(f"/proc/{self._server}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def _watch(self, place: Any, name: str) -> None:
        call = getattr(place, name)

        async def watched(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return await call(*arguments)
            finally:
                self.asked += 1
                self.waited += time.perf_counter() - begun

        setattr(place, name, watched)

    def _watch_commits(self) -> None:
        call = self._backend._commit

        def watched() -> None:
            begun = time.perf_counter()
            call()
            self.asked += 1
            self.waited += time.perf_counter() - begun

        self._backend._commit = watched


async def split() -> None:
    """Run it on a file and on a server, by the number of clients; a statement or a COMMIT is what is waited for."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, Server(durable=True) as server:
        for clients in CLIENTS:
            await _measured(f"sqlite:///{folder}/{clients}.db", "sqlite", clients)
        for clients in CLIENTS:
            await _measured(server.fresh(), "postgresql", clients)


async def _measured(url: str, backend: str, clients: int) -> None:
    times = TIMES // ALONE if clients == 1 else TIMES
    async with open_store(url) as store, Engine(store, app) as engine:
        await _work(engine, times // 10, clients)
        watch = Watch(store)
        await watch.begin()
        commits, server, cpu, begun = store.access.writer.commits, watch.server_us(), time.process_time(), time.perf_counter()
        await _work(engine, times, clients)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        report(
            benchmark="where the time goes",
            **ours() | {"backend": backend},
            clients=clients,
            per_s=times / seconds,
            us_each=seconds * 1_000_000 / times,
            cpu_us_each=cpu * 1_000_000 / times,
            server_cpu_us_each=(watch.server_us() - server) / times,
            commits_each=(store.access.writer.commits - commits) / times,
            asked_each=watch.asked / times,
            waited_us_each=watch.waited * 1_000_000 / times,
            us_of_an_answer=watch.waited * 1_000_000 / watch.asked,
        )


async def _work(engine: Engine, times: int, clients: int) -> None:
    async def client() -> None:
        for n in range(max(1, times // clients)):
            await engine.call(four, n)

    await asyncio.gather(*(client() for _ in range(clients)))

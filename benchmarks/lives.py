"""One process with a long life: its messages per second, and the rows that its recovery reads. PERDURE_SOAK_MESSAGES says how many."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from benchmarks.measure import SHORT, ours, report
from perdure import Address, Engine, Retention, Store, open_store
from tests.contracts.conversations import CountingReader
from tests.engine.meters import Go, Tick, Wait, meter

MESSAGES = int(os.environ.get("PERDURE_SOAK_MESSAGES", "2000" if SHORT else "1000000"))
CLIENTS = 256
KEPT = {
    "everything": None,
    "10 s": Retention(turns=timedelta(seconds=10), messages=timedelta(seconds=10), tombstones=timedelta(seconds=10)),
}

app = meter()


async def lives() -> None:
    """With everything kept, and with sweeps beside the work."""
    for kept, retention in KEPT.items():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            path = Path(folder) / "bench.db"
            async with open_store(f"sqlite:///{path}") as store:
                per_s = await _live(store, retention)
                rows, seconds = await _recover(store)
            report(
                benchmark="messages of one life",
                **ours(),
                kept=kept,
                clients=CLIENTS,
                messages=MESSAGES,
                per_s=per_s,
                recovery_rows=rows,
                recovery_ms=seconds * 1000,
                file_mib=path.stat().st_size / 2**20,
            )


async def _live(store: Store, retention: Retention | None) -> float:
    numbers: Iterator[int] = iter(range(MESSAGES))

    async def client(engine: Engine) -> None:
        for n in numbers:
            await engine.deliver(Tick(1), id=f"t{n}", wait=True)

    async with Engine(store, app, retention=retention) as engine:
        begin = time.perf_counter()
        await asyncio.gather(*(client(engine) for _ in range(CLIENTS)))
        seconds = time.perf_counter() - begin
        await engine.deliver(Wait(), id="open")
    return MESSAGES / seconds


async def _recover(store: Store) -> tuple[int, float]:
    reader = CountingReader(store.access.reader)
    store.access = store.access._replace(reader=reader)  # type: ignore[misc]  # only here, to count
    begin = time.perf_counter()
    async with Engine(store, app) as engine:
        await engine.deliver(Go(), id="go", to=Address.key("meter"))
        assert await engine.deliver(Wait(), id="open", wait=True) == MESSAGES + 1
        return sum(reader.rows.values()), time.perf_counter() - begin

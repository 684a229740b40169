"""What partitions cost on one machine: workflows per second on the tables as they are, and as docs/scale.md makes them."""

from __future__ import annotations

import re
from functools import partial

import asyncpg

from benchmarks.environments import ROOT
from benchmarks.measure import SHORT, closed_loop, ours, report
from benchmarks.sizes import WORK
from benchmarks.turns import app
from perdure import Engine, open_store
from tests.postgres.server import Server

WHAT = "workflow of 4 steps"
ROUNDS = 1 if SHORT else 3
CLIENTS = (1, 64)
PARTS = (0, 8, 32)


def page_sql(parts: int) -> str:
    """Return the SQL of the page, for so many partitions of each table."""
    blocks = re.findall(r"^```sql\n(.*?)^```", (ROOT / "docs" / "scale.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    [sql] = [block for block in blocks if "PARTITION BY" in block]
    return str(sql).replace("0..7", f"0..{parts - 1}").replace("MODULUS 8", f"MODULUS {parts}")


async def partitions() -> None:
    """Each level on a fresh store; they take turns."""
    with Server(durable=True) as server:
        for round_ in range(1, ROUNDS + 1):
            for clients in CLIENTS:
                for parts in PARTS:
                    url = server.fresh()
                    async with open_store(url):
                        pass
                    if parts:
                        await _execute(url, page_sql(parts))
                    async with open_store(url) as store, Engine(store, app) as engine:
                        result = await closed_loop(partial(WORK[WHAT], engine), clients)
                    backend = ours() | {"backend": "postgresql"}
                    report(benchmark=WHAT, **backend, partitions=parts, round=round_, **result)


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()

"""What work leaves behind: bytes and rows on the disk, WAL, and the connections of a node; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from benchmarks.measure import SHORT, ours, report
from benchmarks.turns import Meter, Tick, app, four, none, two
from perdure import Engine, open_store
from tests.postgres.server import Server

TIMES = 100 if SHORT else 2_000
CLIENTS = (1, 64)
SCHEMA = "perdure"
HOT = (
    "select relname, round(n_tup_hot_upd::numeric / n_tup_upd, 2)::float from pg_stat_user_tables "
    "where schemaname = $1 and n_tup_upd > 20 order by relname"
)
"""Which part of the updates touched no index, by table."""
Call = Callable[[Engine, int], Awaitable[object]]


async def _tick(engine: Engine, n: int) -> object:
    return await engine.call(Meter.tick, Tick(n))


async def _run(handler: Any, engine: Engine, n: int) -> object:
    return await engine.call(handler, n)


WORK: dict[str, Call] = {
    "turn of 0 steps": partial(_run, none),
    "turn of 2 steps": partial(_run, two),
    "workflow of 4 steps": partial(_run, four),
    "message into one process": _tick,
}


class Look(NamedTuple):
    """What a store holds at one moment: bytes and rows by table, and how much WAL there ever was."""

    tables: dict[str, int]
    rows: dict[str, int]
    wal: int | None

    def since(self, before: Look, times: int) -> dict[str, Any]:
        """Return what has come since, for each of so many times."""
        grown = {name: round((size - before.tables[name]) / times) for name, size in self.tables.items()}
        return {
            "bytes_each": (sum(self.tables.values()) - sum(before.tables.values())) / times,
            "rows_each": (sum(self.rows.values()) - sum(before.rows.values())) / times,
            "wal_bytes_each": None if self.wal is None or before.wal is None else (self.wal - before.wal) / times,
            "bytes_by_table": {name: size for name, size in sorted(grown.items(), key=lambda item: -item[1]) if size > 0},
        }


async def sizes() -> None:
    """Each kind of work on a fresh store of its own, whose payloads are small integers; everything is kept."""
    for clients in CLIENTS:
        for what, call in WORK.items():
            report(benchmark="bytes on the disk", **ours(), what=what, clients=clients, times=TIMES, **await _on_a_file(call, clients))
    with Server(durable=True) as server:
        for clients in CLIENTS:
            for what, call in WORK.items():
                found = await _on_a_server(server, call, clients)
                report(
                    benchmark="bytes on the disk", **ours() | {"backend": "postgresql"}, what=what, clients=clients, times=TIMES, **found
                )


async def _on_a_file(call: Call, clients: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "bench.db"

        async def look() -> Look:
            async with open_store(f"sqlite:///{path}") as store:
                rows = dict((await store.info()).rows)
            return Look({"file": path.stat().st_size}, rows, None)

        before = await look()
        async with open_store(f"sqlite:///{path}") as store, Engine(store, app) as engine:
            await _work(engine, call, clients)
        return (await look()).since(before, TIMES)


async def _on_a_server(server: Server, call: Call, clients: int) -> dict[str, Any]:
    url = server.fresh()
    async with open_store(url):
        pass
    async with _connected(url) as connection:
        before = await _look(connection)
        async with open_store(url) as store, Engine(store, app) as engine:
            most = asyncio.create_task(_most_connections(connection))
            await _work(engine, call, clients)
            most.cancel()
            connections = await most
        return {
            **(await _look(connection)).since(before, TIMES),
            "hot_updates": dict(map(tuple, await connection.fetch(HOT, SCHEMA))),
            "connections": connections,
        }


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _work(engine: Engine, call: Call, clients: int) -> None:
    numbers: Iterator[int] = iter(range(TIMES))

    async def client() -> None:
        for n in numbers:
            await call(engine, n)

    await asyncio.gather(*(client() for _ in range(clients)))


async def _look(connection: Any) -> Look:
    sizes_of = await connection.fetch(
        "select relname, pg_total_relation_size(oid) from pg_class where relnamespace = $1::regnamespace and relkind = 'r'", SCHEMA
    )
    rows = {name: await connection.fetchval(f"select count(*) from {SCHEMA}.{name}") for name, _ in sizes_of}
    wal = await connection.fetchval("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return Look(dict(map(tuple, sizes_of)), rows, wal)


async def _most_connections(connection: Any) -> int:
    """Count the connections of the store until it is cancelled."""
    most = 0
    try:
        while True:
            found = await connection.fetchval(
                "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'perdure %'"
            )
            most = max(most, found)
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return most

"""The made-up domain of `tests.core.shop` on PostgreSQL."""

from __future__ import annotations

import os
import typing
from collections.abc import Sequence
from typing import Any

import asyncpg

from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Session
from perdure.backends.postgres.database import PostgresDatabase
from perdure.backends.postgres.migrations import known_migrations, migrate
from perdure.clock import Clock, VirtualClock
from perdure.core.table import Index, Table
from tests.core.shop import INDEXES, TABLES
from tests.postgres.server import Server
from tests.postgres.sweeper import sweep

_TEXT = 'text collate "C" not null'
_KINDS: dict[Any, str] = {str: _TEXT, int: "bigint not null", bytes: "bytea not null", int | None: "bigint"}
_KEYS = {"id": "bigint not null", "key": _TEXT, "n": "bigint not null"}
_FREE: list[str] = []
_EMPTIED = (
    *(f"alter table perdure.{table.name} drop constraint if exists refused" for table in TABLES),
    *(f"delete from perdure.{name}" for name in (*(table.name for table in TABLES), "counter")),
    "delete from perdure.writer where node <> ''; update perdure.writer set last_tick = 0",
)


def _ddl(table: Table[Any]) -> str:
    hints = typing.get_type_hints(table.row)
    columns = [f"{column} {_KEYS[column]}" for column in table.key_columns]
    columns += [f"{field} {_KINDS[hints[field]]}" for field in table.row.__struct_fields__]
    columns += ["rev bigint not null"] * (table.kind != "log") + [f"primary key ({', '.join(table.key_columns)})"]
    return f"create table perdure.{table.name} ({', '.join(columns)});"


def _index_ddl(index: Index[Any]) -> str:
    where = f" where {index.where_sql}" if index.where_sql else ""
    return f"create index {index.name} on perdure.{index.table.name} ({', '.join(index.prefix + index.order)}){where};"


DDL = "".join(_ddl(table) for table in TABLES) + "".join(_index_ddl(index) for index in INDEXES)


async def new_shop(server: Server) -> str:
    """Return the URL of an empty shop: one that `give_back` has got, or a new one."""
    if _FREE:
        url = _FREE.pop()
        sweep(url, *_EMPTIED)
        return url
    url = server.fresh()
    address = parse(url)
    session = Session(address)
    await migrate(session, address, known_migrations(), 0, create=True)
    await session.execute(DDL)
    await session.close()
    return url


def give_back(url: str) -> None:
    """Let another test have it."""
    _FREE.append(url)


async def open_shop(url: str, *, clock: Clock | None = None) -> PostgresDatabase:
    return await PostgresDatabase.open(parse(url), clock=clock or VirtualClock(), randomness=os.urandom)


async def fetch(url: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(record) for record in await connection.fetch(sql, *values)]
    finally:
        await connection.close()


async def rows_of(database: PostgresDatabase) -> dict[str, Sequence[tuple[Any, ...]]]:
    """Every row of the shop, without versions."""
    rows = database.reader.rows
    return {
        table.name: [tuple(row) for row in await rows(f"select {', '.join(table.columns)} from perdure.{table.name} order by 1, 2")]
        for table in TABLES
    }


async def counters_of(database: PostgresDatabase) -> dict[str, int]:
    found = await database.reader.rows("select name, sum(value)::bigint from perdure.counter group by name")
    return {name: value for name, value in found if value}


async def tick_of(database: PostgresDatabase) -> int:
    [(tick,)] = await database.reader.rows("select max(last_tick) from perdure.writer")
    return int(tick)

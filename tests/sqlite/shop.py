"""The made-up domain of `tests.core.shop` on SQLite."""

from __future__ import annotations

import os
import typing
from pathlib import Path
from typing import Any

import apsw

from perdure.backends.sqlite.backend import Placement
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.clock import Clock, VirtualClock
from perdure.core.table import Index, Table
from tests.core.shop import INDEXES, TABLES

_KINDS: dict[Any, str] = {str: "TEXT NOT NULL", int: "INTEGER NOT NULL", bytes: "BLOB NOT NULL", int | None: "INTEGER"}


def _ddl(table: Table[Any], keys: dict[str, str]) -> str:
    hints = typing.get_type_hints(table.row)
    columns = [f"{column} {keys[column]} NOT NULL" for column in table.key_columns]
    columns += [f"{field} {_KINDS[hints[field]]}" for field in table.row.__struct_fields__]
    columns += ["rev INTEGER NOT NULL"] * (table.kind != "log") + [f"PRIMARY KEY ({', '.join(table.key_columns)})"]
    return f"CREATE TABLE IF NOT EXISTS {table.name} ({', '.join(columns)}) STRICT, WITHOUT ROWID;"


def _index_ddl(index: Index[Any]) -> str:
    where = f" WHERE {index.where_sql}" if index.where_sql else ""
    return f"CREATE INDEX IF NOT EXISTS {index.name} ON {index.table.name} ({', '.join(index.prefix + index.order)}){where};"


DDL = "".join(_ddl(table, {"id": "INTEGER", "key": "TEXT", "n": "INTEGER"}) for table in TABLES) + "".join(
    _index_ddl(index) for index in INDEXES
)


async def open_shop(
    path: Path | str = ":memory:", *, clock: Clock | None = None, vfs: str = "", placement: Placement = "inline"
) -> SqliteDatabase:
    database = await SqliteDatabase.open(str(path), clock=clock or VirtualClock(), randomness=os.urandom, vfs=vfs, placement=placement)
    database._file.writing.execute(DDL)
    return database


def rows_of(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the shop, without versions."""
    return {
        table.name: connection.execute(f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY 1, 2").fetchall() for table in TABLES
    }


def counters_of(connection: apsw.Connection) -> dict[str, int]:
    return {name: value for name, value in connection.execute("SELECT name, sum(value) FROM counter GROUP BY name") if value}


def tick_of(connection: apsw.Connection) -> int:
    tick: int = connection.execute("SELECT max(last_tick) FROM writer").get
    return tick

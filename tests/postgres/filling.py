"""Tables with so many rows that the planner could be tempted, and statistics of them."""

from __future__ import annotations

import re
from typing import Any

import asyncpg

from perdure.core.table import Table
from tests.rooms import TABLES

ROWS = 4_000
TENANTS = 3
SOME = 40
"""Different values of a column that is no key by itself."""


async def fill(url: str) -> None:
    """Fill every table of a store, whatever its checks say: values of a list of them are all used, and half of what may be null is."""
    connection = await asyncpg.connect(url)
    try:
        listed = await _listed(connection)
        for table in TABLES:
            nullable = {name for (name,) in await connection.fetch(_NULLABLE, f"perdure.{table.name}")}
            types: dict[str, str] = dict(map(tuple, await connection.fetch(_TYPES, f"perdure.{table.name}")))
            values = [_value(table, column, types[column], listed.get((table.name, column), [])) for column in types]
            values = [f"case when n % 2 = 0 then {v} end" if c in nullable else v for c, v in zip(types, values, strict=True)]
            await connection.execute(
                f"insert into perdure.{table.name} ({', '.join(types)}) select {', '.join(values)} from generate_series(1, {ROWS}) n"
            )
        await connection.execute("analyze")
    finally:
        await connection.close()


_TYPES = "select attname, format_type(atttypid, null) from pg_attribute where attrelid = $1::text::regclass and attnum > 0 order by attnum"
_NULLABLE = "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attnotnull"


async def _listed(connection: Any) -> dict[tuple[str, str], list[str]]:
    """Drop all checks, and return the values that checks list, by table and column."""
    found: dict[tuple[str, str], list[str]] = {}
    checks = await connection.fetch(
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid), array_length(conkey, 1) from pg_constraint "
        "where contype = 'c' and connamespace = 'perdure'::regnamespace"
    )
    for table, name, text, columns in checks:
        await connection.execute(f'alter table {table} drop constraint "{name}"')
        literals = re.findall(r"'(\w+)'::text", text)
        if columns == 1 and len(literals) > 1:
            found[table.removeprefix("perdure."), re.findall(r"\w+", text.removeprefix("CHECK"))[0]] = literals
    return found


def _value(table: Table[Any], column: str, kind: str, listed: list[str]) -> str:
    if listed:
        return f"(array{listed})[1 + n % {len(listed)}]"
    if column == "tenant_id":
        return "'tenant ' || " + ("n" if column == table.key_columns[-1] else f"n % {TENANTS}")
    alone = column == table.key_columns[-1] or column not in table.key_columns or column == "command_id"
    number = "n" if alone else f"n % {SOME}"
    match kind:
        case "bigint":
            return number
        case "text":
            return f"'text ' || {number}"
        case _:
            return "'\\x00'::bytea"

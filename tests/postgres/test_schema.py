"""The tables on PostgreSQL are those of a SQLite file, and what the rooms declare."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw
import pytest

from perdure.backends.postgres.migrations import known_migrations as of_postgres
from perdure.backends.sqlite.migrations import known_migrations as of_sqlite
from perdure.core.table import Index, Table
from perdure.store import open_store
from tests.postgres.server import Server
from tests.postgres.shop import fetch
from tests.rooms import EVERY_STORES, EVERY_STORES_INDEXES, INDEXES, TABLES

KINDS = {"INTEGER": "bigint", "TEXT": "text", "BLOB": "bytea"}
ONLY_HERE = {("writer", column) for column in ("slot", "expires_at", "knows", "open_until")} | {
    ("shard", column) for column in ("shard", "node", "epoch")
}
"""Columns that only PostgreSQL needs: several write at the same time, each with ticks of its own, and no file tells who has it open."""
UNIQUE_HERE = {"process_stream"}
"""Two nodes that give out the same tick are found so; a file has one writer at a time."""


class Columns(NamedTuple):
    """An index, or a primary key."""

    table: str
    names: tuple[str, ...]
    partial: bool


class Schema(NamedTuple):
    columns: set[tuple[str, str, str, bool]]
    keys: set[Columns]
    indexes: dict[str, Columns]


@pytest.fixture(scope="module")
def url(postgres_server: Server) -> Iterator[str]:
    made = postgres_server.fresh()

    async def make() -> None:
        async with open_store(made):
            pass

    asyncio.run(make())
    yield made
    postgres_server.drop(made)


@pytest.fixture(scope="module")
def here(url: str) -> Schema:
    columns = asyncio.run(
        fetch(
            url,
            "select relname, attname, format_type(atttypid, null), attnotnull from pg_attribute join pg_class c on c.oid = attrelid "
            "where relnamespace = 'perdure'::regnamespace and relkind = 'r' and attnum > 0 order by relname, attnum",
        )
    )
    indexes = asyncio.run(
        fetch(
            url,
            "select i.relname, t.relname, x.indisprimary, x.indpred is not null, "
            "array(select pg_get_indexdef(x.indexrelid, n, false) from generate_series(1, x.indnkeyatts) n) "
            "from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid "
            "where t.relnamespace = 'perdure'::regnamespace",
        )
    )
    keys = {Columns(table, tuple(names), partial) for _, table, primary, partial, names in indexes if primary}
    others = {name: Columns(table, tuple(names), partial) for name, table, primary, partial, names in indexes if not primary}
    return Schema({(table, name, kind, not_null) for table, name, kind, not_null in columns}, keys, others)


@pytest.fixture(scope="module")
def there() -> Schema:
    connection = apsw.Connection(":memory:")
    for migration in of_sqlite():
        connection.execute(migration.text)

    def all_of(sql: str) -> list[Any]:
        return connection.execute(sql).fetchall()

    tables = "(select name as tbl from sqlite_schema where type = 'table')"
    columns = all_of(f'select tbl, name, type, "notnull" from {tables}, pragma_table_info(tbl)')
    keys: dict[str, list[str]] = {}
    for table, name in all_of(f"select tbl, name from {tables}, pragma_table_info(tbl) where pk > 0 order by tbl, pk"):
        keys.setdefault(table, []).append(name)
    indexes = {
        name: Columns(
            table, tuple(column for (column,) in all_of(f"select name from pragma_index_info('{name}') order by seqno")), bool(partial)
        )
        for table, name, partial in all_of(f"select tbl, name, partial from {tables}, pragma_index_list(tbl) where origin = 'c'")
    }
    return Schema(
        {(table, name, KINDS[kind], bool(not_null)) for table, name, kind, not_null in columns},
        {Columns(table, tuple(names), partial=False) for table, names in keys.items()},
        indexes,
    )


def test_both_backends_have_the_same_tables_columns_and_primary_keys(here: Schema, there: Schema) -> None:
    assert {column for column in here.columns if column[:2] not in ONLY_HERE} == there.columns
    assert {column[:2] for column in here.columns} >= ONLY_HERE
    assert {key for key in here.keys if key.table != "shard"} == there.keys


def test_both_backends_have_the_same_indexes(here: Schema, there: Schema) -> None:
    assert {name: index for name, index in here.indexes.items() if name not in UNIQUE_HERE} == there.indexes
    assert here.indexes.keys() >= UNIQUE_HERE


def statements(text: str) -> list[str]:
    """Return the statements of a migration without comments and without what is the dialect's own."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for ours, theirs in (('text COLLATE "C"', "TEXT"), ("bigint", "INTEGER"), ("bytea", "BLOB")):
        text = text.replace(ours, theirs)
    text = re.sub(r"\)(?: WITH \(fillfactor = \d+\)| STRICT(?:, WITHOUT ROWID)?);", ");", text)
    return [statement for part in re.split(r";$", text, flags=re.MULTILINE) if (statement := part.strip())]


@pytest.mark.parametrize("number", range(2, len(of_sqlite()) + 1))
def test_each_migration_says_the_same_checks_included(number: int) -> None:
    ours, theirs = of_postgres()[number - 1], of_sqlite()[number - 1]

    assert (ours.number, ours.name) == (theirs.number, theirs.name)
    apart = {*UNIQUE_HERE, "TABLE writer ADD"}
    mine = [statement for statement in statements(ours.text) if not any(f" {name} " in statement for name in apart)]
    assert mine == statements(theirs.text)


def test_both_backends_have_the_same_migrations() -> None:
    assert [(each.number, each.name) for each in of_postgres()] == [(each.number, each.name) for each in of_sqlite()]


def test_every_table_is_declared_by_a_room_or_by_the_store(here: Schema) -> None:
    assert {table for table, *_ in here.columns} == {table.name for table in TABLES} | EVERY_STORES | {"shard"}


@pytest.mark.parametrize("table", TABLES, ids=repr)
async def test_a_table_has_the_declared_columns_and_a_version_unless_it_is_a_log(url: str, here: Schema, table: Table[Any]) -> None:
    found = await fetch(
        url,
        "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0",
        f"perdure.{table.name}",
    )

    assert {name for (name,) in found} == {*table.columns, *(["rev"] if table.kind != "log" else [])}
    assert Columns(table.name, table.key_columns, partial=False) in here.keys


@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_an_index_has_the_declared_columns_in_order(here: Schema, index: Index[Any]) -> None:
    if index.name == index.table.name:
        assert (index.prefix + index.order)[: len(index.table.key_columns)] == index.table.key_columns
    else:
        assert here.indexes[index.name] == Columns(index.table.name, index.prefix + index.order, partial=bool(index.where_sql))


def test_only_declared_indexes_exist(here: Schema) -> None:
    """Each costs a write per row; one that no scan uses is waste."""
    assert set(here.indexes) == {index.name for index in INDEXES if index.name != index.table.name} | EVERY_STORES_INDEXES | UNIQUE_HERE


async def test_text_is_compared_by_bytes_everywhere(url: str) -> None:
    assert (
        await fetch(
            url,
            "select relname, attname from pg_attribute join pg_class c on c.oid = attrelid join pg_collation l on l.oid = attcollation "
            "where relnamespace = 'perdure'::regnamespace and relkind in ('r', 'i') and attnum > 0 and collname <> 'C'",
        )
        == []
    )

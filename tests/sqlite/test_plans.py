"""The schema is what the rooms declare, and no statement of theirs scans or sorts."""

from __future__ import annotations

import itertools
import re
from typing import Any

import apsw
import pytest

from perdure.backends.sqlite.migrations import known_migrations
from perdure.backends.sqlite.statements import TableSql
from perdure.core.table import Index, Scan, Table
from tests.rooms import EVERY_STORES, EVERY_STORES_INDEXES, INDEXES, TABLES


@pytest.fixture(scope="module")
def schema() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    for migration in known_migrations():
        connection.execute(migration.text)
    return connection


def plan(schema: apsw.Connection, statement: str) -> str:
    marks = max([statement.count("?"), *map(int, re.findall(r"\?(\d+)", statement))])
    return "; ".join(detail for *_, detail in schema.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * marks))


def columns(schema: apsw.Connection, table: str) -> list[str]:
    return [name for (name,) in schema.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))]


def test_all_rooms_are_looked_at() -> None:
    assert {"process", "registry_key", "operation", "message", "timer", "stream"} <= {table.name for table in TABLES}


def test_every_table_of_the_schema_is_declared_by_a_room_or_by_the_store(schema: apsw.Connection) -> None:
    found = {name for (name,) in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    assert found == {table.name for table in TABLES} | EVERY_STORES


@pytest.mark.parametrize("table", TABLES, ids=repr)
def test_a_table_has_the_declared_columns_and_a_version_unless_it_is_a_log(schema: apsw.Connection, table: Table[Any]) -> None:
    assert set(columns(schema, table.name)) == {*table.columns, *(["rev"] if table.kind != "log" else [])}
    keys = schema.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table.name,))
    assert tuple(name for (name,) in keys) == table.key_columns
    assert schema.execute("SELECT strict FROM pragma_table_list(?)", (table.name,)).get == 1


@pytest.mark.parametrize("table", TABLES, ids=repr)
def test_every_access_by_key_is_a_search(schema: apsw.Connection, table: Table[Any]) -> None:
    sql = TableSql(table)
    statements = [sql.get] + ([] if table.kind == "log" else [sql.update, sql.delete])

    for statement in statements:
        found = plan(schema, statement)
        assert found.startswith("SEARCH"), found
        assert f"{table.key_columns[-1]}=?" in found, found


@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_an_index_has_the_declared_columns_in_order(schema: apsw.Connection, index: Index[Any]) -> None:
    if index.name == index.table.name:
        assert (index.prefix + index.order)[: len(index.table.key_columns)] == index.table.key_columns
        return
    assert schema.execute("SELECT tbl_name FROM sqlite_schema WHERE type = 'index' AND name = ?", (index.name,)).get == index.table.name
    found = schema.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index.name,))
    assert tuple(name for (name,) in found) == index.prefix + index.order


@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_no_index_of_any_room_scans_or_sorts(schema: apsw.Connection, index: Index[Any]) -> None:
    sql = TableSql(index.table)
    lengths = range(len(index.order) + 1)

    for after, upto, backwards in itertools.product(lengths, lengths, (False, True)):
        scan = Scan(index, ("x",) * len(index.prefix), 1, ("x",) * after or None, ("x",) * upto or None, backwards=backwards)
        found = plan(schema, sql.scan(scan, 2)[0])

        assert "TEMP B-TREE" not in found, found
        if index.prefix or after or upto:  # otherwise all of it is asked for, in its order
            assert found.startswith("SEARCH"), found
            assert "SCAN" not in found, found
        for column in index.prefix:
            assert f"{column}=?" in found, found


def test_only_declared_indexes_exist(schema: apsw.Connection) -> None:
    """Each costs a write per row; one that no scan uses is waste."""
    found = {name for (name,) in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")}

    assert found == {index.name for index in INDEXES if index.name != index.table.name} | EVERY_STORES_INDEXES

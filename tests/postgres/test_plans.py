"""No statement of ours reads a large table from end to end or sorts it, with the planner's settings of our sessions."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Session
from perdure.backends.postgres.migrations import columns
from perdure.backends.postgres.statements import Statements, by_shape, by_table
from perdure.core.backend import Change
from perdure.core.table import Index, Key, Scan, Table
from perdure.store import open_store
from tests.postgres.filling import fill
from tests.postgres.server import Server
from tests.rooms import INDEXES, TABLES

Node = dict[str, Any]
SMALL = {"writer"}
"""Tables that have a row per open store."""
BAD = {"Seq Scan", "Sort", "Incremental Sort", "Bitmap Heap Scan", "Hash Join", "Merge Join", "Materialize"}


@pytest.fixture(scope="module")
def filled(postgres_server: Server) -> Iterator[str]:
    made = postgres_server.fresh()

    async def make() -> None:
        async with open_store(made):
            pass
        await fill(made)

    asyncio.run(make())
    yield made
    postgres_server.drop(made)


class Plans:
    """What the server makes of statements, as a session of ours has it."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self.statements = statements

    async def __call__(self, sql: str) -> list[Node]:
        """Return all nodes of a statement's plan, for any values."""
        marks = max(map(int, re.findall(r"\$(\d+)", sql)), default=0)
        await self._session.execute(f"deallocate all; prepare looked_at as {sql}")
        values = f"({', '.join(['null'] * marks)})" if marks else ""
        [(text,)] = await (await self._session.connected()).fetch(f"explain (format json) execute looked_at{values}")
        return list(_nodes(json.loads(text)[0]["Plan"]))

    async def check(self, sql: str) -> list[Node]:
        """Return the nodes that read tables; fail when one of them does so without a condition on an index."""
        nodes = await self(sql)
        for node in nodes:
            assert node["Node Type"] not in BAD or node.get("Relation Name") in SMALL, f"{_told(node)} in {sql}"
        return [node for node in nodes if "Relation Name" in node and "Index Name" in node]


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _told(node: Node) -> str:
    return ", ".join(f"{name}: {value}" for name, value in node.items() if name != "Plans")


@pytest.fixture
async def plans(filled: str) -> AsyncIterator[Plans]:
    address = parse(filled)
    session = Session(address)
    yield Plans(session, Statements(address.schema, await columns(session, address.schema)))
    await session.close()


def key(table: Table[Any]) -> Key[Any]:
    return Key(table, ("x",) * len(table.key_columns))


def row(table: Table[Any]) -> Any:
    return table.row(**dict.fromkeys(table.row.__struct_fields__))


async def test_the_planner_would_read_from_end_to_end_if_it_were_not_told_otherwise(plans: Plans) -> None:
    """What is looked for here can be found: these tables are large enough, and a statement without an index is seen."""
    [node] = [node for node in await plans("select * from perdure.event order by data") if node["Node Type"] == "Sort"]

    assert node["Plans"][0]["Plan Rows"] > 1_000
    with pytest.raises(AssertionError, match="Seq Scan"):
        await plans.check("select * from perdure.event where data = $1::bytea")


@pytest.mark.parametrize("table", TABLES, ids=repr)
async def test_rows_are_read_and_changed_by_their_whole_key(plans: Plans, table: Table[Any]) -> None:
    statements, wanted = plans.statements, by_table([key(table)])
    found = [
        statements.get(table),
        statements.read(wanted, {}, lock=False)[0],
        statements.read(wanted, {}, lock=True)[0],
        statements.check({table: [(key(table), 1)]})[0],
        _written(statements, [Change(key(table), 0, row(table))]),
        _written(statements, [Change(key(table), 0, row(table))], [(Key(table, ("y",) * len(table.key_columns)), 0)]),
    ]
    if table.kind != "log":
        found += [
            _written(statements, [], [(key(table), 1)]),
            _written(statements, [Change(key(table), 1, row(table))]),
            _written(statements, [Change(key(table), 1, row(table), renewed=True)]),
            _written(statements, [Change(key(table), 1, None)], [(Key(table, ("y",) * len(table.key_columns)), 1)]),
        ]

    for sql in found:
        for node in await plans.check(sql):
            if node["Relation Name"] == table.name:
                condition = node.get("Index Cond", "")
                assert all(f"({column} = " in condition for column in table.key_columns), f"{_told(node)} in {sql}"


def _written(statements: Statements, changes: Sequence[Change], unchanged: Sequence[tuple[Key[Any], int]] = ()) -> str:
    return statements.write(changes, unchanged, (1, 1, 1, "n", 1), {"counted": 1}, first=1)[0]


@pytest.mark.parametrize("index", INDEXES, ids=repr)
async def test_no_range_of_any_room_is_scanned_or_sorted(plans: Plans, index: Index[Any]) -> None:
    lengths = range(len(index.order) + 1)

    for after, upto, backwards in itertools.product(lengths, lengths, (False, True)):
        scan = Scan(index, ("x",) * len(index.prefix), 1, ("x",) * after or None, ("x",) * upto or None, backwards=backwards)
        found = [plans.statements.scan(scan)[0]]
        if not backwards:  # a batch goes forwards only
            found.append(plans.statements.read({}, by_shape([scan]), lock=False)[0])
        for sql in found:
            nodes = [node for node in await plans.check(sql) if node["Relation Name"] == index.table.name]

            [node] = nodes
            name = index.name if index.name != index.table.name else f"{index.table.name}_pkey"
            assert node["Index Name"] == name, f"{_told(node)} in {sql}"
            assert node["Scan Direction"] == ("Backward" if backwards else "Forward")
            condition = node.get("Index Cond", "")
            assert all(f"({column} = " in condition for column in index.prefix), f"{_told(node)} in {sql}"
            for bound, ways in ((after, "<" if backwards else ">"), (upto, ">=" if backwards else "<=")):
                if bound:
                    assert f" {ways} " in condition, f"{_told(node)} in {sql}"


async def test_the_counters_of_a_writer_are_found_by_an_index(plans: Plans) -> None:
    for sql in (
        "select coalesce(sum(value), 0)::bigint from perdure.counter where name = $1",
        "delete from perdure.counter where node = $1",
    ):
        assert [node["Relation Name"] for node in await plans.check(sql) if node.get("Index Cond")] == ["counter"]

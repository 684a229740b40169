"""A store some of whose tables are partitioned, by the SQL of the page: everything works on it as it is, and each row is looked for in one partition."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from perdure import App, Engine, Process, open_store
from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Session
from perdure.backends.postgres.migrations import columns
from perdure.backends.postgres.statements import Statements, by_shape, by_table
from perdure.backends.rows import row_maker
from perdure.conversations.tables import EVENT, EVENTS, EventRow
from perdure.core.backend import Change
from perdure.core.table import Key, Scan, Table
from perdure.core.view import View
from perdure.engine.verification import verify
from perdure.errors import RejectedError
from perdure.messages.tables import DELAYED, MESSAGE
from tests.core.shop import JOB, Act, Create
from tests.gate.pages import fences
from tests.gate.tree import ROOT
from tests.postgres.filling import fill
from tests.postgres.server import Server, execute
from tests.postgres.shop import fetch, new_shop
from tests.postgres.site import Site
from tests.postgres.test_nodes import Raise
from tests.rooms import EVERY_STORES, TABLES

[SQL] = [source for _, info, source in fences((ROOT / "docs/scale.md").read_text()) if info == "sql" and "PARTITION BY" in source]
PARTITIONED: dict[Table[Any], tuple[str, ...]] = {EVENT: ("tenant_id", "stream_no"), MESSAGE: ("tenant_id", "source", "message_id")}
"""By which columns."""
CALLS = 40

app = App("partitions")


async def number(n: int) -> int:
    return n


@app.process
async def doubled(p: Process, n: int) -> int:
    return await p.step(number, n) + await p.step(number, n)


async def work(url: str, numbers: range) -> None:
    async with open_store(url) as store, Engine(store, app) as engine:
        for n in numbers:
            assert await engine.call(doubled, n, id=f"call-{n}") == 2 * n
        assert await verify(store) == []


@pytest.fixture
async def partitioned(postgres_server: Server) -> AsyncIterator[str]:
    """The URL of a store that was in use when its tables were partitioned, and has been in use since."""
    url = postgres_server.fresh()
    await work(url, range(CALLS // 2))
    await execute(url, SQL)
    await work(url, range(CALLS))  # half of them are known: what was done before is not done again
    yield url
    postgres_server.drop(url)


async def test_what_was_there_is_there_once_and_what_comes_is_spread(partitioned: str) -> None:
    for table in PARTITIONED:
        rows = await fetch(partitioned, f"select tableoid::regclass::text, count(*)::int from perdure.{table.name} group by 1")
        each = {"event": 5, "message": 1}[table.name]

        assert len(rows) > 1
        assert sum(count for _, count in rows) == each * CALLS


async def test_the_tables_have_the_same_columns_checks_and_indexes_as_before(postgres_server: Server, partitioned: str) -> None:
    plain = postgres_server.fresh()
    async with open_store(plain):
        pass
    checks = "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = any($1::text[]::regclass[])"
    indexes = "select indexname, replace(indexdef, ' ONLY ', ' ') from pg_indexes where schemaname = 'perdure' and tablename = any($1)"
    names = [table.name for table in PARTITIONED]

    for sql, values in ((checks, [f"perdure.{name}" for name in names]), (indexes, names)):
        assert sorted(await fetch(partitioned, sql, values)) == sorted(await fetch(plain, sql, values))
    for table in names:
        assert (await fetch(partitioned, _COLUMNS, f"perdure.{table}")) == (await fetch(plain, _COLUMNS, f"perdure.{table}"))
    postgres_server.drop(plain)


_COLUMNS = (
    "select attname, format_type(atttypid, null), attnotnull, attcollation from pg_attribute where attrelid = $1::text::regclass and attnum > 0 "
    "order by attnum"
)


async def test_partitions_are_no_tables_of_their_own_to_people_and_a_backup_has_every_row(partitioned: str, tmp_path: Any) -> None:
    async with open_store(partitioned) as store:
        info = await store.info()
        await store.backup(tmp_path / "backup.db")
    async with open_store(f"sqlite:///{tmp_path / 'backup.db'}") as backup:
        copied = (await backup.info()).rows

    assert set(info.rows) == {table.name for table in TABLES} | EVERY_STORES | {"shard"}
    assert {name: copied[name] for name in ("event", "message", "process")} == {
        name: info.rows[name] for name in ("event", "message", "process")
    }


# --- one row, one partition ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def filled(request: pytest.FixtureRequest, postgres_server: Server) -> Iterator[str]:
    """The URL of a partitioned store with so many rows that it matters how they are found."""
    url = postgres_server.fresh()

    async def make() -> None:
        async with open_store(url):
            pass
        await fill(url)
        await execute(url, SQL, *(["analyze"] if request.param == "with statistics" else []))

    asyncio.run(make())
    yield url
    postgres_server.drop(url)


class Touched:
    """Tells which partitions a statement looks into, with the plan that sessions of ours use."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self.statements = statements

    async def __call__(self, table: Table[Any], sql: str, values: Any = ()) -> set[str]:
        """Run it, undo it, and return the partitions of a table that it has looked into, each by an index and the partition's columns."""
        await self._session.execute(f"deallocate all; prepare looked_at as {sql}")
        given = f"({', '.join(map(_literal, values))})" if values else ""
        connection = await self._session.connected()
        await connection.execute("begin")
        try:
            [(text,)] = await connection.fetch(f"explain (analyze, format json) execute looked_at{given}")
        finally:
            await connection.execute("rollback")
        found = set()
        for node in _nodes(json.loads(text)[0]["Plan"]):
            if node["Actual Loops"] and "Index Name" in node and node["Relation Name"].startswith(f"{table.name}_"):
                assert all(f"({column} = " in node.get("Index Cond", "") for column in PARTITIONED[table]), f"{node} in {sql}"
                found.add(node["Relation Name"])
        return found


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _literal(value: Any) -> str:
    """Return a value, or an array of values, as a text of no type."""
    if value is None:
        return "null"
    if isinstance(value, list):
        inside = ["null" if each is None else f'"{_text(each)}"' for each in value]
        return "'{" + ", ".join(inside).replace("\\", "\\\\") + "}'"
    return f"'{_text(value)}'"


def _text(value: Any) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(int(value) if isinstance(value, int) else value)


@pytest.fixture
async def touched(filled: str) -> AsyncIterator[Touched]:
    address = parse(filled)
    session = Session(address)
    yield Touched(session, Statements(address.schema, await columns(session, address.schema)))
    await session.close()


async def some(url: str, table: Table[Any]) -> tuple[Key[Any], Any, int]:
    """Return key, row and version of a row in the last partition: a search that goes through all of them would end at it."""
    rev = "1" if table.kind == "log" else "rev"
    [(*values, version)] = await fetch(
        url, f"select {', '.join(table.columns)}, {rev} from perdure.{table.name} order by tableoid desc limit 1"
    )
    size = len(table.key_columns)
    return Key(table, tuple(values[:size])), row_maker(table.row)(tuple(values[size:])), version


@pytest.mark.parametrize("table", PARTITIONED, ids=repr)
async def test_a_row_is_read_and_locked_in_one_partition(filled: str, touched: Touched, table: Table[Any]) -> None:
    key, _, version = await some(filled, table)
    statements, wanted = touched.statements, by_table([key])

    for sql, values in (
        (statements.get(table), key.parts),
        statements.read(wanted, {}, lock=False),
        statements.read(wanted, {}, lock=True),
        statements.check({table: [(key, version)]}),
    ):
        assert len(await touched(table, sql, values)) == 1, sql


async def test_a_row_is_changed_and_removed_in_one_partition(filled: str, touched: Touched) -> None:
    [(node, batch, incarnation)] = await fetch(filled, "select node, batch, incarnation from perdure.writer where node = ''")
    mark = (batch + 1, 1, 1, node, incarnation)
    message, row, version = await some(filled, MESSAGE)
    event, _, _ = await some(filled, EVENT)
    write = touched.statements.write

    assert len(await touched(MESSAGE, *write([Change(message, version, row)], [], mark, {}, first=1))) == 1
    assert len(await touched(MESSAGE, *write([Change(message, version, None)], [], mark, {}, first=1))) == 1
    assert len(await touched(MESSAGE, *write([], [(message, version)], mark, {}, first=1))) == 1
    assert len(await touched(EVENT, *write([Change(event, 1, None)], [], mark, {}, first=1))) == 1
    assert await touched(EVENT, *write([Change(EVENT.key("acme", 1, 0), 0, EventRow(0, b""))], [], mark, {}, first=1)) == set()


async def test_the_events_of_a_process_are_read_in_order_from_one_partition(filled: str, touched: Touched) -> None:
    key, _, _ = await some(filled, EVENT)
    scan = Scan(EVENTS, key.parts[:2], 10, after=(0,))

    assert len(await touched(EVENT, *touched.statements.scan(scan))) == 1
    assert len(await touched(EVENT, *touched.statements.read({}, by_shape([scan]), lock=False))) == 1
    async with open_store(filled) as store:
        found = [key.parts[2] for key, _ in await store.access.reader.scan(scan)]
    tenant, stream = key.parts[:2]
    there = "select seq from perdure.event where tenant_id = $1 and stream_no = $2 and seq > 0 order by seq limit 10"
    assert found == [seq for (seq,) in await fetch(filled, there, tenant, stream)]
    assert len(found) == 10


async def test_what_is_due_in_any_tenant_is_found_in_all_partitions_in_order(filled: str) -> None:
    async with open_store(filled) as store:
        found = [row.available_at for _, row in await store.access.reader.scan(Scan(DELAYED, (), 50))]

    due = await fetch(filled, "select available_at from perdure.message where status = 'delayed' order by available_at limit 50")
    assert found == [at for (at,) in due]
    assert len(found) == 50


# --- two nodes ---------------------------------------------------------------------------------------------


class MakeLike(Act, frozen=True):
    """Make a job with the priority of another."""

    id: int
    of: int

    def decide(self, view: View) -> None:
        other = view.get(JOB.key(self.of))
        assert other is not None
        Create(self.id, "a", other.priority, 0).decide(view)


async def test_of_two_nodes_that_insert_the_same_row_into_a_partition_the_second_decides_again(postgres_server: Server) -> None:
    """Also when it has locked what it read: a row that is not there cannot be locked. The server names the partition, not the table."""
    site = Site(await new_shop(postgres_server))
    await execute(
        site.url,
        "alter table perdure.job rename to job_0; create table perdure.job (like perdure.job_0 including defaults) partition by hash (id); "
        "alter table perdure.job attach partition perdure.job_0 for values with (modulus 1, remainder 0)",
    )
    one, other = await site.open(), await site.open()
    await one.run(Create(1, "a", 0, 0))
    committing: list[asyncio.Task[None]] = []

    async def second() -> None:
        committing.append(await site.commit_when_waited_for("insert into perdure.job values (2, 'b', 'pending', 5, 0, 0, 1)"))

    async def first() -> None:
        await other.run(Raise(1))
        one.meanwhile(second)

    one.meanwhile(first)
    with pytest.raises(RejectedError, match="job 2 exists"):  # the decision says so, not the database
        await one.run(MakeLike(2, 1))
    await asyncio.gather(*committing)
    assert one.backend.locked[-3:] == [False, True, True]
    await site.close()
    postgres_server.drop(site.url)

"""Migrations of a schema: never edited, each applied once and whole, whoever opens at the same time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from perdure.backends.migrations import CONTRACT, EXPAND, Migration
from perdure.backends.postgres import database as database_module
from perdure.backends.postgres.address import parse
from perdure.backends.postgres.connection import Lost, Session
from perdure.backends.postgres.migrations import COLUMNS, known_migrations, migrate
from perdure.clock import VirtualClock
from perdure.errors import MigrationChanged, SchemaTooNew, StoreCorrupt, StoreNotFound
from perdure.store import open_store
from tests.postgres.shop import fetch

FIRST = known_migrations()[0]
LATER = "create table later (a bigint)"


def migration(number: int, text: str, phase: str = EXPAND) -> Migration:
    return Migration(number, f"m{number}", text, hashlib.sha256(text.encode()).hexdigest(), phase)


def use(monkeypatch: pytest.MonkeyPatch, *migrations: Migration) -> None:
    """Pretend that these are the ones of this installation."""
    monkeypatch.setattr(database_module, "known_migrations", lambda: migrations)


async def run(url: str, *migrations: Migration) -> None:
    session = Session(parse(url))
    try:
        await migrate(session, parse(url), migrations, 0, create=True)
    finally:
        await session.close()


async def made(url: str) -> list[Any]:
    """Everything that there is outside of the server's own schemas."""
    return await fetch(
        url,
        "select nspname, relname, relkind::text, relfilenode from pg_class join pg_namespace n on n.oid = relnamespace "
        "where nspname not like 'pg\\_%' and nspname <> 'information_schema' order by 1, 2",
    )


async def names(url: str) -> set[str]:
    return {relation for _, relation, *_ in await made(url)}


async def applied(url: str) -> list[int]:
    return [number for (number,) in await fetch(url, "select number from perdure.migration order by 1")]


def test_migrations_are_numbered_without_gaps_and_named() -> None:
    found = known_migrations()

    assert [each.number for each in found] == list(range(1, len(found) + 1))
    assert len({each.name for each in found}) == len(found)


def test_each_migration_says_what_it_does_and_names_neither_a_schema_nor_a_transaction() -> None:
    for each in known_migrations():
        assert each.text.startswith("-- "), each.name
        words = {word.upper().strip(";") for line in each.text.splitlines() if not line.startswith("--") for word in line.split()}
        assert not words & {"COMMIT", "ROLLBACK", "CONCURRENTLY"}, each.name
        assert not any(line.upper().startswith("SET ") for line in each.text.splitlines()), each.name
        assert "perdure." not in each.text, "the schema may have any name"


async def test_a_store_keeps_what_was_applied(postgres_url: str) -> None:
    async with open_store(postgres_url, clock=VirtualClock(7_000_000)) as store:
        info = await store.info()

    assert info.migrations == tuple(f"{each.number:04}_{each.name}" for each in known_migrations())
    rows = await fetch(postgres_url, "select number, name, checksum, applied_at from perdure.migration order by number")
    assert rows == [(each.number, each.name, each.checksum, 7_000_000) for each in known_migrations()]


async def test_a_new_migration_is_applied_to_an_older_store(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(postgres_url):
        pass
    use(monkeypatch, *known_migrations(), migration(100, LATER))

    async with open_store(postgres_url, create=False) as store:
        info = await store.info()

    assert info.migrations[-1] == "0100_m100"
    assert info.rows["later"] == 0


async def test_a_newer_schema_refuses_to_open(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        use(newer, *known_migrations(), migration(100, LATER, CONTRACT))
        async with open_store(postgres_url):
            pass
    before = await made(postgres_url)

    with pytest.raises(SchemaTooNew, match="0100_m100"):
        await open_store(postgres_url)

    assert await made(postgres_url) == before


async def test_an_edited_migration_refuses_to_open(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(postgres_url):
        pass
    before = await made(postgres_url)
    edited = [each._replace(checksum="0" * 64) if each.number == 2 else each for each in known_migrations()]
    use(monkeypatch, *edited, migration(100, LATER))

    with pytest.raises(MigrationChanged, match="0002_"):
        await open_store(postgres_url)

    assert await made(postgres_url) == before


@pytest.mark.parametrize("tables", [["accounts"], ["migration"], ["migration", "store"]])
async def test_another_programs_schema_refuses_to_open_and_stays_as_it_is(postgres_url: str, tables: list[str]) -> None:
    await fetch(postgres_url, "create schema perdure")
    for table in tables:
        await fetch(postgres_url, f"create table perdure.{table} (a int)")
    before = await made(postgres_url)

    with pytest.raises(StoreCorrupt, match=r"another program's schema, with tables such as '\w+'; choose another with \?schema="):
        await open_store(postgres_url)

    assert await made(postgres_url) == before
    async with open_store(f"{postgres_url}?schema=beside"):
        pass


async def test_a_schema_of_another_format_refuses_to_open(postgres_url: str) -> None:
    async with open_store(postgres_url):
        pass
    await fetch(postgres_url, "update perdure.store set format = 2")

    with pytest.raises(StoreCorrupt, match="expected format 1, found 2"):
        await open_store(postgres_url)


async def test_nothing_is_made_where_nothing_is_to_be_made(postgres_url: str) -> None:
    with pytest.raises(StoreNotFound, match="no store in this schema"):
        await open_store(postgres_url, create=False)

    assert await fetch(postgres_url, "select 1 from pg_namespace where nspname = 'perdure'") == []


async def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before(postgres_url: str) -> None:
    bad = migration(3, "create table half (a bigint); insert into nowhere values (1)")

    with pytest.raises(asyncpg.UndefinedTableError):
        await run(postgres_url, FIRST, migration(2, "create table whole (a bigint)"), bad)

    assert "whole" in await names(postgres_url)
    assert "half" not in await names(postgres_url)
    assert await applied(postgres_url) == [1, 2]


async def test_the_first_migration_that_fails_leaves_not_even_the_schema(postgres_url: str) -> None:
    bad = FIRST._replace(text=f"{FIRST.text}\ninsert into nowhere values (1)")

    with pytest.raises(asyncpg.UndefinedTableError):
        await run(postgres_url, bad)

    assert await fetch(postgres_url, "select 1 from pg_namespace where nspname = 'perdure'") == []


async def test_a_migration_that_is_interrupted_leaves_nothing_and_is_applied_the_next_time(postgres_url: str) -> None:
    await run(postgres_url, FIRST)
    cut = migration(2, "create table cut (a bigint); select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Lost):
        await run(postgres_url, FIRST, cut)

    assert "cut" not in await names(postgres_url)
    assert await applied(postgres_url) == [1]
    await run(postgres_url, FIRST, migration(2, "create table cut (a bigint)"))
    assert await applied(postgres_url) == [1, 2]


async def test_any_number_that_open_at_once_make_one_store(postgres_url: str) -> None:
    stores = await asyncio.gather(*(open_store(postgres_url, clock=VirtualClock(n)) for n in range(8)))
    for n, store in enumerate(stores):
        await store.streams.cas(f"value {n}", None, n)
    for store in stores:
        await store.close()

    assert await applied(postgres_url) == [each.number for each in known_migrations()]
    assert await fetch(postgres_url, "select count(*) from perdure.value") == [(8,)]


async def test_who_opens_during_a_migration_waits_for_it_and_does_not_apply_it_again(postgres_url: str) -> None:
    """The other one has it under way between our look and our turn."""
    await run(postgres_url, FIRST)
    second = migration(2, "create table second (a bigint)")
    address = parse(postgres_url)

    class Late(Session):
        async def begin(self, modes: str = "") -> None:
            await run(postgres_url, FIRST, second)
            await super().begin(modes)

    late = Late(address)
    await migrate(late, address, [FIRST, second], 0, create=True)
    await late.close()

    assert await applied(postgres_url) == [1, 2]


class Slow(Session):
    """A session behind whose first look at the columns another node applies migrations."""

    def __init__(self, url: str, *migrations: Migration) -> None:
        super().__init__(parse(url))
        self._url = url
        self._others = migrations

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        found = await super().rows(sql, values)
        if sql == COLUMNS and self._others:
            others, self._others = self._others, ()
            await run(self._url, *others)
        return found


async def test_what_another_node_applies_during_the_look_is_seen_with_its_columns(postgres_url: str) -> None:
    later = migration(2, LATER)
    await run(postgres_url, FIRST)
    session = Slow(postgres_url, FIRST, later)
    try:
        types = await migrate(session, parse(postgres_url), (FIRST, later), 0, create=True)
    finally:
        await session.close()

    assert types["later"] == {"a": "bigint"}

"""The migrations of one PostgreSQL schema."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from perdure.backends.marks import check_finished
from perdure.backends.migrations import Migration, lacking
from perdure.backends.migrations import known_migrations as of_package
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.connection import Session
from perdure.backends.postgres.statements import NOW, Types
from perdure.clock import Micros
from perdure.errors import StoreCorrupt, StoreNotFound

FORMAT: Final = 1
COLUMNS: Final = (
    "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_class c join pg_attribute a on a.attrelid = c.oid "
    "where c.relnamespace = (select oid from pg_namespace where nspname = $1::text) and c.relkind in ('r', 'p') and a.attnum > 0 "
    "and not a.attisdropped order by c.relname, a.attnum"
)


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this installation, in order."""
    return of_package("perdure.backends.postgres")


async def migrate(
    session: Session, address: Address, migrations: Sequence[Migration], now: Micros | None, *, create: bool, unfinished: bool = False
) -> None:
    """Bring the schema up to date, each migration in one transaction; another node may do the same at the same time.

    `unfinished`: for a copy that goes on.

    Raises:
        StoreNotFound: there is no store and `create` is false.
        SchemaTooNew: the schema has a migration that this installation does not know; nothing was changed.
        MigrationChanged: an applied migration is not the one of this installation; nothing was changed.
        StoreCorrupt: the schema holds tables, but not those of a store; nothing was changed.
        CopyUnfinished: a copy into the schema is not finished; nothing was changed.
    """
    missing = await _missing(session, address, migrations)
    if not unfinished:
        check_finished(address.place, await columns(session, address.schema))
    if len(missing) == len(migrations) and not create:
        raise StoreNotFound(
            f"{address.place}: no store in this schema; check the URL; a store is made by the program that uses it (open_store, with create=True)"
        )
    for migration in missing:
        await _apply(session, address, migration, now)


async def _apply(session: Session, address: Address, migration: Migration, now: Micros | None) -> None:
    schema = address.schema
    await session.begin()
    try:
        await session.execute(
            f"set local lock_timeout = 0; set local client_min_messages = warning; select pg_advisory_xact_lock({_lock(schema)})"
        )
        if migration.number not in await _applied(session, address):  # nobody else has done it meanwhile
            if not await session.rows("select 1 from pg_namespace where nspname = $1", (schema,)):
                await session.execute(f"create schema {schema}")
            await session.execute(f"set local search_path = {schema}")
            await session.execute(migration.text)
            await session.rows(
                f"insert into {schema}.migration (number, name, checksum, applied_at) values ($1, $2, $3, coalesce($4::bigint, {NOW}))",
                (migration.number, migration.name, migration.checksum, now),
            )
        await session.commit()
    finally:
        await session.rollback()


async def _missing(session: Session, address: Address, migrations: Sequence[Migration]) -> list[Migration]:
    return lacking(address.place, await _applied(session, address), migrations)


async def _applied(session: Session, address: Address) -> dict[int, tuple[str, str]]:
    tables = set(await columns(session, address.schema))
    if not tables:
        return {}
    if not {"migration", "store", "writer"} <= tables:
        raise StoreCorrupt(f"{address.place}: another program's schema, with tables such as {min(tables)!r}; choose another with ?schema=")
    return {
        number: (name, checksum)
        for number, name, checksum in await session.rows(f"select number, name, checksum from {address.schema}.migration")
    }


async def columns(session: Session, schema: str) -> Types:
    """Return the type of each column of the schema's tables."""
    return columns_in(await session.rows(COLUMNS, (schema,)))


def columns_in(rows: Iterable[Sequence[Any]]) -> Types:
    """Return what the rows of COLUMNS say, by table and column."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = kind
    return found


def _lock(schema: str) -> int:
    return int.from_bytes(hashlib.sha256(f"perdure migration {schema}".encode()).digest()[:8], "big", signed=True)

"""The migrations of one PostgreSQL schema."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg

from perdure import limits
from perdure.backends.marks import check_finished
from perdure.backends.migrations import CONTRACT, EXPAND, Applied, Migration, lacking, phase_column
from perdure.backends.migrations import known_migrations as of_package
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.connection import Failure, Session, failure_of
from perdure.backends.postgres.statements import LANE, NOW, Types
from perdure.clock import Micros
from perdure.errors import StoreCorrupt, StoreNotFound

logger = logging.getLogger("perdure.postgres")
FORMAT: Final = 1
COLUMNS: Final = (
    "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_class c join pg_attribute a on a.attrelid = c.oid "
    "where c.relnamespace = (select oid from pg_namespace where nspname = $1::text) and c.relkind in ('r', 'p') and a.attnum > 0 "
    "and not a.attisdropped order by c.relname, a.attnum"
)


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this installation, in order."""
    return of_package("perdure.backends.postgres")


def beyond(schema: str, *, only: str = "phase <> 'expand'") -> str:
    """Return the query for the first migration behind the number $1: it finds one whose release refuses those who know no more.

    Whoever asks for it in a transaction keeps such a migration from being applied until that transaction ends.
    """
    return f"select number, name from {schema}.migration where number > $1::bigint and {only} order by number limit 1"


async def migrate(
    session: Session, address: Address, migrations: Sequence[Migration], now: Micros | None, *, create: bool, unfinished: bool = False
) -> Types:
    """Bring the schema up to date, each migration in one transaction, and return its columns; another node may do the same at the same time.

    A contract migration is left for a later opening while a store of an older release is open, or our role may not apply it.
    `unfinished`: for a copy that goes on.

    Raises:
        StoreNotFound: there is no store and `create` is false.
        SchemaTooNew: the schema has a contract migration that this installation does not know; nothing was changed.
        MigrationChanged: an applied migration is not the one of this installation; nothing was changed.
        StoreCorrupt: the schema holds tables, but not those of a store; nothing was changed.
        CopyUnfinished: a copy into the schema is not finished; nothing was changed.
    """
    types, done_before = await _look(session, address)
    missing = lacking(address.place, done_before, migrations)
    if not unfinished:
        check_finished(address.place, types)
    if len(missing) == len(migrations) and not create:
        raise StoreNotFound(
            f"{address.place}: no store in this schema; check the URL; a store is made by `perdure serve`, `perdure deploy --create`, and open_store with create=True"
        )
    for migration in missing:
        done = await (_expand if migration.phase == EXPAND else _contract)(session, address, migration, now)
        if not done:
            logger.info("%s: migration %04d_%s is left for a later opening", address.place, migration.number, migration.name)
    return await columns(session, address.schema) if missing else types


async def _look(session: Session, address: Address) -> tuple[Types, dict[int, Applied]]:
    """Return the columns, and what has made them, as of one moment: columns of before what another applies between two looks would be missing."""
    await session.begin("isolation level repeatable read, read only")
    try:
        types = await columns(session, address.schema)
        found = await _applied(session, address, types)
        await session.commit()
    finally:
        await session.rollback()
    return types, found


async def _expand(session: Session, address: Address, migration: Migration, now: Micros | None) -> bool:
    return await _insist(session, address, migration, now)


async def _contract(session: Session, address: Address, migration: Migration, now: Micros | None) -> bool:
    """Apply a contract migration, or return False: an older release is there, or it is for another role, or the server has no time for it.

    What this release can do without keeps nobody from opening the store.
    """
    try:
        return await _insist(session, address, migration, now)
    except asyncpg.PostgresError as error:
        if failure_of(error) not in {Failure.BUSY, Failure.CONFLICT, Failure.DENIED}:
            raise
        return False


async def _insist(session: Session, address: Address, migration: Migration, now: Micros | None) -> bool:
    """Apply a migration, or return False when it has to be left; again if others had locked for long what it changes."""
    for _ in range(limits.MIGRATION_TRIES - 1):
        try:
            return await _apply(session, address, migration, now)
        except asyncpg.PostgresError as error:
            if failure_of(error) is not Failure.CONFLICT:
                raise
        await asyncio.sleep(limits.POSTGRES_RETRY_MOST_SECONDS)  # whoever waited behind us gets through
    return await _apply(session, address, migration, now)


async def _apply(session: Session, address: Address, migration: Migration, now: Micros | None) -> bool:
    schema = address.schema
    await session.begin()
    try:
        await session.execute(
            f"set local lock_timeout = 0; set local client_min_messages = warning; select pg_advisory_xact_lock({_lock(schema)})"
        )
        # While it waits for a lock, everybody else waits behind it.
        await session.execute(f"set local lock_timeout = {limits.MIGRATION_LOCK_MS}")
        if migration.number not in await _applied(session, address):  # nobody else has done it meanwhile
            if not await session.rows("select 1 from pg_namespace where nspname = $1", (schema,)):
                await session.execute(f"create schema {schema}")
            if migration.phase == CONTRACT and not await _alone(session, schema, migration):
                return False
            await session.execute(f"set local search_path = {schema}")
            await session.execute(migration.text)
            await session.rows(
                f"insert into {schema}.migration (number, name, checksum, applied_at) values ($1, $2, $3, coalesce($4::bigint, {NOW}))",
                (migration.number, migration.name, migration.checksum, now),
            )
            if migration.phase != EXPAND:  # which is what the table says of itself, also before it has the column
                await session.rows(f"update {schema}.migration set phase = $2 where number = $1", (migration.number, migration.phase))
        await session.commit()
    finally:
        await session.rollback()
    return True


async def _alone(session: Session, schema: str, migration: Migration) -> bool:
    """Return whether no store of an older release is open, and let none in until the transaction ends.

    A store is opened, and a writer goes on after it was fenced, in a transaction that looks at the table of migrations first
    (`beyond`). So it is here before we look, or finds the new migration. One that has not renewed its `open_until` may be only
    stopped: it is fenced, and finds the migration when it wants to go on.
    """
    await session.execute(f"lock table {schema}.migration in access exclusive mode")
    older = f"node <> '' and node not like '{LANE}%' and knows < $1"
    if await session.rows(
        f"select 1 from {schema}.writer where {older} and coalesce(open_until > {NOW}, true) limit 1", (migration.number,)
    ):
        return False
    await session.rows(f"update {schema}.writer set incarnation = incarnation + 1, expires_at = null where {older}", (migration.number,))
    return True


async def _applied(session: Session, address: Address, types: Types | None = None) -> dict[int, Applied]:
    tables = await columns(session, address.schema) if types is None else types
    if not tables:
        return {}
    if not {"migration", "store", "writer"} <= tables.keys():
        raise StoreCorrupt(f"{address.place}: another program's schema, with tables such as {min(tables)!r}; choose another with ?schema=")
    return applied(await session.rows(remembered(address.schema, tables)))


def remembered(schema: str, types: Types) -> str:
    """Return the query for all applied migrations."""
    return f"select number, name, checksum, {phase_column(types['migration'])}::text from {schema}.migration"


def applied(rows: Iterable[Sequence[Any]]) -> dict[int, Applied]:
    """Return what the rows of `remembered` say."""
    return {number: Applied(name, checksum, phase) for number, name, checksum, phase in rows}


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

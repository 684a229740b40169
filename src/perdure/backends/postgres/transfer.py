"""All of a store on PostgreSQL, read as of one moment, or written into an empty one."""
# ruff: noqa: S608  # names come from the rooms' own declarations and a checked schema, values are always bound

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg

from perdure import limits
from perdure.backends.marks import MARK, in_use
from perdure.backends.migrations import too_new
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.connection import Lost, Session, Unreachable, translated
from perdure.backends.postgres.migrations import beyond
from perdure.backends.postgres.statements import Types
from perdure.core.table import Table
from perdure.core.transfer import Contents, Values, check_mark, stored_columns
from perdure.errors import CopyRefused, StoreUnavailable

_NUL: Final = "22021"
_SIZED: Final = frozenset({"text", "bytea"})


class PostgresTransfer:
    """See `perdure.core.transfer.Export` and `Import`; on a connection of its own."""

    def __init__(self, address: Address, types: Types, knows: int) -> None:
        self._address = address
        self._knows = knows
        self._schema = address.schema
        self._types = types
        self._session = Session(address)

    @asynccontextmanager
    async def exporting(self, tables: Sequence[Table[Any]], *, alone: bool) -> AsyncIterator[PostgresTransfer]:
        """Keep a snapshot, `alone` with locks that let others only read."""
        with self._telling():
            await self._session.begin("isolation level repeatable read" if alone else "isolation level repeatable read, read only")
            await self._session.execute(f"set local idle_in_transaction_session_timeout = {limits.COPY_IDLE_MS}")
            if alone:
                # Before the first read, which the snapshot is of. The writers' rows come first, as in every batch.
                names = ", ".join(f"{self._schema}.{name}" for name in ("writer", "counter", *(table.name for table in tables)))
                await self._session.execute(f"set local lock_timeout = {limits.COPY_LOCK_MS}; lock table {names} in share mode")
        try:
            # What a later release has added would be left behind.
            for number, name in await self._rows(beyond(self._schema, only="true"), (self._knows,)):
                raise too_new(self._address.place, number, name, self._knows)
            yield self
        finally:
            await self.close()

    async def contents(self) -> Contents:
        """Return what there is besides rows."""
        schema = self._schema
        ((format_, shards, last_tick),) = await self._rows(
            f"select format, shards, (select max(last_tick) from {schema}.writer) from {schema}.store"
        )
        counters = await self._rows(f"select name, sum(value)::bigint from {schema}.counter group by name order by name")
        return Contents(self._address.place, format_, shards, last_tick, dict(map(tuple, counters)))

    async def rows(self, table: Table[Any], after: Values | None) -> list[Values]:
        """Return the first rows behind a key. The server adds up their sizes, which it knows without reading what is long."""
        columns, types = stored_columns(table), self._types[table.name]
        keys, names = ", ".join(table.key_columns), ", ".join(columns)
        where = "" if after is None else f" where ({keys}) > ({', '.join(f'${n}' for n in range(1, len(after) + 1))})"
        sizes = [f"coalesce(octet_length({column}), 0)" for column in columns if types[column] in _SIZED]
        before = f"sum({' + '.join(sizes)}) over (order by {keys} rows between unbounded preceding and 1 preceding)"
        head = f"select {names} from {self._schema}.{table.name}{where} order by {keys} limit {limits.COPY_ROWS}"
        sql = (
            f"select {names} from (select {names}, coalesce({before}, 0) as _before from ({head}) h) s "
            f"where _before < {limits.COPY_BYTES} order by {keys}"
        )
        return [tuple(record) for record in await self._rows(sql, after or ())]

    async def begin(self, source: Contents, tables: Sequence[Table[Any]]) -> bool:
        """Mark the schema, or find the mark, or rows without it."""
        schema, session = self._schema, self._session
        with self._telling():
            await session.begin()
            try:
                await session.execute(f"lock table {schema}.writer in exclusive mode")
                if await session.rows("select 1 from pg_class where relnamespace = $1::regnamespace and relname = $2", (schema, MARK)):
                    ((place, last_tick),) = await session.rows(f"select source, last_tick from {schema}.{MARK}")
                    check_mark((place, last_tick), source)
                    return True
                if await session.rows(f"select 1 from {schema}.writer where node <> ''"):
                    raise in_use(self._address.place)
                for name in ("counter", *(table.name for table in tables)):
                    if await session.rows(f"select 1 from {schema}.{name} limit 1"):
                        return False
                await session.execute(f'create table {schema}.{MARK} (source text collate "C" not null, last_tick bigint not null)')
                await session.rows(f"insert into {schema}.{MARK} values ($1, $2)", (source.place, source.last_tick))
                await session.rows(f"update {schema}.store set format = $1, shards = $2", (source.format, source.shards))
                await session.commit()
                return True
            finally:
                await session.rollback()

    async def last(self, table: Table[Any]) -> Values | None:
        """Return the greatest key."""
        order = ", ".join(f"{column} desc" for column in table.key_columns)
        found = await self._rows(f"select {', '.join(table.key_columns)} from {self._schema}.{table.name} order by {order} limit 1")
        return tuple(found[0]) if found else None

    async def add(self, table: Table[Any], rows: Sequence[Values]) -> None:
        """Write rows by COPY, which is one transaction."""
        columns = stored_columns(table)
        with self._telling():
            try:
                await self._session.copy((self._schema, table.name), columns, rows)
            except asyncpg.PostgresError as error:
                if error.sqlstate == _NUL:
                    raise self._unfit(table, rows) from error
                raise

    async def finish(self, source: Contents) -> None:
        """Take over counters and ticks, and remove the mark."""
        schema, session = self._schema, self._session
        with self._telling():
            await session.begin()
            try:
                names, values = list(source.counters), list(source.counters.values())
                await session.rows(
                    f"insert into {schema}.counter (name, node, value) select n, '', v from unnest($1::text[], $2::bigint[]) u (n, v)",
                    (names, values),
                )
                await session.rows(
                    f"update {schema}.writer set last_tick = greatest(last_tick, $1) where node = '' and lane = 0", (source.last_tick,)
                )
                await session.execute(f"drop table {schema}.{MARK}")
                await session.commit()
            finally:
                await session.rollback()

    async def close(self) -> None:
        """Give up what is open, and the connection."""
        with self._telling():
            await self._session.close()

    async def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._telling():
            return await self._session.rows(sql, values)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what the server raises into errors of ours. A broken connection is not made again: its snapshot is gone."""
        place = self._address.place
        try:
            yield
        except Unreachable as error:
            raise error.lasting or StoreUnavailable(f"{place}: no server that can be written to: {error}") from error
        except Lost as error:
            raise StoreUnavailable(f"{place}: the connection was lost: {error}; run it again") from error
        except asyncpg.PostgresError as error:
            raise translated(error, place) from error

    def _unfit(self, table: Table[Any], rows: Sequence[Values]) -> CopyRefused:
        """Say which text PostgreSQL cannot hold."""
        columns = stored_columns(table)
        for row in rows:
            for column, value in zip(columns, row, strict=True):
                if isinstance(value, str) and "\0" in value:
                    key = row[: len(table.key_columns)]
                    return CopyRefused(
                        f"{self._address.place}: PostgreSQL holds no text with a NUL character; {table.name} {key} has one in {column}; "
                        f"remove it from the source, then remove the target and begin again"
                    )
        return CopyRefused(f"{self._address.place}: a text of table {table.name} is not what PostgreSQL can hold")

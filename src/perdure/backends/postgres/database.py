"""One open PostgreSQL store: the writer's calls, the reads, and what a store needs besides."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import msgspec

from perdure.backends.migrations import Migration, last_known, not_applied
from perdure.backends.postgres.address import Address
from perdure.backends.postgres.backend import PostgresBackend
from perdure.backends.postgres.connection import Lost, Session, Unreachable, translated
from perdure.backends.postgres.migrations import FORMAT, known_migrations, migrate
from perdure.backends.postgres.notices import Notices
from perdure.backends.postgres.ownership import LeasedShards, lock_key
from perdure.backends.postgres.presence import Presence
from perdure.backends.postgres.reader import Readers
from perdure.backends.postgres.statements import LANE, Statements, Types
from perdure.backends.postgres.transfer import PostgresTransfer
from perdure.backends.postgres.writers import Writers
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.clock import Clock, ServerClock
from perdure.core.database import StoreInfo
from perdure.core.table import Table
from perdure.core.transfer import Export, transfer
from perdure.errors import EngineRunning, OutcomeUnknown, StoreCorrupt, StoreUnavailable, UsageError
from perdure.identity import Randomness, uuid7

_LOCK_NAME: Final = re.compile(r"[a-z]{1,32}")


class PostgresDatabase:
    """See `perdure.core.database.Database`."""

    def __init__(
        self,
        address: Address,
        session: Session,
        types: Types,
        *,
        shards: int,
        node: str,
        clock: Clock,
        randomness: Randomness,
        migrations: Sequence[Migration],
    ) -> None:
        statements = Statements(address.schema, types)
        self._address = address
        self._types = types
        self._randomness = randomness
        self._locks: dict[str, Session] = {}
        self._node = node
        self._migrations = migrations
        self._knows = knows = last_known(migrations)
        self.shards = shards
        self.clock = clock
        self.backend = PostgresBackend(session, statements, node=node, clock=clock, place=address.place, knows=knows, randomness=randomness)
        self.reader = Readers(address, statements)
        self.presence = Presence(self.reader, node, place=address.place, schema=address.schema, knows=knows)
        self.backend.on_fenced = self.presence.begin
        self._notices = Notices(address, node)
        self.beside = True
        self.ownership = LeasedShards(address, self.backend, node, shards)
        self.filling = PostgresTransfer(address, types, knows)

    @classmethod
    async def open(
        cls, address: Address, *, clock: Clock | None, randomness: Randomness, create: bool = True, unfinished: bool = False
    ) -> Self:
        """Open the store of a schema, and bring it up to date; `unfinished`: for a copy that goes on.

        Raises:
            StoreNotFound: there is no such database, or no store in it and `create` is false.
            StoreCorrupt: the schema holds tables, but not those of a store.
            SchemaTooNew, MigrationChanged, CopyUnfinished: see `migrate`.
            StoreUnavailable: no server can be reached, or none that can be written to.
        """
        used = clock or ServerClock()
        node = uuid7(now=used.now(), randomness=randomness)
        address = msgspec.structs.replace(address, node=node)
        session = Session(address)
        try:
            now = None if clock is None else clock.now()
            migrations = known_migrations()
            types = await migrate(session, address, migrations, now, create=create, unfinished=unfinished)
            shards = await _shards(session, address)
        except Unreachable as error:
            session.drop()
            raise error.lasting or StoreUnavailable(f"{address.place}: no server that can be written to: {error}") from error
        except Lost as error:
            raise StoreUnavailable(f"{address.place}: the connection was lost: {error}") from error
        except asyncpg.PostgresError as error:
            session.drop()
            raise translated(error, address.place) from error
        except BaseException:
            session.leave()
            raise
        return cls(address, session, types, shards=shards, node=node, clock=used, randomness=randomness, migrations=migrations)

    def watch(
        self, listeners: int, on_change: Callable[[], None], on_topics: Callable[[tuple[str, ...]], None] = lambda _topics: None
    ) -> None:
        """Look for other nodes' commits while somebody listens."""
        self._notices.watch(listeners, on_change, on_topics)

    def committed(self, topics: tuple[str, ...]) -> None:
        """Tell other nodes of what a commit has signalled."""
        self._notices.committed(topics)

    def leave(self) -> None:
        """Wait no longer for a server that does not answer."""
        self.backend.leave()

    def stay(self) -> None:
        """Wait for a server again."""
        self.backend.stay()

    async def settle(self, error: OutcomeUnknown) -> bool:
        """Return whether that batch was committed."""
        self.reader.check()
        session = Session(self._address)
        try:
            return await Writers(self._address.schema, place=self._address.place, knows=self._knows).settle(
                session, error.node, error.batch
            )
        except (Lost, Unreachable) as lost:
            raise StoreUnavailable(f"{self._address.place}: no server that can be written to, repeat later: {lost}") from lost
        except asyncpg.PostgresError as refused:
            raise translated(refused, self._address.place) from refused
        finally:
            await session.close()

    async def info(self) -> StoreInfo:
        """Return sizes and counts."""
        schema, rows = self._address.schema, self.reader.rows
        tables = [
            name
            for (name,) in await rows(
                "select relname from pg_class where relnamespace = $1::regnamespace and relkind in ('r', 'p') and not relispartition order by 1",
                (schema,),
            )
        ]
        applied = await rows(f"select number, name from {schema}.migration order by number")
        size = "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class where relnamespace = $1::regnamespace and relkind in ('r', 'p')"
        return StoreInfo(
            place=self._address.place,
            engine=f"PostgreSQL {(await rows('show server_version'))[0][0]}",
            format=(await rows(f"select format from {schema}.store"))[0][0],
            migrations=tuple(f"{n:04}_{name}" for n, name in applied),
            waiting=not_applied(self._migrations, [n for n, _ in applied]),
            shards=self.shards,
            writers=(await rows(f"select count(*) from {schema}.writer where node <> '' and node not like '{LANE}%'"))[0][0],
            data_bytes=(await rows(size, (schema,)))[0][0],
            log_bytes=0,
            rows={table: (await rows(f"select count(*) from {schema}.{table}"))[0][0] for table in tables},
        )

    async def integrity(self) -> list[str]:
        """Return nothing: a server looks after its own files (pg_amcheck, data checksums)."""
        self.reader.check()
        return []

    def exporting(self, tables: Sequence[Table[Any]], *, alone: bool) -> AbstractAsyncContextManager[Export]:
        """Look at everything as of one moment."""
        return PostgresTransfer(self._address, self._types, self._knows).exporting(tables, alone=alone)

    async def backup(self, target: Path, tables: Sequence[Table[Any]]) -> None:
        """Copy what is committed into a new SQLite file, as of one moment; writers go on meanwhile."""
        self.reader.check()
        if await asyncio.to_thread(target.exists):
            raise UsageError(f"{target}: exists already; a backup never overwrites, choose another name")
        file = await SqliteDatabase.open(str(target), clock=self.clock, randomness=self._randomness, unfinished=True)
        try:
            try:
                async with self.exporting(tables, alone=False) as source:
                    await transfer(source, file.filling, tables=tables, progress=lambda _moved: None)
            finally:
                await file.backend.close()
        except BaseException:
            await asyncio.to_thread(target.unlink, missing_ok=True)
            raise

    async def exclusive(self, name: str) -> None:
        """Hold `name` alone: by a lock of a session, which ends with the process."""
        assert _LOCK_NAME.fullmatch(name), f"{name!r} is no name of a lock"
        self.reader.check()
        if name in self._locks:
            raise EngineRunning(
                f"{self._address.place}: this store holds {name!r} already; one engine at a time runs its processes, close that one first"
            )
        session = Session(self._address)
        try:
            held = (await session.rows("select pg_try_advisory_lock($1)", (lock_key(self._address.schema, name),)))[0][0]
        except (Lost, Unreachable) as error:
            raise StoreUnavailable(f"{self._address.place}: no server that answers: {error}") from error
        except asyncpg.PostgresError as error:
            await session.close()
            raise translated(error, self._address.place) from error
        except BaseException:
            session.leave()
            raise
        if not held:
            await session.close()
            raise EngineRunning(
                f"{self._address.place}: another program, or another open store, holds {name!r}; one engine at a time runs the processes of a store, stop that one first"
            )
        self._locks[name] = session

    async def give_back(self, name: str) -> None:
        """Let another open store hold `name`."""
        session = self._locks.pop(name, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Give back the locks and the connections."""
        await self.ownership.stop()
        await self.presence.close()
        await self._notices.close()
        for name in list(self._locks):
            await self.give_back(name)
        await self.filling.close()
        await self.reader.close()


async def _shards(session: Session, address: Address) -> int:
    found, shards = (await session.rows(f"select format, shards from {address.schema}.store"))[0]
    if found != FORMAT:
        raise StoreCorrupt(f"{address.place}: expected format {FORMAT}, found {found}; restore it from a backup")
    return int(shards)

"""The migrations of a SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import apsw

from perdure.backends.migrations import Migration, lacking
from perdure.backends.migrations import known_migrations as of_package
from perdure.backends.sqlite.connection import insist, transaction
from perdure.clock import Clock, Micros
from perdure.errors import StoreCorrupt
from perdure.identity import Randomness


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this installation, in order."""
    return of_package("perdure.backends.sqlite")


def migrate(connection: apsw.Connection, migrations: Sequence[Migration], clock: Clock, randomness: Randomness) -> None:
    """Bring the schema up to date; another process may do the same at the same time.

    Raises:
        SchemaTooNew: the file has a migration that this installation does not know; nothing was changed.
        MigrationChanged: an applied migration is not the one of this installation; nothing was changed.
        StoreCorrupt: the file holds tables, but not those of a store; nothing was changed.
    """
    for migration in missing(connection, migrations):
        insist(randomness, partial(_apply, connection, migration, clock.now()))


def _apply(connection: apsw.Connection, migration: Migration, now: Micros) -> None:
    with transaction(connection, "BEGIN EXCLUSIVE"):
        if migration.number not in _applied(connection):  # nobody else has done it meanwhile
            connection.execute(migration.text)
            connection.execute(
                "INSERT INTO migration (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, migration.checksum, now),
            )


def missing(connection: apsw.Connection, migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that the file does not have yet; see `migrate`."""
    return lacking(connection.filename, _applied(connection), migrations)


def tables(connection: apsw.Connection) -> set[str]:
    """Return the names of all tables."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _applied(connection: apsw.Connection) -> dict[int, tuple[str, str]]:
    found = tables(connection)
    if not found:
        return {}
    if not {"migration", "store", "writer"} <= found:
        raise StoreCorrupt(f"{connection.filename}: another program's database, with tables such as {min(found)!r}; choose another file")
    return {number: (name, checksum) for number, name, checksum in connection.execute("SELECT number, name, checksum FROM migration")}

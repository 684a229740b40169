"""The schema's migrations: numbered SQL files, each applied once, in one transaction, and never edited."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, partial
from importlib import resources
from typing import Final, NamedTuple

import apsw

from perdure.backends.sqlite.connection import insist, transaction
from perdure.clock import Clock, Micros
from perdure.errors import MigrationChanged, SchemaTooNew, StoreCorrupt
from perdure.identity import Randomness

_PACKAGE: Final = "perdure.backends.sqlite"


class Migration(NamedTuple):
    """One file, `NNNN_name.sql`."""

    number: int
    name: str
    text: str
    checksum: str


@cache
def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this installation, in order."""
    found = []
    for file in resources.files(_PACKAGE).joinpath("schema").iterdir():
        if file.name.endswith(".sql"):
            number, name = file.name.removesuffix(".sql").split("_", 1)
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(number), name, text, hashlib.sha256(text.encode()).hexdigest()))
    return tuple(sorted(found))


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
    applied = _applied(connection)
    ours = {migration.number: migration for migration in migrations}
    for number, (name, checksum) in sorted(applied.items()):
        migration = ours.get(number)
        if migration is None:
            raise SchemaTooNew(
                f"{connection.filename}: has migration {number:04}_{name}, this installation ends at {max(ours):04}; "
                f"use the Perdure that wrote it, or a later one"
            )
        if migration.checksum != checksum:
            raise MigrationChanged(
                f"{connection.filename}: migration {number:04}_{name} was applied as {checksum[:12]}…, "
                f"this installation has {migration.checksum[:12]}…; install an unchanged Perdure"
            )
    return [migration for migration in migrations if migration.number not in applied]


def _applied(connection: apsw.Connection) -> dict[int, tuple[str, str]]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return {}
    if not {"migration", "store", "writer"} <= tables:
        raise StoreCorrupt(f"{connection.filename}: another program's database, with tables such as {min(tables)!r}; choose another file")
    return {number: (name, checksum) for number, name, checksum in connection.execute("SELECT number, name, checksum FROM migration")}

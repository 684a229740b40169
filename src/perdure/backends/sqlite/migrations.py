"""The migrations of a SQLite file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Final

import apsw

from perdure.backends.migrations import CONTRACT, EXPAND, Applied, Migration, lacking, phase_column, too_new
from perdure.backends.migrations import known_migrations as of_package
from perdure.backends.sqlite.connection import MEMORY, connect, insist, transaction
from perdure.backends.sqlite.presence import open_before
from perdure.clock import Clock, Micros
from perdure.errors import StoreCorrupt
from perdure.identity import Randomness

logger = logging.getLogger("perdure.sqlite")

_copying: Final = threading.Lock()
_made: Final[dict[tuple[str, ...], apsw.Connection]] = {}


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this installation, in order."""
    return of_package("perdure.backends.sqlite")


def migrate(connection: apsw.Connection, migrations: Sequence[Migration], clock: Clock, randomness: Randomness) -> None:
    """Bring the schema up to date; another process may do the same at the same time.

    A contract migration is left for a later opening while an older release has the file open.

    Raises:
        SchemaTooNew: the file has a contract migration that this installation does not know; nothing was changed.
        MigrationChanged: an applied migration is not the one of this installation; nothing was changed.
        StoreCorrupt: the file holds tables, but not those of a store; nothing was changed.
    """
    for migration in insist(randomness, partial(missing, connection, migrations)):
        if not insist(randomness, partial(_apply, connection, migration, clock.now())):
            logger.info("%s: migration %04d_%s is left for a later opening", connection.filename, migration.number, migration.name)


def make(connection: apsw.Connection, migrations: Sequence[Migration], clock: Clock, randomness: Randomness) -> None:
    """Bring an empty database in memory up to date, with the pages of one that this program has made before.

    Programs have one in each of their tests, and to apply every migration takes ten times as long.
    """
    known = tuple(migration.checksum for migration in migrations)
    with _copying:
        made = _made.get(known)
        if made is None:
            made = connect(MEMORY, randomness, create=True)
            migrate(made, migrations, clock, randomness)
            _made.clear()
            _made[known] = made
        with connection.backup("main", made, "main") as copy:
            copy.step()
    connection.execute("UPDATE migration SET applied_at = ?", (clock.now(),))


def _apply(connection: apsw.Connection, migration: Migration, now: Micros) -> bool:
    """Apply a migration; False when older releases still need what it takes away."""
    with transaction(connection, "BEGIN EXCLUSIVE"):
        if migration.number not in _applied(connection):  # nobody else has done it meanwhile
            if migration.phase == CONTRACT and open_before(connection.filename, migration.number):
                return False
            connection.execute(migration.text)
            connection.execute(
                "INSERT INTO migration (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, migration.checksum, now),
            )
            if migration.phase != EXPAND:  # which is what the table says of itself, also before it has the column
                connection.execute("UPDATE migration SET phase = ? WHERE number = ?", (migration.phase, migration.number))
    return True


def check_known(connection: apsw.Connection, knows: int, *, every: bool = False) -> None:
    """Raise SchemaTooNew when what the first `knows` migrations have made was taken away, or, for `every`, added to; in a transaction.

    One for writing comes before or behind a contract migration. So a store that is open, and was not seen by who applied
    one, finds it here before it writes.
    """
    condition = "" if every else " AND phase <> 'expand'"
    found = connection.execute(f"SELECT number, name FROM migration WHERE number > ?{condition} ORDER BY number", (knows,)).fetchone()  # noqa: S608
    if found is not None:
        number, name = found
        raise too_new(connection.filename, int(str(number)), str(name), knows)


def missing(connection: apsw.Connection, migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that the file does not have yet; see `migrate`."""
    return lacking(connection.filename, _applied(connection), migrations)


def tables(connection: apsw.Connection) -> set[str]:
    """Return the names of all tables."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _applied(connection: apsw.Connection) -> dict[int, Applied]:
    found = tables(connection)
    if not found:
        return {}
    if not {"migration", "store", "writer"} <= found:
        raise StoreCorrupt(f"{connection.filename}: another program's database, with tables such as {min(found)!r}; choose another file")
    phase = phase_column([name for (name,) in connection.execute("SELECT name FROM pragma_table_info('migration')")])
    sql = f"SELECT number, name, checksum, {phase} FROM migration"  # noqa: S608
    return {number: Applied(name, checksum, phase) for number, name, checksum, phase in connection.execute(sql)}

"""The schema's migrations: numbered SQL files, each applied once, in one transaction, and never edited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from perdure.errors import MigrationChanged, SchemaTooNew


class Migration(NamedTuple):
    """One file, `NNNN_name.sql`."""

    number: int
    name: str
    text: str
    checksum: str


@cache
def known_migrations(package: str) -> tuple[Migration, ...]:
    """Return the migrations of a backend in this installation, in order."""
    found = []
    for file in resources.files(package).joinpath("schema").iterdir():
        if file.name.endswith(".sql"):
            number, name = file.name.removesuffix(".sql").split("_", 1)
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(number), name, text, hashlib.sha256(text.encode()).hexdigest()))
    return tuple(sorted(found))


def lacking(place: str, applied: Mapping[int, tuple[str, str]], migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that a database at `place` does not have yet; `applied` are names and checksums by number.

    Raises:
        SchemaTooNew: it has a migration that this installation does not know.
        MigrationChanged: an applied migration is not the one of this installation.
    """
    ours = {migration.number: migration for migration in migrations}
    for number, (name, checksum) in sorted(applied.items()):
        migration = ours.get(number)
        if migration is None:
            raise SchemaTooNew(
                f"{place}: has migration {number:04}_{name}, this installation ends at {max(ours):04}; "
                f"use the Perdure that wrote it, or a later one"
            )
        if migration.checksum != checksum:
            raise MigrationChanged(
                f"{place}: migration {number:04}_{name} was applied as {checksum[:12]}…, "
                f"this installation has {migration.checksum[:12]}…; install an unchanged Perdure"
            )
    return [migration for migration in migrations if migration.number not in applied]

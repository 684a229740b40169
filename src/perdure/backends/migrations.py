"""The schema's migrations: numbered SQL files, each applied once, in one transaction, and never edited.

An *expand* migration adds what a release that does not know it can go on without, so old and new nodes work side by side, and
the old release can be taken up again. A *contract* migration takes away what older releases need: it waits until none of them
has the store open, and refuses them from then on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from perdure.errors import MigrationChanged, SchemaTooNew

EXPAND: Final = "expand"
CONTRACT: Final = "contract"
_PHASE: Final = re.compile(r"^-- Phase: (\w+)\.", re.MULTILINE)


class Migration(NamedTuple):
    """One file, `NNNN_name.sql`; its phase is what its header says, unless it only makes new tables (`creation`)."""

    number: int
    name: str
    text: str
    checksum: str
    phase: str = EXPAND


class Applied(NamedTuple):
    """One migration as a database remembers it."""

    name: str
    checksum: str
    phase: str


@cache
def known_migrations(package: str) -> tuple[Migration, ...]:
    """Return the migrations of a backend in this installation, in order."""
    found = []
    for file in resources.files(package).joinpath("schema").iterdir():
        if file.name.endswith(".sql"):
            number, name = file.name.removesuffix(".sql").split("_", 1)
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(number), name, text, hashlib.sha256(text.encode()).hexdigest(), phase_of(text)))
    return tuple(sorted(found))


def phase_of(text: str) -> str:
    """Return the phase of a migration, from its header."""
    said = _PHASE.search(text)
    return CONTRACT if said is not None and said[1] == CONTRACT else EXPAND


def last_known(migrations: Sequence[Migration]) -> int:
    """Return the number that tells what an installation knows."""
    return max(migration.number for migration in migrations)


def phase_column(columns: Container[str]) -> str:
    """Return what to select as the phase: a table of migrations made before there were phases has no such column."""
    return "phase" if "phase" in columns else f"'{EXPAND}'"


def not_applied(migrations: Iterable[Migration], numbers: Container[int]) -> tuple[str, ...]:
    """Return the names of those that are not among the applied `numbers`."""
    return tuple(f"{migration.number:04}_{migration.name}" for migration in migrations if migration.number not in numbers)


def too_new(place: str, number: int, name: str, knows: int) -> SchemaTooNew:
    """Return what refuses a store with a migration that this installation does not know."""
    return SchemaTooNew(
        f"{place}: has migration {number:04}_{name}, this installation ends at {knows:04}; use the Perdure that wrote it, or a later one"
    )


def lacking(place: str, applied: Mapping[int, Applied], migrations: Sequence[Migration]) -> list[Migration]:
    """Return the migrations that a database at `place` does not have yet.

    Raises:
        SchemaTooNew: it has a contract migration that this installation does not know.
        MigrationChanged: an applied migration is not the one of this installation.
    """
    ours = {migration.number: migration for migration in migrations}
    for number, (name, checksum, phase) in sorted(applied.items()):
        migration = ours.get(number)
        if migration is None:
            if phase != EXPAND:
                raise too_new(place, number, name, last_known(migrations))
            continue
        if migration.checksum != checksum:
            raise MigrationChanged(
                f"{place}: migration {number:04}_{name} was applied as {checksum[:12]}…, "
                f"this installation has {migration.checksum[:12]}…; install an unchanged Perdure"
            )
    return [migration for migration in migrations if migration.number not in applied]

"""What a migration says of itself, and what each phase may do."""

from __future__ import annotations

import re

import pytest

from perdure.backends.migrations import CONTRACT, EXPAND, Applied, Migration, lacking, phase_of
from perdure.backends.postgres.migrations import known_migrations as of_postgres
from perdure.backends.sqlite.migrations import known_migrations as of_sqlite
from perdure.errors import MigrationChanged, SchemaTooNew
from tests.upgrades.fleet import NARROWER, WIDER, WIDER_AGAIN

ALL = [*of_postgres(), *of_sqlite()]
PHASES = 16
"""The migration that brought phases."""
FIRST_RELEASE = 17
"""Its last migration; up to it there was no older release to work beside."""


def narrowing(text: str) -> list[str]:
    """Return what an expand migration may not do, as far as words tell."""
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    found = re.findall(
        r"\b(?:DROP|RENAME|DELETE|UPDATE|TRUNCATE|SET NOT NULL|SET DATA TYPE|ADD CONSTRAINT|UNIQUE INDEX)\b", code, re.IGNORECASE
    )
    added = re.findall(r"\bADD COLUMN\b[^,;]*", code, re.IGNORECASE)
    return found + [column for column in added if "NOT NULL" in column.upper() and "DEFAULT" not in column.upper()]


@pytest.mark.parametrize("each", [each for each in ALL if each.number >= PHASES], ids=lambda each: each.name)
def test_each_migration_names_its_phase_and_its_cost(each: Migration) -> None:
    found = re.search(r"^-- Phase: (creation|expand|contract)\. Cost: .", each.text, re.MULTILINE)
    assert found is not None, each.name
    assert found[1] != "creation" or each.number <= FIRST_RELEASE


@pytest.mark.parametrize("each", [each for each in ALL if each.phase == EXPAND], ids=lambda each: each.name)
def test_an_expand_migration_only_adds(each: Migration) -> None:
    assert narrowing(each.text) == [] or each.number <= FIRST_RELEASE


def test_what_narrows_is_found() -> None:
    assert narrowing(WIDER.text) == narrowing(WIDER_AGAIN.text) == []
    assert narrowing(NARROWER.text) == ["DROP", "DROP"]
    assert narrowing("ALTER TABLE a ADD COLUMN b TEXT NOT NULL;") == ["ADD COLUMN b TEXT NOT NULL"]


@pytest.mark.parametrize(
    ("header", "phase"),
    [
        ("-- What: x.\n-- Phase: contract. Cost: none.\n", CONTRACT),
        ("-- What: x.\n-- Phase: expand. Cost: none.\n", EXPAND),
        ("-- What: x.\n-- Phase: creation. Cost: none.\n", EXPAND),
        ("-- What: a contract.\n", EXPAND),
        ("SELECT '-- Phase: contract.';\n", EXPAND),
    ],
)
def test_the_phase_is_what_the_header_says(header: str, phase: str) -> None:
    assert phase_of(header) == phase


def test_a_phase_that_is_not_known_refuses_like_a_contract() -> None:
    ours = [WIDER]
    known = {WIDER.number: Applied(WIDER.name, WIDER.checksum, EXPAND)}

    assert lacking("here", {**known, 200: Applied("later", "c" * 64, EXPAND)}, ours) == []
    with pytest.raises(SchemaTooNew, match="here: has migration 0200_later, this installation ends at 0101"):
        lacking("here", {**known, 200: Applied("later", "c" * 64, "another")}, ours)
    with pytest.raises(MigrationChanged):
        lacking("here", {WIDER.number: Applied(WIDER.name, "c" * 64, EXPAND), 200: Applied("later", "c" * 64, EXPAND)}, ours)

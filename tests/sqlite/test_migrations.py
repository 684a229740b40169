"""Migrations: numbered, never edited, each applied once and whole."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure.backends.migrations import CONTRACT, EXPAND, Migration
from perdure.backends.sqlite import file as file_module
from perdure.backends.sqlite.migrations import known_migrations, migrate
from perdure.clock import VirtualClock
from perdure.errors import MigrationChanged, SchemaTooNew
from perdure.store import Store, open_store

FIRST = known_migrations()[0]


def migration(number: int, text: str, phase: str = EXPAND) -> Migration:
    return Migration(number, f"m{number}", text, hashlib.sha256(text.encode()).hexdigest(), phase)


def use(monkeypatch: pytest.MonkeyPatch, *migrations: Migration) -> None:
    """Pretend that these are the ones of this installation."""
    monkeypatch.setattr(file_module, "known_migrations", lambda: migrations)


def run(connection: apsw.Connection, *migrations: Migration) -> None:
    migrate(connection, migrations, VirtualClock(), os.urandom)


def tables(connection: apsw.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def test_migrations_are_numbered_without_gaps_and_named() -> None:
    found = known_migrations()

    assert [each.number for each in found] == list(range(1, len(found) + 1))
    assert found[0].name == "store"
    assert len({each.name for each in found}) == len(found)


def test_each_migration_says_what_it_does_and_holds_no_transaction_of_its_own() -> None:
    for each in known_migrations():
        assert each.text.startswith("-- "), each.name
        words = {word.upper() for line in each.text.splitlines() if not line.startswith("--") for word in line.split()}
        assert not words & {"BEGIN", "BEGIN;", "COMMIT", "COMMIT;", "PRAGMA"}, each.name


async def test_a_store_keeps_what_was_applied(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'a.db'}", clock=VirtualClock(7_000_000)) as store:
        info = await store.info()

    assert info.migrations == tuple(f"{each.number:04}_{each.name}" for each in known_migrations())
    connection = apsw.Connection(str(tmp_path / "a.db"))
    rows = connection.execute("SELECT number, name, checksum, applied_at FROM migration ORDER BY number").fetchall()
    assert rows == [(each.number, each.name, each.checksum, 7_000_000) for each in known_migrations()]


async def test_stores_in_memory_have_nothing_in_common_but_their_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        open_store("sqlite:///:memory:", clock=VirtualClock(1)) as one,
        open_store("sqlite:///:memory:", clock=VirtualClock(2)) as two,
    ):
        await one.streams.append("s", b"of one", 0)

        assert await two.streams.append("s", b"of two", 0) == 0
        assert [await applied(store) for store in (one, two)] == [{1}, {2}]

    use(monkeypatch, *known_migrations(), migration(100, "CREATE TABLE later (a INTEGER) STRICT"))
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        assert (await store.info()).migrations[-1] == "0100_m100"


async def applied(store: Store) -> set[Any]:
    """Return when the migrations of a store in memory were applied."""
    database: Any = store.access.writer
    return {at for (at,) in database._backend._file.writing.execute("SELECT applied_at FROM migration")}


async def test_a_new_migration_is_applied_to_an_older_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with open_store(url):
        pass
    use(monkeypatch, *known_migrations(), migration(100, "CREATE TABLE later (a INTEGER) STRICT"))

    async with open_store(url) as store:
        info = await store.info()

    assert info.migrations[-1] == "0100_m100"
    assert info.rows["later"] == 0


async def test_a_newer_schema_refuses_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with monkeypatch.context() as newer:
        use(newer, *known_migrations(), migration(100, "CREATE TABLE later (a INTEGER) STRICT", CONTRACT))
        async with open_store(url):
            pass
    before = (tmp_path / "a.db").read_bytes()

    with pytest.raises(SchemaTooNew, match="0100_m100"):
        await open_store(url)

    assert (tmp_path / "a.db").read_bytes() == before


async def test_an_edited_migration_refuses_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with open_store(url):
        pass
    before = (tmp_path / "a.db").read_bytes()
    edited = [each._replace(checksum="0" * 64) if each.number == 2 else each for each in known_migrations()]
    use(monkeypatch, *edited, migration(100, "CREATE TABLE later (a INTEGER) STRICT"))

    with pytest.raises(MigrationChanged, match="0002_"):
        await open_store(url)

    assert (tmp_path / "a.db").read_bytes() == before


def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before() -> None:
    connection = apsw.Connection(":memory:")
    bad = migration(3, "CREATE TABLE half (a INTEGER); INSERT INTO nowhere VALUES (1)")

    with pytest.raises(apsw.SQLError):
        run(connection, FIRST, migration(2, "CREATE TABLE whole (a INTEGER)"), bad)

    assert "whole" in tables(connection)
    assert "half" not in tables(connection)
    assert connection.execute("SELECT number FROM migration ORDER BY 1").fetchall() == [(1,), (2,)]
    assert not connection.in_transaction


def test_a_migration_that_another_process_applied_meanwhile_is_not_applied_again(tmp_path: Path) -> None:
    """The others apply the second one between our look and our turn."""
    path = str(tmp_path / "a.db")
    ours, theirs = apsw.Connection(path), apsw.Connection(path)
    second = migration(2, "CREATE TABLE second (a INTEGER)")
    run(ours, FIRST)
    turns = itertools.count()

    class Clock(VirtualClock):
        def now(self) -> int:
            if next(turns) == 0:
                run(theirs, FIRST, second)
            return super().now()

    migrate(ours, [FIRST, second], Clock(), os.urandom)

    assert ours.execute("SELECT count(*) FROM migration").get == 2

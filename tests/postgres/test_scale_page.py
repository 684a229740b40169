"""What the page about scale says of tables and SQL: every table with its key, how it may be partitioned, and which SQL is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import App, Engine, Process, limits
from perdure.store import open_store
from tests.gate.pages import fences
from tests.gate.tree import ROOT
from tests.postgres.shop import fetch

PAGE = (ROOT / "docs/scale.md").read_text()
BACKEND = ROOT / "src/perdure/backends/postgres"
KEYS = (
    "select relname, array(select attname::text from unnest(indkey) with ordinality k (number, place) "
    "join pg_attribute on attrelid = indrelid and attnum = number order by place), indisprimary "
    "from pg_index join pg_class c on c.oid = indrelid where relnamespace = 'perdure'::regnamespace and indisunique"
)


def section(name: str) -> str:
    """Return the text under a heading of the second level."""
    [found] = [text for text in PAGE.split("\n## ") if text.startswith(f"{name}\n")]
    return found


def cells(text: str) -> Iterator[list[str]]:
    """Yield the rows of a section's first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    yield from ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:])


def code(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


TABLES = {code(name)[0]: (code(key), code(parts), citus) for name, key, _, parts, citus in cells(section("Tables"))}
USED = [word for used, *_ in cells(section("Other databases")) for word in code(used)]
[NOT_USED] = [code(line.split(". Isolation")[0]) for line in PAGE.splitlines() if line.startswith("Not used: ")]


async def test_the_page_lists_every_table_with_its_primary_key(url: str) -> None:
    found = {table: key for table, key, primary in await fetch(url, KEYS) if primary}

    assert {table: key for table, (key, _, _) in TABLES.items()} == found


async def test_the_columns_to_partition_by_are_in_every_unique_index(url: str) -> None:
    for table, key, _ in await fetch(url, KEYS):
        _, parts, _ = TABLES[table]
        assert set(parts) <= set(key), table


async def test_the_column_to_distribute_by_is_in_every_unique_index_and_no_other_table_has_it(url: str) -> None:
    for table, key, _ in await fetch(url, KEYS):
        _, _, citus = TABLES[table]
        assert (citus == "`tenant_id`") is ("tenant_id" in key), table


def sources() -> str:
    """Return all SQL of the backend, comments left out, in small letters and with single blanks."""
    texts = [re.sub(r"^--.*$", "", path.read_text(), flags=re.MULTILINE) for path in sorted(BACKEND.rglob("*.sql"))]
    texts += [path.read_text() for path in sorted(BACKEND.rglob("*.py"))]
    return " ".join(" ".join(texts).lower().split())


@pytest.mark.parametrize("word", USED)
def test_what_the_page_says_is_used_is_in_the_sources(word: str) -> None:
    assert word.lower() in sources()


@pytest.mark.parametrize("word", NOT_USED)
def test_what_the_page_says_is_not_used_is_not(word: str) -> None:
    assert word.lower() not in sources()


def test_the_lists_of_what_is_used_and_what_is_not_were_found() -> None:
    assert len(USED) > 20
    assert len(NOT_USED) > 5


async def test_a_message_an_outcome_and_a_reply_are_stored_once_each(url: str) -> None:
    app = App("letters")

    async def outcome(text: str) -> str:
        return "S" * len(text)

    @app.process
    async def letters(p: Process, text: str) -> str:
        return "R" * len(await p.step(outcome, text))

    async with open_store(url) as store, Engine(store, app) as engine:
        await engine.call(letters, "M" * 1000, id="1")

    blobs = await fetch(url, _BLOBS)
    contents = b"".join(
        [value for table, column in blobs for (value,) in await fetch(url, f"select {column} from perdure.{table}") if value]
    )
    assert {letter: contents.count(letter * 1000) for letter in (b"M", b"S", b"R")} == {b"M": 1, b"S": 1, b"R": 1}


_BLOBS = (
    "select relname::text, attname::text from pg_attribute join pg_class c on c.oid = attrelid "
    "where relnamespace = 'perdure'::regnamespace and relkind = 'r' and attnum > 0 and atttypid = 'bytea'::regtype"
)


async def test_the_settings_of_the_page_can_be_set(url: str) -> None:
    [settings] = [source for _, info, source in fences(PAGE) if info == "sql" and "autovacuum" in source]

    for statement in settings.splitlines():
        await fetch(url, statement)
    found = await fetch(
        url, "select relname from pg_class where relnamespace = 'perdure'::regnamespace and reloptions::text like '%autovacuum%' order by 1"
    )
    for (table,) in found:
        await fetch(url, f"alter table perdure.{table} reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor)")

    assert found == [("event",), ("message",), ("process",)]


async def test_the_connections_and_nodes_of_the_page_are_the_limits(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'a.db'}") as store:
        assert (await store.info()).shards == limits.SHARDS
    assert f"| nodes that get something to do | {limits.SHARDS}," in PAGE
    assert f"| stores open at once without numbers that meet | {limits.TICK_SLOTS - 1};" in PAGE
    assert f"8 at most: 1 writes, 1 reads, up to {limits.POSTGRES_READERS} when reads wait for each other" in PAGE

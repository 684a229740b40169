"""What is not a store, cannot be opened, or may not be: each a clear error with a code, and nothing changed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import apsw
import pytest

from perdure import limits
from perdure.backends.sqlite.connection import connect
from perdure.backends.sqlite.database import SqliteDatabase
from perdure.clock import VirtualClock
from perdure.errors import (
    PerdureError,
    StoreBusy,
    StoreCorrupt,
    StoreNotFound,
    StoreUnavailable,
    UnknownScheme,
    UsageError,
)
from perdure.identity import SYSTEM_RANDOMNESS
from perdure.store import open_store
from tests.sqlite.disk import Disk


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def made(path: Path) -> Path:
    """Make a store, and close it."""
    async with open_store(url(path)):
        return path


@pytest.mark.parametrize("text", ["mysql://host/db", "orders.db", "memory:", "", "http:///x.db"])
def test_an_unknown_scheme_is_refused_and_the_known_ones_are_named(text: str) -> None:
    with pytest.raises(UnknownScheme, match=r"sqlite:///file\.db"):
        open_store(text)


@pytest.mark.parametrize("text", ["sqlite://orders.db", "sqlite:orders.db", "sqlite:///", "sqlite:///a%00b", "sqlite://host/orders.db"])
def test_a_malformed_url_is_refused_before_anything_is_opened(text: str) -> None:
    with pytest.raises(UsageError, match="slash"):
        open_store(text)


@pytest.mark.parametrize("text", ["sqlite:///a.db?mode=ro", "sqlite:///a.db#x"])
def test_an_unknown_parameter_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="takes no parameters"):
        open_store(text)


async def test_a_path_is_relative_after_three_slashes_and_absolute_after_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async with open_store("sqlite:///here.db"), open_store(f"sqlite:///{tmp_path / 'there.db'}"):
        assert {"here.db", "there.db"} <= names(tmp_path)


async def test_any_file_name_can_be_written_with_percent_signs(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/what%3F%23%20%25.db"):
        assert (tmp_path / "what?# %.db").exists()


async def test_a_store_that_is_not_there_is_made_or_refused_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"

    with pytest.raises(StoreNotFound, match="create=True"):
        await open_store(url(path), create=False)
    assert not path.exists()

    await made(path)
    async with open_store(url(path), create=False) as store:
        assert store.shards == 64


async def test_an_empty_file_is_no_store_unless_one_may_be_made(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    path.touch()

    with pytest.raises(StoreNotFound, match="empty"):
        await open_store(url(path), create=False)
    await made(path)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="there is no folder"):
        await open_store(url(tmp_path / "no" / "orders.db"))


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="expected a file, found a folder"):
        await open_store(url(tmp_path))


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\0" + b"\xff" * 4096, os.urandom(20_000)])
async def test_a_file_that_is_no_database_is_refused_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "orders.db"
    path.write_bytes(content)

    with pytest.raises(StoreCorrupt):
        await open_store(url(path))

    assert path.read_bytes() == content


async def test_another_programs_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    theirs = apsw.Connection(str(path))
    theirs.execute("CREATE TABLE customer (id INTEGER); CREATE TABLE migration (id INTEGER)")
    theirs.close()
    before = path.read_bytes()

    with pytest.raises(StoreCorrupt, match="another program's database"):
        await open_store(url(path))

    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
async def test_a_truncated_file_is_found_at_opening(tmp_path: Path, keep: float) -> None:
    path = await made(tmp_path / "orders.db")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])

    with pytest.raises(StoreCorrupt, match="restore it from a backup"):
        await open_store(url(path))


async def test_damage_inside_is_found_when_it_is_met(tmp_path: Path) -> None:
    path = await made(tmp_path / "orders.db")
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(StoreCorrupt):
        await open_store(url(path))


async def test_a_store_without_its_own_row_is_damaged(tmp_path: Path) -> None:
    path = await made(tmp_path / "orders.db")
    damage = apsw.Connection(str(path))
    damage.execute("DELETE FROM store")
    damage.close()

    with pytest.raises(StoreCorrupt, match="expected format 1, found None"):
        await open_store(url(path))


async def test_a_locked_file_is_busy_at_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_BUSY_MS", 2)
    monkeypatch.setattr(limits, "SQLITE_OPEN_MS", 2)
    path = await made(tmp_path / "orders.db")
    holder = apsw.Connection(str(path))
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreBusy):
        await open_store(url(path))

    holder.close()
    await made(path)


async def test_a_file_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    path, disk = await made(tmp_path / "orders.db"), Disk()
    disk.read_only = True

    with pytest.raises(StoreUnavailable, match="read-only"):
        await SqliteDatabase.open(str(path), clock=VirtualClock(), randomness=os.urandom, vfs=disk.called)


async def test_a_failed_opening_leaves_nothing_behind_that_hinders_the_next(tmp_path: Path) -> None:
    path = await made(tmp_path / "orders.db")
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    for _ in range(3):
        with pytest.raises(PerdureError):
            await open_store(url(path))
    path.write_bytes(whole)

    await made(path)


async def test_many_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"

    stores = await asyncio.gather(*(open_store(url(path)) for _ in range(6)))

    assert (await stores[0].info()).writers == 6
    await asyncio.gather(*(store.close() for store in stores))
    async with open_store(url(path)) as store:
        assert (await store.info()).writers == 1


async def test_a_clean_close_leaves_one_file(tmp_path: Path) -> None:
    await made(tmp_path / "orders.db")

    assert names(tmp_path) == {"orders.db"}


async def test_threads_hand_over_quickly_while_a_store_is_open_and_as_before_afterwards() -> None:
    before = sys.getswitchinterval()

    async with open_store("sqlite:///:memory:"), open_store("sqlite:///:memory:"):
        assert sys.getswitchinterval() == pytest.approx(0.0005)

    assert sys.getswitchinterval() == before


def test_a_connection_keeps_no_more_pages_in_memory_than_its_limit(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "large.db"), SYSTEM_RANDOMNESS, create=True)
    connection.execute("CREATE TABLE large (data BLOB)")
    for _ in range(2 * limits.SQLITE_PAGES_BYTES // limits.MIB):
        connection.execute("INSERT INTO large VALUES (randomblob(?))", (limits.MIB,))

    kept, _ = connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)
    connection.close()

    assert kept < 1.1 * limits.SQLITE_PAGES_BYTES  # beside the pages themselves, what names them

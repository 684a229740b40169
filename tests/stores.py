"""URLs of stores of every kind, each new and a test's own."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import apsw
import asyncpg
import pytest

from perdure.clock import VirtualClock
from perdure.store import open_store
from tests.postgres.server import Server, database_of
from tests.postgres.sweeper import leave, sweep

KINDS: Final = ("memory", "file", "postgres")
DURABLE: Final = ("file", "postgres")
_FREE: Final[list[str]] = []
_EMPTY: Final[list[Path]] = []  # to make the tables takes three times as long as to open a file that has them
EMPTIED: Final = (
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    "drop table if exists perdure.copying",  # of a copy that was stopped
    """
    do $$ declare name text; begin
        for name in select relname from pg_class where relnamespace = 'perdure'::regnamespace and relkind = 'r'
                and relname not in ('store', 'migration', 'writer', 'shard') loop
            execute 'delete from perdure.' || name;
        end loop;
    end $$
    """,
    "delete from perdure.writer where node <> ''; update perdure.writer set last_tick = 0",
    "update perdure.shard set node = null, epoch = 0 where node is not null or epoch <> 0",
)


def store_url(request: pytest.FixtureRequest, kind: str, folder: Path) -> str:
    """Return the URL of a store of this kind, whose tables are there already."""
    if kind == "memory":
        return "sqlite:///:memory:"
    if kind == "file":
        if not _EMPTY:
            _EMPTY.append(request.getfixturevalue("tmp_path_factory").mktemp("empty") / "store.db")
            _apart(_make(f"sqlite:///{_EMPTY[0]}"))
        return f"sqlite:///{shutil.copy(_EMPTY[0], folder / 'store.db')}"
    server = request.getfixturevalue("postgres_server")
    url = _FREE.pop() if _FREE else _new(server)
    request.addfinalizer(lambda: _give_back(url))
    return url


def _new(server: Server) -> str:
    url = str(server.fresh())
    _apart(_make(url))
    return url


def _give_back(url: str) -> None:
    """Empty a database for the next test: to make a new one takes ten times as long."""
    sweep(url, *EMPTIED)
    _FREE.append(url)


def _apart(work: Coroutine[Any, Any, None]) -> None:
    """Run something to its end, whether or not this thread has a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _make(url: str) -> None:
    async with open_store(url, clock=VirtualClock(0)):
        pass


def change(url: str, *statements: str) -> None:
    """Change what is in a durable store, behind its back."""
    if url.startswith("sqlite:"):
        connection = apsw.Connection(str(_path(url)))
        for statement in statements:
            connection.execute(statement)
        connection.close()
    else:
        _apart(_change(url, statements))


async def _change(url: str, statements: Iterable[str]) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "perdure"})
    try:
        await connection.execute("; ".join(statements))
    finally:
        await connection.close()


# --- many stores, one after another -----------------------------------------------------------------------------


Rows = dict[str, list[dict[str, Any]]]
"""Every row, by table."""


class Stores(Protocol):
    """Durable stores of one kind, made and looked at without an engine."""

    def new(self) -> AbstractContextManager[str]:
        """Give the URL of an empty store."""
        ...

    def copy(self, url: str) -> AbstractContextManager[str]:
        """Give the URL of a copy of a store that nobody has open."""
        ...

    def rows(self, url: str) -> Rows:
        """Return everything in a store that nobody has open."""
        ...


class Files:
    """Stores in a folder. Tables are made once and copied: to make them again takes as long as most of what is tried."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._empty = ""

    @contextmanager
    def new(self) -> Iterator[str]:
        if not self._empty:
            self._empty = self._url("empty")
            _apart(_make(self._empty))
        with self.copy(self._empty) as made:
            yield made

    @contextmanager
    def copy(self, url: str) -> Iterator[str]:
        copied = self._url(next(self._numbers))
        shutil.copy(_path(url), _path(copied))
        yield copied

    def _url(self, name: object) -> str:
        return f"sqlite:///{self._folder / f'{name}.db'}"

    def rows(self, url: str) -> Rows:
        connection = apsw.Connection(str(_path(url)), flags=apsw.SQLITE_OPEN_READONLY)
        found: Rows = {}
        for (table,) in list(connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")):
            cursor = connection.execute(f"SELECT * FROM {table}")
            found[table] = [dict(zip((column[0] for column in cursor.get_description()), values, strict=True)) for values in cursor]
        connection.close()
        return found


class Databases:
    """Stores in databases of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @contextmanager
    def new(self) -> Iterator[str]:
        url = _FREE.pop() if _FREE else _new(self._server)
        yield url
        _give_back(url)

    @contextmanager
    def copy(self, url: str) -> Iterator[str]:
        leave(url)
        copied = self._server.fresh(database_of(url))
        yield copied
        self._server.drop(copied)

    def rows(self, url: str) -> Rows:
        found: Rows = {}
        _apart(_read(url, found))
        return found


def stores(request: pytest.FixtureRequest, kind: str, folder: Path) -> Stores:
    """Return stores of a durable kind."""
    return Files(folder) if kind == "file" else Databases(request.getfixturevalue("postgres_server"))


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def _read(url: str, found: Rows) -> None:
    connection = await asyncpg.connect(url)
    try:
        for (table,) in await connection.fetch(
            "select relname from pg_class where relnamespace = 'perdure'::regnamespace and relkind = 'r'"
        ):
            found[table] = [dict(record) for record in await connection.fetch(f"select * from perdure.{table}")]
    finally:
        await connection.close()

"""Old and new releases on one store, at the same time and in turns."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine, Store, limits
from perdure.backends.postgres.backend import PostgresBackend
from perdure.backends.sqlite import migrations, presence
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.copying import copy_store
from perdure.core.backend import WriterRow
from perdure.engine import verification
from perdure.errors import SchemaTooNew, StoreUnavailable
from tests.postgres.pooler import Pooler
from tests.postgres.server import Server
from tests.upgrades.app import Load, make_app
from tests.upgrades.fleet import NARROWER, WIDER, WIDER_AGAIN, Release, behind, rows, soon

HOLD = "import asyncio, perdure, sys\nasync def main():\n async with perdure.open_store(sys.argv[1]):\n  print(flush=True)\n  await asyncio.Event().wait()\nasyncio.run(main())"


@pytest.fixture(params=["file", "postgres", "pooled"])
async def urls(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """Give a store's URL, and one to look into it behind its back."""
    if request.param == "file":
        yield (url := f"sqlite:///{tmp_path / 'store.db'}"), url
        return
    url = request.getfixturevalue("postgres_url")
    if request.param == "postgres":
        yield url, url
        return
    server: Server = request.getfixturevalue("postgres_server")
    async with Pooler(server.port) as pooler:
        yield f"{pooler.url(url)}?pooler=transaction", url


async def engines(load: Load, store: Store, beside: Store, name: str) -> None:
    """Work on one store with an engine, and on the other with another one, where two can be."""
    app = make_app(load.effects)
    async with Engine(store, app) as engine:
        if store is beside or store.ownership.whole:
            await asyncio.gather(load.run(engine, f"{name} a", 80), load.beside(beside, name))
        else:
            async with Engine(beside, app) as another:
                await asyncio.gather(load.run(engine, f"{name} a"), load.run(another, f"{name} b"), load.beside(beside, name))


async def test_a_fleet_goes_over_to_a_new_release_and_back_and_over_again(urls: tuple[str, str]) -> None:
    url, look = urls
    old, new, newest, load = Release(url), Release(url, WIDER), Release(url, WIDER, NARROWER, WIDER_AGAIN), Load()

    async with old.open() as first:
        async with Engine(first, make_app(load.effects)) as engine:
            # The new one is opened, and the schema changed, under load.
            _, second = await asyncio.gather(load.run(engine, "before", 80), new.opened())
        assert await behind(look) == [(101, "expand")]
        await engines(load, first, second, "beside")
        await first.streams.append("old", b"x", 0)
    await engines(load, second, second, "new")
    async with old.open() as again:  # a roll-back
        await engines(load, again, second, "back")
        async with newest.open() as third:
            assert await behind(look) == [(101, "expand"), (103, "expand")], "an older release is open"
            assert (await third.info()).waiting == ("0102_m102",)
            await engines(load, again, third, "newest")
    await second.close()

    async with newest.open() as third:
        assert await behind(look) == [(101, "expand"), (102, "contract"), (103, "expand")]
        assert (await third.info()).waiting == ()
        await engines(load, third, third, "narrow")
        for older in (old, new):
            with pytest.raises(SchemaTooNew, match="has migration 0102_m102, this installation ends at"):
                await older.opened()
        assert await verification.verify(third) == []
    load.check(80 + 5 * 80)
    assert load.entries == 5 * 20


async def test_a_store_that_only_reads_holds_back_what_it_needs(urls: tuple[str, str]) -> None:
    url, look = urls

    async with Release(url, WIDER).open() as reader:
        async with Release(url, WIDER, NARROWER).open():
            assert await behind(look) == [(101, "expand")]
        assert await reader.streams.read_value("v") is None
    async with Release(url, WIDER, NARROWER).open():
        assert await behind(look) == [(101, "expand"), (102, "contract")]


async def test_a_new_store_is_made_whole(urls: tuple[str, str]) -> None:
    url, look = urls

    stores = await asyncio.gather(*(Release(url, WIDER, NARROWER).opened() for _ in range(4)))
    for store in stores:
        await store.close()

    assert await behind(look) == [(101, "expand"), (102, "contract")]


async def test_a_process_that_was_killed_holds_back_nothing_for_long(urls: tuple[str, str]) -> None:
    url, look = urls
    new = Release(url, WIDER, NARROWER)
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLD, url, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    await holder.stdout.readline()
    async with new.open():
        assert await behind(look) == [(101, "expand")]
    holder.send_signal(signal.SIGSTOP)
    async with new.open():
        assert await behind(look) == [(101, "expand")], "it may go on"
    holder.kill()
    await holder.wait()

    if look.startswith("postgresql"):
        async with new.open():
            assert await behind(look) == [(101, "expand")], "nobody knows yet that it is dead"
        await rows(look, "update writer set open_until = open_until - 60000000 where node <> '' returning 1")
    async with new.open():
        assert await behind(look) == [(101, "expand"), (102, "contract")]


class Slow:
    """Lets an opening pass its look at the migrations, and halts it before it is registered."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.looked = asyncio.Event()
        self.go = asyncio.Event()
        for backend in (PostgresBackend, SqliteBackend):
            self._halt(backend, patch)

    def _halt(self, backend: Any, patch: pytest.MonkeyPatch) -> None:
        fence = backend.fence

        async def late(other: Any) -> WriterRow:
            patch.setattr(backend, "fence", fence)  # only the first one
            self.looked.set()
            await self.go.wait()
            found: WriterRow = await fence(other)
            return found

        patch.setattr(backend, "fence", late)


async def test_who_looked_before_and_registers_after_a_contract_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Release(postgres_url, WIDER).open():
        pass
    slow = Slow(monkeypatch)

    opening = asyncio.create_task(Release(postgres_url, WIDER).opened())
    await slow.looked.wait()
    async with Release(postgres_url, WIDER, NARROWER).open():
        assert await behind(postgres_url) == [(101, "expand"), (102, "contract")]
    slow.go.set()

    with pytest.raises(SchemaTooNew, match="0102_m102"):
        await opening
    assert await rows(postgres_url, "select 1 from writer where node <> ''") == []


async def test_who_registers_while_a_contract_is_applied_waits_for_it_and_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MIGRATION_LOCK_MS", 30_000)
    waiting = "select count(*) from pg_locks where not granted and relation is not null"
    async with Release(postgres_url, WIDER).open() as before:
        slow = Slow(monkeypatch)
        opening = asyncio.create_task(Release(postgres_url, WIDER).opened())
        await slow.looked.wait()
        await before.close()
        held = await before_it_ends(postgres_url)
        narrowing = asyncio.create_task(Release(postgres_url, WIDER, NARROWER).opened())
        await soon(lambda: number_is(postgres_url, waiting, 1))
        slow.go.set()
        await soon(lambda: number_is(postgres_url, waiting, 2))
        await held.execute("commit")
        await held.close()

        await (await narrowing).close()
        with pytest.raises(SchemaTooNew, match="0102_m102"):
            await opening


async def before_it_ends(url: str) -> Any:
    """Hold what the contract changes, so that it stops behind its look at who is there."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("begin; lock table perdure.message in access share mode")
    return connection


async def number_is(url: str, sql: str, number: int) -> bool:
    return await rows(url, sql) == [(number,)]


async def test_in_a_file_who_opens_while_a_contract_is_applied_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It registers after the other one has looked for it, and looks before that one commits."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with Release(url, WIDER).open():
        pass
    loop, looked, passed = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    look, fence = presence.open_before, SqliteBackend.fence

    def slow(path: str, number: int) -> bool:
        found = look(path, number)
        loop.call_soon_threadsafe(looked.set)
        assert passed.wait(30)
        return found

    async def seen(backend: SqliteBackend) -> WriterRow:
        passed.set()
        return await fence(backend)

    monkeypatch.setattr(migrations, "open_before", slow)
    monkeypatch.setattr(SqliteBackend, "fence", seen)
    narrowing = asyncio.create_task(Release(url, WIDER, NARROWER).opened())
    await looked.wait()

    with pytest.raises(SchemaTooNew, match="0102_m102"):
        await Release(url, WIDER).opened()

    await (await narrowing).close()
    assert await behind(url) == [(101, "expand"), (102, "contract")]


async def test_an_old_release_copies_nothing_that_it_does_not_know(urls: tuple[str, str], tmp_path: Path) -> None:
    _, url = urls
    async with Release(url, WIDER).open():
        pass

    with pytest.raises(SchemaTooNew, match="0101_m101"):
        await copy_store(url, f"sqlite:///{tmp_path / 'copy.db'}")

    if url.startswith("postgresql"):
        async with Release(url).open() as store:
            with pytest.raises(SchemaTooNew, match="0101_m101"):
                await store.backup(tmp_path / "backup.db")
        assert not (tmp_path / "backup.db").exists()


async def test_a_store_that_was_taken_for_dead_neither_writes_nor_reads_any_more(postgres_url: str) -> None:
    """It was stopped for so long that it gave no sign."""
    store = await Release(postgres_url, WIDER).opened()
    await store.streams.append("s", b"x", 0)
    await rows(postgres_url, "update writer set open_until = 0 where node <> '' returning 1")

    async with Release(postgres_url, WIDER, NARROWER).open():
        assert await behind(postgres_url) == [(101, "expand"), (102, "contract")]
        with pytest.raises(SchemaTooNew, match="0102_m102"):
            await store.streams.append("s", b"y", 1)
        database: Any = store._database
        assert not await database.presence.look()
        with pytest.raises(StoreUnavailable, match="0102_m102"):
            await store.streams.read_value("v")
    await store.close()


async def test_an_open_store_says_so_until_it_is_closed(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OPEN_RENEW_SECONDS", 0.01)
    sql = "select count(*) from writer where node <> '' and open_until > 1"

    async with Release(postgres_url).open():
        await rows(postgres_url, "update writer set open_until = 1 where node <> '' returning 1")
        await soon(lambda: number_is(postgres_url, sql, 1))

    assert await rows(postgres_url, "select 1 from writer where node <> ''") == []

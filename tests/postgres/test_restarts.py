"""A server that is killed, stopped, restarted or restored under a store: what was accepted is done once, or somebody is told."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from perdure import limits
from perdure.errors import Overloaded, StoreUnavailable, StoreWentBack
from perdure.store import open_store
from tests.contracts.registry import ACME
from tests.postgres.adding import Add, Look, Told, problems, until
from tests.postgres.server import Server

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def url(own_server: Server) -> AsyncIterator[str]:
    url = own_server.fresh()
    yield url
    own_server.drop(url)


async def restart(server: Server, stop: Callable[[Server], None]) -> None:
    await asyncio.to_thread(stop, server)
    await asyncio.to_thread(server.start)


def fast(server: Server) -> None:
    """As an administrator does it: with everybody's transaction undone, and all data in place."""
    server.stop(immediate=False)


@pytest.mark.parametrize("stop", [Server.kill, Server.stop, fast], ids=["killed", "stopped at once", "stopped"])
async def test_under_load_a_restart_loses_nothing_and_doubles_nothing(own_server: Server, url: str, stop: Callable[[Server], None]) -> None:
    told = Told()
    async with open_store(url) as store:
        loading = asyncio.create_task(told.add_together(store, callers=4, times=150))
        for n in (50, 200):
            while len(told.sums) < n:
                await store.streams.read_value("sum", tenant_id=ACME)
            await restart(own_server, stop)
        await loading

    assert told.errors == []
    assert await problems(url, told) == []
    assert len(told.sums) == 600


async def test_reads_outside_of_batches_do_not_notice_a_restart(own_server: Server, url: str) -> None:
    async with open_store(url) as store:
        await store.streams.cas("v", None, 7)
        await asyncio.gather(*(store.streams.read_value("v") for _ in range(10)))
        for stop in (Server.kill, fast):
            await asyncio.to_thread(stop, own_server)
            reading = asyncio.gather(*(store.streams.read_value("v") for _ in range(10)))
            await asyncio.to_thread(own_server.start)

            assert await reading == [7] * 10


async def test_a_read_that_no_server_answers_says_so_in_the_end(own_server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_READ_TRIES", 3)
    store = await open_store(url)
    await asyncio.to_thread(own_server.kill)
    try:
        with pytest.raises(StoreUnavailable, match=r"no server that answers, repeat later"):
            await store.streams.read_value("v")
    finally:
        await store.close()
        await asyncio.to_thread(own_server.start)


async def test_an_outage_keeps_what_was_accepted_and_refuses_what_is_too_much(
    own_server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUEUE_MAX", 20)
    monkeypatch.setattr(limits, "BATCH_MAX", 5)
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        await asyncio.to_thread(own_server.kill)
        first = asyncio.create_task(told.add(store))
        await until(lambda: not store.access.writer.waiting)
        accepted = asyncio.create_task(told.add_together(store, 30))
        await until(lambda: bool(told.errors))
        assert not first.done()
        await asyncio.to_thread(own_server.start)
        await asyncio.gather(first, accepted)

    assert {type(error) for error in told.errors} == {Overloaded}
    assert len(told.sums) + len(told.errors) == 32
    assert len(told.sums) in range(22, 28)
    assert await problems(url, told) == []


async def test_a_store_that_is_closed_in_an_outage_ends_and_tells_everybody(own_server: Server, url: str) -> None:
    told, unsure = Told(), Told()
    store = await open_store(url)
    await told.add(store)
    await asyncio.to_thread(own_server.kill)
    waiting = asyncio.create_task(unsure.add_together(store, 5))
    await until(lambda: bool(store.access.writer.waiting))
    await until(lambda: not store.access.writer.waiting)

    await store.close()
    await waiting
    await asyncio.to_thread(own_server.start)

    assert unsure.sums == []
    assert {type(error) for error in unsure.errors} == {StoreUnavailable}
    assert "the store closes, and no server answers" in str(unsure.errors[0])
    assert await problems(url, told) == []


# --- a server that went back in time -----------------------------------------------------------------------------


class Copy:
    """The data of a server as they were when it was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._data = server.folder / "data"
        self._kept = server.folder / "kept"
        server.stop(immediate=False)
        shutil.copytree(self._data, self._kept)
        self._own(self._kept)
        server.start()

    def restore(self) -> None:
        self._server.stop()
        shutil.rmtree(self._data)
        self._kept.rename(self._data)
        self._server.start()

    def _own(self, folder: Path) -> None:
        stat = self._data.stat()
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, stat.st_uid, stat.st_gid)


async def test_a_server_that_lost_acknowledged_batches_stops_the_store_loudly(own_server: Server, url: str) -> None:
    async with open_store(url) as store:
        await store.commit(Add())
        copy = await asyncio.to_thread(Copy, own_server)
        await store.commit(Add())
        await asyncio.to_thread(copy.restore)

        with pytest.raises(StoreWentBack, match="batch 2 was acknowledged, the database knows 1; find out which server answers"):
            await store.commit(Add())
        with pytest.raises(StoreUnavailable, match="has to be reopened"):
            await store.commit(Add())
    async with open_store(url) as store:
        assert await store.commit(Add()) == (2,)


async def test_a_server_that_knows_nothing_of_the_writer_any_more_stops_the_store_loudly(own_server: Server, url: str) -> None:
    async with open_store(url):
        copy = await asyncio.to_thread(Copy, own_server)
    async with open_store(url) as store:
        await store.commit(Add())
        await asyncio.to_thread(copy.restore)

        with pytest.raises(StoreWentBack, match="has no row any more; find out which server answers"):
            await store.commit(Add())


async def test_rows_in_memory_that_another_node_wrote_and_the_server_lost_are_read_again(own_server: Server, url: str) -> None:
    async with open_store(url) as store:
        await store.commit(Add())
        copy = await asyncio.to_thread(Copy, own_server)
        async with open_store(url) as lost:
            await lost.commit(Add())
        assert await store.commit(Look()) == (2,)
        await asyncio.to_thread(copy.restore)
        async with open_store(url) as another:
            await another.commit(Add("sum", 10))

        assert await store.commit(Add()) == (12,), "the version of what it had in memory is that of another row"

"""Several servers in one URL: the one that can be written to is used, wherever it stands in the list."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from perdure import limits
from perdure.errors import StoreUnavailable
from perdure.store import open_store
from tests.contracts.registry import ACME
from tests.postgres.adding import Add, Told, problems
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server, database_of

pytestmark = pytest.mark.usefixtures("impatient")
GUARD = 20.0


@pytest.fixture(autouse=True)
def connects_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_CONNECT_SECONDS", 0.3)


@pytest.fixture
def dead() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
async def mute(postgres_server: Server) -> AsyncIterator[Proxy]:
    """One that takes connections and says nothing."""
    async with Proxy(postgres_server.port) as proxy:
        proxy.deaf = True
        yield proxy


@pytest.fixture
async def read_only(own_server: Server, url: str) -> AsyncIterator[int]:
    """A server with a database of that name which takes no writes."""
    name = database_of(url)
    own_server.execute(f"create database {name}", f"alter database {name} set default_transaction_read_only = on")
    yield own_server.port
    own_server.drop(own_server.url(name))


def among(url: str, *ports: int) -> str:
    """Return the URL of a database on several ports."""
    return f"postgresql://postgres@{','.join(f'127.0.0.1:{port}' for port in ports)}/{database_of(url)}"


async def test_servers_that_are_dead_mute_or_read_only_are_passed_over(
    url: str, postgres_server: Server, dead: int, mute: Proxy, read_only: int
) -> None:
    told = Told()
    async with asyncio.timeout(GUARD), open_store(among(url, dead, mute.port, read_only, postgres_server.port)) as store:
        await told.add_together(store, 3)
        assert await store.streams.read_value("sum", tenant_id=ACME) == 3

    assert await problems(url, told) == []


async def test_without_a_server_that_can_be_written_to_the_error_says_what_each_one_said(
    url: str, dead: int, mute: Proxy, read_only: int
) -> None:
    with pytest.raises(StoreUnavailable, match=r"ConnectionRefusedError.*; TimeoutError; a standby, or read-only"):
        await open_store(among(url, dead, mute.port, read_only))


async def test_a_store_follows_to_the_server_that_takes_over(url: str, proxy: Proxy, postgres_server: Server) -> None:
    told = Told()
    async with Proxy(postgres_server.port) as second, open_store(among(url, proxy.port, second.port)) as store:
        for lost, other in ((proxy, second), (second, proxy), (proxy, second)):
            await told.add_together(store, 2)
            other.refusing, lost.refusing = False, True
            lost.end_all()
            await told.add_together(store, 2)
            assert await store.streams.read_value("sum", tenant_id=ACME) == len(told.sums)

    assert told.errors == []
    assert await problems(url, told) == []


async def test_a_connection_goes_first_to_the_server_that_answered_last(url: str, proxy: Proxy, mute: Proxy) -> None:
    async with open_store(among(url, mute.port, proxy.port)) as store:
        asked = mute.accepted
        for _ in range(3):
            proxy.end_all()
            await store.commit(Add())

    assert mute.accepted == asked

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from perdure import limits
from tests.postgres.owners import Node, Rows, beside, node
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server
from tests.postgres.shop import give_back, new_shop
from tests.postgres.site import Site
from tests.stores import store_url


@pytest.fixture(scope="session")
def own_server() -> Iterator[Server]:
    """A server for the tests that stop, kill and start one; each leaves it running."""
    with Server() as server:
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path) -> str:  # type: ignore[no-untyped-def]
    """A store's database on the server of the whole run."""
    return store_url(request, "postgres", tmp_path)


@pytest.fixture
async def proxy(postgres_server: Server) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits and pauses short enough for a test; none of them decides what the outcome is."""
    monkeypatch.setattr(limits, "POSTGRES_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(limits, "POSTGRES_RETRY_MOST_SECONDS", 0.02)


@pytest.fixture
async def site(postgres_server: Server) -> AsyncIterator[Site]:
    site = Site(await new_shop(postgres_server))
    yield site
    await site.close()
    give_back(site.url)


# --- nodes, of which every look is the test's ---------------------------------------------------


@pytest.fixture
async def one(url: str) -> AsyncIterator[Node]:
    async with node(url) as opened:
        yield opened


@pytest.fixture
async def two(url: str, one: Node) -> AsyncIterator[Node]:
    async with node(url) as opened:
        yield opened


@pytest.fixture
async def rows(url: str) -> AsyncIterator[Rows]:
    async with beside(url) as opened:
        yield opened

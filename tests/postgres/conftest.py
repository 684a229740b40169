from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from perdure import limits
from tests.postgres.proxy import Proxy
from tests.postgres.server import Server
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

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from perdure import App, Engine, Store, VirtualClock, open_store
from tests.stores import KINDS, store_url

Running = Callable[[App], AbstractAsyncContextManager[Engine]]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_url(request, request.param, tmp_path)


@pytest.fixture
async def store(url: str, clock: VirtualClock) -> AsyncIterator[Store]:
    async with open_store(url, clock=clock) as opened:
        yield opened


@pytest.fixture
def running(store: Store) -> Running:
    """Start an engine on the store; used again, it is a restart: what was in memory is gone."""

    @asynccontextmanager
    async def start(app: App) -> AsyncIterator[Engine]:
        async with Engine(store, app) as engine:
            yield engine

    return start

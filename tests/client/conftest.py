from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from perdure import Client, VirtualClock
from tests.client.shop import shop_on
from tests.worker.hub import Hub
from tests.worker.proxy import Proxy, proxy_to


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def hub(clock: VirtualClock) -> AsyncIterator[Hub]:
    async with shop_on(clock) as hub:
        yield hub


@pytest.fixture
async def client(hub: Hub) -> AsyncIterator[Client]:
    async with Client(hub.url, clock=hub.clock) as client:
        yield client


@pytest.fixture
async def proxy(hub: Hub) -> AsyncIterator[Proxy]:
    async with proxy_to(hub.url) as proxy:
        yield proxy


@pytest.fixture
async def through(hub: Hub, proxy: Proxy) -> AsyncIterator[Client]:
    """Give a client behind the proxy."""
    async with Client(proxy.url, clock=hub.clock) as client:
        yield client

"""A server of commands for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from perdure import VirtualClock
from tests.worker.hub import Hub, hub_on


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def hub(clock: VirtualClock) -> AsyncIterator[Hub]:
    async with hub_on(clock) as hub:
        yield hub

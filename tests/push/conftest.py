from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure import Store, VirtualClock, open_store
from tests.push.desk import Desk
from tests.stores import KINDS, store_url


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
async def alone(clock: VirtualClock) -> AsyncIterator[Store]:
    """A store in memory, where its kind does not matter."""
    async with open_store("sqlite:///:memory:", clock=clock) as opened:
        yield opened


@pytest.fixture
def desk(store: Store, clock: VirtualClock) -> Desk:
    return Desk(store, clock)


@pytest.fixture
def lone(alone: Store, clock: VirtualClock) -> Desk:
    return Desk(alone, clock)

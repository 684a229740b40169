"""A store of every kind, open, with a clock that tests hold in their hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.clock import VirtualClock
from perdure.store import Store, open_store
from tests.stores import KINDS, store_url


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


class Bench:
    """Opens the store of one test, and opens it again."""

    def __init__(self, kind: str, clock: VirtualClock, url: str) -> None:
        self.kind = kind
        self.clock = clock
        self.url = url
        self.store: Store | None = None

    async def open(self) -> Store:
        self.store = await open_store(self.url, clock=self.clock)
        return self.store

    async def reopen(self) -> Store:
        assert self.store is not None
        if self.kind == "memory":
            return self.store
        await self.store.close()
        return await self.open()


@pytest.fixture(params=KINDS)
async def bench(request: Any, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(request.param, clock, store_url(request, request.param, tmp_path))
    await bench.open()
    yield bench
    if bench.store is not None:
        await bench.store.close()


@pytest.fixture
def store(bench: Bench) -> Store:
    assert bench.store is not None
    return bench.store


@pytest.fixture
def reopen(bench: Bench) -> Callable[[], Awaitable[Store]]:
    """Close the store and open it again; in memory it stays the same one."""
    return bench.reopen

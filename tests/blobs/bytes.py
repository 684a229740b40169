"""Bytes to store, and ways in which they come."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

from perdure import Store
from perdure.blob import Blob
from perdure.blobs.tables import TABLES

HOUR = 3_600 * 1_000_000


class Cut(Exception):
    """The connection was lost."""


def noise(size: int, *, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def pieces(data: bytes, size: int = 100_000, *, cut: bool = False) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), size):
        yield data[offset : offset + size]
    if cut:
        raise Cut


async def held(data: bytes, size: int, wait: Callable[[], Awaitable[object]]) -> AsyncIterator[bytes]:
    """Yield pieces, and wait before the last one."""
    for offset in range(0, len(data), size):
        if offset + size >= len(data):
            await wait()
        yield data[offset : offset + size]


async def whole(chunks: AsyncIterable[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def put(store: Store, data: bytes, *, tenant: str = "default") -> Blob:
    return await store.blobs.put(tenant, pieces(data))


async def rows(store: Store) -> dict[str, int]:
    """Return how many rows of each table there are, if any."""
    counted = {table.name: await store.access.reader.count(table) for table in TABLES}
    return {name: count for name, count in counted.items() if count}

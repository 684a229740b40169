"""Databases of every kind for the core's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.core.subjects import InMemory, OnPostgres, OnSqlite, Subject
from tests.postgres import shop as on_postgres
from tests.sqlite import shop as on_sqlite

Make = Callable[..., Awaitable[Subject]]
KINDS = ("memory", "sqlite", "postgres")


class Maker:
    """Makes subjects of one kind, and gives back those that a test leaves open."""

    def __init__(self, request: pytest.FixtureRequest, kind: str) -> None:
        self._request = request
        self._kind = kind
        self.made: list[Subject] = []

    async def __call__(self, **options: Any) -> Subject:
        subject: Subject = await getattr(self, f"_on_{self._kind}")(**options)
        self.made.append(subject)
        return subject

    async def _on_memory(self, **options: Any) -> Subject:
        return InMemory(**options)

    async def _on_sqlite(self, **options: Any) -> Subject:
        return OnSqlite(await on_sqlite.open_shop(), **options)

    async def _on_postgres(self, **options: Any) -> Subject:
        url = await on_postgres.new_shop(self._request.getfixturevalue("postgres_server"))
        return OnPostgres(url, await on_postgres.open_shop(url), **options)

    async def leave(self) -> None:
        while self.made:
            await self.made.pop().leave()


@pytest.fixture(params=KINDS)
async def maker(request: Any) -> AsyncIterator[Maker]:
    maker = Maker(request, request.param)
    yield maker
    await maker.leave()


@pytest.fixture
async def backend(maker: Maker) -> Subject:
    """One database, of every kind."""
    return await maker()

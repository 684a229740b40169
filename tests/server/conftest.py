"""A server on a real socket, over a store of every kind, with a clock that tests hold in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from perdure import Engine, Store, VirtualClock, open_store
from perdure.server import Server, serving
from perdure.tokens.contract import Grant
from tests.server.shop import Shop
from tests.stores import store_url

KINDS = ("memory", "postgres")
ALL = ("deliver", "read", "admin")


class Said(msgspec.Struct):
    """An answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        assert self.headers["Content-Type"] == "application/problem+json"
        code: str = self.json["code"]
        return code


class Served:
    """A server, and a client that has a token for everything of tenant `acme`."""

    def __init__(self, server: Server, engine: Engine, shop: Shop, session: aiohttp.ClientSession, token: str) -> None:
        self.server = server
        self.engine = engine
        self.store: Store = engine.store
        self.shop = shop
        self.session = session
        self.token = token

    @property
    def clock(self) -> VirtualClock:
        assert isinstance(self.engine.clock, VirtualClock)
        return self.engine.clock

    async def ask(self, method: str, path: str, *, token: str | None = "", headers: dict[str, str] | None = None, **more: Any) -> Said:
        given = {} if token is None else {"Authorization": f"Bearer {token or self.token}"}
        url = URL(self.server.url + path, encoded=True)
        async with self.session.request(method, url, headers={**given, **(headers or {})}, **more) as response:
            return Said(response.status, response.headers, await response.read())

    async def deliver(self, id: str, kind: str, payload: Any, *, wait_ms: int = 30_000, tenant: str = "acme", **more: Any) -> Said:
        headers = more.pop("headers_sent", None)
        return await self.ask(
            "POST",
            f"/v1/tenants/{tenant}/messages?wait_ms={wait_ms}",
            json={"id": id, "kind": kind, "payload": payload, **more},
            headers=headers,
        )

    @property
    def in_flight(self) -> int:
        return self.server.application.metrics.in_flight

    async def pass_time(self, duration: int) -> None:
        """Let time pass, once whoever is to see it has set its alarm."""
        before = self.clock.now()
        await until(lambda: (alarm := self.clock.next_alarm()) is not None and alarm <= before + duration)
        self.clock.advance(duration)

    async def is_status(self, message_id: str, status: str) -> bool:
        return (await self.engine.explain(message_id, tenant="acme")).status == status

    @asynccontextmanager
    async def waiting_for(self, work: Coroutine[Any, Any, Said]) -> AsyncIterator[asyncio.Task[Said]]:
        """Let a request be under way."""
        task = asyncio.create_task(work)
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def new_token(self, *grants: str, tenant: str = "acme", name: str = "other", lasting: int | None = None) -> str:
        made = await self.store.tokens.create(name, [Grant.parse(one) for one in grants], tenant=tenant, lasting=lasting)
        return made.text


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool]) -> None:
    """Return when something holds that is on its way."""
    async with asyncio.timeout(30):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0)


@asynccontextmanager
async def served_on(store: Store, *, dev: bool = False, **options: Any) -> AsyncIterator[Served]:
    shop = Shop()
    async with Engine(store, shop.app, **options) as engine, serving(engine, dev=dev) as server, aiohttp.ClientSession() as session:
        token = (await store.tokens.create("client", [Grant(one) for one in ALL], tenant="acme")).text
        yield Served(server, engine, shop, session, token)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(store_url(request, request.param, tmp_path), clock=VirtualClock()) as opened:
        yield opened


@pytest.fixture
async def memory() -> AsyncIterator[Store]:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as opened:
        yield opened


@pytest.fixture
async def served(store: Store) -> AsyncIterator[Served]:
    """Serve on every backend that matters."""
    async with served_on(store) as one:
        yield one


@pytest.fixture
async def local(memory: Store) -> AsyncIterator[Served]:
    """Serve in memory: what is tried has nothing to do with the backend."""
    async with served_on(memory) as one:
        yield one


Serving = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serving_with(memory: Store) -> Serving:
    """Serve in memory with other options."""

    def start(**options: Any) -> AbstractAsyncContextManager[Served]:
        return served_on(memory, **options)

    return start

"""A server over a store, with what talks to it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from perdure import App, Engine, Store
from perdure.server.serving import Server, serving
from perdure.worker.worker import Worker

HERE = "/v1/tenants/default"


@asynccontextmanager
async def served(store: Store, *, dev: bool = True) -> AsyncIterator[Server]:
    async with Engine(store, App("none")) as engine, serving(engine, dev=dev) as server:
        yield server


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    task = asyncio.ensure_future(worker.work())
    try:
        yield
    finally:
        worker.stop()
        await task


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=server.url) as session:
        yield session


async def created(session: aiohttp.ClientSession, **fields: Any) -> str:
    async with session.post(f"{HERE}/commands", json={"deployment": "acme", "command": "work", **fields}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["command_id"])


async def leased(session: aiohttp.ClientSession) -> Any:
    async with session.post(f"{HERE}/deployments/acme/leases", json={}) as answer:
        [lease] = (await answer.json())["leases"]
        return lease


async def said(session: aiohttp.ClientSession, method: str, path: str, *, data: Any = None, **named: Any) -> tuple[int, Any]:
    sent = io.BytesIO(data) if isinstance(data, bytes) else data
    async with session.request(method, HERE + path, data=sent, **named) as answer:
        return answer.status, await answer.json(content_type=None)

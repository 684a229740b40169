"""A proxy between a worker or a client and its server: it tells what went through, and a test may hold, refuse or lose it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

_PASSED_ON = ("authorization", "content-type", "idempotency-key", "repr-digest")


class Asked(msgspec.Struct, frozen=True):
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Proxy:
    """What a test holds: `before` may answer itself, `loses` says whose answers do not arrive, `strips` is all below which it knows."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.answered: list[bytes] = []
        self.before: Callable[[Asked], Awaitable[web.StreamResponse | None]] | None = None
        self.loses: Callable[[Asked], bool] = lambda _: False
        self.strips = ""
        self._server = server
        self._session = session

    def of(self, end: str) -> list[Asked]:
        """Return the requests whose path ends so."""
        return [one for one in self.asked if one.path.partition("?")[0].endswith(end)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() in _PASSED_ON}
        asked = Asked(request.method, request.raw_path, {name.lower(): value for name, value in headers.items()}, await request.read())
        self.asked.append(asked)
        if self.before is not None and (said := await self.before(asked)) is not None:
            return said
        if not asked.path.startswith(f"{self.strips}/"):
            return problem(404, "route-not-found")
        url = URL(self._server + asked.path.removeprefix(self.strips), encoded=True)
        async with self._session.request(asked.method, url, data=io.BytesIO(asked.body) if asked.body else None, headers=headers) as answer:
            body = await answer.read()
        self.answered.append(body)
        if self.loses(asked):
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=body, content_type=answer.content_type)


def problem(status: int, code: str, *, detail: str = "so it is", **headers: str) -> web.Response:
    """Return a refusal as the server writes it."""
    body = {"type": f"urn:perdure:problem:{code}", "title": "t", "status": status, "detail": detail, "code": code}
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/problem+json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


@asynccontextmanager
async def proxy_to(server: str) -> AsyncIterator[Proxy]:
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(server, session)
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", proxy.answer)
        runner = web.AppRunner(application, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield proxy
        finally:
            await runner.cleanup()

"""The server as an ASGI application: each request goes through the same checks, in one order, whatever route it is for."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as StarletteRoute
from starlette.types import Message, Receive, Scope, Send

from perdure import limits
from perdure.errors import InternalError, MethodRefused, Overloaded, PerdureError, RouteNotFound
from perdure.server import intake
from perdure.server.doorkeeper import Doorkeeper, admit, nothing_here
from perdure.server.idempotency import Once, digest_of
from perdure.server.metrics import Metrics
from perdure.server.problems import refusal
from perdure.server.route import Answer, Call, Route

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

logger = logging.getLogger("perdure.server")
_NO_ROUTE: Final = "(none)"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_ALWAYS: Final = "/health/"
_FRAMES: Final = 8  # lines of the stack that the log has, the innermost ones
_SERVER_FAULT: Final = 500
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Application:
    """Answers requests for one engine.

    Attributes:
        metrics: what it has done.
        stopping: set when the server stops.
    """

    def __init__(self, engine: Engine, routes: Sequence[Route], *, dev: bool) -> None:
        self.metrics = Metrics()
        self.stopping = asyncio.Event()
        self._engine = engine
        self._archives = 0
        self._doorkeeper = Doorkeeper(engine.store.tokens, engine.clock, self.metrics, dev=dev)
        self._once = Once(engine.store.operations)
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        self._starlette = Starlette(
            routes=[
                StarletteRoute(path, self._endpoint(methods), methods=[], include_in_schema=False)  # any: the endpoint refuses
                for path, methods in by_path.items()
            ],
            exception_handlers={HTTPException: self._unknown},
        )
        self._starlette.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count it."""
        assert scope["type"] == "http", "neither lifespan nor websockets are served"
        # As it came: a '/' that is encoded is part of an identifier, and does not end it.
        scope["path"] = scope["raw_path"].decode("ascii")
        status = _SERVER_FAULT

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.in_flight += 1
        try:
            if self.metrics.in_flight > limits.HTTP_REQUESTS_MAX and not scope["path"].startswith(_ALWAYS):
                busy = Overloaded(f"{limits.HTTP_REQUESTS_MAX:,} requests are under way; repeat later")
                await _response(refusal(busy))(scope, receive, counted)
            else:
                await self._starlette(scope, receive, counted)
        finally:
            self.metrics.in_flight -= 1
            route = scope.get("perdure.route")
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            self.metrics.answered(method, _NO_ROUTE if route is None else route.path, status)

    # --- one request -------------------------------------------------------------------------------------

    def _endpoint(self, methods: Mapping[str, Route]) -> Callable[[Request], Awaitable[Response]]:
        allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))

        async def endpoint(request: Request) -> Response:
            route = methods.get("GET" if request.method == "HEAD" else request.method)
            if route is None:
                error = MethodRefused(f"{request.method} is not for this path; it has {allowed}")
                return _response(refusal(error, headers={"allow": allowed}))
            request.scope["perdure.route"] = route
            made = await self._answered(route, request)
            return _response(made if request.method != "HEAD" else await _without_body(made))

        return endpoint

    async def _answered(self, route: Route, request: Request) -> Answer:
        try:
            return await self._handled(route, request)
        except PerdureError as error:
            made = refusal(error)
            if made.status >= _SERVER_FAULT:
                _log(route, error)
            return made
        except ClientDisconnect:
            return Answer(status=400)  # nobody hears it
        except Exception as error:  # noqa: BLE001  # the edge: the client hears of no internals, the log of no payload
            _log(route, error)
            return refusal(InternalError("it is no fault of the request"))

    async def _handled(self, route: Route, request: Request) -> Answer:
        peer = "" if request.client is None else request.client.host
        if not route.signed:
            return await self._admitted(route, request, peer)
        with self._doorkeeper.signature(peer, str(request.path_params["source"])):
            return await self._admitted(route, request, peer)

    async def _admitted(self, route: Route, request: Request, peer: str) -> Answer:
        headers = request.headers
        principal = await self._doorkeeper.principal(
            route,
            headers.getlist("authorization"),
            peer=peer,
            host=headers.get("host", "").lower(),
            origin=headers.get("origin", "").lower(),
        )
        parts = intake.parts(request.path_params)
        admit(principal, route, parts)
        call = Call(
            engine=self._engine,
            route=route,
            parts=parts,
            query=intake.query(route, request.scope["query_string"]),
            body=None,
            stream=intake.stream(request),
            headers=headers,
            principal=principal,
            stopping=self.stopping,
            gone=lambda: _gone(request),
            again=_never,
            metrics=self.metrics,
        )
        if not route.archive_max:
            return await self._received(call, request, b"" if route.streams else await intake.body(request, route))
        with self._place_for_archive():
            return await self._received(call, request, await intake.archive(request, route))

    @contextmanager
    def _place_for_archive(self) -> Iterator[None]:
        """Let one more archive be in memory, from its first byte to its answer. Raises Overloaded."""
        if self._archives == limits.HTTP_ARCHIVES:
            raise Overloaded(f"{limits.HTTP_ARCHIVES} archives are being deployed already; repeat later")
        self._archives += 1
        try:
            yield
        finally:
            self._archives -= 1

    async def _received(self, call: Call, request: Request, data: bytes) -> Answer:
        route, headers = call.route, request.headers
        call.key = intake.idempotency_key(request) if route.once else None
        call.body = data if route.archive_max else intake.decoded(route, data, headers)
        if call.key is None:
            return await _asked(call)
        # On a thread: to hash the largest archive takes as long as hundreds of other requests.
        said = await asyncio.to_thread(_hash_of, data) if route.archive_max else intake.said(route, data, headers)
        digest = digest_of(request.method, request.scope["path"], request.scope["query_string"], said)
        return await self._once.answer(call, call.key, digest, lambda: _asked(call))

    async def _unknown(self, request: Request, error: Exception) -> Response:
        del request, error
        return _response(refusal(RouteNotFound("the server has no such path; /openapi.json lists those that it has")))


def _hash_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def _never() -> bool:
    return False


async def _gone(request: Request) -> None:
    """Return when the client has left. The body has been received."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _asked(call: Call) -> Answer:
    """Return what the handler says. A thing that is not there is told of like one that is another tenant's."""
    try:
        return await call.route.handler(call)
    except PerdureError as error:
        if call.route.absent is not None and type(error) is call.route.absent:
            raise call.route.absent(nothing_here()) from error
        raise


def _log(route: Route, error: Exception) -> None:
    """Log what failed and where. What the error says may be made of a payload."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    logger.error("%s %s failed with %s at %s", route.method, route.path, type(error).__name__, where)


async def _without_body(made: Answer) -> Answer:
    """Return what is said of an answer whose body nobody wants: a stream is not begun."""
    if made.stream is not None:
        await _close(made.stream)
    return msgspec.structs.replace(made, stream=None)


def _response(made: Answer) -> Response:
    headers = {**_HEADERS, **made.headers}
    if made.stream is not None:
        return StreamingResponse(_closed(made.stream), status_code=made.status, media_type=made.media_type, headers=headers)
    response = Response(made.body, status_code=made.status, headers=headers)
    response.headers["content-type"] = made.media_type
    return response


async def _closed(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the parts of a stream, and close it whoever ends it."""
    try:
        async for part in stream:
            yield part
    finally:
        await _close(stream)


async def _close(stream: AsyncIterator[bytes]) -> None:
    close: Any = getattr(stream, "aclose", None)
    if close is not None:
        await close()

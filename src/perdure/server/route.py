"""What a route is: the one description from which the server, authorisation, the OpenAPI document and the tests are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure.clock import Micros
from perdure.errors import NotFoundError, PerdureError
from perdure.headers import JSON_TYPE
from perdure.identity import TenantId, encode_identifier

if TYPE_CHECKING:
    import asyncio

    from perdure.engine.engine import Engine
    from perdure.server.doorkeeper import Principal
    from perdure.server.metrics import Metrics

EVENTS_TYPE: Final = "text/event-stream"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler says: a body, or a stream of its parts."""

    status: int = 200
    body: bytes = b""
    media_type: str = JSON_TYPE
    headers: dict[str, str] = {}
    stream: AsyncIterator[bytes] | None = None


class NoBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route that takes no query or no body."""


class Call(msgspec.Struct, kw_only=True):
    """One request on its way: who asks for what, checked.

    Attributes:
        engine: of this server.
        route: that was found.
        parts: of the path, decoded.
        query: of the type `route.query`.
        body: of the type `route.takes`.
        stream: the body of a route that streams, as it comes.
        headers: of the request; names are small letters.
        principal: whose token it is.
        stopping: is set when the server stops: who waits ends at once.
        gone: returns when the client has left.
        key: the `Idempotency-Key`, if there is one.
        again: tells whether the same request, by its `Idempotency-Key`, was begun before and not answered.
        metrics: of this server.
    """

    engine: Engine
    route: Route
    parts: Mapping[str, str]
    query: Any
    body: Any
    stream: AsyncIterator[bytes]
    headers: Mapping[str, str]
    principal: Principal
    stopping: asyncio.Event
    gone: Callable[[], Awaitable[None]]
    again: Callable[[], Awaitable[bool]]
    key: str | None = None
    metrics: Metrics

    @property
    def tenant(self) -> TenantId:
        """Whose things are asked for. Raises InvalidIdentifier."""
        return TenantId(self.parts["tenant"])


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One route.

    Attributes:
        name: of the operation, for clients that are made from the OpenAPI document.
        method: GET, POST, PUT or DELETE.
        path: with `{tenant}` and other parts.
        capability: what a token needs; None is open to everybody.
        handler: what it does.
        summary: for people, a sentence.
        takes: the type of the body; None: it has none.
        takes_example: such a body.
        streams: whether the body is any bytes, which the handler takes as they come.
        archive_max: bytes that the archive of a package may have, if the body is one, and no JSON; 0: it is none.
        lasts_us: microseconds that it may take beside its `wait_ms` and what every request may take.
        events: whether the body may be a CloudEvent instead.
        signed: whether the proof of who asks is the request's own signature, and no token.
        query: the type of the query.
        returns: types of the answers, by status; `bytes` for what is no JSON.
        example: an answer, as the first of `returns`.
        pending_example: an answer with the status 202.
        media_types: of the answers that are no JSON.
        errors: what it refuses with, beside what every route does.
        absent: how it says that there is nothing, which a foreign tenant's thing looks like.
    """

    name: str
    method: str
    path: str
    capability: str | None
    handler: Callable[[Call], Awaitable[Answer]]
    summary: str
    takes: type[msgspec.Struct] | None = None
    takes_example: Any = None
    streams: bool = False
    archive_max: int = 0
    lasts_us: Micros = 0
    events: bool = False
    signed: bool = False
    query: type[msgspec.Struct] = NoBody
    returns: Mapping[int, Any] = {}
    example: Any = None
    pending_example: Any = None
    media_types: tuple[str, ...] = ()
    errors: tuple[type[PerdureError], ...] = ()
    absent: type[NotFoundError] | None = None

    @property
    def of_tenant(self) -> bool:
        """Whether it is about things of one tenant."""
        return "{tenant}" in self.path

    @property
    def once(self) -> bool:
        """Whether it takes an `Idempotency-Key`."""
        return self.method == "POST" and not self.signed


def answer(value: Any, *, status: int = 200) -> Answer:
    """Return an answer whose body is this value as JSON."""
    return Answer(status=status, body=_encode(value))


_encode: Final = msgspec.json.Encoder(enc_hook=encode_identifier).encode

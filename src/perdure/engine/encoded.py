"""Messages that come as a kind and JSON, from where the app's classes are not: they become what the app's own code would send.

Source: commands.md, "HTTP".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.core.access import Access
from perdure.engine.addressing import Address, Request
from perdure.engine.handling import operation_key
from perdure.engine.kinds import encoded_message
from perdure.engine.outcomes import failure_of
from perdure.errors import MessageExpired, MessageNotFound, NoRoute, PayloadInvalid, PayloadTooLarge, UsageError
from perdure.identity import MessageId, TenantId, checked_text
from perdure.messages.mail import reference
from perdure.messages.tables import MESSAGE, MessageStatus
from perdure.operations.courses import topic_of

if TYPE_CHECKING:
    from perdure.engine.app import App, HandlerOf, ProcessType

_decode_any: Final = JSON.decoder(Any)


class Reply(NamedTuple):
    """A sealed reply: JSON; or, if the handler failed, the class and text of what it raised."""

    response: bytes
    error: str | None
    text: str


class Encoded(NamedTuple):
    """A message as it is sent, where it goes, and whether the app's own rules say so."""

    request: Request
    address: Address
    routed: bool


def encoded(app: App, kind: str, payload: bytes, *, id: str, to: Address | None) -> Encoded:
    """Return the message that a kind and JSON mean. Its bytes are those that the app's own code would send.

    The kind of a function process is its name and `()`, and its payload the list of its arguments; without `to` it starts
    as `Engine.call` starts it. A kind that no handler of the app has can only be sent with `to`, and is any JSON: so is one for a
    type that only a package defines.

    Raises:
        PayloadInvalid: the payload is no such message.
        PayloadTooLarge: the message is over its limit.
        InvalidIdentifier, NoRoute, UnknownProcessType, UsageError: the kind or the address is wrong.
    """
    checked_text(kind, what="kind", limit=limits.REGISTRY_KEY_MAX)
    if to is not None and to.way == "start" and (made := app.types.get(to.process_type)) is not None:
        found = made.handlers.get(kind)
        if found is None:
            raise NoRoute(f"{kind!r}: {made.name} has no handler for it, so nothing can start with it; it has {sorted(made.handlers)}")
        return Encoded(Request("", kind, _payload(made, found, payload), None), to, routed=False)
    handlers = [(made, handler) for made in app.types.values() if (handler := made.handlers.get(kind)) is not None]
    functions = [(made, handler) for made, handler in handlers if handler.handles is None]
    if functions and to is None:
        [(made, handler)] = functions  # the name of a process type is its own
        data = _payload(made, handler, payload)
        return Encoded(Request("", kind, data, None), Address.start(made.name, id=id), routed=True)
    if to is None:
        return Encoded(*_routed(app, kind, payload), routed=True)
    if not handlers:
        return Encoded(Request("", kind, _checked(JSON.encode(_decode_any(payload)), kind), None), to, routed=False)
    return Encoded(Request("", kind, _any_of(handlers, payload), None), to, routed=False)


def _routed(app: App, kind: str, payload: bytes) -> tuple[Request, Address]:
    handler = app.routed(kind)
    assert handler.handles is not None, "functions have no routes"
    message = handler.decode(payload)
    try:
        address = app.route(message)
    except (UsageError, NoRoute):
        raise
    except Exception as error:  # the app's `key=` is code of anybody's; it has failed at this very payload
        raise PayloadInvalid(f"{kind}: its key or tag cannot be made of this payload: {type(error).__name__}") from error
    return Request("", kind, encoded_message(message), None), address


def _any_of(handlers: list[tuple[ProcessType, HandlerOf]], payload: bytes) -> bytes:
    """Return the payload as one of the classes that have this kind reads it: which process it reaches is not known yet."""
    *others, last = handlers
    for made, handler in others:
        try:
            return _payload(made, handler, payload)
        except PayloadInvalid:
            continue
    return _payload(*last, payload)


def _payload(made: ProcessType, handler: HandlerOf, payload: bytes) -> bytes:
    if handler.handles is not None:
        return encoded_message(handler.decode(payload))
    arguments = _decode_any(payload)
    if not isinstance(arguments, list):
        raise PayloadInvalid(f"{handler.kind}: expected the list of its arguments, found {type(arguments).__name__}")
    data = made.request(handler, tuple(arguments)).payload
    handler.decode(data)
    return data


def _checked(data: bytes, kind: str) -> bytes:
    if len(data) > limits.MESSAGE_MAX:
        raise PayloadTooLarge(f"message {kind}", size=len(data), limit=limits.MESSAGE_MAX)
    return data


async def sealed_reply(access: Access, message_id: str, *, source: str, tenant: str, until: Micros) -> Reply | None:
    """Return the reply of a message as soon as it is sealed, on whichever node; None once the clock is at `until`.

    Raises:
        MessageNotFound: no such message was accepted.
        MessageExpired: its reply is kept no longer.
        InvalidIdentifier: the tenant or the id is none.
    """
    tenant_id = TenantId(tenant)
    message = MESSAGE.key(tenant_id, source, MessageId(message_id))
    key = operation_key(tenant_id, reference(source, message_id))
    with access.signals.listen(topic_of(key)) as listener:
        while True:
            row = await access.reader.get(key)
            if row is not None and row.response is not None:
                if row.outcome == "error":
                    return Reply(b"null", *failure_of(row.response))
                return Reply(row.response, None, "")
            accepted = await access.reader.get(message)
            if accepted is None:
                raise MessageNotFound(f"no message {message_id!r} (source {source!r}) in tenant {tenant_id}; it was never accepted here")
            if accepted.status == MessageStatus.EXPIRED:
                raise MessageExpired(f"message {message_id!r} was done, and its reply is kept no longer")
            if access.clock.now() >= until:
                return None
            await listener.wait(until)

"""CloudEvents as messages.

Source: CloudEvents 1.0.2, "HTTP Protocol Binding"; commands.md, "HTTP".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from perdure.cloudevents.event import CloudEvent, is_json, json_of
from perdure.cloudevents.http import PREFIX, decoded, is_cloud_event
from perdure.errors import CloudEventInvalid
from perdure.headers import Headers
from perdure.protocol.messages import NewMessage, To, ToKey, ToProcess, ToTag

ADDRESSES: Final[Mapping[str, type[ToProcess | ToKey | ToTag]]] = {"toprocess": ToProcess, "tokey": ToKey, "totag": ToTag}
"""Extension attributes that say where an event goes; without one, the app's handlers say it."""


def is_event(headers: Mapping[str, str]) -> bool:
    """Whether a request says that it is a CloudEvent."""
    return is_cloud_event(Headers(list(headers.items())))


def attributes(headers: Mapping[str, str]) -> list[bytes]:
    """Return the headers that are attributes of an event, in one order whatever order they came in."""
    return sorted(f"{name}: {value}".encode() for name, value in headers.items() if name.startswith(PREFIX) or name == "content-type")


def trace_of(kept: Mapping[str, str]) -> dict[str, str]:
    """Return what the kept headers of an event say of its trace: where it began. A request that has a trace of its own is nearer."""
    return {name: kept[f"{PREFIX}{name}"] for name in ("traceparent", "tracestate") if f"{PREFIX}{name}" in kept}


def message_of(headers: Mapping[str, str], body: bytes) -> NewMessage:
    """Return the message that an event is: its type is the kind, its data the payload, its source and id are those of the message.

    Subject, time and extensions are kept in the message's headers, as `ce-subject` and so on.

    Raises:
        CloudEventInvalid, CloudEventBatched: it is none.
    """
    event = decoded(Headers(list(headers.items())), body)
    if event.data is not None and not is_json(event.datacontenttype):
        raise CloudEventInvalid("datacontenttype", f"a message is JSON, found {event.datacontenttype!r}")
    return NewMessage(
        id=event.id,
        kind=event.type,
        payload=msgspec.Raw(json_of(event.data)),
        to=_to(event),
        source=event.source,
        headers={f"{PREFIX}{name}": _text(value) for name, value in event.attributes().items() if name not in _KEPT_ELSEWHERE},
    )


_KEPT_ELSEWHERE: Final = frozenset({"specversion", "id", "source", "type", "datacontenttype", *ADDRESSES})


def _text(value: object) -> str:
    """Return a value as the binary mode writes it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _to(event: CloudEvent) -> To | None:
    found = [(name, event.extensions[name]) for name in ADDRESSES if name in event.extensions]
    if len(found) > 1:
        raise CloudEventInvalid(found[1][0], f"an event goes to one place, and has {found[0][0]} already")
    for name, value in found:
        if not isinstance(value, str):
            raise CloudEventInvalid(name, "it is text")
        return ADDRESSES[name](value)
    return None

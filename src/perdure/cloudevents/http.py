"""CloudEvents in HTTP requests.

Source: CloudEvents 1.0.2, "HTTP Protocol Binding" and "JSON Event Format".
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from perdure import limits
from perdure.cloudevents.event import (
    CHECKS,
    CloudEvent,
    bytes_of,
    charset_of,
    checked_event,
    data_of,
    data_of_base64,
    event_of,
    is_json,
    json_of,
)
from perdure.codec import JSON
from perdure.errors import CloudEventBatched, CloudEventInvalid, PayloadInvalid
from perdure.headers import JSON_TYPE, Headers

STRUCTURED: Final = "application/cloudevents+json"
_FAMILY: Final = "application/cloudevents"
_BATCH: Final = "application/cloudevents-batch"
PREFIX: Final = "ce-"
_ENCODED: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNSAFE: Final = re.compile("[^\x21\x23\x24\x26-\x7e]")  # a space, `"`, `%`, and what is not printable ASCII
_ESCAPE: Final = re.compile(r"\\(.)")
_decode: Final = JSON.decoder(dict[str, Any], what="a JSON object")


def is_cloud_event(headers: Headers) -> bool:
    """Whether a request says that it is a CloudEvent, in any mode, valid or not."""
    return headers.media_type().startswith(_FAMILY) or any(name.startswith(PREFIX) for name in headers)


def decoded(headers: Headers, body: bytes) -> CloudEvent:
    """Return the event of a request: in structured mode when its content type says so, else in binary mode.

    Raises:
        CloudEventInvalid: an attribute breaks its rules; `attribute` names it.
        CloudEventBatched: the request is a batch.
    """
    media_type = headers.media_type()
    if media_type.startswith(_BATCH):
        raise CloudEventBatched("a batch of CloudEvents is not taken; send each event in a request of its own")
    if media_type == STRUCTURED:
        return _from_structured(headers, body)
    if media_type.startswith(_FAMILY):
        raise CloudEventInvalid("content-type", f"expected {STRUCTURED}; other formats of structured events are not known here")
    return _from_binary(headers, body)


def _from_structured(headers: Headers, body: bytes) -> CloudEvent:
    if charset_of(headers["content-type"]) not in {"utf-8", "us-ascii"}:
        raise CloudEventInvalid("content-type", "a structured event is UTF-8")
    try:
        members = _decode(body)
    except PayloadInvalid as error:
        raise CloudEventInvalid("body", str(error)) from error
    # The format says that null is the same as absent.
    members = {name: value for name, value in members.items() if value is not None}
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    if data is not None and encoded is not None:
        raise CloudEventInvalid("data_base64", "an event has data or data_base64, not both")
    event = event_of(members, None)  # the attributes first: the data are read by one of them
    if encoded is not None:
        data = data_of_base64(encoded, event.datacontenttype)
    elif isinstance(data, str) and not is_json(event.datacontenttype):
        data = data_of(data.encode("utf-8", "surrogatepass"), event.datacontenttype)
    elif data is not None and not is_json(event.datacontenttype):
        raise CloudEventInvalid("data", "with a content type that is not JSON, it is text; or bytes, in data_base64")
    return event_of(members, data)


def _from_binary(headers: Headers, body: bytes) -> CloudEvent:
    attributes: dict[str, object] = {}
    for name in headers:
        if name == "content-type":
            attributes["datacontenttype"] = _once(headers, name, "datacontenttype")
        elif name.startswith(PREFIX):
            attribute = name.removeprefix(PREFIX)
            if attribute == "datacontenttype":
                raise CloudEventInvalid(attribute, "in binary mode, this is the header content-type")
            attributes[attribute] = _header_decoded(attribute, _once(headers, name, attribute))
    content_type = attributes.get("datacontenttype")
    event_of(attributes, None)  # the attributes first: their errors are the clearer ones
    return event_of(attributes, data_of(body, content_type if isinstance(content_type, str) else None))


def _once(headers: Headers, name: str, attribute: str) -> str:
    if headers.times(name) != 1:
        raise CloudEventInvalid(attribute, f"the header {name} was given {headers.times(name)} times")
    return headers[name].strip(" \t")


def _header_decoded(attribute: str, value: str) -> str:
    if not value.isascii():
        raise CloudEventInvalid(attribute, "a header is ASCII; everything else is `%` and two hex digits for each byte of UTF-8")
    if len(value) >= 2 and value[0] == value[-1] == '"':  # noqa: PLR2004  # the two quotes, which older senders write
        value = _ESCAPE.sub(r"\1", value[1:-1])
    found = _ENCODED.findall(value.encode())
    if b"" in found:
        raise CloudEventInvalid(attribute, "a `%` is followed by two hex digits; for the character itself write %25")
    try:
        return _ENCODED.sub(lambda match: bytes.fromhex(match[1].decode()), value.encode()).decode()
    except UnicodeDecodeError:
        raise CloudEventInvalid(attribute, "its percent-encoded bytes are no UTF-8") from None


# --- encoding ----------------------------------------------------------------------------------------------


def structured(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in structured mode. Raises CloudEventInvalid."""
    checked = checked_event(event)
    members: dict[str, Any] = {**checked.attributes()}
    if isinstance(checked.data, bytes):
        members["data_base64"] = base64.b64encode(checked.data).decode()
    elif checked.data is not None:
        members["data"] = checked.data
    return {"content-type": STRUCTURED}, json_of(members)


def binary(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in binary mode. Raises CloudEventInvalid.

    A content type that is not given is JSON's when there are data. Numbers and booleans become text.
    """
    checked = checked_event(event)
    body = bytes_of(checked)
    headers = {f"{PREFIX}{name}": _header_encoded(name, value) for name, value in checked.attributes().items() if name != "datacontenttype"}
    content_type = checked.datacontenttype or (JSON_TYPE if body else None)
    return headers if content_type is None else {**headers, "content-type": content_type}, body


def _header_encoded(attribute: str, value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    encoded = _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)
    if len(encoded) > limits.CLOUD_EVENT_ATTRIBUTE_MAX:
        raise CloudEventInvalid(
            attribute, f"it has {len(encoded):,} characters as a header, the limit is {limits.CLOUD_EVENT_ATTRIBUTE_MAX:,}"
        )
    return encoded


assert set(CHECKS) <= set(CloudEvent.__struct_fields__), "every attribute that is checked by name is a field"

"""What a CloudEvent is, and the rules of its attributes.

Source: CloudEvents 1.0.2, "Context Attributes" and "Type System".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.errors import CloudEventInvalid, PayloadInvalid, PayloadUnencodable
from perdure.headers import JSON_TYPE

Scalar = str | int | bool
"""The value of an extension. In binary mode all of them are text."""

SPEC_VERSION: Final = "1.0"
_INT_MIN: Final = -(2**31)
_INT_MAX: Final = 2**31 - 1
_NAME: Final = re.compile(r"[a-z0-9]+")
# C0, DEL and C1, surrogates, and what Unicode says is no character.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_URI_REFERENCE: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105  # of HTTP's grammar, no secret
_QUOTED: Final = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_MEDIA_TYPE: Final = re.compile(rf"({_TOKEN}/{_TOKEN})((?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*)[ \t]*;?[ \t]*")
_CHARSET: Final = re.compile(r';[ \t]*charset="?([A-Za-z0-9._:+-]+)"?', re.IGNORECASE)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_RESERVED: Final = frozenset({"data", "specversion"})
_decode: Final = JSON.decoder(Any, what="JSON")


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. It is checked where it is decoded and where it is encoded.

    Attributes:
        id: with `source`, it names the event.
        source: a URI reference.
        type: what has happened.
        subject: what it is about.
        time: RFC 3339, as it was written.
        datacontenttype: a media type; JSON when it is not given.
        dataschema: an absolute URI.
        extensions: all other attributes.
        data: decoded JSON when the content type is JSON; text when it is `text/…` and UTF-8; else bytes. None when there is none.
    """

    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: dict[str, Scalar] = {}
    data: Any = None

    def __repr__(self) -> str:
        return f"CloudEvent(id={self.id!r}, source={self.source!r}, type={self.type!r})"  # what it says belongs into no log

    def attributes(self) -> dict[str, Scalar]:
        """Return every attribute that is set, `specversion` included, without the data."""
        named = {name: getattr(self, name) for name in CHECKS if getattr(self, name) is not None}
        return {"specversion": SPEC_VERSION, **named, **self.extensions}


def event_of(attributes: Mapping[str, object], data: Any) -> CloudEvent:
    """Return the event of these attributes. Raises CloudEventInvalid, which names the first that breaks a rule.

    Args:
        attributes: by name, `specversion` included.
        data: as `CloudEvent.data` says.
    """
    if len(attributes) > limits.CLOUD_EVENT_ATTRIBUTES_MAX:
        raise CloudEventInvalid(
            ascii(list(attributes)[limits.CLOUD_EVENT_ATTRIBUTES_MAX])[1:-1][: limits.REPR_MAX],
            f"an event has at most {limits.CLOUD_EVENT_ATTRIBUTES_MAX} attributes",
        )
    for required in ("specversion", "id", "source", "type"):
        if required not in attributes:
            raise CloudEventInvalid(required, "it is missing")
    if attributes["specversion"] != SPEC_VERSION:
        raise CloudEventInvalid("specversion", f"expected {SPEC_VERSION!r}, found another version; this one is not known here")
    named: dict[str, Any] = {}
    extensions: dict[str, Scalar] = {}
    for name, value in attributes.items():
        if name in CHECKS:
            named[name] = _checked(name, value)
        elif name != "specversion":
            extensions[name] = _extension(name, value)
    return CloudEvent(**named, extensions=extensions, data=data)


def checked_event(event: CloudEvent) -> CloudEvent:
    """Return an event that somebody has made, with its data in the form that its content type says. Raises CloudEventInvalid."""
    taken = sorted((set(CHECKS) | _RESERVED) & set(event.extensions))
    if taken:
        raise CloudEventInvalid(taken[0], "this is no extension")
    made = event_of(event.attributes(), event.data)
    return msgspec.structs.replace(made, data=_data_in_form(made))


def _data_in_form(event: CloudEvent) -> Any:
    match event.data:
        case bytes() | bytearray() | memoryview():
            return data_of(bytes(event.data), event.datacontenttype)
        case str() if not is_json(event.datacontenttype):
            return data_of(event.data.encode("utf-8", "surrogatepass"), event.datacontenttype)
        case None:
            return None
        case _ if is_json(event.datacontenttype):
            return event.data
        case _:
            raise CloudEventInvalid("data", "with a content type that is not JSON, it is bytes or text")


# --- data --------------------------------------------------------------------------------------------------


def is_json(content_type: str | None) -> bool:
    """Whether data of a content type is JSON: when none is given, it is."""
    subtype = (content_type or JSON_TYPE).partition(";")[0].partition("/")[2].strip().lower()
    return subtype == "json" or subtype.endswith("+json")


def data_of(data: bytes, content_type: str | None) -> Any:
    """Return what these bytes are, by their content type; None when there are none. Raises CloudEventInvalid."""
    if not data:
        return None
    if is_json(content_type):
        try:
            return _decode(data)
        except PayloadInvalid as error:
            raise CloudEventInvalid("data", f"{error}; its content type is {content_type or JSON_TYPE}") from error
    if is_text(content_type):
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    return data


def is_text(content_type: str | None) -> bool:
    """Whether data of a content type is text in UTF-8."""
    found = content_type or ""
    return found.lower().startswith("text/") and charset_of(found) in {"utf-8", "us-ascii"} and not is_json(found)


def charset_of(content_type: str) -> str:
    """Return the charset of a content type in lower case, `utf-8` when it names none."""
    found = _CHARSET.search(content_type)
    return found[1].lower() if found else "utf-8"


def bytes_of(event: CloudEvent) -> bytes:
    """Return the data of a checked event as the body of a request. Raises CloudEventInvalid."""
    match event.data:
        case None:
            return b""
        case bytes():
            return event.data
        case str() if not is_json(event.datacontenttype):
            return event.data.encode()
        case _:
            return json_of(event.data)


def json_of(value: Any) -> bytes:
    """Return data as JSON. Raises CloudEventInvalid."""
    try:
        return JSON.encode(value)
    except PayloadUnencodable as error:
        raise CloudEventInvalid("data", str(error)) from error


def data_of_base64(text: object, content_type: str | None) -> Any:
    """Return what `data_base64` of a structured event holds. Raises CloudEventInvalid."""
    try:
        return data_of(base64.b64decode(_of_type("data_base64", text, str), validate=True), content_type)
    except (binascii.Error, ValueError) as error:
        raise CloudEventInvalid("data_base64", "it is no Base64 text") from error


# --- attributes --------------------------------------------------------------------------------------------


def _checked(name: str, value: object) -> str:
    text = _text(name, _of_type(name, value, str))
    if not text:
        raise CloudEventInvalid(name, "it is empty")
    reason = CHECKS[name](text)
    if reason:
        raise CloudEventInvalid(name, reason)
    return text


def _extension(name: str, value: object) -> Scalar:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > limits.CLOUD_EVENT_ATTRIBUTE_MAX or name in _RESERVED:
        raise CloudEventInvalid(
            ascii(name)[1:-1][: limits.REPR_MAX], "a name consists of lower-case letters a-z and digits, and is not 'data'"
        )
    match value:
        case bool():
            return value
        case int() if _INT_MIN <= value <= _INT_MAX:
            return value
        case str():
            return _text(name, value)
        case _:
            raise CloudEventInvalid(name, "expected text, true, false, or an integer of 32 bits")


def _of_type(name: str, value: object, kind: type[str]) -> str:
    if not isinstance(value, kind):
        raise CloudEventInvalid(name, f"expected text, found {type(value).__name__}")
    return value


def _text(name: str, value: str) -> str:
    if len(value) > limits.CLOUD_EVENT_ATTRIBUTE_MAX:
        raise CloudEventInvalid(name, f"it has {len(value):,} characters, the limit is {limits.CLOUD_EVENT_ATTRIBUTE_MAX:,}")
    if _FORBIDDEN.search(value):
        raise CloudEventInvalid(name, "control characters, lone surrogates and what is no character are not allowed")
    return value


def _any_text(value: str) -> str:  # noqa: ARG001  # what every text keeps is checked before
    return ""


def _uri_reference(value: str) -> str:
    return "" if _URI_REFERENCE.fullmatch(value) else "expected a URI reference: ASCII, with `%` and two hex digits for everything else"


def _absolute_uri(value: str) -> str:
    return "" if _SCHEME.match(value) and _URI_REFERENCE.fullmatch(value) else "expected an absolute URI"


def _media_type(value: str) -> str:
    return "" if _MEDIA_TYPE.fullmatch(value) else "expected a media type, such as application/json"


def _instant(value: str) -> str:
    found = _TIME.fullmatch(value)
    expected = "expected an RFC 3339 time, such as 2026-11-23T09:30:00Z"
    if found is None:
        return expected
    seconds = "59" if found[3] == "60" else found[3]  # a leap second is one, though datetime has none
    try:
        datetime.fromisoformat(f"{found[1]}T{found[2]}:{seconds}{found[4].upper()}")
    except ValueError:
        return expected
    return ""


CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "id": _any_text,
    "source": _uri_reference,
    "type": _any_text,
    "subject": _any_text,
    "time": _instant,
    "datacontenttype": _media_type,
    "dataschema": _absolute_uri,
}

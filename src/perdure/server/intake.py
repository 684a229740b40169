"""What comes with a request, read strictly: parts of the path, the query, and the body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import inspect
from starlette.requests import Request

from perdure import limits
from perdure.errors import BodyMalformed, MediaTypeRefused, PackageTooLarge, PayloadTooLarge, RequestInvalid, RequestTooSlow
from perdure.headers import BINARY_TYPE, JSON_TYPE, traceparent_of
from perdure.server.events import attributes, is_event, message_of
from perdure.server.route import Route

_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEY_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', re.ASCII)
_KEY_PLAIN: Final = re.compile(r"[\x21\x23-\x7e][\x21-\x7e]*", re.ASCII)
_WRITTEN: Final[Mapping[type[inspect.Type], re.Pattern[str]]] = {
    # As JSON has it: what msgspec reads beyond that (`1e2`, `TRUE`, `null`), the document does not promise.
    inspect.IntType: re.compile(r"-?[0-9]{1,19}", re.ASCII),
    inspect.BoolType: re.compile(r"true|false", re.ASCII),
    inspect.LiteralType: re.compile(r"(?!null\Z).*", re.DOTALL | re.IGNORECASE),
    inspect.DateTimeType: re.compile(r"\d{4}-\d\d-\d\dT.*", re.ASCII | re.DOTALL),
}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
ARCHIVE_TYPES: Final = ("application/zip", BINARY_TYPE)
TRACE_HEADERS: Final = ("traceparent", "tracestate")


def unquoted(text: str, *, what: str) -> str:
    """Return percent-encoded text, decoded. Raises BodyMalformed for what is no encoding, or no UTF-8."""
    data = text.encode()
    if _PERCENT.search(data):
        raise BodyMalformed(f"{what}: expected percent-encoded UTF-8, found a '%' without two hex digits behind it")
    try:
        return unquote_to_bytes(data).decode()
    except UnicodeDecodeError:
        raise BodyMalformed(f"{what}: expected percent-encoded UTF-8, found bytes that are none") from None


def parts(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of a path, decoded. Raises BodyMalformed."""
    return {name: unquoted(str(text), what=f"the part {name!r} of the path") for name, text in raw.items()}


def query(route: Route, data: bytes) -> Any:
    """Return the query as the route's type. Raises BodyMalformed, RequestInvalid."""
    kinds = _kinds(route.query)
    found: dict[str, Any] = {}
    for pair in data.decode("latin-1").split("&") if data else ():
        name, _, value = (unquoted(part.replace("+", " "), what="the query") for part in pair.partition("="))
        if _CONTROL.search(value):
            raise RequestInvalid(f"query: {name!r}: control characters are not allowed")
        kind = kinds.get(name, inspect.StrType)
        if kind in _WRITTEN and not _WRITTEN[kind].fullmatch(value):
            raise RequestInvalid(f"query: {name!r}: {value!r:.{limits.REPR_MAX}} is not written as the document says")
        if kind is inspect.ListType:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise RequestInvalid(f"query: {name!r} is given twice")
        else:
            found[name] = value
    try:
        return msgspec.convert(found, route.query, strict=False)
    except msgspec.ValidationError as error:
        raise RequestInvalid(f"query: {error}") from None


@cache
def _kinds(query: type[msgspec.Struct]) -> dict[str, type[inspect.Type]]:
    """Return of what kind each field is when it is given."""
    described = inspect.type_info(query)
    assert isinstance(described, inspect.StructType), "a query is a struct"
    found: dict[str, type[inspect.Type]] = {}
    for field in described.fields:
        options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        plain = (one.type if isinstance(one, inspect.Metadata) else one for one in options)
        (found[field.name],) = {type(one) for one in plain} - {inspect.NoneType}
    return found


async def body(request: Request, route: Route) -> bytes:
    """Return the bytes of the body, received within the limits.

    Raises:
        MediaTypeRefused, PayloadTooLarge, RequestTooSlow, RequestInvalid: it is not taken.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limits.HTTP_BODY_MAX:
        raise PayloadTooLarge("body", size=int(announced), limit=limits.HTTP_BODY_MAX)
    if route.events and is_event(request.headers):
        pass  # it says itself what it is, in ways of its own
    elif route.takes is not None and (announced != "0" or "transfer-encoding" in request.headers):
        check_type(request.headers.get("content-type"))
    data = bytearray()
    try:
        async with asyncio.timeout(limits.HTTP_BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limits.HTTP_BODY_MAX:
                    raise PayloadTooLarge("body, so far", size=len(data), limit=limits.HTTP_BODY_MAX)
    except TimeoutError:
        raise RequestTooSlow(f"body: it did not arrive within {limits.HTTP_BODY_SECONDS:g} s, {len(data):,} bytes came") from None
    if data and route.takes is None:
        raise RequestInvalid(f"body: {route.method} {route.path} takes none, found {len(data):,} bytes")
    return bytes(data)


async def archive(request: Request, route: Route) -> bytes:
    """Return the bytes of a body that is an archive, received within the limits.

    Raises:
        MediaTypeRefused: it is not said to be an archive, which no page of a browser can say without asking first.
        PackageTooLarge, RequestTooSlow: it is not taken.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ARCHIVE_TYPES:
        raise MediaTypeRefused(f"content-type: expected {' or '.join(ARCHIVE_TYPES)}, found {kind!r}")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > route.archive_max:
        raise PackageTooLarge("body: bytes", found=int(announced), limit=route.archive_max)
    data = bytearray()
    async for piece in stream(request):
        data += piece
        if len(data) > route.archive_max:
            raise PackageTooLarge("body: bytes, so far", found=len(data), limit=route.archive_max)
    return bytes(data)


async def stream(request: Request) -> AsyncIterator[bytes]:
    """Yield the bytes of the body as they come, in pieces each of which has its time: who sends too slowly is not waited for.

    How many they may be, whoever takes them says.

    Raises:
        MediaTypeRefused, RequestTooSlow: it is not taken.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise MediaTypeRefused(f"content-encoding: expected none, found {request.headers['content-encoding']!r}")
    chunks, more = request.stream(), True
    while more:
        piece = bytearray()
        try:
            async with asyncio.timeout(limits.HTTP_BODY_SECONDS):
                # The time is for what comes from the network: nothing is yielded while it runs.
                while more and len(piece) < limits.HTTP_PIECE:
                    chunk = await anext(chunks, None)
                    more = chunk is not None
                    piece += chunk or b""
        except TimeoutError:
            raise RequestTooSlow(
                f"body: {limits.HTTP_PIECE:,} bytes of it did not arrive within {limits.HTTP_BODY_SECONDS:g} s, {len(piece):,} came"
            ) from None
        if piece:
            yield bytes(piece)


def check_type(found: str | None) -> None:
    """Raise MediaTypeRefused unless it is JSON in UTF-8."""
    kind, _, parameters = (found or "").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if kind.strip() != JSON_TYPE or charset not in ("", "charset=utf-8"):
        raise MediaTypeRefused(f"content-type: expected {JSON_TYPE}, found {found!r}")


def said(route: Route, data: bytes, headers: Mapping[str, str]) -> bytes:
    """Return all that a request says: its body, and of a CloudEvent the attributes that are headers."""
    return b"\n".join((*attributes(headers), b"", data)) if route.events and is_event(headers) else data


def decoded(route: Route, data: bytes, headers: Mapping[str, str]) -> Any:
    """Return the body as the route's type. Raises BodyMalformed, RequestInvalid, CloudEventInvalid, CloudEventBatched."""
    if route.takes is None:
        return None
    if route.events and is_event(headers):
        return message_of(headers, data)
    if not data and not any(field.required for field in msgspec.structs.fields(route.takes)):
        return route.takes()
    try:
        data.decode()  # what is kept as it came is not looked into by the decoder
        return msgspec.json.decode(data, type=route.takes)
    except UnicodeDecodeError as error:
        raise BodyMalformed(f"body: expected UTF-8, found other bytes at {error.start}") from None
    except msgspec.ValidationError as error:
        raise RequestInvalid(f"body: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyMalformed(f"body: expected JSON: {error}") from None


def idempotency_key(request: Request) -> str | None:
    """Return the `Idempotency-Key` of a request: a string of RFC 9651, or the same without quotes. Raises RequestInvalid."""
    found = request.headers.getlist("idempotency-key")
    if not found:
        return None
    text = found[0].strip()
    quoted = _KEY_QUOTED.fullmatch(text)
    plain = text if _KEY_PLAIN.fullmatch(text) else ""
    key = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    if len(found) > 1 or not 1 <= len(key) <= limits.IDEMPOTENCY_KEY_MAX:
        raise RequestInvalid(
            f'Idempotency-Key: expected one header with 1 to {limits.IDEMPOTENCY_KEY_MAX} printable characters, as in "0192f0c1-…"'
        )
    return key


def trace(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the W3C trace context of a request; nothing for one that is none, as the recommendation says."""
    if not traceparent_of(headers):
        return {}
    return {name: headers[name] for name in TRACE_HEADERS if headers.get(name)}

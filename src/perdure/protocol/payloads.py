"""How params and results become bytes, inline or apart, and values again.

Bytes are JSON text in Base64 while they are inline, and themselves when they are apart: their reader gets the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.codec import JSON
from perdure.headers import BINARY_TYPE, JSON_TYPE

_STRING: Final = b'"'


class Payload(msgspec.Struct, frozen=True):
    """Bytes, and what they are."""

    data: bytes
    content_type: str


def payload_of(value: object, *, inline_max: int) -> Payload:
    """Return a value as it is sent: as JSON; bytes that are too many to be inline as JSON are sent as they are.

    Raises:
        PayloadUnencodable: it is neither.
    """
    if isinstance(value, bytes) and len(value) * 4 > inline_max * 3:
        return Payload(value, BINARY_TYPE)
    data = JSON.encode(value)
    if isinstance(value, bytes) and len(data) > inline_max:
        return Payload(value, BINARY_TYPE)
    return Payload(data, JSON_TYPE)


def reader_of(kind: Any) -> Callable[[Payload], Any]:
    """Return what reads a payload as `kind`. It raises PayloadInvalid.

    As `bytes`: those that were sent; of what was sent as JSON and is no text, the JSON. As anything else: the value of the JSON.
    """
    decode = JSON.decoder(kind)

    def read(payload: Payload) -> Any:
        apart = payload.content_type.partition(";")[0].strip().lower() != JSON_TYPE
        if kind is bytes and (apart or not payload.data.lstrip().startswith(_STRING)):
            return payload.data
        return decode(payload.data)

    return read

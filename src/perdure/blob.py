"""The name of bytes that are kept apart, and how a process is told of a result that is one."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_
from types import UnionType
from typing import Any, Final, NamedTuple, Union, get_args, get_origin

import msgspec

from perdure.codec import JSON
from perdure.errors import PayloadInvalid
from perdure.headers import BINARY_TYPE
from perdure.names import public_name

_PREFIX: Final = b'{"perdure.Blob":'


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are kept apart, named by what they are.

    Args:
        sha256: 64 hex digits.
        size: in bytes.
        content_type: what whoever stored them said they are.
    """

    sha256: str
    size: int
    content_type: str = BINARY_TYPE


class Holder(NamedTuple):
    """Who refers to a blob: the `params` or the `result` of a command."""

    tenant_id: str
    command_id: str
    part: str


def blob_response(blob: Blob) -> bytes:
    """Return what a process is told of a result that is kept apart."""
    return _PREFIX + msgspec.json.encode(blob) + b"}"


def inline_response(data: bytes) -> bytes:
    """Return what a process is told of a result that is JSON: the same JSON, and never what says that it is kept apart."""
    return b" " + data if data.startswith(_PREFIX) else data


def response_decoder(kind: Any) -> Callable[[bytes], Any]:
    """Return what reads a result as `kind`: a Blob when it is kept apart and `kind` allows that, as `Picked | Blob` or Any do."""
    options = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    inline = [option for option in options if option is not Blob]
    decode = JSON.decoder(reduce(or_, inline)) if inline and len(inline) < len(options) else JSON.decoder(kind)
    allowed = kind in {Any, object} or Blob in options

    def decoded(data: bytes) -> Any:
        if not data.startswith(_PREFIX):
            return decode(data)
        if not allowed:
            raise PayloadInvalid(
                f"not a {public_name(str(getattr(kind, '__name__', kind)))}: the result is kept apart; ask for result=perdure.Blob"
            )
        return msgspec.json.decode(data[len(_PREFIX) : -1], type=Blob)

    return decoded

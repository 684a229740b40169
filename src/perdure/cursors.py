"""Cursors: places of lists as text, which a page gives out and the next one begins after. What is in one is nobody else's to read."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from perdure import limits
from perdure.errors import UsageError

T = TypeVar("T")


def cursor_of(place: Any) -> str:
    """Return a text of `A-Z a-z 0-9 - _` that names a place: plain data, or a Struct with `array_like`."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")


def named_by(cursor: str, kind: type[T]) -> T:
    """Return the place of some kind that a cursor names. Raises UsageError when it names none."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True)
        return msgspec.msgpack.decode(data, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise no_cursor(cursor) from error


def no_cursor(cursor: str) -> UsageError:
    """Return the error for an `after` that no page has given out."""
    return UsageError(f"after={cursor[: limits.REPR_MAX]!r}: expected the `next` of the page before")

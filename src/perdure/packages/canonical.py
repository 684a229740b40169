"""The JSON of packages: one spelling of each value, so that equal manifests have equal bytes and one identity."""

from __future__ import annotations

from typing import Final

from perdure import limits
from perdure.schemas.canonical import Json, parse, text_of

_PARTS: Final = (b"[", b"{", b",")


def encode(value: Json) -> bytes:
    """Return the one spelling of `value`.

    Args:
        value: null, booleans, integers within ±(2^53-1), text without lone surrogates, lists, and dicts with ASCII keys;
            at most 64 lists and dicts inside one another.

    Raises:
        ValueError: it holds anything else; the text says what.

    Source: packages-detail.md, B.2.
    """
    return text_of(value).encode()


def decode(data: bytes) -> Json:
    """Return what `data` says. A spelling that `encode` would not have written is refused.

    Raises:
        ValueError: these bytes are no JSON, or not in the one spelling, or have more parts than `limits.PACKAGE_PARTS_MAX`.

    Source: packages-detail.md, B.2.
    """
    # A list of nothing is two bytes, and 60 in memory: many of them are refused before the first is made.
    parts = sum(data.count(part) for part in _PARTS)
    if parts > limits.PACKAGE_PARTS_MAX:
        raise ValueError(f"{parts:,} brackets, braces and commas, the limit is {limits.PACKAGE_PARTS_MAX:,}")
    return parse(data)


def said_by(error: Exception) -> str:
    """Return the text of an error about bytes that may be anybody's: what it quotes is cut, and moves no terminal's cursor."""
    text = str(error)[: limits.ERROR_TEXT_MAX]
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)

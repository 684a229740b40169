"""Headers of an HTTP request: names without case, and what was given twice is known."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from perdure import limits

BUILT_WITH: Final = "built-with"
"""The header that says what a package was built with: an object of JSON, in ASCII."""
JSON_TYPE: Final = "application/json"
BINARY_TYPE: Final = "application/octet-stream"
_TRACE_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?", re.ASCII)
_FIRST_VERSION: Final = len("00-") + 32 + 1 + 16 + 1 + 2


def digest_header(sha256: bytes) -> str:
    """Return a SHA-256 as `Content-Digest` and `Repr-Digest` have it (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def traceparent_of(headers: Mapping[str, str]) -> str:
    """Return the `traceparent` of W3C trace context; empty when there is none, or one that is none, as the recommendation says."""
    parent = headers.get("traceparent", "")
    if len(parent) > limits.TRACEPARENT_MAX or not _TRACE_PARENT.fullmatch(parent):
        return ""
    return "" if parent.startswith("00-") and len(parent) != _FIRST_VERSION else parent


class Headers(Mapping[str, str]):
    """Headers by name, in lower case. A name that was given several times has its values joined by `, `, as HTTP says.

    Args:
        given: pairs of name and value, or a mapping.
    """

    __slots__ = ("_lines",)

    def __init__(self, given: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._lines: dict[str, list[str]] = {}
        for name, value in given.items() if isinstance(given, Mapping) else given:
            self._lines.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._lines[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        return f"Headers({sorted(self._lines)})"  # values may be secrets

    def times(self, name: str) -> int:
        """Return how many times a header was given."""
        return len(self._lines.get(name.lower(), ()))

    def media_type(self) -> str:
        """Return the content type in lower case and without its parameters; empty when there is none."""
        return self.get("content-type", "").partition(";")[0].strip().lower()

"""Canonical JSON: the one spelling of a document, so that equal documents have equal bytes and one hash.

UTF-8 without white space; objects with sorted ASCII keys; integers within ±(2^53-1); no floats; no lone surrogates.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from perdure import limits

Json = Any
"""What JSON can hold, without floats: the grammar of documents is checked in `grammar.py`, not by the type checker."""

SAFE_INTEGER: Final = 2**53 - 1  # beyond it, a reader that has floats only sees another number


def text_of(tree: Json, *, depth: int = limits.SCHEMA_DEPTH_MAX) -> str:
    """Return the canonical text of `tree`; raise ValueError when it has none.

    Args:
        tree: null, booleans, integers, text, lists, and dicts with text keys.
        depth: how many lists and dicts may be inside one another.
    """
    _check(tree, depth)
    return json.dumps(tree, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse(data: bytes) -> Json:
    """Return what `data` says; raise ValueError unless `data` is canonical.

    Writing again what was read, and comparing, finds in one go whatever a lenient reader lets through: repeated keys,
    `1.0`, `-0`, needless escapes, white space, another order.
    """
    try:
        tree = json.loads(data.decode())
        again = text_of(tree).encode()
    except RecursionError:
        raise ValueError(f"expected at most {limits.SCHEMA_DEPTH_MAX} levels") from None
    if again != data:
        raise ValueError("it is JSON, but not in its canonical spelling")
    return tree


def hash_of(document: bytes) -> str:
    """Return the name of a document: the first 16 bytes of its SHA-256, as 32 lower-case hex digits."""
    return hashlib.sha256(document).digest()[:16].hex()


def _check(tree: Json, depth: int) -> None:
    if isinstance(tree, dict | list):
        if depth <= 0:
            raise ValueError(f"more than {limits.SCHEMA_DEPTH_MAX} levels")
        if isinstance(tree, dict) and not all(isinstance(key, str) and key.isascii() for key in tree):
            raise ValueError("a key that is not ASCII text")
        for part in tree.values() if isinstance(tree, dict) else tree:
            _check(part, depth - 1)
    elif isinstance(tree, str):
        tree.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    elif isinstance(tree, int):
        if abs(tree) > SAFE_INTEGER:
            raise ValueError(f"integer {tree:#x} is not within ±(2^53-1)")
    elif tree is not None:
        raise ValueError(f"{type(tree).__name__} has no canonical form")

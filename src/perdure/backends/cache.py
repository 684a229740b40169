"""Rows kept in memory between batches, so that a batch reads only what is new to it."""

from __future__ import annotations

from typing import Any, Final

from perdure import limits
from perdure.core.table import AnyRow, Key

Entry = tuple[int, AnyRow]
"""A version and a row."""

_HALF_ROWS: Final = limits.CACHE_ROWS // 2
_HALF_BYTES: Final = limits.CACHE_BYTES // 2


class RowCache:
    """Present rows with their versions, as of the last commit; the least recently used half goes when it is full.

    Two generations instead of a list in order of use: a hit on a young row is one look-up and moves nothing.
    """

    def __init__(self) -> None:
        self._young: dict[Key[Any], Entry] = {}
        self._old: dict[Key[Any], Entry] = {}
        self._sizes: dict[Key[Any], int] = {}  # of those that have one
        self._old_sizes: dict[Key[Any], int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: Key[Any]) -> Entry | None:
        """Return version and row, or None when they are not here; that says nothing about the database."""
        kept = self._young.get(key)
        if kept is None:
            kept = self._old.get(key)
            if kept is None:
                return None
            self.put(key, kept, self._old_sizes.get(key, 0))
        return kept

    def put(self, key: Key[Any], entry: Entry, size: int) -> None:
        """Take in a row; `size` is the bytes of its blobs. An older version of it may go on standing in the shade of this one."""
        self._young[key] = entry
        if size or key in self._sizes:
            self._bytes += size - self._sizes.get(key, 0)
            self._sizes[key] = size
        if len(self._young) > _HALF_ROWS or self._bytes > _HALF_BYTES:
            self._old, self._old_sizes = self._young, self._sizes
            self._young, self._sizes, self._bytes = {}, {}, 0

    def drop(self, key: Key[Any]) -> None:
        """Forget a row."""
        self._young.pop(key, None)
        self._old.pop(key, None)
        if size := self._sizes.pop(key, 0):
            self._bytes -= size
        self._old_sizes.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._sizes, self._old_sizes, self._bytes = {}, {}, {}, {}, 0

"""The mark of a store that a copy goes into: a table that is there until all has arrived, so that no such store is used by mistake."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from perdure.errors import CopyRefused, CopyUnfinished

MARK: Final = "copying"


def check_finished(place: str, tables: Container[str]) -> None:
    """Raise CopyUnfinished if the tables of a store are those of an unfinished copy."""
    if MARK in tables:
        raise CopyUnfinished(f"{place}: the copy into this store is not finished; run it again: perdure store copy SOURCE TARGET")


def in_use(place: str) -> CopyRefused:
    """Return what refuses to copy into a store that others write to."""
    return CopyRefused(f"{place}: expected a new store, or none, as the target; another program has it open, or did not close it cleanly")

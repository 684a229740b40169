"""Rows made of a database's values."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

Values = tuple[Any, ...]


def row_maker(row: type[msgspec.Struct]) -> Callable[[Values], msgspec.Struct]:
    """Return what makes a row of the values of its fields, in order."""
    return _known(row).make


def blobs_of(row: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the fields that hold bytes."""
    return _known(row).blobs


def weight_of(row: msgspec.Struct, blobs: tuple[str, ...]) -> int:
    """Return the bytes of a row's blobs."""
    size = 0
    for blob in blobs:
        size += len(getattr(row, blob) or b"")
    return size


class _Known(NamedTuple):
    make: Callable[[Values], msgspec.Struct]
    blobs: tuple[str, ...]


_KNOWN: Final[dict[type[msgspec.Struct], _Known]] = {}  # by each store anew, it was a third of what it takes to open one


def _known(row: type[msgspec.Struct]) -> _Known:
    found = _KNOWN.get(row)
    if found is None:
        found = _KNOWN[row] = _Known(_maker(row), _blobs(row))
    return found


def _maker(row: type[msgspec.Struct]) -> Callable[[Values], msgspec.Struct]:
    fields = row.__struct_fields__
    kinds = {parameter.kind for parameter in inspect.signature(row).parameters.values()}
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        return lambda values: row(**dict(zip(fields, values, strict=True)))
    return lambda values: row(*values)


def _blobs(row: type[msgspec.Struct]) -> tuple[str, ...]:
    hints = typing.get_type_hints(row)
    return tuple(field for field in row.__struct_fields__ if bytes in {hints[field], *typing.get_args(hints[field])})

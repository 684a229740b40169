"""Rows made of a database's values."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

Values = tuple[Any, ...]


def row_maker(row: type[msgspec.Struct]) -> Callable[[Values], msgspec.Struct]:
    """Return what makes a row of the values of its fields, in order."""
    fields = row.__struct_fields__
    kinds = {parameter.kind for parameter in inspect.signature(row).parameters.values()}
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        return lambda values: row(**dict(zip(fields, values, strict=True)))
    return lambda values: row(*values)


def blobs_of(row: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the fields that hold bytes."""
    hints = typing.get_type_hints(row)
    return tuple(field for field in row.__struct_fields__ if bytes in {hints[field], *typing.get_args(hints[field])})


def weight_of(row: msgspec.Struct, blobs: tuple[str, ...]) -> int:
    """Return the bytes of a row's blobs."""
    size = 0
    for blob in blobs:
        size += len(getattr(row, blob) or b"")
    return size

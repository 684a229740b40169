"""Values in documents: defaults, literals, members of enums, bounds, tags."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import struct
import uuid
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from perdure.schemas.canonical import SAFE_INTEGER, Json, text_of

_TEXTUAL: Final = (dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID)  # a datetime is a date
_EMPTY: Final[tuple[Any, ...]] = (list, dict, set, frozenset, tuple, str, int, float, bool, bytes, bytearray)


class NoValue(ValueError):  # it never leaves this package: such a default is written as `computed`
    """This Python value has no canonical form."""


def value_of(item: object) -> Json:
    """Return the canonical form of a Python value; raise NoValue when it has none.

    Source: schemas.md, "Values V".
    """
    match item:
        case None | bool():
            return item
        case enum.Enum():
            return {"enum": value_of(item.value)}
        case list() | tuple():
            return [value_of(part) for part in item]
        case set() | frozenset():
            return {"set": sorted(map(value_of, item), key=order_of)}
        case dict():
            return {"dict": sorted(([value_of(key), value_of(part)] for key, part in item.items()), key=lambda pair: order_of(pair[0]))}
        case _:
            return _scalar(item)


def default_of(field: msgspec.inspect.Field) -> dict[str, Json]:
    """Return what a document says about a field that may be absent: `default`, `computed` or `optional`; nothing when it is required."""
    if field.required:
        return {}
    default = field.default
    if default is msgspec.NODEFAULT:
        if field.default_factory is msgspec.NODEFAULT:
            return {"optional": True}
        if not any(field.default_factory is empty for empty in _EMPTY):
            return {"computed": True}
        default = field.default_factory()
    try:
        return {"default": value_of(default)}
    except NoValue:
        return {"computed": True}


def plain(value: Json) -> Any:
    """Return the Python value of a canonical scalar: null, a boolean, a number or text."""
    match value:
        case {"int": digits}:
            return int(digits)
        case {"float": bits}:
            return struct.unpack(">d", bytes.fromhex(bits))[0]
        case _:
            return value


def order_of(value: Json) -> bytes:
    """Return what values are sorted by: their canonical bytes."""
    return text_of(value).encode()


def _scalar(item: object) -> Json:
    try:
        if isinstance(item, _TEXTUAL):
            return {"text": msgspec.to_builtins(item)}
        # A subclass of one of these is a type of its own, which the codecs do not encode.
        if type(item) is int:
            return item if abs(item) <= SAFE_INTEGER else {"int": str(item)}
        if type(item) is str:
            item.encode()
            return item
    except (TypeError, ValueError) as error:  # a class of somebody's own; over the limit for digits; a lone surrogate
        raise NoValue(str(error)) from error
    if isinstance(item, bytes | bytearray | memoryview):
        return {"bytes": bytes(item).hex()}
    if type(item) is float:
        return {"float": struct.pack(">d", item).hex()}
    return {"struct": [[name, value_of(part)] for name, part in _encoded_fields(item)]}


def _encoded_fields(item: Any) -> Iterator[tuple[str, Any]]:
    kind = type(item)
    if isinstance(item, msgspec.Struct):
        if item.__struct_config__.tag is not None:
            # Without its tag, the default of a union would not say which alternative it is.
            yield item.__struct_config__.tag_field or "", item.__struct_config__.tag
        names = dict(zip(item.__struct_fields__, item.__struct_encode_fields__, strict=True))
    elif dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__"):
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else kind.__attrs_attrs__
        names = {field.name: field.name for field in fields}
    else:
        raise NoValue(f"{kind.__name__} has no canonical value")
    for attribute, name in names.items():
        part = getattr(item, attribute, msgspec.UNSET)
        if part is not msgspec.UNSET:
            yield name, part

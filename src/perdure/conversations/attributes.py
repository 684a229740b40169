"""Search attributes: how values become bytes in their order, and the decisions that set, settle and remove them.

While a turn is open, the process's row marks each name that the turn has changed, and the attribute's row keeps what the
turn found: a turn that fails goes back to it, as with fields. Names hold no marks, and no space.
"""

from __future__ import annotations

import math
import re
import struct
from datetime import datetime
from typing import Final

import msgspec

from perdure import limits
from perdure.clock import datetime_of, micros_of
from perdure.conversations.tables import ATTRIBUTE, AttributeRow, ProcessRow
from perdure.core.table import Key
from perdure.core.view import View
from perdure.errors import UsageError

replace = msgspec.structs.replace
AttributeValue = str | int | float | bool | datetime
"""What an attribute can be. A datetime has a time zone; an int has 64 bits; a float is finite."""

ADDED, CHANGED, REMOVED = "+", "~", "-"
_NAME: Final = re.compile(rf"[A-Za-z_][A-Za-z0-9_.]{{0,{limits.ATTRIBUTE_NAME_MAX - 1}}}", re.ASCII)
_SIGN: Final = 1 << 63
_NEAREST: Final = 1 << 15  # an integer of 64 bits is less than 1,024 away from its nearest float


def checked_name(name: object) -> str:
    """Return the name of an attribute. Raises UsageError."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return str(name)
    raise UsageError(
        f"attribute {name!r}: a name is a letter or `_`, then letters, digits, `_` and `.`, {limits.ATTRIBUTE_NAME_MAX} characters at most"
    )


def encoded(value: object, *, what: str) -> tuple[str, bytes]:
    """Return the kind of a value, and bytes that are in the values' order: numbers by size, whatever their kind; text by bytes.

    Raises:
        UsageError: there is no such attribute; the text says what there is.
    """
    match value:
        case bool():
            return "bool", b"b\x01" if value else b"b\x00"
        case int() if -_SIGN <= value < _SIGN:
            return "int", _number(value)
        case float() if math.isfinite(value):
            return "float", _number(value)
        case datetime() if value.tzinfo is not None:
            return "datetime", b"t" + (micros_of(value) + _SIGN).to_bytes(8, "big")
        case str():
            return "str", b"s" + _text(value, what=what)
        case _:
            raise UsageError(
                f"{what}: found {value!r}; an attribute is a str, an int of 64 bits, a finite float, a bool, or a datetime with a time zone"
            )


def _text(value: str, *, what: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: {value!r} is no text that can be stored: {error}") from error
    if len(data) > limits.ATTRIBUTE_VALUE_MAX:
        raise UsageError(f"{what}: {len(data):,} bytes; an attribute is for search and has {limits.ATTRIBUTE_VALUE_MAX} at most")
    return data


def decoded(kind: str, data: bytes) -> AttributeValue:
    """Return the value that `encoded` made these bytes of."""
    match kind:
        case "bool":
            return data[1] == 1
        case "int":
            return int(_float_of(data)) + int.from_bytes(data[9:11], "big") - _NEAREST
        case "float":
            return _float_of(data)
        case "datetime":
            return datetime_of(int.from_bytes(data[1:9], "big") - _SIGN)
        case _:
            return data[1:].decode()


def _number(value: float) -> bytes:
    """The nearest float, as an integer in the order of floats, and then how much more it is: so that 5 equals 5.0."""
    nearest = float(value) + 0.0  # not -0.0
    (bits,) = struct.unpack(">Q", struct.pack(">d", nearest))
    ordered: int = bits ^ (2 * _SIGN - 1) if bits & _SIGN else bits | _SIGN
    more: int = value - int(nearest) if isinstance(value, int) else 0
    return b"n" + ordered.to_bytes(8, "big") + (more + _NEAREST).to_bytes(2, "big")


def _float_of(data: bytes) -> float:
    ordered = int.from_bytes(data[1:9], "big")
    bits = ordered ^ _SIGN if ordered & _SIGN else ordered ^ (2 * _SIGN - 1)
    value: float = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    return value


def names_of(row: ProcessRow) -> list[str]:
    """Return the names of a process's attributes as of the last commit."""
    return [text.lstrip("+~") for text in row.attributes.split() if not text.startswith(REMOVED)]


def names_stored(row: ProcessRow) -> set[str]:
    """Return the names that have a row, those that the open turn has taken away included."""
    return {text.lstrip("+~-") for text in row.attributes.split()}


def names_found(attributes: str) -> frozenset[str]:
    """Return the names that the open turn has found, or that there are when none is open."""
    return frozenset(text.lstrip("~-") for text in attributes.split() if not text.startswith(ADDED))


def set_attribute(view: View, process_key: Key[ProcessRow], name: str, value: tuple[str, bytes] | None) -> None:
    """Set an attribute of a process with an open turn, or take it away; the process's row exists."""
    process = view.get(process_key)
    assert process is not None, "an open turn has its process"
    marks = {text.lstrip("+~-"): text[: -len(text.lstrip("+~-"))] for text in process.attributes.split()}
    key = ATTRIBUTE.key(*process_key.parts, name)
    row = view.get(key)
    kind, data = ("", None) if value is None else value
    if row is None:
        if data is None:
            return
        view.insert(key, AttributeRow(kind, data))
        marks[name] = ADDED
    elif (row.kind, row.value) == (kind, data) or (data is None and row.value is None):
        return
    elif marks[name]:  # what the turn found is kept already
        view.update(key, replace(row, kind=kind or row.kind, value=data))
        marks[name] = marks[name] if marks[name] == ADDED else CHANGED if data is not None else REMOVED
    else:
        view.update(key, AttributeRow(kind or row.kind, data, row.kind, row.value))
        marks[name] = CHANGED if data is not None else REMOVED
    view.update(process_key, replace(process, attributes=_joined(marks)))


def settle_attributes(view: View, process_key: Key[ProcessRow], *, ok: bool) -> None:
    """The open turn is over: what it has changed stands, or is as the turn found it."""
    process = view.get(process_key)
    assert process is not None, "an open turn has its process"
    if not is_marked(process.attributes):
        return
    settled: dict[str, str] = {}
    for text in process.attributes.split():
        name = text.lstrip("+~-")
        key = ATTRIBUTE.key(*process_key.parts, name)
        if text == name or _settle(view, key, ok=ok):
            settled[name] = ""
    view.update(process_key, replace(process, attributes=_joined(settled)))


def _settle(view: View, key: Key[AttributeRow], *, ok: bool) -> bool:
    """Settle one that the turn has changed; return whether it is still there."""
    row = view.get(key)
    assert row is not None, "a name of the process's row has a row"
    kind, value = (row.kind, row.value) if ok else (row.found_kind, row.found)
    if value is None:
        view.delete(key)
        return False
    view.update(key, AttributeRow(kind, value))
    return True


def copy_attributes(view: View, process_key: Key[ProcessRow], copy_key: Key[ProcessRow]) -> str:
    """Give a new process the attributes that the open or last turn of another has found; return their names, for its row."""
    process = view.get(process_key)
    assert process is not None, "what is copied exists"
    names = sorted(names_found(process.attributes))
    for name in names:
        row = view.get(ATTRIBUTE.key(*process_key.parts, name))
        assert row is not None, "a name of the process's row has a row"
        kind, value = (row.kind, row.value) if row.found is None else (row.found_kind, row.found)
        copy = ATTRIBUTE.key(*copy_key.parts, name)
        assert view.get(copy) is None, "its process is new"
        view.insert(copy, AttributeRow(kind, value))
    return " ".join(names)


def is_marked(attributes: str) -> bool:
    """Return whether the open turn has changed any: a name itself holds no mark."""
    return ADDED in attributes or CHANGED in attributes or REMOVED in attributes


def _joined(marks: dict[str, str]) -> str:
    return " ".join(mark + name for name, mark in sorted(marks.items()))

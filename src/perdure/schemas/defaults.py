"""A default of a document, as the builtins that its type is written as."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.schemas.canonical import Json, text_of
from perdure.schemas.forms import Form, form_of
from perdure.schemas.grammar import Resolve
from perdure.schemas.values import plain

_TEXTUAL: Final[dict[str, type]] = {
    "datetime": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
}


class Unfit(ValueError):  # it never leaves this package: such a default makes a plan partial
    """A default that is no value of its own type; Python does not check."""


def builtins_of(value: Json, expression: Json, resolve: Resolve) -> Any:
    """Return what a value of this type is written as, when it equals the canonical `value`.

    Raises:
        Unfit: it is no value of the type.
    """
    return _Default(resolve).read(value, expression)


class _Default:
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def read(self, value: Json, expression: Json) -> Any:
        form = form_of(expression, self._resolve)
        match form.kind:
            case "any":
                return _untyped(value)
            case "union":
                return self._alternative(value, form)
            case "struct":
                return self._struct(value, form)
            case "list" | "set" | "tuple" | "dict":
                return self._container(value, form)
            case _:
                return _scalar(value, form)

    def _alternative(self, value: Json, form: Form) -> Any:
        for part in form.parts:
            try:
                return self.read(value, part)
            except Unfit:
                continue
        raise _unfit(value, form)

    def _container(self, value: Json, form: Form) -> Any:
        if form.kind == "dict":
            pairs = value.get("dict") if isinstance(value, dict) else None
            _fit(pairs is not None, value, form)
            key, part = form.parts
            return {_hashable(self.read(one, key)): self.read(other, part) for one, other in pairs or ()}
        items: Json = value.get("set") if isinstance(value, dict) else value
        _fit(isinstance(items, list), value, form)
        places = form.parts if form.kind == "tuple" else form.parts * len(items)
        _fit(len(places) == len(items) and form.lengths.least <= len(items) <= form.lengths.most, value, form)
        return [self.read(item, part) for item, part in zip(items, places, strict=True)]

    def _struct(self, value: Json, form: Form) -> Any:
        definition = form.definition
        types = {field["name"]: field["type"] for field in definition["fields"]}
        if isinstance(value, list) and "array" in definition:
            given = dict(zip(types, value, strict=False))
        else:
            _fit(isinstance(value, dict) and not {"struct", "dict"}.isdisjoint(value), value, form)
            given = {plain(name): part for name, part in next(iter(value.values()))}
        head = {} if form.tag is None else {form.tag[0]: plain(form.tag[1])}
        _fit(all(plain(given.pop(name, None)) == tag for name, tag in head.items()), value, form)
        required = {field["name"] for field in definition["fields"] if field.keys() == {"name", "type"}}
        _fit(required <= given.keys() <= types.keys(), value, form)
        read = {name: self.read(given[name], kind) for name, kind in types.items() if name in given}
        if "array" not in definition:
            return head | read
        # An array leaves out only what is at its end.
        _fit(list(read) == list(types)[: len(read)], value, form)
        return [*head.values(), *read.values()]


def _scalar(value: Json, form: Form) -> Any:
    assert form.scalar is not None, "every other kind was looked at before"
    word, inner = next(iter(value.items())) if isinstance(value, dict) else ("", value)
    if form.kind == "bytes":
        _fit(word == "bytes", value, form)
        return bytes.fromhex(inner)
    if form.kind in _TEXTUAL:
        _fit(word == "text" and _parses(inner, _TEXTUAL[form.kind]), value, form)
        return inner
    found = plain(inner) if word == "enum" else plain(value)
    _fit(form.scalar.accepts(found), value, form)
    return found


def _untyped(value: Json) -> Any:
    if isinstance(value, list):
        return [_untyped(part) for part in value]
    word, inner = next(iter(value.items())) if isinstance(value, dict) else ("", value)
    match word:
        case "struct":
            raise Unfit("without a type it cannot be said whether a struct is written as an object or an array")
        case "dict":
            return {_hashable(_untyped(key)): _untyped(part) for key, part in inner}
        case "enum" | "set":
            return _untyped(inner)
        case "bytes":
            return bytes.fromhex(inner)
        case _:
            return inner if word == "text" else plain(value)


def _parses(text: str, kind: type) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


def _hashable(key: Any) -> Any:
    if isinstance(key, dict):
        raise Unfit("an object cannot be a key")
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _fit(condition: object, value: Json, form: Form) -> None:
    if not condition:
        raise _unfit(value, form)


def _unfit(value: Json, form: Form) -> Unfit:
    return Unfit(f"{text_of(value):.{limits.REPR_MAX}} is no value of {form.name:.{limits.REPR_MAX}}")

"""Whether a Python value that was read means what the data meant that was written."""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from msgspec import UNSET

from tests.schemas.models import MISSING, Field, Model


def same(writer: Model, data: Any, reader: Model, value: Any) -> bool:
    """Compare `data` of the writer's model with `value`, a Python value of the reader's type."""
    if reader.kind == "any":
        return _shown(data) == _shown(value) or writer.kind == "struct" or bool(writer.parts)
    if writer.kind == "optional":
        return value is None if data is None else same(writer.parts[0], data, reader, value)
    if reader.kind == "optional":
        return value is not None and same(writer, data, reader.parts[0], value)
    if writer.kind == "choice":
        return same(_by_tag(writer, _tag_of(data)), data, reader, value)
    if reader.kind == "choice":
        return same(writer, data, _by_tag(reader, type(value).__struct_config__.tag), value)
    if writer.kind == "any":
        return True
    match reader.kind:
        case "list" | "set" | "tuple":
            return _same_items(writer, data, reader, value)
        case "dict":
            keys = {str(_plain(key)): key for key in value}
            return keys.keys() == {str(key) for key in data} and all(
                same(writer.parts[1], part, reader.parts[1], value[keys[str(key)]]) for key, part in data.items()
            )
        case "struct":
            return _same_struct(writer, data, reader, value)
        case _:
            return type(_plain(value)) is type(data) and bool(_plain(value) == data)


def _same_items(writer: Model, data: Any, reader: Model, value: Any) -> bool:
    if len(data) != len(value):
        return False
    write = writer.parts if writer.kind == "tuple" else writer.parts * len(data)
    if "set" in {writer.kind, reader.kind}:
        read = reader.parts[0]
        return all(any(same(part, one, read, item) for item in value) for part, one in zip(write, data, strict=True))
    places = reader.parts if reader.kind == "tuple" else reader.parts * len(data)
    return all(same(*parts) for parts in zip(write, data, places, value, strict=True))


def _same_struct(writer: Model, data: Any, reader: Model, value: Any) -> bool:
    written = {one.name: one for one in writer.fields}
    found = fields_in(writer, data)
    return all(_same_field(written.get(one.name), found.get(one.name, MISSING), one, getattr(value, one.name)) for one in reader.fields)


def _same_field(source: Field | None, data: Any, target: Field, value: Any) -> bool:
    if source is not None and data is MISSING and source.absence == "default":
        data = source.default
    if source is not None and data is not MISSING:
        return value is not UNSET and same(source.model, data, target.model, value)
    if target.absence != "default":
        return value is UNSET
    return not value if target.default == [] else bool(_plain(value) == target.default)


def fields_in(model: Model, data: Any) -> dict[str, Any]:
    """Return the fields that are present, by name."""
    if not model.array:
        return dict(data)
    return dict(zip([one.name for one in model.fields], data[model.tag is not None :], strict=False))


def _by_tag(model: Model, tag: Any) -> Model:
    return next(part for part in model.parts if part.tag == tag)


def _tag_of(data: Any) -> Any:
    return data["type"] if isinstance(data, dict) else data[0]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _shown(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True)

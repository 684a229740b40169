"""Random types, edits of them, data of them, and what the data means: an independent idea of what a plan must do.

A model is a plain description of a type. From it come the Python type, random data in the form that a codec decodes, and
the comparison of that data, under the writer's model, with the Python value that was read under the reader's.
"""

from __future__ import annotations

import copy
import enum
import itertools
import random
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import UNSET, Meta, UnsetType

_NAMES = itertools.count()
MISSING: Any = object()

SCALARS: dict[str, tuple[Any, list[Any]]] = {
    "int": (int, [0, 1, -5, 300, 2**40]),
    "float": (float, [0.0, 1.5, -2.25]),
    "str": (str, ["", "a", "b", "é"]),
    "bool": (bool, [True, False]),
    "u8": (Annotated[int, Meta(extra={"wire": "u8"}, ge=0, le=255)], [0, 1, 255]),
    "i16": (Annotated[int, Meta(extra={"wire": "i16"}, ge=-(2**15), le=2**15 - 1)], [0, -1, 300]),
    "short": (Annotated[str, Meta(max_length=1)], ["", "a", "b"]),
}


@dataclass
class Field:
    name: str
    model: Model
    absence: str = "required"  # or default, computed, optional
    default: Any = None


@dataclass
class Model:
    kind: str
    parts: list[Model] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    name: str = ""
    tag: str | None = None
    array: bool = False


def random_model(rnd: random.Random, depth: int = 3) -> Model:
    if depth == 0 or rnd.random() < 0.3:
        return _scalar(rnd)
    kind = rnd.choice(["list", "set", "tuple", "dict", "optional", "struct", "struct", "struct", "choice"])
    match kind:
        case "list" | "optional":
            inner = random_model(rnd, depth - 1)
            return inner if kind == "optional" and inner.kind in {"optional", "any"} else Model(kind, [inner])
        case "set":
            return Model(kind, [Model(rnd.choice(["int", "str", "u8"]))])
        case "tuple":
            return Model(kind, [random_model(rnd, depth - 1) for _ in range(rnd.randint(0, 3))])
        case "dict":
            return Model(kind, [rnd.choice([Model("str"), Model("int"), Model("u8")]), random_model(rnd, depth - 1)])
        case "choice":
            return Model(kind, [random_struct(rnd, depth - 1, tag) for tag in rnd.sample("abcd", rnd.randint(1, 3))])
        case _:
            return random_struct(rnd, depth - 1, rnd.choice([None, None, "a"]))


def _scalar(rnd: random.Random) -> Model:
    kind = rnd.choice([*SCALARS, "literal", "enum", "any"])
    if kind not in {"literal", "enum"}:
        return Model(kind)
    pool: list[Any] = rnd.choice([["a", "b", "c"], [1, 2, 300]])
    return Model(kind, values=rnd.sample(pool, rnd.randint(1, 3)), name="E")


def random_struct(rnd: random.Random, depth: int, tag: str | None) -> Model:
    fields = [_random_field(rnd, name, depth) for name in rnd.sample("uvwxyz", rnd.randint(0, 4))]
    return Model("struct", fields=fields, name=rnd.choice(["S", "R"]), tag=tag)


def _random_field(rnd: random.Random, name: str, depth: int) -> Field:
    model = random_model(rnd, depth)
    absence = rnd.choice(["required", "default", "default", "computed", "optional"])
    if absence == "default" and model.kind not in {*SCALARS, "list", "optional", "literal", "enum"}:
        absence = "computed"
    return Field(name, model, absence, _default(rnd, model))


def _default(rnd: random.Random, model: Model) -> Any:
    if model.kind in SCALARS:
        return rnd.choice(SCALARS[model.kind][1])
    if model.kind in {"literal", "enum"}:
        return rnd.choice(model.values)
    return [] if model.kind == "list" else None


def python_type(model: Model) -> Any:
    """Return the Python type of a model; defining it may raise TypeError when `msgspec` refuses it."""
    match model.kind:
        case "any":
            return Any
        case "list" | "set" | "tuple" | "dict":
            maker: Any = {"list": list, "set": set, "tuple": tuple, "dict": dict}[model.kind]
            return maker[tuple(map(python_type, model.parts))] if model.parts else tuple[()]
        case "optional":
            return Union[python_type(model.parts[0]), None]  # noqa: UP007
        case "choice":
            return Union[tuple(map(python_type, model.parts))]  # noqa: UP007
        case "literal":
            return Literal[tuple(model.values)]
        case "enum":
            members = {f"M{place}": value for place, value in enumerate(model.values)}
            return enum.Enum(model.name, members)
        case "struct":
            return _struct(model)
        case _:
            return SCALARS[model.kind][0]


def _struct(model: Model) -> Any:
    fields: list[Any] = []
    for one in model.fields:
        kind = python_type(one.model)
        match one.absence:
            case "default":
                if one.model.kind == "enum" and one.default not in one.model.values:
                    raise TypeError("an edit took the default away")
                default = kind(one.default) if one.model.kind == "enum" else one.default
                fields.append((one.name, kind, msgspec.field(default_factory=list) if one.default == [] else default))
            case "computed":
                fields.append((one.name, Union[kind, UnsetType], msgspec.field(default_factory=lambda: UNSET)))  # noqa: UP007
            case "optional":
                fields.append((one.name, Union[kind, UnsetType], UNSET))  # noqa: UP007
            case _:
                fields.append((one.name, kind))
    return msgspec.defstruct(model.name, fields, tag=model.tag, array_like=model.array, kw_only=True)


def random_data(rnd: random.Random, model: Model) -> Any:
    """Return data of the model as a codec decodes it; fields that may be absent sometimes are."""
    match model.kind:
        case "any":
            return rnd.choice([None, 1, "a", [1], {"k": 2.5}])
        case "literal" | "enum":
            return rnd.choice(model.values)
        case "optional":
            return rnd.choice([None, random_data(rnd, model.parts[0])])
        case "choice":
            return random_data(rnd, rnd.choice(model.parts))
        case "list":
            return [random_data(rnd, model.parts[0]) for _ in range(rnd.randint(0, 3))]
        case "set":
            return rnd.sample(pool := SCALARS[model.parts[0].kind][1], rnd.randint(0, len(pool)))
        case "tuple":
            return [random_data(rnd, part) for part in model.parts]
        case "dict":
            keys = rnd.sample(SCALARS[model.parts[0].kind][1], 2)
            as_text = rnd.random() < 0.5  # as in JSON
            return {str(key) if as_text else key: random_data(rnd, model.parts[1]) for key in keys}
        case "struct":
            return _struct_data(rnd, model)
        case _:
            return rnd.choice(SCALARS[model.kind][1])


def _struct_data(rnd: random.Random, model: Model) -> Any:
    if model.array:
        # An array leaves out only what is at its end.
        needed = max((place + 1 for place, one in enumerate(model.fields) if one.absence == "required"), default=0)
        items = [random_data(rnd, one.model) for one in model.fields[: rnd.randint(needed, len(model.fields))]]
        return items if model.tag is None else [model.tag, *items]
    present = [one for one in model.fields if one.absence == "required" or rnd.random() < 0.6]
    data = {one.name: random_data(rnd, one.model) for one in present}
    return data if model.tag is None else {"type": model.tag, **data}


def mutate(rnd: random.Random, model: Model) -> Model:
    """Return a copy with a few edits anywhere."""
    changed = copy.deepcopy(model)
    for _ in range(rnd.randint(0, 3)):
        place = rnd.choice(list(_places(changed)))
        edited = _edit(rnd, copy.deepcopy(place))
        for one in fields_of(Model):
            setattr(place, one.name, getattr(edited, one.name))
    return changed


def _places(model: Model) -> list[Model]:
    inner = [*model.parts, *(one.model for one in model.fields)]
    return [model, *(place for part in inner for place in _places(part))]


def _edit(rnd: random.Random, model: Model) -> Model:
    """Return an edit of this place alone: mostly one that people make."""
    if model.kind == "struct":
        return _edit_struct(rnd, model)
    similar = {
        "u8": ["i16", "int"],
        "i16": ["u8", "int"],
        "int": ["u8", "float"],
        "short": ["str"],
        "str": ["short", "literal"],
        "set": ["list"],
        "list": ["set"],
    }
    if model.kind == "list" and model.parts[0].kind not in {*SCALARS, "literal", "enum"}:
        return Model("optional", [model])  # what cannot be hashed is in no set
    choice = rnd.random()
    if choice < 0.3 and model.kind not in {"optional", "any"}:
        return Model("optional", [model])
    if choice < 0.4:
        return model.parts[0] if model.kind in {"optional", "list"} else Model("any")
    if model.kind == "tuple" and model.parts:
        return Model("list", [model.parts[0]])
    if model.kind in {"literal", "enum"}:
        more = [value for value in (["a", "b", "c", "d"] if isinstance(model.values[0], str) else [1, 2, 3, 300]) if rnd.random() < 0.7]
        return Model(rnd.choice(["literal", "enum"]), values=more or model.values, name="E")
    if model.kind == "choice":
        parts = rnd.sample(model.parts, rnd.randint(1, len(model.parts)))
        unused = [tag for tag in "abcde" if tag not in {part.tag for part in model.parts}]
        return Model("choice", [*parts, random_struct(rnd, 0, unused[0])])
    kind = rnd.choice(similar.get(model.kind, [model.kind]))
    return Model(kind, model.parts, ["a", "b"], name="E")


def _edit_struct(rnd: random.Random, model: Model) -> Model:
    changed = copy.deepcopy(model)
    unused = [name for name in "uvwxyz" if name not in {one.name for one in model.fields}]
    match rnd.choice(["add", "add", "remove", "order", "name", "array", "absence", "default"]):
        case "add" if unused:
            changed.fields.insert(rnd.randint(0, len(changed.fields)), _random_field(rnd, unused[0], 1))
        case "remove" if changed.fields:
            changed.fields.remove(rnd.choice(changed.fields))
        case "order":
            rnd.shuffle(changed.fields)
        case "name":
            changed.name = f"N{next(_NAMES)}"
        case "array" if changed.tag is None or rnd.random() < 0.2:
            changed.array = not changed.array
        case "absence" if changed.fields:
            one = rnd.choice(changed.fields)
            one.absence = _random_field(rnd, one.name, 0).absence if one.model.kind in SCALARS else "required"
        case "default" if changed.fields:
            one = rnd.choice(changed.fields)
            one.default = _default(rnd, one.model)
    return changed

"""From Python types to type expressions and definitions, by way of `msgspec.inspect`."""

from __future__ import annotations

import enum
import typing
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from msgspec import inspect

from perdure import limits
from perdure.errors import SchemaUnsupported
from perdure.names import public_text, shown
from perdure.schemas.canonical import Json, text_of
from perdure.schemas.grammar import WIDTHS, literal, union_of
from perdure.schemas.refusal import REFUSALS, refusal_of
from perdure.schemas.values import default_of, value_of

_SCALARS: Final[dict[type, str]] = {
    inspect.AnyType: "any",
    inspect.RawType: "any",
    inspect.NoneType: "none",
    inspect.BoolType: "bool",
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BytesType: "bytes",
    inspect.ByteArrayType: "bytes",
    inspect.MemoryViewType: "bytes",
    inspect.DateTimeType: "datetime",
    inspect.DateType: "date",
    inspect.TimeType: "time",
    inspect.TimeDeltaType: "timedelta",
    inspect.DecimalType: "decimal",
    inspect.UUIDType: "uuid",
}
_CONSTRAINTS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
_WIRES: Final = {**dict.fromkeys(WIDTHS, "int"), "f32": "float", "char": "str"}

_Record = inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType

# What every document adds around a definition: the object and its list.
_DEFINITION_DEPTH: Final = limits.SCHEMA_DEPTH_MAX - 2


class TypeGraph:
    """The named types that one root reaches; a reference is the number of its definition here.

    A named type is its class and the expressions of its arguments, so `Page` and `Page[Any]` are one, and so are
    `Page[list[int]]` and `Page[List[int]]`.
    """

    def __init__(self, root: Any) -> None:
        self.definitions: list[Json] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._pending: deque[tuple[Json, _Record, str]] = deque()
        try:
            [node] = inspect.multi_type_info([root])
        except REFUSALS as error:
            raise refusal_of(root, error) from error
        self.root = self._expression(node, "")
        while self._pending:
            definition, record, path = self._pending.popleft()
            definition["fields"] = [self._field(field, path) for field in record.fields]

    def texts(self) -> list[str]:
        """Return the canonical text of each definition."""
        return [_checked_text(definition) for definition in self.definitions]

    def _expression(self, node: inspect.Type, path: str) -> Json:
        extra: dict[str, Any] = {}
        while isinstance(node, inspect.Metadata):
            extra |= node.extra or {}
            node = node.type
        if "wire" in extra:
            return _fixed_width(node, extra["wire"], path)
        if type(node) in _SCALARS:
            return _constrained(_SCALARS[type(node)], node)
        if isinstance(node, inspect.CollectionType):
            word = "set" if isinstance(node, inspect.SetType | inspect.FrozenSetType) else "list"
            return _constrained({word: self._expression(node.item_type, f"{path}[]")}, node)
        if isinstance(node, _Record):
            return self._record(node, path)
        return self._composite(node, path)

    def _composite(self, node: inspect.Type, path: str) -> Json:
        match node:
            case inspect.DictType(key_type=key, value_type=value):
                return _constrained({"dict": [self._expression(key, f"{path}[key]"), self._expression(value, f"{path}[]")]}, node)
            case inspect.TupleType(item_types=types):
                return {"tuple": [self._expression(part, f"{path}[{place}]") for place, part in enumerate(types)]}
            case inspect.UnionType(types=types):
                return self._union([self._expression(part, path) for part in types], path)
            case inspect.LiteralType(values=values):
                return self._union(["none" if value is None else literal([value_of(value)]) for value in values], path)
            case inspect.EnumType(cls=cls):
                members = [[member.name, value_of(member.value)] for member in cls]
                if not members:
                    raise SchemaUnsupported(path, f"{shown(cls)} has no member with a bit of its own")
                flags = {"flags": True} if issubclass(cls, enum.Flag) else {}
                return self._named((cls,), {"enum": cls.__name__, "members": members, **flags}, path)
        raise SchemaUnsupported(path, f"{shown(getattr(node, 'cls', type(node)))} has no schema")

    def _union(self, parts: Sequence[Json], path: str) -> Json:
        try:
            return union_of(parts, self._resolve)
        except ValueError as error:
            raise SchemaUnsupported(path, f"a union that has no schema: {error}") from error

    def _resolve(self, reference: int | str) -> Json:
        assert isinstance(reference, int), "hashes appear only when documents are written"
        return self.definitions[reference]

    def _record(self, node: _Record, path: str) -> Json:
        cls = typing.get_origin(node.cls) or node.cls
        arguments = self._arguments(node.cls, cls, f"{path}.{cls.__name__}".lstrip("."))
        definition: dict[str, Json] = {"struct": cls.__name__, "fields": []}
        if arguments:
            definition["args"] = arguments
        if isinstance(node, inspect.StructType):
            if node.tag is not None:
                definition["tag"] = [node.tag_field, value_of(node.tag)]
            if node.forbid_unknown_fields:
                definition["closed"] = True
        if isinstance(node, inspect.NamedTupleType) or getattr(node, "array_like", False):
            definition["array"] = True
        return self._named((cls, *map(text_of, arguments)), definition, path, node)

    def _arguments(self, alias: Any, cls: Any, path: str) -> list[Json]:
        given = typing.get_args(alias) or getattr(cls, "__parameters__", ())
        types = [(kind.__bound__ or Any) if isinstance(kind, TypeVar) else kind for kind in given]
        try:
            nodes = inspect.multi_type_info(types)
        except REFUSALS as error:
            raise SchemaUnsupported(path, public_text(str(error))) from error
        return [self._expression(node, f"{path}<{place}>") for place, node in enumerate(nodes)]

    def _named(self, key: tuple[Any, ...], definition: Json, path: str, record: _Record | None = None) -> Json:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.definitions)
            if number >= limits.SCHEMA_TYPES_MAX:
                raise SchemaUnsupported(path, f"more than {limits.SCHEMA_TYPES_MAX:,} named types under one root; split the type")
            self.definitions.append(definition)
            if record is not None:
                # Later, not here: the depth of the graph must not be the depth of our calls.
                self._pending.append((definition, record, f"{path}.{key[0].__name__}".lstrip(".")))
        return {"ref": number}

    def _field(self, field: inspect.Field, path: str) -> Json:
        return {"name": field.encode_name, "type": self._expression(field.type, f"{path}.{field.name}"), **default_of(field)}


def _checked_text(definition: Json) -> str:
    try:
        return text_of(definition, depth=_DEFINITION_DEPTH)
    except ValueError as error:
        raise SchemaUnsupported(definition.get("struct") or definition["enum"], str(error)) from error


def _constrained(expression: Json, node: inspect.Type) -> Json:
    found = {name: bound for name in _CONSTRAINTS if (bound := getattr(node, name, None)) is not None}
    if isinstance(node, inspect.FloatType):
        # `Meta(ge=0)` equals `Meta(ge=0.0)`, so `typing` may return either for both; adding 0.0 makes one zero of two.
        found = {name: float(bound) + 0.0 for name, bound in found.items()}
    where = {name: value_of(bound) for name, bound in found.items()}
    return {"of": expression, "where": where} if where else expression


def _fixed_width(node: inspect.Type, wire: object, path: str) -> Json:
    if not isinstance(wire, str) or _WIRES.get(wire) != _SCALARS.get(type(node), ""):
        raise SchemaUnsupported(path, f"wire {wire!r} on {type(node).__name__}: expected one of {', '.join(_WIRES)}, on int, float or str")
    constrained = _constrained(wire, node)
    least, greatest = WIDTHS.get(wire, (None, None))
    own = {"min_length": 1, "max_length": 1} if wire == "char" else {"ge": value_of(least), "le": value_of(greatest)}
    where = {name: bound for name, bound in constrained["where"].items() if own.get(name) != bound} if constrained != wire else {}
    return {"of": wire, "where": where} if where else wire

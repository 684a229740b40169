"""Plans: reading what one type wrote as another type, decided before any byte is decoded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, overload

import msgspec

from perdure.errors import Incompatibility, SchemaIncompatible, ValueUnreadable
from perdure.identity import decode_identifier
from perdure.schemas.canonical import text_of
from perdure.schemas.decide import Pair
from perdure.schemas.loading import NamedTypes
from perdure.schemas.registry import TypeRef
from perdure.schemas.solve import Solver, Upcasters
from perdure.schemas.steps import KEEP, Step

T = TypeVar("T")

_NO_UPCASTERS: Final[Upcasters] = MappingProxyType({})
_CONVERSION_ERROR: Final = re.compile(r"(?P<detail>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)


class Plan:
    """How to read what the writer's type wrote as the reader's.

    Attributes:
        partial: what a value may fail on, each accepted by `allow_partial`; empty when every value can be read.
    """

    def __init__(self, step: Step = KEEP, partial: tuple[Incompatibility, ...] = ()) -> None:
        self._step = step
        self.partial = partial

    @property
    def is_identity(self) -> bool:
        """Whether `apply` returns each value as it is, so that the bytes can be decoded straight into the reader's type."""
        return self._step is KEEP

    def apply(self, tree: Any) -> Any:
        """Return the reader's form of a value.

        Bounds, patterns and text forms are not looked at here, but by the conversion into the type; see `read`.

        Args:
            tree: builtins in the writer's form, as a codec decodes them without a type.

        Raises:
            ValueUnreadable: the plan is partial and this is a value that it fails on, or `tree` is not in the writer's
                form; the text has the path.
        """
        try:
            return self._step(tree)
        except ValueUnreadable as error:
            raise ValueUnreadable(f"${error.path}", error.detail) from error.__cause__
        except RecursionError:
            raise ValueUnreadable("$", "it is nested too deeply") from None

    @overload
    def read(self, tree: Any, type: type[T]) -> T: ...

    @overload  # a type expression, such as `Order | None`, is no type to the type checker
    def read(self, tree: Any, type: Any) -> Any: ...

    def read(self, tree: Any, type: Any) -> Any:
        """Return a value of the reader's type; see `apply`.

        Args:
            tree: builtins in the writer's form, as a codec decodes them without a type.
            type: the one that the plan's reader is the schema of.

        Raises:
            ValueUnreadable: this value has no counterpart in the type; the text has the path.
        """
        form = self.apply(tree)
        try:
            return msgspec.convert(form, type, str_keys=True, dec_hook=decode_identifier)
        except msgspec.ValidationError as error:
            found = _CONVERSION_ERROR.fullmatch(str(error))
            assert found is not None, "every part of the pattern is optional"
            raise ValueUnreadable(f"${found['path'] or ''}", found["detail"]) from error
        except TypeError as error:  # an item that cannot be hashed: `set[list[int]]` is a type, but only of empty sets
            raise ValueUnreadable("$", str(error)) from error
        except RecursionError:
            raise ValueUnreadable("$", "it is nested too deeply") from None


def plan(
    writer: TypeRef,
    reader: TypeRef,
    registry: Mapping[str, bytes],
    *,
    upcasters: Upcasters = _NO_UPCASTERS,
    allow_partial: bool = False,
) -> Plan:
    """Return how to read values of the writer's type as the reader's; pure, over documents only.

    It succeeds if and only if every value that the writer's schema allows can be read as the reader's type.

    Args:
        writer: what the bytes were written as.
        reader: what they are to be read as.
        registry: the documents of both, of everything that they reach, and of what upcasters return.
        upcasters: `{old hash: (function, new hash)}`, tried where a named type, at the root or inside, does not plan
            by itself; chained until one result plans.
        allow_partial: accept what depends on the value; a value that does fail is ValueUnreadable with its path.

    Raises:
        SchemaIncompatible: not every value can be read; `issues` says where and why, and which depend on the value.
        SchemaMissing: a document is not in the registry.
        SchemaInvalid: a document breaks the rules.

    Source: schemas.md, "Plan".
    """
    if writer == reader:
        return Plan()
    types = NamedTypes(registry)
    solver = Solver(types, upcasters)
    root = Pair(text_of(types.load(writer.hash)), text_of(types.load(reader.hash)))
    issues = tuple(solver.solve(root))
    if any(not allow_partial or not issue.partial for issue in issues):
        raise SchemaIncompatible(issues)
    return Plan(solver.settle(root), issues)

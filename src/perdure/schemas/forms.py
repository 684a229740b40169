"""Type expressions as a plan looks at them: references followed, bounds and lists of values brought together."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.schemas.canonical import Json, text_of
from perdure.schemas.grammar import CONTAINERS, Resolve
from perdure.schemas.scalars import Lengths, Scalar, lengths_of, listed_scalar, scalar_of

_BY_ITSELF = ("none", "bool", "int", "float")


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """One type, followed to what it is.

    Attributes:
        kind: `any`, `union`, `list`, `set`, `tuple`, `dict`, `struct`, or the kind of a scalar.
        parts: the expressions inside: alternatives, item, places, or key and value.
        lengths: of a container.
        scalar: what a scalar allows.
        definition: of a struct.
        name: for texts.
    """

    kind: str
    parts: tuple[Json, ...] = ()
    lengths: Lengths = Lengths()
    scalar: Scalar | None = None
    definition: Json = None
    name: str

    @property
    def family(self) -> str:
        """What two types have in common when one may stand in for the other: the kind, any array, or the same tag."""
        if self.definition is not None:
            return f"struct {text_of(self.definition.get('tag'))}"
        return "array" if self.kind in {"list", "set", "tuple"} else self.kind

    @property
    def tag(self) -> Json:
        """The tag's field and value; None without one."""
        return None if self.definition is None else self.definition.get("tag")

    @property
    def written_as(self) -> str:
        """The kind of JSON that its values are written as; see `steps.kind_of`."""
        if self.kind in _BY_ITSELF:
            return self.kind
        if self.definition is not None:
            return "array" if "array" in self.definition else "object"
        if self.kind in CONTAINERS:
            return "object" if self.kind == "dict" else "array"
        return "text"


def form_of(expression: Json, resolve: Resolve) -> Form:
    """Return the form of a verified type expression whose references `resolve` knows."""
    match expression:
        case {"ref": reference}:
            definition = resolve(reference)
            assert definition is not None, "a closure is loaded as a whole"
            return _named(definition)
        case {"of": inner, "where": where}:
            return _bounded(inner, where)
        case _:
            return _bounded(expression, {})


def _named(definition: dict[str, Any]) -> Form:
    if "enum" in definition:
        scalar = listed_scalar([value for _, value in definition["members"]], flags="flags" in definition)
        return Form(kind=scalar.kind, scalar=scalar, name=definition["enum"])
    return Form(kind="struct", definition=definition, name=definition["struct"])


def _bounded(expression: Json, where: dict[str, Json]) -> Form:
    name = text_of(expression)
    if isinstance(expression, str):
        if expression == "any":
            return Form(kind="any", name="any")
        scalar = scalar_of(expression, where)
        return Form(kind=scalar.kind, scalar=scalar, name=expression)
    [(word, inner)] = expression.items()
    if word == "literal":
        scalar = listed_scalar(inner)
        return Form(kind=scalar.kind, scalar=scalar, name=name)
    parts = tuple(inner) if word in {"tuple", "dict", "union"} else (inner,)
    return Form(kind=word, parts=parts, lengths=lengths_of(where), name=name)

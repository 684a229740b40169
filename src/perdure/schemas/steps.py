"""What a plan does to a value: decoded builtins of the writer's form in, builtins of the reader's form out.

Steps are made while pairs of types are decided, and settled when all are: what changes nothing is cut out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.errors import ValueUnreadable
from perdure.names import public_text
from perdure.schemas.scalars import Scalar

Upcast = Callable[[Any], Any]
"""A pure function from builtins of an old type's form to builtins of a newer one's."""

# What a function on data raises when the data is not what it expects.
_DATA_ERRORS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


# In this order, because a bool is an int.
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "none": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (float,),
    "object": (dict,),
    "array": (list, tuple, set, frozenset),
}


class Step:
    """One thing to do to a value.

    Attributes:
        acts: whether it changes or refuses any value by itself, apart from its parts.
        parts: the steps that it leaves parts of the value to.
    """

    acts: bool = False
    parts: Sequence[Step] = ()

    def moves(self) -> bool:
        """Tell whether it changes or refuses any value."""
        return self.acts or any(part.moves() for part in self.parts)

    def settled(self) -> Step:
        """Return what to do in its place, without the parts that change nothing."""
        if not self.moves():
            return KEEP
        self.parts = [part.settled() for part in self.parts]
        return self

    def __call__(self, value: Any) -> Any:
        """Return the reader's form of `value`; raise ValueUnreadable, with the path from here, when it has none."""
        return self._apply(value)

    def _apply(self, value: Any) -> Any:
        return value


KEEP: Final = Step()


class Target(msgspec.Struct):
    """What was decided for a pair of types: where links lead to."""

    step: Step = KEEP
    moves: bool = False


class Link(Step):
    """Goes on with another pair of types, which may be one that it is part of: recursive types end here."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def moves(self) -> bool:
        """Tell it of the pair that it leads to."""
        return self._target.moves

    def settled(self) -> Step:
        """Return itself, or nothing when the other pair changes nothing."""
        return self if self.moves() else KEEP

    def _apply(self, value: Any) -> Any:
        return self._target.step(value)


class Refuse(Step):
    """Nothing that comes here can be read."""

    acts = True

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def _apply(self, value: Any) -> Any:
        raise ValueUnreadable("", f"{self._reason}; found {shown(value)}")


class Check(Step):
    """A scalar of which the reader allows only some values."""

    acts = True

    def __init__(self, allowed: Scalar) -> None:
        self._allowed = allowed

    def _apply(self, value: Any) -> Any:
        if not self._allowed.accepts(value):
            raise ValueUnreadable("", f"{shown(value)} is not one of the reader's values of {self._allowed.kind}")
        return value


class Upcasting(Step):
    """Functions of the caller's, in turn, and then what is left to do to their result."""

    acts = True

    def __init__(self, functions: Iterable[Upcast], then: Step) -> None:
        self._functions = tuple(functions)
        self.parts = (then,)

    def _apply(self, value: Any) -> Any:
        for function in self._functions:
            try:
                value = function(value)
            except _DATA_ERRORS as error:
                name = getattr(function, "__qualname__", public_text(repr(function)))
                raise ValueUnreadable("", f"upcaster {name}: {type(error).__name__}: {error}") from error
        return self.parts[0](value)


class Each(Step):
    """Every item of a list or set."""

    def __init__(self, item: Step) -> None:
        self.parts = (item,)

    def _apply(self, value: Any) -> Any:
        item = self.parts[0]
        return [within(f"[{place}]", item, part) for place, part in enumerate(_items(value))]


class Places(Step):
    """A list or tuple with a step of its own for each place."""

    def __init__(self, places: Iterable[Step], *, checked: bool) -> None:
        self.parts = tuple(places)
        self.acts = checked

    def _apply(self, value: Any) -> Any:
        items = _items(value)
        if len(items) != len(self.parts):
            raise ValueUnreadable("", f"expected {len(self.parts)} items, found {len(items)}")
        return [within(f"[{place}]", step, part) for place, (step, part) in enumerate(zip(self.parts, items, strict=True))]


class Distinct(Step):
    """A list that the reader takes for a set: an item that is there twice would be lost."""

    acts = True

    def __init__(self, items: Step) -> None:
        self.parts = (items,)

    def _apply(self, value: Any) -> Any:
        items = self.parts[0](value)
        seen: set[object] = set()
        for place, item in enumerate(_items(items)):
            key = _hashable(item)
            if key in seen:
                raise ValueUnreadable(f"[{place}]", f"{shown(item)} is there twice, and the reader takes a set")
            seen.add(key)
        return items


class Entries(Step):
    """Every key and value of a dict."""

    def __init__(self, key: Step, value: Step, *, number_keys: bool) -> None:
        self.parts = (key, value)
        self._number_keys = number_keys

    def _apply(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueUnreadable("", f"expected an object, found {shown(value)}")
        at_key, at_value = self.parts
        result = {}
        for key, item in value.items():
            where = f"[{key!r:.40}]"
            read = key if at_key is KEEP else within(where, at_key, _number(key) if self._number_keys and isinstance(key, str) else key)
            if not isinstance(read, Hashable) or read in result:
                raise ValueUnreadable(where, "two keys become one, or this one is no key any more")
            result[read] = within(where, at_value, item)
        return result


class Choice(Step):
    """A union of the writer's: which alternative a value is, is seen from its JSON kind, or from its tag."""

    def __init__(self, steps: Iterable[Step], *, kinds: dict[str, int], tags: dict[tuple[str, Any], int], tag_field: str | None) -> None:
        self.parts = tuple(steps)
        self._kinds = kinds
        self._tags = tags
        self._tag_field = tag_field

    def _apply(self, value: Any) -> Any:
        place = self._tagged(value) if self._tags and isinstance(value, dict | list | tuple) else None
        if place is None:
            kind = kind_of(value)
            place = self._kinds.get("float" if kind == "int" and "int" not in self._kinds else kind)
        if place is None:
            raise ValueUnreadable("", f"no alternative of the writer's union: {shown(value)}")
        return self.parts[place](value)

    def _tagged(self, value: Any) -> int | None:
        tag = value.get(self._tag_field) if isinstance(value, dict) else next(iter(value), None)
        found = self._tags.get((type(tag).__name__, tag)) if isinstance(tag, str | int) else None
        # One tagged alternative may be written without its tag.
        return next(iter(self._tags.values())) if found is None and tag is None and len(self._tags) == 1 else found


def kind_of(value: Any) -> str:
    """Return the kind by which the alternatives of a union differ in data."""
    return next((kind for kind, types in _KINDS.items() if isinstance(value, types)), "text")


def within(where: str, step: Step, value: Any) -> Any:
    """Return what `step` makes of a part of a value; `where` leads to it, for the path of an error."""
    try:
        return step(value)
    except ValueUnreadable as error:
        raise ValueUnreadable(where + error.path, error.detail) from error.__cause__


def _items(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueUnreadable("", f"expected an array, found {shown(value)}")
    return list(value)


def _hashable(item: Any) -> object:
    if isinstance(item, dict):
        return frozenset((key, _hashable(part)) for key, part in item.items())
    return tuple(map(_hashable, item)) if isinstance(item, list | tuple | set | frozenset) else item


def _number(key: str) -> Any:
    """Return the number that a JSON key writes; what is none is left to be refused."""
    for make in (int, float):
        try:
            return make(key)
        except ValueError:
            continue
    return key


def shown(value: Any) -> str:
    """Return a value as an error text shows it."""
    return f"{value!r:.{limits.REPR_MAX}}"

"""The step that turns one struct's form into another's, field by field."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from perdure.errors import ValueUnreadable
from perdure.schemas.canonical import Json
from perdure.schemas.steps import KEEP, Step, shown, within
from perdure.schemas.values import plain

ABSENT: Final = object()


class Layout:
    """How a struct is written: as an object or an array, with or without a tag.

    Args:
        definition: of the struct.
    """

    def __init__(self, definition: Json) -> None:
        self.names = [field["name"] for field in definition["fields"]]
        self.is_array = "array" in definition
        self.tag_field, tag = definition.get("tag", (None, None))
        self.tag = plain(tag)

    def fields_in(self, value: Any) -> dict[str, Any]:
        """Return the fields that `value` has, by name; raise ValueUnreadable when it has another form."""
        expected = (list, tuple) if self.is_array else (dict,)
        if not isinstance(value, expected):
            raise ValueUnreadable("", f"expected an {'array' if self.is_array else 'object'}, found {shown(value)}")
        if self.tag_field is not None:
            found = value.get(self.tag_field, self.tag) if isinstance(value, dict) else next(iter(value), None)
            if type(found) is not type(self.tag) or found != self.tag:
                raise ValueUnreadable("", f"expected the tag {self.tag!r}, found {shown(found)}")
        if isinstance(value, dict):
            return {name: value[name] for name in self.names if name in value}
        return dict(zip(self.names, value[self.tag_field is not None :], strict=False))


class Rule(msgspec.Struct):
    """What becomes of one field of the reader's.

    Attributes:
        name: in the data, the same on both sides.
        default: the writer's default in the writer's form, for when the field is absent.
        omitted: whether it may be left out for the reader; with a default, whether the reader has an equal one.
        checked: whether it may be absent in the data although the reader requires it.
        filler: the reader's default in the reader's form, for an array that goes on behind an absent field.
    """

    name: str
    default: Any = ABSENT
    omitted: bool = False
    checked: bool = False
    filler: Any = ABSENT


class Fields(Step):
    """A struct whose fields, form or defaults differ."""

    def __init__(self, source: Layout, target: Layout, rules: Sequence[Rule], steps: Sequence[Step]) -> None:
        self._source = source
        self._target = target
        self._rules = rules
        self.parts = steps
        same_order = target.names[: len(source.names)] == source.names
        same_names = same_order if target.is_array else {*source.names} <= {*target.names}
        self.acts = (
            source.is_array != target.is_array
            or not same_names
            or any(rule.checked or (rule.default is not ABSENT and not rule.omitted) for rule in rules)
        )

    def _apply(self, value: Any) -> Any:
        found = self._source.fields_in(value)
        read: dict[str, Any] = {}
        for rule, step in zip(self._rules, self.parts, strict=True):
            part = found.get(rule.name, ABSENT)
            if part is ABSENT and rule.default is not ABSENT and not (rule.omitted and step is KEEP):
                part = copy.deepcopy(rule.default)  # a value of its own: what it is read into may keep it
            if part is not ABSENT:
                read[rule.name] = within(f".{rule.name}", step, part)
            elif not rule.omitted:
                raise ValueUnreadable(f".{rule.name}", "the reader requires it, and it is absent")
        return self._array(read) if self._target.is_array else self._object(read)

    def _object(self, read: dict[str, Any]) -> dict[str, Any]:
        return read if self._target.tag_field is None else {self._target.tag_field: self._target.tag, **read}

    def _array(self, read: dict[str, Any]) -> list[Any]:
        items = [] if self._target.tag_field is None else [self._target.tag]
        last = max((place for place, rule in enumerate(self._rules) if rule.name in read), default=-1)
        for rule in self._rules[: last + 1]:
            item = read.get(rule.name, rule.filler)
            if item is ABSENT:
                raise ValueUnreadable(f".{rule.name}", "an array cannot leave it out when a later field is there")
            items.append(item if rule.name in read else copy.deepcopy(item))
        return items

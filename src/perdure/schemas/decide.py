"""Whether, and how, values of one type can be read as another: one pair of types at a time.

Source: schemas.md, "Plan", the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import msgspec

from perdure.errors import Incompatibility
from perdure.schemas.canonical import Json, hash_of, text_of
from perdure.schemas.defaults import Unfit, builtins_of
from perdure.schemas.documents import document_of
from perdure.schemas.forms import Form, form_of
from perdure.schemas.loading import NamedTypes
from perdure.schemas.records import ABSENT, Fields, Layout, Rule
from perdure.schemas.steps import KEEP, Check, Choice, Distinct, Each, Entries, Link, Places, Refuse, Step, Target
from perdure.schemas.values import plain

_CHECKED = frozenset({"bool", "int", "float", "str"})  # what has one form in every codec; the rest is left to the conversion


class Pair(NamedTuple):
    """What is decided once: two type expressions, as canonical text, of which one at least is a named type, or the roots.

    `alternative` says that the writer's is one of several in a union, so that its being refused depends on the value.
    """

    writer: str
    reader: str
    alternative: bool = False


class Decision(msgspec.Struct):
    """What to do for a pair, what speaks against it, and which other pairs it depends on; paths begin at the pair."""

    step: Step
    issues: list[Incompatibility]
    links: list[tuple[str, Pair]]


class Context(msgspec.Struct):
    """What all pairs of a plan share: the types, the hashes that have an upcaster, and what was decided for other pairs."""

    types: NamedTypes
    upcast: Container[str]
    target_of: Callable[[Pair], Target]


def decide(pair: Pair, context: Context) -> Decision:
    """Decide one pair, assuming that every pair it leads to is possible."""
    work = _Work(context)
    writer, reader = json.loads(pair.writer), json.loads(pair.reader)
    step = KEEP if _is_same(writer, reader) else work.values(writer, reader, "", alternative=pair.alternative)
    return Decision(step, work.issues, work.links)


def name_of(expression: Json) -> str:
    """Return the hash that a type expression goes by: its own, if it is a named type, or that of its document."""
    if isinstance(expression, dict) and "ref" in expression:
        return str(expression["ref"])
    return hash_of(document_of(text_of(expression)))


def _is_same(writer: Json, reader: Json) -> bool:
    # By text, because to Python `True == 1`.
    return bool(reader == "any") or text_of(writer) == text_of(reader)


class _Work:
    def __init__(self, context: Context) -> None:
        self.issues: list[Incompatibility] = []
        self.links: list[tuple[str, Pair]] = []
        self._context = context
        self._resolve = context.types.resolve

    def values(self, writer: Json, reader: Json, path: str, *, alternative: bool) -> Step:
        """Decide two expressions here and now, even if they are named types."""
        source = self._form(writer)
        if source.kind == "union":
            return self._union(source, reader, path)
        if source.kind == "any":
            return self._issue(path, "any-narrowed", f"any value is written, {self._form(reader).name} is read", KEEP)
        counterpart = self._counterpart(source, reader)
        if counterpart is None:
            return self._mismatch(source, self._form(reader), path, alternative=alternative)
        if source.definition is not None and counterpart != reader:
            # A pair of its own, so that two structs are decided once, however many unions they meet in.
            return self._part(writer, counterpart, path)
        target = self._form(counterpart)
        by_kind = {"struct": self._struct, "dict": self._dict, **dict.fromkeys(("list", "set", "tuple"), self._array)}
        return by_kind.get(target.kind, self._scalar)(source, target, path)

    def _part(self, writer: Json, reader: Json, path: str, *, alternative: bool = False) -> Step:
        if _is_same(writer, reader):
            return KEEP
        if not any(isinstance(side, dict) and "ref" in side for side in (writer, reader)):
            return self.values(writer, reader, path, alternative=alternative)
        pair = Pair(text_of(writer), text_of(reader), alternative)
        self.links.append((path, pair))
        return Link(self._context.target_of(pair))

    def _form(self, expression: Json) -> Form:
        return form_of(expression, self._resolve)

    def _issue(self, path: str, code: str, detail: str, step: Step, *, partial: bool = True) -> Step:
        self.issues.append(Incompatibility(path, code, detail, partial))
        return step

    def _counterpart(self, source: Form, reader: Json) -> Json | None:
        target = self._form(reader)
        candidates = target.parts if target.kind == "union" else [reader]
        return next((part for part in candidates if self._form(part).family == source.family), None)

    def _mismatch(self, source: Form, target: Form, path: str, *, alternative: bool) -> Step:
        code = "kind-changed"
        if alternative:
            code = "alternative-removed"
        elif source.definition is not None and (target.definition is not None or target.kind == "union"):
            code = "tag-changed"
        detail = f"{source.name:.80} is written, {target.name:.80} is read"
        return self._issue(path, code, detail, Refuse(f"{code}: {detail}"), partial=alternative)

    def _union(self, source: Form, reader: Json, path: str) -> Step:
        forms = [self._form(part) for part in source.parts]
        readable = any(
            self._counterpart(form, reader) is not None or name_of(part) in self._context.upcast
            for form, part in zip(forms, source.parts, strict=True)
        )
        steps, kinds, tags = [], {}, {}
        tag_field = None
        for place, (form, part) in enumerate(zip(forms, source.parts, strict=True)):
            where = path
            if form.tag is None:
                kinds[form.written_as] = place
            else:
                tag_field, tag = form.tag[0], plain(form.tag[1])
                tags[type(tag).__name__, tag] = place
                where = f"{path}({tag})"
            steps.append(self._part(part, reader, where, alternative=readable))
        return Choice(steps, kinds=kinds, tags=tags, tag_field=tag_field)

    def _scalar(self, source: Form, target: Form, path: str) -> Step:
        assert source.scalar is not None, "a counterpart is of the same family"
        assert target.scalar is not None, "a counterpart is of the same family"
        reason = target.scalar.refusal(source.scalar)
        if reason is None:
            return KEEP
        code = "values-narrowed" if target.scalar.is_listed else "constraint-tightened"
        code = "member-removed" if source.scalar.is_listed else code
        step = Check(target.scalar) if target.kind in _CHECKED else KEEP
        return self._issue(path, code, f"{source.name:.80} is written, {target.name:.80} is read: {reason}", step)

    def _dict(self, source: Form, target: Form, path: str) -> Step:
        self._lengths(source, target, path)
        (key, value), (reader_key, reader_value) = source.parts, target.parts
        keys = self._form(key)
        alternatives = [self._form(part) for part in keys.parts] if keys.kind == "union" else [keys]
        numeric = all(form.kind in {"int", "float"} for form in alternatives)
        at_key = self._part(key, reader_key, f"{path}[key]")
        return Entries(at_key, self._part(value, reader_value, f"{path}[]"), number_keys=numeric)

    def _lengths(self, source: Form, target: Form, path: str) -> None:
        if tighter := target.lengths.tighter_than(source.lengths):
            self._issue(path, "constraint-tightened", f"{', '.join(tighter)} of the {target.kind} is tighter", KEEP)

    def _array(self, source: Form, target: Form, path: str) -> Step:
        if target.kind == "tuple":
            return self._places(source, target, path)
        if source.kind == "tuple":
            inside = target.lengths.least <= len(source.parts) <= target.lengths.most
            if not inside:
                return self._issue(path, "length-changed", f"{len(source.parts)} items are not allowed", KEEP, partial=False)
            pairs = [self._part(part, target.parts[0], f"{path}[{place}]") for place, part in enumerate(source.parts)]
            step: Step = Places(pairs, checked=False)
        else:
            self._lengths(source, target, path)
            step = Each(self._part(source.parts[0], target.parts[0], f"{path}[]"))
        most = len(source.parts) if source.kind == "tuple" else source.lengths.most
        if target.kind == "set" and source.kind != "set" and most > 1:
            detail = f"a {source.kind} is written, a set is read: an item that is there twice would be lost"
            return self._issue(path, "items-may-repeat", detail, Distinct(step))
        return step

    def _places(self, source: Form, target: Form, path: str) -> Step:
        count = len(target.parts)
        written = source.parts if source.kind == "tuple" else source.parts * count
        least, most = (len(written),) * 2 if source.kind == "tuple" else (source.lengths.least, source.lengths.most)
        if source.kind == "set":
            return self._issue(path, "kind-changed", "a set is written, and the places of a tuple are read", KEEP, partial=False)
        if not least <= count <= most:
            return self._issue(path, "length-changed", f"{least} items or more are written, {count} are read", KEEP, partial=False)
        if least != most:
            self._issue(path, "length-may-differ", f"a list is written, {count} items are read", KEEP)
        pairs = zip(written, target.parts, strict=True)
        return Places((self._part(*pair, f"{path}[{place}]") for place, pair in enumerate(pairs)), checked=least != most)

    def _struct(self, source: Form, target: Form, path: str) -> Step:
        writer, reader = source.definition, target.definition
        written = {field["name"]: field for field in writer["fields"]}
        rules, steps = [], []
        for field in reader["fields"]:
            rule, step = self._field(written.get(field["name"]), field, f"{path}.{field['name']}")
            rules.append(rule)
            steps.append(step)
        names = {field["name"] for field in reader["fields"]}
        for name in written if "closed" in reader else ():
            if name not in names:
                self._issue(f"{path}.{name}", "field-removed", f"{reader['struct']} forbids unknown fields", KEEP, partial=False)
        if "array" in reader:
            self._fill_array(reader, rules, written, path)
        return Fields(Layout(writer), Layout(reader), rules, steps)

    def _field(self, source: Json, target: Json, path: str) -> tuple[Rule, Step]:
        name, omitted = target["name"], target.keys() != {"name", "type"}
        if source is None:
            if not omitted:
                self._issue(path, "field-required", "it is required, and was not written", KEEP, partial=False)
            return Rule(name, omitted=omitted), KEEP
        step = self._part(source["type"], target["type"], path)
        if source.keys() == {"name", "type"}:
            return Rule(name), step
        if "default" not in source:
            if not omitted:
                self._issue(path, "now-required", "it is required, and may be absent in what was written", KEEP)
            return Rule(name, omitted=omitted, checked=not omitted), step
        equal = "default" in target and text_of(source["default"]) == text_of(target["default"])
        try:
            return Rule(name, default=builtins_of(source["default"], source["type"], self._resolve), omitted=equal), step
        except Unfit as error:
            if not equal:
                self._issue(path, "default-unreadable", f"absent means the writer's default: {error}", KEEP)
            return Rule(name, omitted=equal, checked=not equal), step

    def _fill_array(self, reader: Json, rules: list[Rule], written: dict[str, Any], path: str) -> None:
        """Find what to write for an absent field when a later one is there: an array cannot leave it out."""
        later = False
        for field, rule in zip(reversed(reader["fields"]), reversed(rules), strict=True):
            if rule.omitted and later:
                try:
                    rule.filler = builtins_of(field.get("default"), field["type"], self._resolve) if "default" in field else ABSENT
                except Unfit:
                    rule.filler = ABSENT
                if rule.filler is ABSENT:
                    always = rule.name not in written
                    code, detail = ("field-required" if always else "now-required"), "an array has to have it before a later field"
                    self._issue(f"{path}.{rule.name}", code, detail, KEEP, partial=not always)
            later = later or rule.name in written

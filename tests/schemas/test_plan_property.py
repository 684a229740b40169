"""Random types, edits of them and values: a yes reads every value with equal meaning, and failures under partial are typed."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.errors import SchemaIncompatible, SchemaUnsupported, ValueUnreadable
from perdure.schemas import Plan, Schema, plan, schema_of, verify
from tests.schemas.meaning import same
from tests.schemas.models import Model, mutate, python_type, random_data, random_model

EXAMPLES = 250


class Case:
    """A random type, an edit of it, and what a plan says; `verdict` is `same`, `yes`, `partial` or `no`."""

    def __init__(self, rnd: random.Random) -> None:
        self.writer = random_model(rnd)
        self.reader = mutate(rnd, self.writer)
        self.types = defined(self.writer), defined(self.reader)
        (old, documents), (new, more) = map(schema_of, self.types)
        for hash_, document in (documents | more).items():
            verify(Schema(hash_, document))
        self.plan = Plan()
        self.verdict = "same" if old == new else "yes"
        try:
            self.plan = plan(old, new, documents | more)
        except SchemaIncompatible as error:
            self.verdict = "partial" if all(issue.partial for issue in error.issues) else "no"
        if self.verdict == "partial":
            self.plan = plan(old, new, documents | more, allow_partial=True)

    def read(self, data: Any) -> Any:
        """Read data that is valid for the writer, as the reader's type."""
        msgspec.convert(data, self.types[0], str_keys=True)
        return self.plan.read(data, self.types[1])


class Inexpressible(Exception):
    """What came out is no type, such as a union that `msgspec` refuses."""


def defined(model: Model) -> Any:
    try:
        kind = python_type(model)
        schema_of(kind)
    except (TypeError, SchemaUnsupported):
        raise Inexpressible from None
    return kind


def check(seed: int) -> str:
    rnd = random.Random(seed)
    try:
        case = Case(rnd)
    except Inexpressible:
        return "inexpressible"
    if case.verdict == "no":
        return case.verdict
    for _ in range(3):
        data = random_data(rnd, case.writer)
        try:
            value = case.read(data)
        except ValueUnreadable:
            assert case.verdict == "partial", (case.writer, case.reader, data)
            continue
        assert same(case.writer, data, case.reader, value), (case.writer, case.reader, data, value)
    return case.verdict


@given(st.integers(0, 2**64))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_yes_reads_every_value_with_equal_meaning_and_a_partial_plan_fails_only_by_its_type(seed: int) -> None:
    check(seed)


@given(st.integers(0, 2**64))
@settings(max_examples=60, deadline=None)
def test_a_type_that_was_defined_again_has_the_same_schema_and_needs_no_plan(seed: int) -> None:
    model = random_model(random.Random(seed))

    try:
        assert schema_of(defined(model)) == schema_of(defined(model))
    except Inexpressible:
        return


def test_the_mix_of_cases_has_something_of_every_verdict() -> None:
    verdicts = [check(seed) for seed in range(200)]

    assert min(verdicts.count(verdict) for verdict in ("same", "yes", "partial", "no")) >= 5

"""Faults in schemas: their one spelling, the trust in them, and plans."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/schemas"
TESTS: Final = "tests/schemas"
FIELDS: Final = f"{TESTS}/test_plan_fields.py"
TABLE: Final = f"{TESTS}/test_plan_table.py"
RECURSION: Final = f"{TESTS}/test_plan_recursion.py"
ALONE: Final = f"{TESTS}/test_faults_schemas.py"
HARD: Final = f"{TESTS}/test_hard_cases.py"
VERIFY: Final = f"{TESTS}/test_verify.py"

FAULTS: Final = (
    Fault(
        "schemas-union-in-written-order",
        f"{HERE}/grammar.py",
        "        key=lambda pair: pair[0] or (),\n",
        "        key=lambda _pair: (),\n",
        (f"{HARD}::test_the_written_order_of_unions_and_literals_is_no_property_of_the_type",),
    ),
    Fault(
        "schemas-union-out-of-order-is-trusted",
        f"{HERE}/grammar.py",
        "    if any(one >= other for one, other in pairwise(ranks)):\n",
        "    if False:\n",
        (f"{VERIFY}::test_the_order_of_a_union_of_other_documents_is_checked_where_they_are_at_hand",),
    ),
    Fault(
        "schemas-literals-in-written-order",
        f"{HERE}/grammar.py",
        '    return {"literal": sorted({text_of(value): value for value in values}.values(), key=order_of)}\n',
        '    return {"literal": list({text_of(value): value for value in values}.values())}\n',
        (f"{HARD}::test_the_written_order_of_unions_and_literals_is_no_property_of_the_type",),
    ),
    Fault(
        "schemas-names-are-believed",
        f"{HERE}/verify.py",
        "    if found != schema.hash:\n",
        "    if False:\n",
        (f"{VERIFY}::test_every_flipped_bit_and_every_truncation_is_refused_under_the_published_name",),
    ),
    Fault(
        "schemas-any-spelling-is-canonical",
        f"{HERE}/canonical.py",
        "    if again != data:\n",
        "    if False:\n",
        (f"{VERIFY}::test_every_kind_of_breakage_is_refused_although_the_hash_is_right",),
    ),
    Fault(
        "schemas-keys-in-written-order",
        f"{HERE}/canonical.py",
        "sort_keys=True",
        "sort_keys=False",
        (f"{TESTS}/test_vectors.py::test_a_type_has_its_published_hash_and_document",),
    ),
    Fault(
        "plan-new-required-field-is-nothing",
        f"{HERE}/decide.py",
        "        if source is None:\n            if not omitted:\n",
        "        if source is None:\n            if False:\n",
        (f"{TABLE}::test_no",),
    ),
    Fault(
        "plan-default-of-the-reader",
        f"{HERE}/decide.py",
        'Rule(name, default=builtins_of(source["default"], source["type"], self._resolve), omitted=equal)',
        'Rule(name, default=builtins_of(target.get("default", source["default"]), source["type"], self._resolve), omitted=equal)',
        (f"{FIELDS}::test_an_absent_field_has_the_writers_default_whatever_the_reader_says",),
    ),
    Fault(
        "plan-default-is-shared",
        f"{HERE}/records.py",
        "                part = copy.deepcopy(rule.default)",
        "                part = rule.default",
        (f"{FIELDS}::test_a_filled_default_is_a_value_of_its_own_each_time",),
    ),
    Fault(
        "plan-default-past-the-plan-of-its-field",
        f"{HERE}/records.py",
        "not (rule.omitted and step is KEEP)",
        "not rule.omitted",
        (f"{RECURSION}::test_an_absent_field_whose_default_only_looks_the_same_is_upcast",),
    ),
    Fault(
        "plan-absent-field-may-be-required",
        f"{HERE}/decide.py",
        '        if "default" not in source:\n            if not omitted:\n',
        '        if "default" not in source:\n            if False:\n',
        (f"{FIELDS}::test_what_may_be_absent_without_a_value_cannot_be_required",),
    ),
    Fault(
        "plan-closed-reader-takes-anything",
        f"{HERE}/decide.py",
        '        for name in written if "closed" in reader else ():\n',
        "        for name in ():\n",
        (f"{FIELDS}::test_a_closed_reader_refuses_what_it_does_not_know_and_nothing_else",),
    ),
    Fault(
        "plan-fields-of-arrays-by-position",
        f"{HERE}/records.py",
        "        same_names = same_order if target.is_array else",
        "        same_names = True if target.is_array else",
        (f"{ALONE}::test_fields_of_an_array_that_only_changed_places_are_put_in_order",),
    ),
    Fault(
        "plan-shorter-lengths-are-nothing",
        f"{HERE}/decide.py",
        "        if tighter := target.lengths.tighter_than(source.lengths):\n",
        "        if tighter := source.lengths.tighter_than(target.lengths):\n",
        (f"{TABLE}::test_partial",),
    ),
    Fault(
        "plan-narrower-numbers-are-nothing",
        f"{HERE}/scalars.py",
        '            *["upper bound"] * (self.greatest < greatest),\n',
        "",
        (f"{ALONE}::test_one_bound_alone_makes_a_plan_partial",),
    ),
    Fault(
        "plan-removed-alternative-is-nothing",
        f"{HERE}/decide.py",
        "            steps.append(self._part(part, reader, where, alternative=readable))\n",
        "            steps.append(KEEP)\n",
        (f"{TESTS}/test_defects.py::test_defect_operations_11_alternatives_are_planned_field_by_field_to_the_bottom",),
    ),
    Fault(
        "plan-of-a-group-fails-only-where-it-fails",
        f"{HERE}/solve.py",
        "            harm |= worse\n",
        "            pass\n            break\n",
        (f"{RECURSION}::test_what_holds_the_cause_is_upcast_when_the_cause_cannot_be",),
    ),
    Fault(
        "plan-upcasters-the-wrong-way-round",
        f"{HERE}/solve.py",
        "(*last.upcasts, function)",
        "(function, *last.upcasts)",
        (f"{RECURSION}::test_a_chain_of_two_upcasters_reads_an_optional_field",),
    ),
    Fault(
        "plan-upcasters-in-a-circle",
        f"{HERE}/solve.py",
        "        if any(attempt.pair.writer == writer for attempt in state.attempts):",
        "        if False:",
        (f"{RECURSION}::test_upcasters_in_a_circle_end_and_do_not_help",),
        hangs=True,
    ),
    Fault(
        "plan-partial-without-being-asked-for",
        f"{HERE}/planning.py",
        "    if any(not allow_partial or not issue.partial for issue in issues):\n",
        "    if any(not issue.partial for issue in issues):\n",
        (f"{TABLE}::test_partial",),
    ),
)

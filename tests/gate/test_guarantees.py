"""docs/guarantees.md links each promise to tests, and each of them is there and is run."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.gate.guarantees import PROMISES, complaints, rows, sections
from tests.gate.tree import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
SECTIONS = [
    "The smallest program",
    "A process with messages",
    "Why ordinary async Python is safe",
    "Replay checks",
    "Ahead of the disk",
    "Live equals replay",
    "Addressing and delivery",
    "Verbs of a turn",
    "Processes that work together",
    "Steps",
    "Fields, queries and search",
    "Failure, poison, cancel and end",
    "Schedules",
    "States, memory, recovery",
    "Fairness",
    "Versions, operations, time",
    "Retention",
    "Testing",
    "New code, before it runs",
    "Moving a store, and joining a transaction",
    "Several nodes",
    "A new release",
    "A database that fails over",
    "Over HTTP",
    "Commands",
    "Packages",
    "Not yet",
    "What is not promised",
]
"""Those of the engine's design, in its order, and then what goes beyond it."""

HERE = "tests/gate/test_guarantees.py"
GOOD = f"`{HERE}::test_the_page_is_right`"


def test_the_page_is_right() -> None:
    assert list(complaints(PAGE)) == []


def test_each_part_of_the_design_has_its_promises() -> None:
    found = Counter(row.section for row in rows(PAGE) if row.header == PROMISES)

    assert sections(PAGE) == SECTIONS
    assert set(found) == set(SECTIONS[:-2])
    assert found.total() > 150


def table(*lines: str, header: str = f"| {PROMISES} |", rule: str = "|---|---|") -> str:
    return "\n".join(["## A", "", header, rule, *lines, ""])


def test_a_right_table_is_no_offence() -> None:
    page = table(f"| a | {GOOD} |", f"| b | {GOOD}, `{HERE}::test_a_right_table_is_no_offence` |")

    assert [row.cells[0] for row in rows(page)] == ["a", "b"]
    assert list(complaints(page)) == []


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (table("| a | |"), "is held by"),
        (table("| a | by nobody |"), "is held by"),
        (table(f"| a | {GOOD[:-1]} |"), "is held by"),
        (table(f"| a | {GOOD.replace('::', ':')} |"), "is held by"),
        (table(f"| a | {GOOD} {GOOD} |"), "is held by"),
        (table(f"| a | {GOOD}, `tests/gate/test_guarantees::test_the_page_is_right` |"), "is held by"),
        (table(f"| a | {GOOD}, {GOOD} |"), "named twice"),
        (table(f"| a | {GOOD.replace('page', 'pgae')} |"), "there is no test"),
        (table(f"| a | {GOOD.replace('gate/', '')} |"), "there is no test"),
        (table("| a | `tests/gate/guarantees.py::test_nothing` |"), "there is no test"),
        (table(f"| a | `{HERE}::test_hidden_inside_of_another` |"), "there is no test"),
        (table("| a | `tests/engine/test_turn_replay.py::test_many_orders_of_what_happens` |"), "is not run each time: soak"),
        (table(f"| a | {GOOD} |", f"| a | {GOOD} |"), "promised above"),
        (table(f"| | {GOOD} |"), "nothing is promised"),
        (table(f"| a | b | {GOOD} |"), "two cells"),
        (table(f"a | {GOOD.replace('page', 'pgae')}"), "there is no test"),
        (table("  | a | nobody |"), "is held by"),
        (table(f"| a | {GOOD} |", header="| promises | held by |"), "has the header"),
        (table(f"| a | {GOOD} |", "", "| b | nobody |"), "has the header"),
        (table(f"| a | {GOOD} |") + f"- b: {GOOD}\n", "outside of the links"),
        (table(f"| a | {GOOD} |") + "It is held by tests/engine.\n", "outside of the links"),
    ],
)
def test_a_link_that_is_missing_or_misspelled_is_found(page: str, says: str) -> None:
    def test_hidden_inside_of_another() -> None: ...

    assert any(says in found for found in complaints(page)), list(complaints(page))

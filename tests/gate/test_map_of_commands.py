"""tests/commands/README.md says which tests hold each item of the research on commands, and each of them is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.gate import guarantees
from tests.gate.guarantees import LINK, LINKS, rows
from tests.gate.tree import ROOT

MAP = (ROOT / "tests" / "commands" / "README.md").read_text(encoding="utf-8")
HEADER = "item | what | held by"
HELD = re.compile(rf"(?:does not apply: [^`]+)?(?:{LINKS.pattern})|does not apply: [^`]+")
GROUPS = {"S": 9, "R": 12, "The eight flows": 8, "V": 22, "D": 6, "C": 27, "K": 11, "A": 4, "P": 7, "3.1": 20, "1.5": 13, "5": 59}
"""How many items each has."""
HERE = "tests/gate/test_map_of_commands.py"
GOOD = f"`{HERE}::test_the_map_is_right`"


def complaints(page: str) -> Iterator[str]:
    """Yield what is wrong, with the line."""
    linked, items = 0, Counter[str]()
    for row in rows(page):
        if row.header != HEADER or len(row.cells) != HEADER.count("|") + 1:
            yield f"{row.line}: expected a table | {HEADER} |, and three cells"
            continue
        item, what, held_by = row.cells
        items[item] += 1
        if not (item and what) or items[item] > 1:
            yield f"{row.line}: an item has a name of its own, and some words"
        if not HELD.fullmatch(held_by):
            yield f"{row.line}: expected `tests/file.py::test_name`, several with a comma between them, or why it does not apply"
        linked += len(LINK.findall(held_by))
        yield from (
            f"{row.line}: there is no test {path}::{name}" for path, name in LINK.findall(held_by) if name not in guarantees.tests_of(path)
        )
    if page.count("tests/") != linked:
        yield "0: a test is named outside of what an item is held by"


def test_the_map_is_right() -> None:
    assert list(complaints(MAP)) == []


def test_each_group_has_its_items() -> None:
    assert Counter(row.section.partition(":")[0] for row in rows(MAP)) == GROUPS


def table(*lines: str, header: str = f"| {HEADER} |") -> str:
    return "\n".join(["## A", "", header, "|---|---|---|", *lines, ""])


def test_a_right_map_is_no_offence() -> None:
    lines = (f"| 1 | a | {GOOD}, `{HERE}::test_a_right_map_is_no_offence` |", "| 2 | b | does not apply: no URLs |")

    assert list(complaints(table(*lines, f"| 3 | c | does not apply: no URLs; the nearest: {GOOD} |"))) == []


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (table(f"| 1 | a | {GOOD.replace('map', 'mpa')} |"), "there is no test"),
        (table(f"| 1 | a | {GOOD.replace('gate/', '')} |"), "there is no test"),
        (table(f"| 1 | a | does not apply: no URLs: {GOOD.replace('map', 'mpa')} |"), "there is no test"),
        (table("| 1 | a | |"), "why it does not apply"),
        (table("| 1 | a | does not apply |"), "why it does not apply"),
        (table("| 1 | a | nobody |"), "why it does not apply"),
        (table(f"| 1 | a | {GOOD} {GOOD} |"), "why it does not apply"),
        (table(f"| 1 | a | {GOOD.replace('::', ':')} |"), "outside of what"),
        (table(f"| 1 | | {GOOD} |"), "some words"),
        (table(f"| 1 | a | {GOOD} |", f"| 1 | b | {GOOD} |"), "a name of its own"),
        (table(f"| 1 | {GOOD} |"), "three cells"),
        (table(f"| 1 | a | {GOOD} |", header="| item | what | test |"), "expected a table"),
    ],
)
def test_what_is_wrong_in_a_map_is_found(page: str, says: str) -> None:
    assert any(says in found for found in complaints(page)), list(complaints(page))

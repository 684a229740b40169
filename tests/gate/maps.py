"""Reads the maps of what research found, as tests/commands/README.md: each item, in our words, and the tests that hold it here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.gate import guarantees
from tests.gate.guarantees import LINK, LINKS, rows
from tests.gate.tree import ROOT

HEADER = "item | what | held by"
HELD = re.compile(rf"(?:does not apply: [^`]+)?(?:{LINKS.pattern})|does not apply: [^`]+")


def map_of(folder: str) -> str:
    """Return the map that lies among the tests of a folder."""
    return (ROOT / "tests" / folder / "README.md").read_text(encoding="utf-8")


def groups(page: str) -> Counter[str]:
    """Return how many items each part of a map has, by what its heading says before a colon."""
    return Counter(row.section.partition(":")[0] for row in rows(page) if row.header == HEADER)


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

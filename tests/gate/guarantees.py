"""Reads docs/guarantees.md: what it promises, which tests hold that, and what is wrong with it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from tests.gate.tree import ROOT

PROMISES = "promise | held by"
OTHER_TABLES = frozenset({"promise | comes with", "effect | the window | what to do"})
LINK = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
LINKS = re.compile(rf"{LINK.pattern}(, {LINK.pattern})*")
NOT_RUN = frozenset({"skip", "skipif", "xfail", "soak"})


class Row(NamedTuple):
    """One line of a table: where it stands, under which heading and header, and its cells."""

    line: int
    section: str
    header: str
    cells: tuple[str, ...]


def sections(page: str) -> list[str]:
    """Return the headings, in order."""
    return re.findall(r"^#{2,} (.+)$", page, re.MULTILINE)


def rows(page: str) -> Iterator[Row]:
    """Yield every line of every table but headers and rules. A table without a header has its first line for one."""
    section, header = "", ""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("#"):
            section, header = line.lstrip("# "), ""
        elif "|" not in line:
            header = "" if line.strip() else header and f"{header} (cut by an empty line)"
        elif not header:
            header = " | ".join(cell.strip() for cell in line.strip().strip("|").split("|"))
        elif set(line) - set("|- :"):
            yield Row(number, section, header, tuple(cell.strip() for cell in line.strip().strip("|").split("|")))


@cache
def tests_of(path: str) -> dict[str, frozenset[str]]:
    """Return the tests that pytest finds in a file, with the marks that they carry by name; nothing when it does not look into it."""
    file = ROOT / path
    if not (file.name.startswith("test_") and file.is_file()):
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    all_of_them = frozenset(
        word
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        for word in _words(node.value)
    )
    return {node.name: all_of_them.union(*(_words(mark) for mark in node.decorator_list)) for node in functions}


def _words(node: ast.expr) -> frozenset[str]:
    return frozenset(child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute))


def complaints(page: str) -> Iterator[str]:
    """Yield what is wrong, with the line."""
    promises: Counter[str] = Counter()
    linked = 0
    for row in rows(page):
        if row.header in OTHER_TABLES:
            continue
        if row.header != PROMISES:
            yield f"{row.line}: a table has the header | {PROMISES} |, or is one of those that promise nothing"
        elif len(row.cells) != 2:  # a promise and its tests
            yield f"{row.line}: a promise and its tests are two cells"
        else:
            promise, held_by = row.cells
            promises[promise] += 1
            if not promise:
                yield f"{row.line}: nothing is promised"
            if promises[promise] == 2:  # told once
                yield f"{row.line}: this is promised above, too"
            linked += len(LINK.findall(held_by))
            yield from _of_links(row.line, held_by)
    if page.count("tests/") != linked:
        yield "0: a test is named outside of the links of a promise"


def _of_links(line: int, held_by: str) -> Iterator[str]:
    if not LINKS.fullmatch(held_by):
        yield f"{line}: a promise is held by `tests/file.py::test_name`, or by several with a comma between them"
        return
    links = LINK.findall(held_by)
    if len(set(links)) != len(links):
        yield f"{line}: a test is named twice"
    for path, name in links:
        marks = tests_of(path).get(name)
        if marks is None:
            yield f"{line}: there is no test {path}::{name}"
        elif marks & NOT_RUN:
            yield f"{line}: {name} is not run each time: {', '.join(sorted(marks & NOT_RUN))}"

"""docs/guarantees.md names a test for each promise, and each of them is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.split("## What is not promised")[0].splitlines() if line.startswith("| ") and not line.startswith("| promise")
]
NAMED = re.findall(r"`(tests/\S+?)::(test_\w+)`", PAGE)


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_promise_is_held_by_a_test_that_exists(path: str, name: str) -> None:
    assert name in functions_of(path)


def test_every_promise_names_its_test() -> None:
    without = [row for row in ROWS if not re.search(r"`tests/\S+?::test_\w+`", row)]

    assert without == []
    assert len(ROWS) > 50


def test_no_promise_stands_twice() -> None:
    promises = [row.split("|")[1].strip() for row in ROWS]

    assert len(promises) == len(set(promises))

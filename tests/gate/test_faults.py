"""The list of seeded faults does not rot: each still has its place in the code and its tests. `make faults` tries them."""

from __future__ import annotations

import ast
import functools
from collections import Counter

import pytest

from tests.faults.fault import ROOT, Fault
from tests.faults.faults import FAULTS
from tests.faults.trial import judged


@functools.cache
def _tests_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def test_there_are_enough_faults_and_each_has_a_name_of_its_own() -> None:
    names = Counter(fault.name for fault in FAULTS)

    assert len(FAULTS) >= 30
    assert max(names.values()) == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_its_place_and_its_tests(fault: Fault) -> None:
    source = (ROOT / fault.file).read_text(encoding="utf-8")

    assert fault.applied(source) != source
    assert fault.tests
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), f"{path} is gone; name the tests that have to notice the fault"
        assert not name or name.partition("[")[0] in _tests_in(path), f"{test} is gone; name the tests that have to notice the fault"


OUTPUT = "E   assert 1 == 2\nERROR    perdure.core:writer.py:1 a log line\nFAILED tests/a.py::test_b[x y] - assert 1 == 2\n1 failed in 0.1s"


@pytest.mark.parametrize(
    ("code", "output", "hangs", "killed_by", "survived"),
    [
        (1, OUTPUT, False, "tests/a.py::test_b[x y]", ""),
        (0, "1 passed", False, "", "its tests pass"),
        (2, "ERROR tests/a.py - SyntaxError", False, "", "exit status 2"),
        (4, "ERROR: not found: tests/a.py::test_c", False, "", "exit status 4"),
        (1, f"E   NameError: name 'x' is not defined\n{OUTPUT}", False, "", "a program that does not run"),
        (None, "no end after 60 s", False, "", "no end"),
        (None, "no end after 10 s", True, "a test that never ends", ""),
    ],
)
def test_only_a_test_that_fails_kills_a_fault(code: int | None, output: str, hangs: bool, killed_by: str, survived: str) -> None:
    fault = Fault("a", "src/a.py", "1", "2", ("tests/a.py",), hangs=hangs)

    found = judged(fault, code, output)

    assert found[0] == killed_by
    assert survived in found[1]
    assert bool(found[0]) != bool(found[1])


def test_a_fault_in_imports_may_show_as_an_import_that_fails() -> None:
    output = f"E   ModuleNotFoundError: No module named 'shop'\n{OUTPUT}"
    fault = Fault("a", "src/a.py", "1", "2", ("tests/a.py",), imports=True)

    assert judged(fault, 1, output) == ("tests/a.py::test_b[x y]", "")

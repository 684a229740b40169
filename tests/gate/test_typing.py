"""What a user's type checker says: results are typed, and a wrong use of the API is a type error."""

from __future__ import annotations

import subprocess
import sys

from tests.gate.tree import ROOT

SAMPLES = "tests/typing_samples"


def reported(name: str) -> dict[int, str]:
    """Return what mypy says in strict mode about a sample, by line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty", f"{SAMPLES}/{name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[int, str] = {}
    for line in (done.stdout + done.stderr).splitlines():
        path, _, rest = line.partition(":")
        number, _, text = rest.partition(":")
        assert path == f"{SAMPLES}/{name}", line
        if text.strip().startswith("error"):
            found.setdefault(int(number), text.strip())
    return found


def test_the_results_of_a_right_program_are_typed() -> None:
    assert reported("good.py") == {}


def test_each_wrong_use_is_a_type_error_and_nothing_else_is() -> None:
    lines = (ROOT / SAMPLES / "bad.py").read_text().splitlines()
    marked = {number: line.strip() for number, line in enumerate(lines, 1) if "# error" in line}

    found = reported("bad.py")

    assert {number: line for number, line in marked.items() if number not in found} == {}, "mypy lets these pass"
    assert {number: text for number, text in found.items() if number not in marked} == {}, "mypy reports more"

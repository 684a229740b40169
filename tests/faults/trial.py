"""A copy of the project to do wrong in: apply one fault, run the tests that have to notice, restore."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tests.faults.fault import ROOT, Fault

SECONDS = 60
SECONDS_TO_HANG = 10
COPIED = ("src", "tests", "examples", "docs", "pyproject.toml")

_FAILED = 1  # pytest's exit status when tests failed; collection and usage errors have others
_FIRST = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)
_NO_FAULT = re.compile(r"^E +((?:NameError|ImportError|ModuleNotFoundError|SyntaxError)\b.*)", re.MULTILINE)


class Verdict(msgspec.Struct, frozen=True):
    """What became of a fault: `killed_by` the first test that noticed it, or why nobody did."""

    fault: Fault
    killed_by: str
    survived: str
    seconds: float


class Copy:
    """The project in a temporary folder, one fault at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy2(source, folder / name)

    def check(self, tests: Iterable[str]) -> None:
        """Run tests without any fault: what fails now would kill every fault."""
        code, output = self._pytest(sorted(set(tests)), SECONDS * 5)
        if code != 0:
            raise SystemExit(f"without any fault the tests do not pass (exit status {code}):\n{output}")

    def try_fault(self, fault: Fault) -> Verdict:
        """Apply the fault, run its tests, restore."""
        path = self._folder / fault.file
        source = path.read_text(encoding="utf-8")
        began = time.monotonic()
        self._write(path, fault.applied(source))
        try:
            code, output = self._pytest(fault.tests, SECONDS_TO_HANG if fault.hangs else SECONDS)
        finally:
            self._write(path, source)
        killed_by, survived = judged(fault, code, output)
        return Verdict(fault, killed_by, survived, time.monotonic() - began)

    def _pytest(self, tests: Iterable[str], seconds: int) -> tuple[int | None, str]:
        """Return exit status and output; no status when it did not end in time."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-rfE",
            "--tb=short",
            "--hypothesis-seed=0",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        # The copy's own package comes before the one that is installed.
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self._folder / 'src'}{os.pathsep}{self._folder}",
            "COLUMNS": "400",
            "PERDURE_FAULTS": "1",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(
            command, cwd=self._folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, f"no end after {seconds} s"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, output

    def _write(self, path: Path, source: str) -> None:
        path.write_text(source, encoding="utf-8")
        # Bytecode is told from its source by size and whole seconds, in which several faults may come and go.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def judged(fault: Fault, code: int | None, output: str) -> tuple[str, str]:
    """Return who killed the fault, or why it survived."""
    if code is None:
        return ("a test that never ends", "") if fault.hangs else ("", output)
    if code == 0:
        return "", "its tests pass"
    if code != _FAILED:
        return "", f"pytest ended with exit status {code}:\n{output}"
    if not fault.imports and (broken := _NO_FAULT.search(output)):
        return "", f"a program that does not run is no fault: {broken[1]}"
    first = _FIRST.search(output)
    return (first[1], "") if first else ("", f"no failed test is named:\n{output}")

"""What code of packages writes down, and what it waits for: it is local code that they import."""

from __future__ import annotations

import threading

LINES: list[str] = []
"""What was written since the test began."""

GATE = threading.Event()
"""Imports that ask for it wait until it is open."""

READY = True
"""Whether an import that asks for it succeeds."""


def write(line: str) -> None:
    LINES.append(line)


def wait() -> None:
    assert GATE.wait(60), "nobody has opened the gate"


def check() -> None:
    if not READY:
        raise LookupError("not ready")

"""What code of packages tells the test that loads it: it is local code that they import."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

LINES: list[str] = []
"""What was written since the test began."""

KEPT: list[weakref.ref[Any]] = []
"""What was shown since the test began, without keeping it."""

BEGUN = threading.Event()
"""Whether an import has come so far that it waits."""

GATE = threading.Event()
"""Imports that wait go on when it is open."""

READY = True
"""Whether imports that check it succeed."""

HOOK: Callable[[], object] = str
"""What imports do that call it."""


def write(line: str) -> None:
    LINES.append(line)


def show(thing: object) -> None:
    KEPT.append(weakref.ref(thing))


def wait() -> None:
    BEGUN.set()
    assert GATE.wait(60), "nobody has opened the gate"


def check() -> None:
    if not READY:
        raise LookupError("not ready")


def call() -> None:
    HOOK()

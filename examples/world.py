"""The world outside, for the examples: services that note what steps ask of them, under idempotency keys.

A step of an example calls `act("charge 3900 for order 1")`. When the example runs, that goes into a file of its own, which knows
what has happened whatever becomes of the store. Its tests put a `perdure.testing.EffectLedger` in that place.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import perdure


class World(Protocol):
    """What notes effects: a `FileWorld`, or a `perdure.testing.EffectLedger`."""

    def note(self, what: str, /) -> None:
        """Note an effect of the step that runs, under its idempotency key."""


class Effect(NamedTuple):
    """One effect, and how often it was asked for: more than once after a crash between the effect and its record."""

    what: str
    times: int


class FileWorld:
    """A file with what has happened, one row per idempotency key: what comes again under a key is recognised, and not done again."""

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()  # plain functions run on threads
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("CREATE TABLE IF NOT EXISTS effect (key TEXT PRIMARY KEY, what TEXT NOT NULL, times INTEGER NOT NULL)")

    def note(self, what: str, /) -> None:
        """Do it, or recognise that it is done."""
        key = perdure.step_info().idempotency_key
        with self._lock:
            self._connection.execute("INSERT INTO effect VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1", (key, what))

    def effects(self) -> list[Effect]:
        """Return all that has happened, in order."""
        with self._lock:
            return [Effect(*row) for row in self._connection.execute("SELECT what, times FROM effect ORDER BY rowid")]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


_world: World | None = None


@contextlib.contextmanager
def in_world(world: World) -> Iterator[None]:
    """Let the steps of this program act on `world`, as a program sets up the clients of the services that it calls."""
    global _world  # noqa: PLW0603  # one per program, like any client
    before, _world = _world, world
    try:
        yield
    finally:
        _world = before


def act(what: str) -> None:
    """Do something to the world. For steps only."""
    assert _world is not None, "steps run between in_world and its end"
    _world.note(what)

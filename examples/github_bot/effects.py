"""What the bot does to the outside world, and the ledger that stands for that world.

Each function here runs as a step. The ledger is a file of its own, so it knows what has happened whatever becomes of the
store: a step that ran twice, because of a crash between its effect and its record, has `attempts` over 1.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import perdure

_BUG_WORDS: Final = ("bug", "broken", "error", "fail", "crash", "spelling", "wrong")
_LARGE_LINES: Final = 500
_SMALL_LINES: Final = 20


class Effect(NamedTuple):
    """One line of the ledger."""

    key: str
    effect: str
    subject: str
    detail: str
    attempts: int


class Ledger:
    """A file with what the steps have done, one row per idempotency key.

    Args:
        path: of the file; made if there is none.
        announce: called with one line after each effect, for whoever watches.

    Raises:
        sqlite3.Error: it cannot be opened.
    """

    def __init__(self, path: str | Path, *, announce: Callable[[str], None] = lambda _line: None) -> None:
        self._announce = announce
        self._lock = threading.Lock()  # plain functions run on threads
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # What a killed process has written stays; only a power cut could take it back, and the ledger is no store.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS effect (key TEXT PRIMARY KEY, effect TEXT, subject TEXT, detail TEXT, attempts INTEGER)"
        )

    def write(self, effect: str, subject: str, detail: str) -> None:
        """Do an effect: note it under the idempotency key of the step that runs."""
        key = perdure.step_info().idempotency_key
        with self._lock:
            self._connection.execute(
                "INSERT INTO effect VALUES (?, ?, ?, ?, 1) ON CONFLICT (key) DO UPDATE SET attempts = attempts + 1",
                (key, effect, subject, detail),
            )
        self._announce(f"effect {key}")

    def effects(self) -> list[Effect]:
        """Return everything that has happened, by key."""
        with self._lock:
            return [Effect(*row) for row in self._connection.execute("SELECT * FROM effect ORDER BY key")]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


_world: Callable[[], Ledger] | None = None


@contextlib.contextmanager
def in_world(ledger: Ledger) -> Iterator[None]:
    """Let the steps of this program act on `ledger`, as another program would set up its client of GitHub."""
    use(lambda: ledger)
    try:
        yield
    finally:
        use(None)


def use(world: Callable[[], Ledger] | None) -> None:
    """Let the steps of this program act from here on on the ledger that `world` returns."""
    global _world  # noqa: PLW0603  # one per program, like any client
    _world = world


def _act(effect: str, subject: str, detail: str) -> None:
    assert _world is not None, "steps run between in_world and its end"
    _world().write(effect, subject, detail)


# --- steps -------------------------------------------------------------------------------------------


def triage(subject: str, text: str, lines: int | None) -> list[str]:
    """Set the labels that the bot finds fitting, and return them. `lines` is the size of a pull request's change."""
    words = text.lower()
    labels = ["bug"] if any(word in words for word in _BUG_WORDS) else []
    if "?" in text:
        labels.append("question")
    if lines is not None:
        labels.append("size/large" if lines > _LARGE_LINES else "size/small" if lines < _SMALL_LINES else "size/medium")
    _act("label", subject, ",".join(labels))
    return labels


async def notify(subject: str, people: list[str], what: str) -> int:
    """Tell people what has happened, and return how many."""
    _act("notify", subject, f"{what} -> {','.join(people)}")
    return len(people)


async def set_status(subject: str, sha: str, check: str, state: str) -> str:
    """Show the state of a check at a pull request, and return it."""
    _act("status", subject, f"{sha} {check} {state}")
    return state


async def index(subject: str, what: str, title: str) -> str:
    """Put an event into the search index, and return the entry."""
    entry = f"{what}: {title}" if title else what
    _act("index", subject, entry)
    return entry


def audit(subject: str, what: str, actor: str) -> str:
    """Write who did what into the audit log, and return the line."""
    line = f"{actor or 'GitHub'}: {what}"
    _act("audit", subject, line)
    return line

"""That a file is open, and by which release: a lock on a file beside it, which ends with the process, however that ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw

from perdure.backends.sqlite.connection import MEMORY, insist
from perdure.identity import Randomness


class Presence:
    """A lock that stores of one release share, on a file that is named for the last migration they know.

    In memory there is nobody else, and nothing to hold.
    """

    def __init__(self, path: str, knows: int) -> None:
        self._memory = path == MEMORY
        self._path = f"{Path(path).resolve()}-open{knows:04}"
        self._lock: apsw.Connection | None = None

    def hold(self, randomness: Randomness) -> None:
        """Say that the file is open."""
        while self._lock is None and not self._memory:
            before = _number(self._path)
            lock = insist(randomness, partial(_connected, self._path, create=True))
            try:
                insist(randomness, partial(_share, lock))
                # Whoever closes last removes the file: what is locked then would be seen by nobody.
                if before is not None and before == _number(self._path):
                    self._lock = lock
            finally:
                if self._lock is not lock:
                    lock.close(force=True)

    def give_up(self) -> None:
        """Say that it is not, any more; the last one removes the lock's file."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close(force=True)
            _given_up(self._path)


def open_before(path: str, number: int) -> bool:
    """Return whether a release that does not know this migration has the file open.

    Within a transaction for writing: one that opens it later looks at the migrations in such a transaction, too.
    """
    return path not in {"", MEMORY} and not all(_given_up(lock) for knows, lock in _locks(Path(path).resolve()) if knows < number)


def _locks(path: Path) -> Iterator[tuple[int, str]]:
    """Return the files beside a store, with the last migration of their release."""
    beginning = f"{path.name}-open"
    for file in path.parent.iterdir():
        knows = file.name.removeprefix(beginning)
        if file.name.startswith(beginning) and knows.isdecimal():
            yield int(knows), str(file)


def _given_up(path: str) -> bool:
    """Return whether nobody shares this lock any more, and remove its file then."""
    try:
        lock = _connected(path, create=False)
    except apsw.Error:
        return _number(path) is None  # else it is not ours to lock, and nobody can say
    try:
        lock.execute("BEGIN EXCLUSIVE")
        with contextlib.suppress(OSError):  # it may stay, as well
            Path(path).unlink()
    except apsw.Error:
        return False
    finally:
        lock.close(force=True)
    return True


def _share(lock: apsw.Connection) -> None:
    lock.execute("BEGIN")
    try:
        lock.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.BusyError:
        lock.execute("ROLLBACK")
        raise


def _number(path: str) -> int | None:
    """Return what tells a file from one that was made anew under its name."""
    try:
        return Path(path).stat().st_ino
    except FileNotFoundError:
        return None


def _connected(path: str, *, create: bool) -> apsw.Connection:
    lock = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0))
    try:
        lock.pragma("journal_mode", "memory")  # or the lock would leave a file of its own
    except apsw.Error:
        lock.close(force=True)
        raise
    return lock

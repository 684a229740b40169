"""Connections: how one is opened, how long it waits, and what its errors mean."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Final, TypeVar

import apsw

from perdure import limits
from perdure.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull, StoreNotFound, StoreUnavailable, TransactionRefused
from perdure.identity import Randomness

R = TypeVar("R")

MEMORY: Final = ":memory:"
_UNBINDABLE: Final = (UnicodeEncodeError, OverflowError, TypeError)  # apsw's, before SQLite sees a value that no column can hold
ERRORS: Final = (apsw.Error, *_UNBINDABLE)
"""Everything that a statement can raise."""

_STATEMENTS: Final = 400  # prepared ones that a connection keeps; some five per table, and each kind of scan
_NAP_MIN: Final = 0.000_2
_NAP_RANGE: Final = 0.000_8


class Failure(Enum):
    """What an error means for the transaction that met it, and for the store."""

    BUSY = auto()  # nothing happened; somebody else holds the lock
    FULL = auto()  # rolled back; there is no room
    REFUSED = auto()  # rolled back; it is the transaction's own fault
    CORRUPT = auto()  # the file is damaged, or no database
    BROKEN = auto()  # input or output failed, or what nobody knows: nothing may be trusted any more


_FAILURES: Final = {
    apsw.SQLITE_BUSY: Failure.BUSY,
    apsw.SQLITE_LOCKED: Failure.BUSY,
    apsw.SQLITE_PROTOCOL: Failure.BUSY,
    apsw.SQLITE_FULL: Failure.FULL,
    apsw.SQLITE_CONSTRAINT: Failure.REFUSED,
    apsw.SQLITE_MISMATCH: Failure.REFUSED,
    apsw.SQLITE_TOOBIG: Failure.REFUSED,
    apsw.SQLITE_RANGE: Failure.REFUSED,
    apsw.SQLITE_ERROR: Failure.REFUSED,
    apsw.SQLITE_CORRUPT: Failure.CORRUPT,
    apsw.SQLITE_NOTADB: Failure.CORRUPT,
}


def failure_of(error: Exception) -> Failure:
    """Judge an error by its code, never by its text."""
    if isinstance(error, _UNBINDABLE):
        return Failure.REFUSED
    return _FAILURES.get(getattr(error, "result", -1), Failure.BROKEN)


def translated(error: Exception, path: str) -> StoreError:
    """Return the error of ours for one of `ERRORS`."""
    match failure_of(error):
        case Failure.BUSY:
            return StoreBusy(f"{path}: another process holds the lock, for over {limits.SQLITE_BUSY_MS:,} ms; repeat later")
        case Failure.FULL:
            return StoreFull(f"{path}: the disk is full, nothing was written; make room and repeat the call")
        case Failure.REFUSED:
            return TransactionRefused(f"{path}: the database refused the transaction, nothing of it was written: {error}")
        case Failure.CORRUPT:
            return StoreCorrupt(f"{path}: not a Perdure store, or damaged ({error}); restore it from a backup")
        case Failure.BROKEN:
            return StoreUnavailable(f"{path}: {type(error).__name__}: {error}; the store has to be opened again")


@contextmanager
def translating(path: str) -> Iterator[None]:
    """Turn what statements raise into errors of ours."""
    try:
        yield
    except ERRORS as error:
        raise translated(error, path) from error


def insist(randomness: Randomness, call: Callable[[], R], milliseconds: int | None = None) -> R:
    """Repeat `call` while others hold its lock, with naps of 0.2 to 1 ms; after `milliseconds` (`limits.SQLITE_BUSY_MS`) BusyError.

    Naps are random, so that two who wait do not wait in step, and count as long as they were meant to be: no clock is read.
    """
    left = (limits.SQLITE_BUSY_MS if milliseconds is None else milliseconds) / 1000
    never = threading.Event()
    while True:
        try:
            return call()
        except apsw.BusyError:
            if left <= 0:
                raise
        pause = _NAP_MIN + _NAP_RANGE * randomness(1)[0] / 255
        left -= pause
        never.wait(pause)


@contextmanager
def transaction(connection: apsw.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Run the body as one transaction. BusyError comes from its begin alone, so that `insist` may repeat the whole."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def connect(path: str, randomness: Randomness, *, create: bool, vfs: str = "") -> apsw.Connection:
    """Open one connection, with every setting that lasts as long as the connection; not for the loop's thread.

    Raises:
        StoreNotFound: there is no such file and `create` is false.
        StoreBusy: another process holds the lock.
        StoreCorrupt: the file is no database.
        StoreUnavailable: the file cannot be opened, or not for writing.
    """
    if path != MEMORY:
        _look_at_place(Path(path), create=create)
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    with translating(path):
        connection = apsw.Connection(path, flags=flags, vfs=vfs or None, statementcachesize=_STATEMENTS)
        try:
            insist(randomness, lambda: _set_up(connection))
        except BaseException:
            connection.close(force=True)
            raise
    if connection.readonly("main"):
        connection.close(force=True)
        raise StoreUnavailable(f"{path}: expected a file that can be written, found a read-only one; change its permissions")
    return connection


def _look_at_place(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StoreUnavailable(f"{path}: expected a file, found a folder; name a file in it")
    if not path.parent.is_dir():
        raise StoreNotFound(f"{path}: there is no folder {path.parent}; create it, or check the URL")
    if not create and not path.exists():
        raise StoreNotFound(
            f"{path}: no such file; check the URL; a store is made by `perdure serve`, `perdure deploy --create`, and open_store with create=True"
        )


def _set_up(connection: apsw.Connection) -> None:
    # SQLite's own checkpoints, automatic ones and the one at close, swallow errors of fsync: ours do not.
    connection.wal_autocheckpoint(0)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("trusted_schema", value=False)
    connection.pragma("synchronous", "full")
    connection.pragma("cache_size", -(limits.SQLITE_PAGES_BYTES // limits.KIB))  # negative: KiB, not pages

"""A disk that fails at a chosen call, and forgets what was never synced."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import apsw

_KINDS = {apsw.SQLITE_OPEN_MAIN_DB: "db", apsw.SQLITE_OPEN_WAL: "wal"}
_NUMBERS = itertools.count(1)


class Call(NamedTuple):
    method: str
    kind: str


Trouble = Callable[[int, Call], None]


def io_error(call: Call) -> Exception:
    """The error that a real disk gives at this call."""
    code = {"write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC, "truncate": apsw.SQLITE_IOERR_TRUNCATE}[call.method]
    return apsw.exception_for(code)


def no_room(call: Call) -> Exception:
    """A full disk refuses writes, and may fail to sync what it had accepted."""
    return apsw.exception_for(apsw.SQLITE_FULL if call.method == "write" else apsw.SQLITE_IOERR_FSYNC)


class Image:
    """One file: what is surely on the disk, and what only the system's cache has."""

    def __init__(self, content: bytes) -> None:
        self.durable = bytearray(content)
        self.pending: list[tuple[int, bytes | None]] = []

    def after_power_loss(self, keep: Callable[[], bool]) -> bytes:
        content = self.durable.copy()
        for offset, data in self.pending:
            if keep():
                _change(content, offset, data)
        return bytes(content)

    def sync(self) -> None:
        for offset, data in self.pending:
            _change(self.durable, offset, data)
        self.pending.clear()


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    else:
        content.extend(b"\0" * (offset - len(content)))
        content[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    """Counts the calls that change files and lets `trouble` raise at each; without `honest` a sync does nothing.

    What a failed sync should have written stays in the cache and never reaches the disk, as on Linux. The machine's own
    disk is not synced: what would be on it is known here.
    """

    def __init__(self, *, honest: bool = True) -> None:
        self.called = f"disk-{next(_NUMBERS)}"
        self.honest = honest
        self.calls: list[Call] = []
        self.trouble: Trouble = lambda _number, _call: None
        self.images: dict[str, Image] = {}
        self.read_only = False
        self.unreadable = False
        super().__init__(self.called, "")

    def xOpen(self, name: Any, flags: list[int]) -> File:  # noqa: N802
        return File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.images.pop(Path(filename).name, None)
        super().xDelete(filename, syncdir)

    def fail_at(self, number: int, error: Callable[[Call], Exception], *, forever: bool = False) -> None:
        """Fail the call of that number, and all after it if `forever`."""

        def trouble(at: int, call: Call) -> None:
            if at == number or (forever and at > number):
                raise error(call)

        self.trouble = trouble

    def fail_next(self, wanted: Call, error: Callable[[Call], Exception] = io_error) -> None:
        """Fail the next call of this kind."""

        def trouble(_at: int, call: Call) -> None:
            if call == wanted:
                self.heal()
                raise error(call)

        self.trouble = trouble

    def heal(self) -> None:
        self.trouble = lambda _number, _call: None

    def after_power_loss(self, keep: Callable[[], bool] = lambda: False) -> dict[str, bytes]:
        """The files after a loss of power; `keep` says of each write that was not synced whether it got there."""
        return {name: image.after_power_loss(keep) for name, image in self.images.items()}

    def call(self, method: str, kind: str) -> None:
        call = Call(method, kind)
        self.calls.append(call)
        self.trouble(len(self.calls) - 1, call)


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.kind = next((kind for flag, kind in _KINDS.items() if flags[0] & flag), "")
        path = Path(name.filename() if hasattr(name, "filename") else name or "")
        protected = disk.read_only and self.kind == "db"
        if protected:
            flags[0] = flags[0] & ~(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) | apsw.SQLITE_OPEN_READONLY
        super().__init__("", name, flags)
        if protected:
            flags[1] = flags[0]
        self.image = disk.images.setdefault(path.name, Image(path.read_bytes())) if self.kind else Image(b"")

    def excepthook(self, kind: Any, error: Any, traceback: Any) -> bool:
        """The error reaches SQLite as a code; it need not be printed."""
        return True

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self.disk.unreadable and self.kind == "db":
            raise apsw.exception_for(apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self.kind:
            self.disk.call("write", self.kind)
            self.image.pending.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self.kind:
            self.disk.call("truncate", self.kind)
            self.image.pending.append((newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.kind:
            try:
                self.disk.call("sync", self.kind)
            except Exception:
                self.image.pending.clear()
                raise
            if self.disk.honest:
                self.image.sync()


def coin(seed: int) -> Callable[[], bool]:
    rng = random.Random(seed)
    return lambda: rng.random() < 0.5

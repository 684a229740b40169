"""Where events go before a sweep removes them: a folder of JSON lines, or a callable of the user's.

At least once: a record is on the disk before the transaction that removes what it holds, and after a crash in between
the same events are written again. An event is told by tenant, process, stream and sequence.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.errors import ArchiveInvalid

_PATTERN: Final = "events-*.jsonl"


class ArchivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event: what `perdure processes timeline` shows, with every value whole. Bytes are Base64."""

    seq: int
    at: Micros
    event: str
    values: dict[str, Any]


class ArchiveRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one process that follow one another.

    `status`, `note` and `fields` are of a process that is removed, in its last record; `fields` are JSON text.
    """

    tenant_id: str
    process_id: str
    process_type: str
    stream_no: int
    status: str = ""
    note: str = ""
    fields: str | None = None
    events: list[ArchivedEvent]


Archive = Callable[[ArchiveRecord], Awaitable[None]]
"""Returns once the record is safe; whatever it raises keeps the events in the store, and the sweep tries again later."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(ArchiveRecord).decode


class Folder:
    """An archive of one file for each day, `events-2026-01-31.jsonl`, each line a record.

    Args:
        folder: made when it does not exist. One engine at a time writes into it.
        now: the store's time.
    """

    def __init__(self, folder: str | Path, now: Callable[[], Micros]) -> None:
        self._folder = Path(folder)
        self._now = now
        self._writing = asyncio.Lock()

    async def __call__(self, record: ArchiveRecord) -> None:
        """Append a record, and return once it is on the disk."""
        day = datetime.fromtimestamp(self._now() / SECOND, UTC).date()
        async with self._writing:
            await asyncio.to_thread(self._append, f"events-{day}.jsonl", _encode(record) + b"\n")

    def _append(self, name: str, line: bytes) -> None:
        _make(self._folder)
        path = self._folder / name
        with path.open("ab+") as file:
            _cut_torn_line(file.fileno())
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        _sync(self._folder)  # the file's name, if it is new


def _make(folder: Path) -> None:
    """Make a folder that is there after a power cut, too."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _cut_torn_line(file: int) -> None:
    """Cut off what a crash has left of a line: its events are still in the store, and come again."""
    size = end = os.fstat(file).st_size
    while end:
        begin = max(0, end - limits.ARCHIVE_LOOK)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            end = begin + found + 1
            break
        end = begin
    if end != size:
        os.ftruncate(file, end)


def read_archive(folder: str | Path, *, tenant: str | None = None, process_id: str | None = None) -> Iterator[ArchiveRecord]:
    """Return what a folder holds, in the order in which it was written; of one tenant or process, if they are given.

    An event that was written again is left out.

    Raises:
        ArchiveInvalid: a line is no record; the text names it.
    """
    ends: dict[tuple[str, str, int], int] = {}
    for path in sorted(Path(folder).glob(_PATTERN)):
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # torn by a crash
                try:
                    record = _decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ArchiveInvalid(f"{path}, line {number}: {error}") from error
                if tenant in (None, record.tenant_id) and process_id in (None, record.process_id):
                    yield _without_known(record, ends)


def _without_known(record: ArchiveRecord, ends: dict[tuple[str, str, int], int]) -> ArchiveRecord:
    stream = (record.tenant_id, record.process_id, record.stream_no)
    end = ends.get(stream, 0)
    events = [event for event in record.events if event.seq >= end]
    if events:
        ends[stream] = events[-1].seq + 1
    return msgspec.structs.replace(record, events=events)

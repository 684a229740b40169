"""Bytes that come into the store in parts, each in a transaction of its own, before something whole becomes of them.

Nothing whole became of it, or what had is removed: then the parts go one by one, too, as they are too many for one transaction.

Source: commands.md, blobs; packages.md, "Deploy".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from perdure.clock import Micros
from perdure.core.access import Access
from perdure.core.table import Index, Key, Read, Scan, Table
from perdure.core.view import View
from perdure.errors import PerdureError, UploadLost
from perdure.identity import uuid7


class PartRow(msgspec.Struct, frozen=True, gc=False):
    """Some bytes of an upload."""

    data: bytes


class UploadRow(msgspec.Struct, frozen=True, gc=False):
    """Parts that belong to nothing whole: it has yet to become of them, or never will. At `removed_at` they go."""

    parts: int
    removed_at: Micros


class Uploads(NamedTuple):
    """Where the uploads of one kind are, and how they go.

    Args:
        table: of uploads; their id is the last part of the key.
        part: of their parts, by the same key and number.
        left: uploads in order of the time at which they go.
        parts: the parts of one upload.
        topic: signalled when something goes earlier than whoever looks after that may know.
        rests: microseconds that an upload may wait for its next part.
        at_once: parts that one transaction removes.
    """

    table: Table[UploadRow]
    part: Table[PartRow]
    left: Index[UploadRow]
    parts: Index[PartRow]
    topic: str
    rests: Micros
    at_once: int

    def leave(self, view: View, key: Key[UploadRow], row: UploadRow) -> None:
        """Let the next sweep have the parts of an upload."""
        view.update(key, msgspec.structs.replace(row, removed_at=view.now))
        view.signal(self.topic)

    def leave_whole(self, view: View, key: Key[UploadRow], parts: int) -> None:
        """Let the next sweep have the parts of something that was whole."""
        assert view.get(key) is None, f"something whole has become of upload {key.parts[-1]!s}"
        view.insert(key, UploadRow(parts, view.now))
        view.signal(self.topic)


def check_whole(key: Key[UploadRow], row: UploadRow | None, parts: int) -> None:
    """Raise UploadLost for an upload that has not so many parts."""
    if row is None or row.parts != parts:
        raise UploadLost(f"upload {key.parts[-1]!s}: it rested for too long, and what had come of it was removed; begin it again")


class AddPart(msgspec.Struct, frozen=True, kw_only=True):
    """Store the next bytes of an upload."""

    of: Uploads
    key: Key[UploadRow]
    number: int
    data: bytes

    def reads(self) -> Iterable[Read]:
        """Name the upload."""
        yield self.key

    def decide(self, view: View) -> None:
        """Store them, if the upload was not given up. Raises UploadLost."""
        row = view.get(self.key)
        after = UploadRow(self.number + 1, view.now + self.of.rests)
        if self.number == 0:
            assert row is None, f"upload {self.key.parts[-1]!s} is new"
            view.insert(self.key, after)
            view.signal(self.of.topic)
        else:
            check_whole(self.key, row, self.number)
            view.update(self.key, after)
        view.insert(self.of.part.key(*self.key.parts, self.number), PartRow(self.data))


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """Let the sweep have the parts of an upload that nothing whole becomes of."""

    of: Uploads
    key: Key[UploadRow]

    def reads(self) -> Iterable[Read]:
        """Name the upload."""
        yield self.key

    def decide(self, view: View) -> None:
        """Do it, unless something whole has become of it by now, or it was swept already."""
        row = view.get(self.key)
        if row is not None:
            self.of.leave(view, self.key, row)


class SweepParts(msgspec.Struct, frozen=True, kw_only=True):
    """Remove some parts of the first upload whose time is over."""

    of: Uploads
    now: Micros

    def reads(self) -> Iterable[Read]:
        """Name the upload; its parts depend on it."""
        yield self._scan

    @property
    def _scan(self) -> Scan[UploadRow]:
        return Scan(self.of.left, (), 1, upto=(self.now,))

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many uploads are gone, and whether there may be more to do."""
        rows = view.scan(self._scan)
        if not rows:
            return 0, False
        [(key, row)] = rows
        parts = view.scan(Scan(self.of.parts, key.parts, self.of.at_once))
        for part, _ in parts:
            view.delete(part)
        if len(parts) == self.of.at_once:
            view.update(key, msgspec.structs.replace(row, parts=0))  # whoever was to go on with it hears that it is not whole any more
            return 0, True
        view.delete(key)
        return 1, True


class Upload:
    """One upload that is under way.

    Args:
        access: of the store.
        of: its kind.
        owner: what stands before the upload's id in its key.
    """

    def __init__(self, access: Access, of: Uploads, *owner: str) -> None:
        self._writer = access.writer
        self._of = of
        self.key = of.table.key(*owner, uuid7(now=access.clock.now(), randomness=access.randomness))
        self.parts = 0

    async def add(self, data: bytes) -> None:
        """Store the next bytes. Raises UploadLost, StoreError."""
        await self._writer.run(AddPart(of=self._of, key=self.key, number=self.parts, data=data), size=len(data))
        self.parts += 1

    async def give_up(self) -> None:
        """Let the parts go now. If the store cannot, or this is called off, they go when their time is over."""
        if self.parts:
            with contextlib.suppress(PerdureError):
                await self._writer.run(GiveUp(of=self._of, key=self.key))


async def sweep(access: Access, of: Uploads, now: Micros) -> int:
    """Remove the parts of all uploads whose time is over, and return how many uploads those were. Raises StoreError."""
    total, more = 0, True
    while more:
        done, more = await access.writer.run(SweepParts(of=of, now=now))
        total += done
    return total


async def next_due(access: Access, of: Uploads) -> Micros | None:
    """Return when the next upload goes, in microseconds since the epoch; None when there is none. Raises StoreError."""
    left = await access.reader.scan(Scan(of.left, (), 1))
    return left[0][1].removed_at if left else None

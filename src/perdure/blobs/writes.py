"""Pure decisions about blobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from perdure import limits
from perdure.blob import Blob, Holder
from perdure.blobs.tables import BLOB, LEFT, PART, PARTS, REFERENCE, UNUSED, UPLOAD, BlobRow, PartRow, ReferenceRow, UploadRow
from perdure.clock import Micros
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.errors import BlobNotFound, UploadLost

replace = msgspec.structs.replace
DUE_TOPIC: Final = "blobs-due"
"""Signalled when something is to be removed earlier than whoever looks after that may know."""


class AddPart(msgspec.Struct, frozen=True, kw_only=True):
    """Store the next bytes of an upload."""

    key: Key[UploadRow]
    number: int
    data: bytes

    def reads(self) -> Iterable[Read]:
        """Name the upload."""
        yield self.key

    def decide(self, view: View) -> None:
        """Store them, if the upload was not given up. Raises UploadLost."""
        row = view.get(self.key)
        after = UploadRow(self.number + 1, view.now + limits.BLOB_UNUSED_US)
        if self.number == 0:
            assert row is None, f"upload {self.key.parts[1]!s} is new"
            view.insert(self.key, after)
            view.signal(DUE_TOPIC)
        else:
            _check_whole(self.key, row, self.number)
            view.update(self.key, after)
        view.insert(PART.key(*self.key.parts, self.number), PartRow(self.data))


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """Make a blob of an upload that is whole."""

    key: Key[UploadRow]
    parts: int
    blob: Blob

    def reads(self) -> Iterable[Read]:
        """Name the upload and the blob."""
        yield self.key
        yield self._blob

    @property
    def _blob(self) -> Key[BlobRow]:
        return BLOB.key(self.key.parts[0], self.blob.sha256)

    def decide(self, view: View) -> None:
        """Store the blob; if it is there already, leave the parts to the sweep. Raises UploadLost."""
        upload = view.get(self.key)
        if self.parts:
            _check_whole(self.key, upload, self.parts)
        removed_at = view.now + limits.BLOB_UNUSED_US
        found = view.get(self._blob)
        if found is None:
            row = BlobRow(
                size=self.blob.size,
                content_type=self.blob.content_type,
                upload_id=str(self.key.parts[1]),
                parts=self.parts,
                refs=0,
                removed_at=removed_at,
            )
            view.insert(self._blob, row)
            view.signal(DUE_TOPIC)
            if upload is not None:
                view.delete(self.key)
            return
        assert found.size == self.blob.size, "the same hash is the same bytes"
        if not found.refs:
            view.update(self._blob, replace(found, removed_at=removed_at))
        if upload is not None:
            _leave(view, self.key, upload)


class GiveUp(msgspec.Struct, frozen=True):
    """Let the sweep have the parts of an upload that will not be whole."""

    key: Key[UploadRow]

    def reads(self) -> Iterable[Read]:
        """Name the upload."""
        yield self.key

    def decide(self, view: View) -> None:
        """Do it, unless it was swept already."""
        row = view.get(self.key)
        if row is not None:
            _leave(view, self.key, row)


class SweepUnused(msgspec.Struct, frozen=True):
    """Remove some blobs that nobody came to refer to."""

    now: Micros

    def reads(self) -> Iterable[Read]:
        """Name them."""
        yield self._scan

    @property
    def _scan(self) -> Scan[BlobRow]:
        return Scan(UNUSED, (), limits.SWEEP_CHUNK, upto=(self.now,))

    def decide(self, view: View) -> int:
        """Return how many."""
        rows = view.scan(self._scan)
        for key, row in rows:
            _remove(view, key, row)
        return len(rows)


class SweepParts(msgspec.Struct, frozen=True):
    """Remove some parts of the first upload whose time is over."""

    now: Micros

    def reads(self) -> Iterable[Read]:
        """Name the upload; its parts depend on it."""
        yield self._scan

    @property
    def _scan(self) -> Scan[UploadRow]:
        return Scan(LEFT, (), 1, upto=(self.now,))

    def decide(self, view: View) -> tuple[int, bool]:
        """Return how many uploads are gone, and whether there may be more to do."""
        rows = view.scan(self._scan)
        if not rows:
            return 0, False
        [(key, row)] = rows
        parts = view.scan(Scan(PARTS, key.parts, limits.BLOB_SWEEP_PARTS))
        for part, _ in parts:
            view.delete(part)
        if len(parts) == limits.BLOB_SWEEP_PARTS:
            view.update(key, replace(row, parts=0))  # whoever was to go on with it hears that it is not whole any more
            return 0, True
        view.delete(key)
        return 1, True


# --- for whoever refers to blobs ----------------------------------------------------------------------------


def is_there(view: View, tenant_id: str, blob: Blob) -> bool:
    """Whether this very blob is stored."""
    row = view.get(BLOB.key(tenant_id, blob.sha256))
    return row is not None and row.size == blob.size


def refer(view: View, holder: Holder, blob: Blob) -> None:
    """Keep a blob for whoever refers to it. Raises BlobNotFound."""
    key = BLOB.key(holder.tenant_id, blob.sha256)
    row = view.get(key)
    if row is None or row.size != blob.size:
        raise BlobNotFound(
            f"{holder.part}: there is no blob {blob.sha256} of {blob.size:,} bytes in tenant {holder.tenant_id}; upload it first"
        )
    reference = _reference(holder, blob)
    assert view.get(reference) is None, f"{holder.command_id} has its {holder.part} once"
    view.insert(reference, ReferenceRow(view.now))
    view.update(key, replace(row, refs=row.refs + 1, removed_at=None))


def let_go(view: View, holder: Holder, blob: Blob) -> None:
    """Keep a blob no longer for whoever referred to it; who is the last one removes it."""
    key, reference = BLOB.key(holder.tenant_id, blob.sha256), _reference(holder, blob)
    row, known = view.get(key), view.get(reference)
    assert row is not None, f"{blob.sha256} is referred to, and there"
    assert known is not None, f"{holder.command_id} refers to {blob.sha256}"
    view.delete(reference)
    if row.refs == 1:
        _remove(view, key, row)
    else:
        view.update(key, replace(row, refs=row.refs - 1))


def _reference(holder: Holder, blob: Blob) -> Key[ReferenceRow]:
    return REFERENCE.key(holder.tenant_id, blob.sha256, holder.command_id, holder.part)


def _check_whole(key: Key[UploadRow], row: UploadRow | None, parts: int) -> None:
    if row is None or row.parts != parts:
        raise UploadLost(f"upload {key.parts[1]!s}: it rested for too long, and what had come of it was removed; begin it again")


def _remove(view: View, key: Key[BlobRow], row: BlobRow) -> None:
    """Remove a blob; its parts are many, and the sweep removes them."""
    view.delete(key)
    if row.parts:
        upload = UPLOAD.key(key.parts[0], row.upload_id)
        assert view.get(upload) is None, f"upload {row.upload_id} has become a blob"
        view.insert(upload, UploadRow(row.parts, view.now))
        view.signal(DUE_TOPIC)


def _leave(view: View, key: Key[UploadRow], row: UploadRow) -> None:
    view.update(key, replace(row, removed_at=view.now))
    view.signal(DUE_TOPIC)

"""Pure decisions about blobs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.blob import Blob, Holder
from perdure.blobs.tables import BLOB, DUE_TOPIC, REFERENCE, UNUSED, UPLOAD, UPLOADS, BlobRow, ReferenceRow
from perdure.clock import Micros
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.errors import BlobNotFound
from perdure.uploads import UploadRow, check_whole

replace = msgspec.structs.replace


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
            check_whole(self.key, upload, self.parts)
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
            UPLOADS.leave(view, self.key, upload)


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


def _remove(view: View, key: Key[BlobRow], row: BlobRow) -> None:
    """Remove a blob; its parts are many, and the sweep removes them."""
    view.delete(key)
    if row.parts:
        UPLOADS.leave_whole(view, UPLOAD.key(key.parts[0], row.upload_id), row.parts)

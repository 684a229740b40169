"""The rows of blobs."""

from __future__ import annotations

from typing import Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.table import Index, Table
from perdure.uploads import PartRow, UploadRow, Uploads


class BlobRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One blob that is whole.

    Its bytes are the parts of `upload_id`, the first upload of them that ended. `refs` are the commands' params and results
    that are it; `removed_at`, when it goes if nobody comes to refer to it, and None while somebody does.
    """

    size: int
    content_type: str
    upload_id: str
    parts: int
    refs: int
    removed_at: Micros | None


class ReferenceRow(msgspec.Struct, frozen=True, gc=False):
    """The params or the result of a command are a blob, since `at`."""

    at: Micros


BLOB = Table("blob", ("tenant_id", "sha256"), BlobRow, fixed=("size", "content_type", "upload_id", "parts"), indexed=("removed_at",))
PART = Table("blob_part", ("tenant_id", "upload_id", "number"), PartRow, kind="log")
UPLOAD = Table("blob_upload", ("tenant_id", "upload_id"), UploadRow)
REFERENCE = Table("blob_reference", ("tenant_id", "sha256", "command_id", "part"), ReferenceRow)

# Neither has a guard: what is missed is found at the next look.
UNUSED = Index(
    BLOB,
    "blob_unused",
    order=("removed_at", "tenant_id", "sha256"),
    where=lambda row: row.removed_at is not None,
    where_sql="removed_at is not null",
)
LEFT = Index(UPLOAD, "blob_upload_left", order=("removed_at", "tenant_id", "upload_id"))
PARTS = Index(PART, "blob_part", prefix=("tenant_id", "upload_id"), order=("number",))
DUE_TOPIC: Final = "blobs-due"
"""Signalled when something is to be removed earlier than whoever looks after that may know."""
UPLOADS: Final = Uploads(UPLOAD, PART, LEFT, PARTS, DUE_TOPIC, rests=limits.BLOB_UNUSED_US, at_once=limits.BLOB_SWEEP_PARTS)
TABLES = (BLOB, PART, UPLOAD, REFERENCE)
INDEXES = (UNUSED, LEFT, PARTS)

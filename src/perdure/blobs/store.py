"""The facade of blobs: bytes are cut into parts, each stored in a transaction of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager

from perdure import limits, uploads
from perdure.blob import Blob
from perdure.blobs.tables import BLOB, PART, UNUSED, UPLOADS
from perdure.blobs.writes import Finish, SweepUnused
from perdure.clock import Micros
from perdure.core.access import Access
from perdure.core.table import Scan
from perdure.errors import BlobMismatch, BlobNotFound, Overloaded, PayloadTooLarge, UsageError
from perdure.headers import BINARY_TYPE
from perdure.identity import ContentHash, TenantId, checked_text
from perdure.uploads import Upload


class Blobs:
    """The blobs of one open store; a `BlobStore`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._under_way = 0

    async def put(
        self,
        tenant_id: str,
        chunks: AsyncIterable[bytes],
        *,
        content_type: str = BINARY_TYPE,
        expected_sha256: str | None = None,
        expected_size: int | None = None,
    ) -> Blob:
        """See `BlobStore.put`."""
        tenant = TenantId(tenant_id)
        checked_text(content_type, what="content_type", limit=limits.COMMAND_NAME_MAX)
        expected = None if expected_sha256 is None else str(ContentHash(expected_sha256))
        _check_size("blob", expected_size or 0)
        with self._slot():
            return await _Upload(self._access, tenant).take(chunks, content_type, expected, expected_size)

    async def open(self, tenant_id: str, sha256: str) -> AsyncIterator[bytes]:
        """See `BlobStore.open`."""
        tenant, name, reader = TenantId(tenant_id), str(ContentHash(sha256)), self._access.reader
        with self._slot():
            row = await reader.get(BLOB.key(tenant, name))
            if row is None:
                raise BlobNotFound(f"there is no blob {name} in tenant {tenant}")
            for number in range(row.parts):  # one at a time is in memory
                part = await reader.get(PART.key(tenant, row.upload_id, number))
                if part is None:
                    raise BlobNotFound(f"blob {name} was removed while it was read")
                yield part.data

    async def stat(self, tenant_id: str, sha256: str) -> Blob | None:
        """See `BlobStore.stat`."""
        name = str(ContentHash(sha256))
        row = await self._access.reader.get(BLOB.key(TenantId(tenant_id), name))
        return None if row is None else Blob(sha256=name, size=row.size, content_type=row.content_type)

    async def sweep(self, now: Micros) -> int:
        """See `BlobStore.sweep`."""
        total = done = await self._access.writer.run(SweepUnused(now))
        while done == limits.SWEEP_CHUNK:
            done = await self._access.writer.run(SweepUnused(now))
            total += done
        return total + await uploads.sweep(self._access, UPLOADS, now)

    async def next_due(self) -> Micros | None:
        """See `BlobStore.next_due`."""
        unused = await self._access.reader.scan(Scan(UNUSED, (), 1))
        times = [*(row.removed_at for _, row in unused), await uploads.next_due(self._access, UPLOADS)]
        return min((time for time in times if time is not None), default=None)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold one of the streams that may be under way: each has a part in memory."""
        if self._under_way >= limits.BLOB_STREAMS_MAX:
            raise Overloaded(f"{limits.BLOB_STREAMS_MAX} uploads and downloads are under way; repeat it later")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


class _Upload(Upload):
    """The upload of a blob."""

    def __init__(self, access: Access, tenant: TenantId) -> None:
        super().__init__(access, UPLOADS, tenant)
        self._hash = hashlib.sha256()
        self._size = 0

    async def take(self, chunks: AsyncIterable[bytes], content_type: str, sha256: str | None, size: int | None) -> Blob:
        """Store what comes, and make a blob of it if it is what was expected."""
        try:
            await self._store(chunks)
            found = Blob(sha256=self._hash.hexdigest(), size=self._size, content_type=content_type)
            _check_expected(found, sha256=sha256, size=size)
            await self._writer.run(Finish(key=self.key, parts=self.parts, blob=found))
        except Exception:
            await self.give_up()
            raise
        return found

    async def _store(self, chunks: AsyncIterable[bytes]) -> None:
        part = bytearray()
        async for chunk in chunks:
            if not isinstance(chunk, bytes):
                raise UsageError(f"chunks: expected bytes, found {type(chunk).__name__}")
            _check_size("blob, so far", self._size + len(part) + len(chunk))
            rest = memoryview(chunk)
            while rest:
                taken = rest[: limits.BLOB_PART - len(part)]
                part += taken
                rest = rest[len(taken) :]
                if len(part) == limits.BLOB_PART:
                    await self.add(bytes(part))
                    part.clear()
        if part:
            await self.add(bytes(part))

    async def add(self, data: bytes) -> None:
        """Store the next bytes, and take them into hash and size."""
        self._hash.update(data)
        await super().add(data)
        self._size += len(data)


def _check_size(what: str, size: int) -> None:
    if size > limits.BLOB_MAX:
        raise PayloadTooLarge(what, size=size, limit=limits.BLOB_MAX)


def _check_expected(found: Blob, *, sha256: str | None, size: int | None) -> None:
    if size not in {None, found.size}:
        raise BlobMismatch(f"expected {size:,} bytes, {found.size:,} came; nothing was kept")
    if sha256 not in {None, found.sha256}:
        raise BlobMismatch(f"expected bytes with SHA-256 {sha256}, those that came have {found.sha256}; nothing was kept")

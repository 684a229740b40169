"""What callers of the blobs may rely on.

Source: commands.md, "Payloads".
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from perdure.blob import Blob
from perdure.clock import Micros
from perdure.headers import BINARY_TYPE


class BlobStore(Protocol):
    """Large bytes: streamed in and out, named by their SHA-256, and kept once for each tenant.

    Every method raises InvalidIdentifier for a tenant or a hash that is none, and StoreUnavailable, when nothing was read or
    written and the call may be repeated. A blob of another tenant is not there.
    """

    async def put(
        self,
        tenant_id: str,
        chunks: AsyncIterable[bytes],
        *,
        content_type: str = BINARY_TYPE,
        expected_sha256: str | None = None,
        expected_size: int | None = None,
    ) -> Blob:
        """Store bytes as they come. Nothing is to be seen of them before all of them are stored, and are what was expected.

        A blob to which no command refers is removed an hour after it was put last.

        Args:
            tenant_id: whose they are.
            chunks: the bytes, in pieces of any size; at most 64 MiB together.
            content_type: what they are, at most 256 bytes.
            expected_sha256: 64 hex digits, what they have to be.
            expected_size: how many they have to be.

        Raises:
            BlobMismatch: they are others than expected; nothing is kept.
            PayloadTooLarge: they are over 64 MiB; nothing is kept.
            UploadLost: the next of them came more than an hour after the last.
            Overloaded: too many uploads and downloads are under way; repeat it later.
        """
        ...

    def open(self, tenant_id: str, sha256: str) -> AsyncIterator[bytes]:
        """Return the bytes of a blob, in pieces of at most 512 KiB; from the first on it raises.

        Raises:
            BlobNotFound: there is none, or it was removed meanwhile.
            Overloaded: too many uploads and downloads are under way; repeat it later.
        """
        ...

    async def stat(self, tenant_id: str, sha256: str) -> Blob | None:
        """Return a blob with the content type that was given first; None when there is none."""
        ...

    async def sweep(self, now: Micros) -> int:
        """Remove uploads that were cut and blobs that nobody refers to, if their time is over at `now`; return how many."""
        ...

    async def next_due(self) -> Micros | None:
        """Return when there is something to sweep; None when nothing can be."""
        ...

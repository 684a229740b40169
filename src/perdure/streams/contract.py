"""What callers of `store.streams` may rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.identity import DEFAULT_TENANT


class StreamEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a stream: its sequence, when it was written, and its bytes."""

    seq: int
    at: Micros
    payload: bytes


class DurableStore(Protocol):
    """Append-only streams of bytes, and values that are set by comparison. Each method is one transaction.

    Names of streams are 1 to 512 bytes of UTF-8 without control characters, those of values 1 to 256. They are names
    within their tenant and of nothing else: a stream and a conversation of one name have nothing to do with each other.

    Every method raises InvalidIdentifier and UsageError for arguments that break the rules, before anything is read or
    written, and StoreError as `Store.commit` does.

    Source: contracts.md, 4. DurableConversation, "DurableStore"; seed 4.
    """

    async def append(self, stream: str, payload: bytes, expected_seq: int, *, tenant_id: str = DEFAULT_TENANT) -> int:
        """Append an entry at exactly `expected_seq`.

        Args:
            stream: its name; one that does not exist is empty.
            payload: up to 1 MiB, also none.
            expected_seq: the number of entries that were ever appended, so 0 for a new stream.
            tenant_id: whose stream it is.

        Returns:
            The sequence of the entry, which is `expected_seq`.

        Raises:
            SequenceConflict: the stream ends elsewhere, before or behind; nothing was written.
            PayloadTooLarge: nothing was written.
        """
        ...

    async def append_batch(self, stream: str, payloads: Sequence[bytes], expected_seq: int, *, tenant_id: str = DEFAULT_TENANT) -> int:
        """Append 1 to 1,000 entries, all or none; otherwise as `append`.

        Returns:
            The sequence of the first of them, which is `expected_seq`.

        Raises:
            SequenceConflict: the stream ends elsewhere; nothing was written.
            PayloadTooLarge, TransactionTooLarge: one is over 1 MiB, all together are over 4 MiB; nothing was written.
        """
        ...

    async def read_from(
        self, stream: str, offset: int, limit: int = limits.PAGE_DEFAULT, *, tenant_id: str = DEFAULT_TENANT
    ) -> list[StreamEntry]:
        """Return entries with sequences from `offset` on, ascending and without gaps.

        Args:
            stream: its name; one that does not exist is empty.
            offset: a sequence.
            limit: how many at most; over 1,000 counts as 1,000.
            tenant_id: whose stream it is.

        Returns:
            Up to `limit` entries. A short page is not the end of the stream, an empty one is.

        Raises:
            HistoryCompacted: entries from `offset` on were truncated; the text says where the stream begins now.
        """
        ...

    async def read_at(self, stream: str, seq: int, *, tenant_id: str = DEFAULT_TENANT) -> StreamEntry | None:
        """Return the entry with exactly this sequence, or None when there is none yet.

        Raises:
            HistoryCompacted: it was truncated.
        """
        ...

    async def cas(self, key: str, old: int | None, new: int | None, *, tenant_id: str = DEFAULT_TENANT) -> None:
        """Set a value to `new` if it is `old`; None is absent, before as after.

        Absent and 0 are different, unlike in the seed, where 0 stands for both: `cas(key, None, 0)` makes a value of 0,
        `cas(key, 0, 0)` is refused while there is none.

        Args:
            key: 1 to 256 bytes of UTF-8 without control characters.
            old: what is expected: 64 bits with sign, or None.
            new: what it becomes, likewise.
            tenant_id: whose value it is.

        Raises:
            ValueConflict: it is something else; nothing was written.
        """
        ...

    async def read_value(self, key: str, *, tenant_id: str = DEFAULT_TENANT) -> int | None:
        """Return the value, or None when it is absent."""
        ...

    async def list_streams(
        self, prefix: str = "", after: str | None = None, limit: int = limits.PAGE_DEFAULT, *, tenant_id: str = DEFAULT_TENANT
    ) -> list[str]:
        """Return the names of the tenant's streams that begin with `prefix`, in the order of their bytes.

        Args:
            prefix: any beginning; every character stands for itself.
            after: only names greater than this one; the last of the page before.
            limit: how many at most; over 1,000 counts as 1,000.
            tenant_id: whose streams.

        Returns:
            Names; an empty page is the end. A stream that was truncated to nothing is still one.
        """
        ...

    async def truncate(self, stream: str, before_seq: int, *, tenant_id: str = DEFAULT_TENANT) -> None:
        """Drop the entries before `before_seq`; sequences go on as they were. Truncating less than before changes nothing.

        From the first transaction on nobody reads them; their rows go in several. What an interruption leaves goes with
        the next truncation.

        Raises:
            SequenceConflict: the stream ends before `before_seq`; nothing was dropped.
        """
        ...

"""`store.streams`: streams and values over the store's own tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from perdure import limits
from perdure.core.access import Access
from perdure.core.table import Scan
from perdure.errors import HistoryCompacted, PayloadTooLarge, TransactionTooLarge, UsageError
from perdure.identity import DEFAULT_TENANT, TenantId, checked_text
from perdure.streams.contract import DurableStore, StreamEntry
from perdure.streams.tables import STREAM, STREAM_EVENT, STREAM_EVENTS, STREAMS, VALUE, StreamEventRow
from perdure.streams.writes import Append, CompareAndSet, Truncate, named

_SIGNED: Final = 2**63
_GREATEST: Final = "\U0010ffff" * (limits.STREAM_NAME_MAX // 4)


class Streams(DurableStore):
    """See `DurableStore`.

    Args:
        access: an open store.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def append(self, stream: str, payload: bytes, expected_seq: int, *, tenant_id: str = DEFAULT_TENANT) -> int:
        """Append an entry at exactly `expected_seq`."""
        return await self.append_batch(stream, (payload,), expected_seq, tenant_id=tenant_id)

    async def append_batch(self, stream: str, payloads: Sequence[bytes], expected_seq: int, *, tenant_id: str = DEFAULT_TENANT) -> int:
        """Append entries, all or none."""
        entries = tuple(_payload(payload) for payload in payloads)
        if not entries:
            raise UsageError("payloads: expected at least one entry, found none")
        if len(entries) > limits.STREAM_BATCH_MAX:
            raise TransactionTooLarge(f"{len(entries):,} entries in one batch, the limit is {limits.STREAM_BATCH_MAX:,}; split it")
        write = Append(TenantId(tenant_id), _stream(stream), _sequence("expected_seq", expected_seq), entries)
        return await self._access.writer.run(write, size=sum(map(len, entries)))

    async def read_from(
        self, stream: str, offset: int, limit: int = limits.PAGE_DEFAULT, *, tenant_id: str = DEFAULT_TENANT
    ) -> list[StreamEntry]:
        """Return entries from `offset` on."""
        tenant, name = TenantId(tenant_id), _stream(stream)
        after = (_sequence("offset", offset) - 1,)
        count = _limit(limit)
        rows = await self._access.reader.scan(Scan(STREAM_EVENTS, (tenant, name), count, after=after)) if count else []
        # Looked at after the entries: a truncation meanwhile shows here, and can then not have left a gap unseen.
        await self._check_kept(tenant, name, offset)
        return [_entry(key.parts[2], row) for key, row in rows]

    async def read_at(self, stream: str, seq: int, *, tenant_id: str = DEFAULT_TENANT) -> StreamEntry | None:
        """Return one entry."""
        tenant, name = TenantId(tenant_id), _stream(stream)
        row = await self._access.reader.get(STREAM_EVENT.key(tenant, name, _sequence("seq", seq)))
        await self._check_kept(tenant, name, seq)
        return None if row is None else _entry(seq, row)

    async def cas(self, key: str, old: int | None, new: int | None, *, tenant_id: str = DEFAULT_TENANT) -> None:
        """Set a value to `new` if it is `old`."""
        await self._access.writer.run(CompareAndSet(TenantId(tenant_id), _key(key), _value("old", old), _value("new", new)))

    async def read_value(self, key: str, *, tenant_id: str = DEFAULT_TENANT) -> int | None:
        """Return a value."""
        row = await self._access.reader.get(VALUE.key(TenantId(tenant_id), _key(key)))
        return None if row is None else row.value

    async def list_streams(
        self, prefix: str = "", after: str | None = None, limit: int = limits.PAGE_DEFAULT, *, tenant_id: str = DEFAULT_TENANT
    ) -> list[str]:
        """Return the names of streams."""
        tenant, count, names = TenantId(tenant_id), _limit(limit), list[str]()
        if prefix != "":
            _stream(prefix)
        if after is not None:
            _stream(after)
        if not count:
            return names
        # A scan begins behind a name, and the prefix may be one itself.
        if after is None or after < prefix:
            if prefix and await self._access.reader.get(STREAM.key(tenant, prefix)) is not None:
                names.append(prefix)
            after = prefix
        bounds = Scan(STREAMS, (tenant,), count, after=(after,), upto=(prefix + _GREATEST,))
        names += [str(key.parts[1]) for key, _ in await self._access.reader.scan(bounds)]
        return names[:count]

    async def truncate(self, stream: str, before_seq: int, *, tenant_id: str = DEFAULT_TENANT) -> None:
        """Drop the entries before `before_seq`."""
        write = Truncate(TenantId(tenant_id), _stream(stream), _sequence("before_seq", before_seq))
        while await self._access.writer.run(write):
            pass

    async def _check_kept(self, tenant_id: str, stream: str, seq: int) -> None:
        row = await self._access.reader.get(STREAM.key(tenant_id, stream))
        if row is not None and seq < row.first:
            raise HistoryCompacted(f"{named(tenant_id, stream)}: entry {seq} was truncated; the stream begins at {row.first}")


# --- at the door -------------------------------------------------------------------------------------


def _entry(seq: object, row: StreamEventRow) -> StreamEntry:
    assert isinstance(seq, int), "the last part of an entry's key"
    return StreamEntry(seq=seq, at=row.at, payload=row.payload)


def _stream(name: str) -> str:
    return str(checked_text(name, what="stream", limit=limits.STREAM_NAME_MAX))


def _key(name: str) -> str:
    return str(checked_text(name, what="key", limit=limits.REGISTRY_KEY_MAX))


def _payload(payload: bytes) -> bytes:
    if type(payload) is not bytes:
        raise UsageError(f"payload: expected bytes, found {type(payload).__name__}; encode it first")
    if len(payload) > limits.STREAM_ENTRY_MAX:
        raise PayloadTooLarge("payload", size=len(payload), limit=limits.STREAM_ENTRY_MAX)
    return payload


def _sequence(what: str, number: int) -> int:
    if type(number) is not int or not 0 <= number <= limits.SEQUENCE_MAX:
        raise UsageError(f"{what}: expected a number from 0 to {limits.SEQUENCE_MAX}, found {number!r}")
    return number


def _limit(number: int) -> int:
    return min(_sequence("limit", number), limits.PAGE_MAX)


def _value(what: str, number: int | None) -> int | None:
    if number is not None and (type(number) is not int or not -_SIGNED <= number < _SIGNED):
        raise UsageError(f"{what}: expected None or a number of 64 bits with sign, found {number!r}")
    return number

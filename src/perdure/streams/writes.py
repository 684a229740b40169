"""The decisions of streams and values."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.core.table import Read, Scan
from perdure.core.view import View
from perdure.errors import SequenceConflict, ValueConflict
from perdure.streams.tables import STREAM, STREAM_EVENT, STREAM_EVENTS, VALUE, StreamEventRow, StreamRow, ValueRow

replace = msgspec.structs.replace


def named(tenant_id: str, stream: str) -> str:
    """Return how a stream is named in errors."""
    return f"stream/{tenant_id}/{stream}"


class Append(msgspec.Struct, frozen=True):
    """Append entries to a stream that is exactly at `expected_seq`."""

    tenant_id: str
    stream: str
    expected_seq: int
    payloads: tuple[bytes, ...]

    def reads(self) -> Iterable[Read]:
        """Name the stream and the places of the entries."""
        yield STREAM.key(self.tenant_id, self.stream)
        for offset in range(len(self.payloads)):
            yield STREAM_EVENT.key(self.tenant_id, self.stream, self.expected_seq + offset)

    def decide(self, view: View) -> int:
        """Append, and return the sequence of the first.

        Raises:
            SequenceConflict: the stream ends elsewhere.
        """
        key = STREAM.key(self.tenant_id, self.stream)
        row = view.get(key)
        found = 0 if row is None else row.head
        if found != self.expected_seq:
            raise SequenceConflict(stream=named(self.tenant_id, self.stream), expected=self.expected_seq, found=found)
        for offset, payload in enumerate(self.payloads):
            entry = STREAM_EVENT.key(self.tenant_id, self.stream, found + offset)
            taken = view.get(entry)
            assert taken is None, f"{entry.parts}: nothing stands at or behind the head"
            view.insert(entry, StreamEventRow(view.now, payload))
        head = found + len(self.payloads)
        if row is None:
            view.insert(key, StreamRow(head=head, first=0, created_at=view.now, updated_at=view.now))
        else:
            view.update(key, replace(row, head=head, updated_at=view.now))
        return found


class Truncate(msgspec.Struct, frozen=True):
    """Let a stream begin at `before_seq`, and remove some of the entries before."""

    tenant_id: str
    stream: str
    before_seq: int

    def reads(self) -> Iterable[Read]:
        """Name the stream."""
        yield STREAM.key(self.tenant_id, self.stream)

    def decide(self, view: View) -> bool:
        """Return whether more are left to remove.

        Raises:
            SequenceConflict: the stream ends before `before_seq`.
        """
        key = STREAM.key(self.tenant_id, self.stream)
        row = view.get(key)
        head = 0 if row is None else row.head
        if head < self.before_seq:
            raise SequenceConflict(stream=named(self.tenant_id, self.stream), expected=self.before_seq, found=head)
        if row is None:
            return False
        first = max(row.first, self.before_seq)
        scan = Scan(STREAM_EVENTS, (self.tenant_id, self.stream), limits.TRUNCATE_CHUNK, upto=(first - 1,), guard=key)
        entries = view.scan(scan)
        for entry, _ in entries:
            view.delete(entry)
        if first > row.first or entries:
            view.update(key, replace(row, first=first, updated_at=view.now))
        return len(entries) == limits.TRUNCATE_CHUNK


class CompareAndSet(msgspec.Struct, frozen=True):
    """Set a value to `new` if it is `old`; None is absent."""

    tenant_id: str
    key: str
    old: int | None
    new: int | None

    def reads(self) -> Iterable[Read]:
        """Name the value."""
        yield VALUE.key(self.tenant_id, self.key)

    def decide(self, view: View) -> None:
        """Compare, and set.

        Raises:
            ValueConflict: it is something else.
        """
        key = VALUE.key(self.tenant_id, self.key)
        row = view.get(key)
        found = None if row is None else row.value
        if found != self.old:
            raise ValueConflict(key=f"value/{self.tenant_id}/{self.key}", expected=self.old, found=found)
        if row is None:
            # A decision that depends on a row's absence makes it, so that of two such one is refused.
            view.insert(key, ValueRow(self.new, view.now))
        elif self.new != found:
            view.update(key, ValueRow(self.new, view.now))

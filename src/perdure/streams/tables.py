"""The rows of streams and values."""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class StreamRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stream: `head` is the sequence of the next entry, `first` that of the oldest one that is kept."""

    head: int
    first: int
    created_at: Micros
    updated_at: Micros


class StreamEventRow(msgspec.Struct, frozen=True, gc=False):
    """One entry: when it was written, and its bytes."""

    at: Micros
    payload: bytes


class ValueRow(msgspec.Struct, frozen=True, gc=False):
    """One value; None is absent. The row of a value that was removed stays, so that its versions go on."""

    value: int | None
    updated_at: Micros


STREAM = Table("stream", ("tenant_id", "name"), StreamRow)
# No log: truncation removes entries.
STREAM_EVENT = Table("stream_event", ("tenant_id", "name", "seq"), StreamEventRow)
VALUE = Table("value", ("tenant_id", "key"), ValueRow)

STREAMS = Index(STREAM, "stream", prefix=("tenant_id",), order=("name",))
STREAM_EVENTS = Index(STREAM_EVENT, "stream_event", prefix=("tenant_id", "name"), order=("seq",))
TABLES = (STREAM, STREAM_EVENT, VALUE)
INDEXES = (STREAMS, STREAM_EVENTS)

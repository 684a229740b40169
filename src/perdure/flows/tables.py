"""The rows of flow control."""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class FlowRow(msgspec.Struct, frozen=True, gc=False):
    """One limit: of a process type (its `flow_key` is empty), or of one key of it.

    `running` processes hold a place, `waiting` ones want it; the next may take one at `next_at`. It is the guard of its queue.
    """

    running: int = 0
    waiting: int = 0
    next_at: Micros = 0


class QueuedRow(msgspec.Struct, frozen=True, gc=False):
    """A process that wants a place; `own_key` is its key, also in the queue of its type."""

    own_key: str


class PlaceRow(msgspec.Struct, frozen=True, gc=False):
    """Where one process is: `stage` is `key` or `type` while it waits for that limit, `held` once it has both places."""

    process_type: str
    flow_key: str
    priority: int
    tick: int
    stage: str


FLOW = Table("flow", ("tenant_id", "process_type", "flow_key"), FlowRow)
QUEUED = Table("flow_queue", ("tenant_id", "process_type", "flow_key", "priority", "tick", "process_id"), QueuedRow)
PLACE = Table("flow_place", ("tenant_id", "process_id"), PlaceRow)

QUEUE = Index(QUEUED, "flow_queue", prefix=("tenant_id", "process_type", "flow_key"), order=("priority", "tick", "process_id"))
WANTED = Index(
    FLOW,
    "flow_wanted",
    order=("next_at", "tenant_id", "process_type", "flow_key"),
    where=lambda row: row.waiting > 0,
    where_sql="waiting > 0",
)
FLOWS = Index(FLOW, "flow", order=("tenant_id", "process_type", "flow_key"))
TABLES = (FLOW, QUEUED, PLACE)
INDEXES = (QUEUE, WANTED, FLOWS)

"""The rows of conversations: processes, their fields, turns, events and snapshots."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class ProcessStatus(StrEnum):
    """What a process is doing. Source: engine.md, "States, memory, recovery"."""

    IDLE = "idle"
    RUNNABLE = "runnable"
    WAITING = "waiting"
    PAUSED = "paused"
    STUCK = "stuck"
    STRANDED = "stranded"
    FAILED = "failed"
    ENDED = "ended"
    REMOVED = "removed"  # a tombstone: the id was used, and is not given again while it stands


OVER = (ProcessStatus.ENDED, ProcessStatus.FAILED, ProcessStatus.REMOVED)
"""Nothing reaches such a process."""


class Aging(StrEnum):
    """What there is to remove of a process."""

    TURNS = "turns"  # finished turns before its last one
    ROWS = "rows"  # all that is left of a process that was removed
    TOMBSTONE = "tombstone"


class TurnState(StrEnum):
    """What has become of one message in its conversation."""

    RECEIVED = "received"
    STARTED = "started"
    FINISHED = "finished"


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One process, or one conversation that no engine runs (its `process_type` is empty).

    `head` is the next sequence of its events; `stream_no` is their key; `turn_seq` is the sequence of the open
    turn's MessageReceived, or that of the last one; events before `first`, whole turns, are gone; `timers` counts rows
    elsewhere; `placed` says that flow control has a row for it; `attributes` are the names of its search attributes
    (`attributes.py`); `aging` is 1 while it has a row in that table; `note` says why it is failed, stuck or paused; `parent`
    is the process that started it as its child; `over_at` is when it ended or failed, until it is removed.
    """

    process_type: str
    package_hash: str | None = None
    status: str = ProcessStatus.IDLE
    head: int = 0
    stream_no: int
    shard: int
    open_message: str | None = None
    turn_seq: int = 0
    first: int = 0
    timers: int = 0
    placed: int = 0
    attributes: str = ""
    aging: int = 0
    note: str = ""
    parent: str = ""
    created_at: Micros
    updated_at: Micros
    over_at: Micros | None = None


class ProcessStateRow(msgspec.Struct, frozen=True, gc=False):
    """Durable fields: `found`, as the open turn found them, where replay begins; `saved`, as of the last commit."""

    found: bytes
    saved: bytes


class AttributeRow(msgspec.Struct, frozen=True, gc=False):
    """One search attribute: `value` as of the last commit (None: taken away), `found` as the open turn found it, if it changed it.

    The values are written so that their bytes are in their order (`attributes.py`); a kind is the name of a Python type.
    """

    kind: str
    value: bytes | None
    found_kind: str = ""
    found: bytes | None = None


class TurnRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The handling of one message.

    `steps` counts StepCompleted; `effects` counts what was committed besides records, and `more` says that the effects of
    the last quiescence are not all among them yet; `attempts` counts starts, of which acceptance is the first though no code
    has run yet, and errors that the caller of a DurableConversation records without one; `awaits` names the kinds that a waiting turn
    asks for; `outcome` is that of the message, or `error` while the last attempt of an open one has failed.
    """

    state: str
    steps: int = 0
    effects: int = 0
    more: int = 0
    attempts: int = 0
    awaits: str = ""
    outcome: str = ""
    result: bytes | None = None


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One event: when it was written, and its bytes (`events.py`)."""

    at: Micros
    data: bytes


class SnapshotRow(msgspec.Struct, frozen=True, gc=False):
    """A derived summary of the events before `seq`; it may be deleted at any time."""

    seq: int
    version: int
    data: bytes


class ChildRow(msgspec.Struct, frozen=True, gc=False):
    """A process that another one has started and that has not ended. `at` is the tick at which it became a child.

    Those before the parent's `stream_no` are of another process, removed since, that had the same id.
    """

    at: int


class CancellationRow(msgspec.Struct, frozen=True, gc=False):
    """A process was cancelled, and some of its children are still to be asked: those that became so from `since` to `until`.

    Those up to `after_id` were asked, or had no need. `reason` is the one that was given with the first of all requests;
    `tick` grows with each page, so that families take turns.
    """

    reason: str
    since: int
    until: int
    after_id: str
    tick: int


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """One entry of a process's log. Entries at and behind the length that the durable fields say are of turns that failed."""

    at: Micros
    data: bytes


class AgingRow(msgspec.Struct, frozen=True, gc=False):
    """What there is to remove of a process. `at` is since when, and for a tombstone until when it stands."""

    what: str
    at: Micros


PROCESS = Table(
    "process",
    ("tenant_id", "process_id"),
    ProcessRow,
    kind="owned",
    fixed=("process_type", "stream_no", "shard", "created_at"),
    indexed=("status", "package_hash"),
    guard=True,
)
PROCESS_STATE = Table("process_state", ("tenant_id", "process_id"), ProcessStateRow, kind="owned")
TURN = Table("turn", ("tenant_id", "process_id", "message_id"), TurnRow, kind="owned")
EVENT = Table("event", ("tenant_id", "stream_no", "seq"), EventRow, kind="log")
# Additions are guarded by the parent's own row, which the commit that starts a child always writes; removals by nothing:
# who takes a child for alive that has just ended finds that when he looks at it.
CHILD = Table("child", ("tenant_id", "parent_id", "process_id"), ChildRow)
CANCELLATION = Table("cancellation", ("tenant_id", "process_id"), CancellationRow)
PROCESS_LOG = Table("process_log", ("tenant_id", "process_id", "name", "seq"), LogRow, kind="owned")
SNAPSHOT = Table("snapshot", ("tenant_id", "process_id"), SnapshotRow)
ATTRIBUTE = Table("process_attribute", ("tenant_id", "process_id", "name"), AttributeRow, kind="owned")
AGING = Table("aging", ("tenant_id", "process_id"), AgingRow)

# What is stuck is tried again at each start: the code may have changed.
RECOVERED = (ProcessStatus.RUNNABLE, ProcessStatus.STUCK)
EVENTS = Index(EVENT, "event", prefix=("tenant_id", "stream_no"), order=("seq",))
PROCESSES = Index(PROCESS, "process", prefix=("tenant_id",), order=("process_id",))
RUNNABLE = Index(
    PROCESS,
    "process_runnable",
    prefix=("shard",),
    order=("tenant_id", "process_id"),
    where=lambda row: row.status in RECOVERED,
    where_sql="status in ('runnable', 'stuck')",
)
RUNNABLE_SHARDS = Index(
    PROCESS,
    "process_runnable",
    order=("shard", "tenant_id", "process_id"),
    where=RUNNABLE.where,
    where_sql=RUNNABLE.where_sql,
)
# Whose version cannot be loaded: it is tried again when something has changed that may help.
STRANDED = Index(
    PROCESS,
    "process_stranded",
    prefix=("shard",),
    order=("tenant_id", "process_id"),
    where=lambda row: row.status == ProcessStatus.STRANDED,
    where_sql="status = 'stranded'",
)
STRANDED_SHARDS = Index(
    PROCESS,
    "process_stranded",
    order=("shard", "tenant_id", "process_id"),
    where=STRANDED.where,
    where_sql=STRANDED.where_sql,
)
# The others are most of all processes, or only for a moment: an index of them would cost each commit, and find nothing quickly.
HALTED = (ProcessStatus.PAUSED, ProcessStatus.STUCK, ProcessStatus.STRANDED, ProcessStatus.FAILED)
BY_STATUS = Index(
    PROCESS,
    "process_halted",
    prefix=("tenant_id", "status"),
    order=("process_id",),
    where=lambda row: row.status in HALTED,
    where_sql="status = 'paused' or status = 'stuck' or status = 'stranded' or status = 'failed'",
)
CREATED = Index(PROCESS, "process_created", prefix=("tenant_id",), order=("created_at", "process_id"))
# One that failed can be restarted, on the code that it has. Its guard is the package's row (`packages.writes.hold`).
BY_PACKAGE = Index(
    PROCESS,
    "process_package",
    prefix=("package_hash",),
    order=("tenant_id", "process_id"),
    where=lambda row: row.package_hash is not None and row.status not in {ProcessStatus.ENDED, ProcessStatus.REMOVED},
    where_sql="package_hash is not null and status <> 'ended' and status <> 'removed'",
)
PINNED = Index(
    PROCESS,
    "process_package",
    order=("package_hash", "tenant_id", "process_id"),
    where=BY_PACKAGE.where,
    where_sql=BY_PACKAGE.where_sql,
)
ATTRIBUTES = Index(ATTRIBUTE, "process_attribute", prefix=("tenant_id",), order=("process_id", "name"))
ATTRIBUTES_OF = Index(ATTRIBUTE, "process_attribute", prefix=("tenant_id", "process_id"), order=("name",))
BY_ATTRIBUTE = Index(
    ATTRIBUTE,
    "process_attribute_value",
    prefix=("tenant_id", "name"),
    order=("value", "process_id"),
    where=lambda row: row.value is not None,
    where_sql="value is not null",
)
CHILDREN = Index(CHILD, "child", prefix=("tenant_id", "parent_id"), order=("process_id",))
CANCELLATIONS = Index(CANCELLATION, "cancellation_next", order=("tick", "tenant_id", "process_id"))
LOG_ENTRIES = Index(PROCESS_LOG, "process_log", prefix=("tenant_id", "process_id", "name"), order=("seq",))
LOGS = Index(PROCESS_LOG, "process_log", prefix=("tenant_id", "process_id"), order=("name", "seq"))
ENDED = Index(
    PROCESS,
    "process_over",
    order=("over_at", "tenant_id", "process_id"),
    where=lambda row: row.over_at is not None,
    where_sql="over_at is not null",
)
TURNS = Index(TURN, "turn", prefix=("tenant_id", "process_id"), order=("message_id",))
AGES = Index(AGING, "aging_at", prefix=("what",), order=("at", "tenant_id", "process_id"))
TABLES = (PROCESS, PROCESS_STATE, TURN, EVENT, SNAPSHOT, CHILD, CANCELLATION, PROCESS_LOG, ATTRIBUTE, AGING)
INDEXES = (
    EVENTS,
    PROCESSES,
    RUNNABLE,
    RUNNABLE_SHARDS,
    STRANDED,
    STRANDED_SHARDS,
    BY_STATUS,
    CREATED,
    BY_PACKAGE,
    PINNED,
    CHILDREN,
    CANCELLATIONS,
    LOG_ENTRIES,
    LOGS,
    ATTRIBUTES,
    ATTRIBUTES_OF,
    BY_ATTRIBUTE,
    ENDED,
    TURNS,
    AGES,
)

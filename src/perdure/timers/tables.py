"""The rows of timers and schedules."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class TimerRow(msgspec.Struct, frozen=True, gc=False):
    """A timer of the open turn of a process. Its id is that of the operation that waits."""

    due: Micros
    shard: int


class ScheduleStatus(StrEnum):
    """Whether a schedule fires."""

    ACTIVE = "active"
    PAUSED = "paused"  # by a person
    REMOVED = "removed"  # the app that declared it declares it no more


class Definition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a schedule is, apart from what has become of it.

    `declared_by` names the app whose code declares it, and is empty for one made at run time. `expression` and `tz` are as
    in `slots.pattern_of`. `way`, `target` and `process_type` are the address, `kind` and `payload` the message; with
    `takes_slot` the slot's time is added to its arguments.
    """

    declared_by: str
    expression: str
    tz: str
    overlap: str
    queue_max: int
    catch_up: str
    catch_up_window: Micros
    jitter: Micros
    way: str
    target: str
    process_type: str
    kind: str
    payload: bytes
    takes_slot: int


class ScheduleRow(Definition, frozen=True, kw_only=True, gc=False):
    """One schedule: what it fires when, and what has become of it.

    `next_slot` is the first slot that is not decided on, `next_at` when it fires. `last_message` is the id of the newest
    message it sent; `queued` counts the slots in `waiting` (JSON, pairs of slot and id), `recent` holds the last decisions
    (JSON, see `schedules.Firing`).
    """

    status: str = ScheduleStatus.ACTIVE
    next_slot: Micros | None
    next_at: Micros | None
    last_slot: Micros | None = None
    last_message: str = ""
    queued: int = 0
    waiting: bytes = b"[]"
    recent: bytes = b"[]"
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    triggers: int = 0
    created_at: Micros
    updated_at: Micros


TIMER = Table("timer", ("tenant_id", "process_id", "timer_id"), TimerRow, kind="owned")
DUE = Index(TIMER, "timer_due", order=("due", "tenant_id", "process_id", "timer_id"))
OF_PROCESS = Index(TIMER, "timer", prefix=("tenant_id", "process_id"), order=("timer_id",))
SCHEDULE = Table("schedule", ("tenant_id", "schedule_id"), ScheduleRow)
SCHEDULES = Index(SCHEDULE, "schedule", prefix=("tenant_id",), order=("schedule_id",))
SCHEDULES_DUE = Index(
    SCHEDULE,
    "schedule_due",
    order=("next_at", "tenant_id", "schedule_id"),
    where=lambda row: row.next_at is not None,
    where_sql="next_at is not null",
)
DECLARED = Index(
    SCHEDULE,
    "schedule_declared",
    prefix=("declared_by",),
    order=("tenant_id", "schedule_id"),
    where=lambda row: row.declared_by != "" and row.status != ScheduleStatus.REMOVED,
    where_sql="declared_by <> '' and status <> 'removed'",
)
SCHEDULES_WAITING = Index(
    SCHEDULE,
    "schedule_waiting",
    order=("tenant_id", "schedule_id"),
    where=lambda row: row.queued > 0,
    where_sql="queued > 0",
)
TABLES = (TIMER, SCHEDULE)
INDEXES = (DUE, OF_PROCESS, SCHEDULES, SCHEDULES_DUE, DECLARED, SCHEDULES_WAITING)

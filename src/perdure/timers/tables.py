"""The rows of timers."""

from __future__ import annotations

import msgspec

from perdure.clock import Micros
from perdure.core.table import Index, Table


class TimerRow(msgspec.Struct, frozen=True, gc=False):
    """A timer of the open turn of a process. Its id is that of the operation that waits."""

    due: Micros
    shard: int


TIMER = Table("timer", ("tenant_id", "process_id", "timer_id"), TimerRow, kind="owned")
DUE = Index(TIMER, "timer_due", order=("due", "tenant_id", "process_id", "timer_id"))
OF_PROCESS = Index(TIMER, "timer", prefix=("tenant_id", "process_id"), order=("timer_id",))
TABLES = (TIMER,)
INDEXES = (DUE, OF_PROCESS)

"""What a handler of commands knows of the one that it does."""

from __future__ import annotations

import asyncio

from perdure.clock import Clock, Micros
from perdure.errors import UsageError
from perdure.protocol.commands import ProgressNote


class CommandContext:
    """One attempt of one command, as its handler sees it.

    Attributes:
        command_id: names the command; the same at every attempt.
        command: its name.
        attempt: the number of this attempt, from 1 on.
        target: that it was sent to.
        traceparent: of W3C trace context; empty for none.
        cancelled: is set when somebody asked for the work to stop. An async handler is cancelled then, too.
    """

    def __init__(
        self,
        *,
        command_id: str,
        command: str,
        attempt: int,
        target: str | None,
        traceparent: str,
        deadline: Micros | None,
        clock: Clock,
    ) -> None:
        self.command_id = command_id
        self.command = command
        self.attempt = attempt
        self.target = target
        self.traceparent = traceparent
        self.cancelled = asyncio.Event()
        self.note: ProgressNote | None = None
        self._deadline = deadline
        self._clock = clock

    @property
    def remaining(self) -> float | None:
        """Seconds until the command expires; None when it never does."""
        return None if self._deadline is None else max(0, self._deadline - self._clock.now()) / 1_000_000

    def progress(self, fraction: float, note: str = "") -> None:
        """Say how far the work has come, 0..1; it is told with the next renewal of the lease. Raises UsageError."""
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:  # in this form, NaN is refused
            raise UsageError(f"progress: expected 0 to 1, found {fraction!r:.200}")
        self.note = ProgressNote(fraction=float(fraction), note=note)

"""What a handler of commands knows of the one that it does."""

from __future__ import annotations

import asyncio

from perdure import limits
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
        cancelled: is set when the work is to stop: somebody asked for that, the deadline has passed, the lease is lost, or the worker
            stops. An async handler is cancelled then, too; a plain one looks at `cancelled.is_set()`.
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
        """Say how far the work has come, 0..1; it is told with the next renewal of the lease, the note as one line of at most 512 bytes.

        Raises:
            UsageError: the fraction is none, or the note is no text.
        """
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:  # in this form, NaN is refused
            raise UsageError(f"progress: expected 0 to 1, found {fraction!r:.200}")
        if not isinstance(note, str):
            raise UsageError(f"progress: expected a note that is text, found {type(note).__name__}")
        self.note = ProgressNote(fraction=float(fraction), note=line(note, most=limits.COMMAND_NOTE_MAX))


def line(text: str, *, most: int) -> str:
    """Return any text as one line that can be stored, of at most so many bytes."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown.encode()[:most].decode(errors="ignore").strip()

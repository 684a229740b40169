"""Naming the line that holds up the event loop.

Source: engine.md, "The TurnLoop: why ordinary async Python is safe here".
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

from perdure import limits

logger = logging.getLogger("perdure.engine")
_OURS: Final = str(Path(__file__).parents[1])
_PYTHONS: Final = str(Path(asyncio.__file__).parents[1])
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


class Watchdog:
    """A thread that asks the event loop for a sign of life, and says where it is held up when there is none.

    Handlers and async steps share one loop with everything else: while one of them computes or waits without `await`,
    no message is accepted and no timer rings. Nothing is stopped; it is said once each time.

    Args:
        loop: the running one, on the thread that it runs on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held_up = threading.get_ident()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="perdure-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more; the thread ends by itself."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(limits.WATCHDOG_SECONDS):
            alive = threading.Event()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop was closed, and nobody has told: its program is over
                return
            said = False
            while not (alive.wait(limits.WATCHDOG_SECONDS) or self._stopped.is_set()):
                if not said:
                    self._say()
                said = True

    def _say(self) -> None:
        frame = sys._current_frames().get(self._held_up)  # noqa: SLF001  # documented, and the only way
        if frame is not None:
            where = _line_of_the_user(frame)
            logger.warning(
                "the event loop is held up for over %g s at %s:%d, in %s; nothing else goes on meanwhile: "
                "let it be a step that is a plain function, which runs on a thread\n%s",
                limits.WATCHDOG_SECONDS,
                where.filename,
                where.lineno or 0,
                where.name,
                "".join(traceback.format_stack(frame, limits.WATCHDOG_FRAMES)),
            )


def _line_of_the_user(frame: FrameType) -> traceback.FrameSummary:
    """Return the innermost line that is neither Perdure's nor Python's own; the innermost of all if there is none."""
    lines = traceback.extract_stack(frame)
    return next((line for line in reversed(lines) if not _is_ours(line.filename)), lines[-1])


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS) or (filename.startswith(_PYTHONS) and not _INSTALLED & set(Path(filename).parts))

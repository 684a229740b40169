"""Checkpoints of our own: SQLite's automatic ones swallow the errors of fsync."""

from __future__ import annotations

import asyncio
import logging

import apsw

from perdure import limits
from perdure.backends.sqlite.connection import ERRORS, Failure, failure_of
from perdure.backends.sqlite.file import SqliteFile
from perdure.clock import Alarm

logger = logging.getLogger("perdure.sqlite")


class Checkpoints:
    """Copies the WAL into the file between batches: when it is long, and when the writer is idle.

    On the writer's own connection, so that nothing is appended meanwhile: then the copy is whole, and the next batch
    begins the WAL anew. Beside a busy writer a copy never catches up, and the WAL grows without end.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()  # a test moves its clock from outside of it
        self._pages = 0
        self._copied = 0
        self._commits = 0
        self._alarm: Alarm | None = None
        self._running: asyncio.Task[None] | None = None
        file.writing.set_wal_hook(self._on_commit)

    def committed(self) -> None:
        """Look, after a commit, whether the WAL is long enough to be copied."""
        self._commits += 1
        if self._pages < self._copied:  # the WAL began anew
            self._copied = 0
        if self._pages - self._copied >= limits.SQLITE_WAL_PAGES:
            self._start()
        elif self._alarm is None and self._pages > self._copied:
            self._set_alarm()

    async def finished(self) -> None:
        """Wait for a checkpoint that is under way."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """Stop; wait for a checkpoint that is under way."""
        if self._alarm is not None:
            self._alarm.cancel()
        await self.finished()

    def _on_commit(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def _set_alarm(self) -> None:
        commits, clock = self._commits, self._file.clock

        def ring() -> None:
            self._alarm = None
            if commits != self._commits:
                self._set_alarm()
            elif self._running is None and self._file.usable and self._pages - self._copied >= limits.SQLITE_IDLE_PAGES:
                self._start()

        self._alarm = clock.call_at(clock.now() + limits.SQLITE_IDLE_MS * 1000, ring)

    def _start(self) -> None:
        self._running = self._loop.create_task(self._run(), name="perdure-checkpoint")

    def _copy(self) -> tuple[int, int]:
        return self._file.writing.wal_checkpoint()

    async def _run(self) -> None:
        try:
            _, self._copied = await self._file.off_loop(self._copy)
        except ERRORS as error:
            self._copied = self._pages  # what could not be copied now is tried with the next that is
            if failure_of(error) is not Failure.BUSY:  # another process does the same at this moment
                logger.warning("checkpoint: %s", self._file.judged(error))
        finally:
            self._running = None

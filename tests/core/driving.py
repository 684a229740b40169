"""Driving a writer from a test: made-up writes, and faults at chosen calls."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.core.backend import Backend
from perdure.core.view import View
from perdure.core.write import Write
from perdure.core.writer import Writer
from tests.core.memory import MemoryBackend
from tests.core.shop import JOB, LINE, Act, Create, Job, Line


class Broken(Act, frozen=True):
    """A decision with a bug."""

    def decide(self, view: View) -> None:
        view.insert(LINE.key(0), Line("never"))
        raise ZeroDivisionError


class Look(Act, frozen=True):
    """A decision that changes nothing."""

    id: int

    def decide(self, view: View) -> Job | None:
        return view.get(JOB.key(self.id))


class Fault:
    """Raise `error` at the given calls of a kind, counted from 1; at all of them when none are given."""

    def __init__(self, call: str, error: Exception, *times: int) -> None:
        self.call, self.error, self.times, self.seen = call, error, times, 0

    def __call__(self, call: str) -> None:
        if call == self.call:
            self.seen += 1
            if not self.times or self.seen in self.times:
                raise self.error


async def started(backend: Backend) -> Writer:
    writer = Writer(backend, on_signals=lambda _topics: None)
    await writer.start()
    return writer


async def together(writer: Writer, writes: list[Write[Any]]) -> list[Any]:
    """Submit all at once, so that they become batches of the largest size; results or errors, in order."""
    return await asyncio.gather(*(writer.run(write) for write in writes), return_exceptions=True)


def job(id: int) -> Create:
    return Create(id, "a", 0, 0)


def jobs(backend: MemoryBackend) -> set[Any]:
    """Return the ids of the jobs that are committed."""
    return {key.parts[0] for key in backend.database.rows if key.table is JOB}

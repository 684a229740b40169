"""The writer on a dictionary backend: what it reads again, and what it says of outcomes that are not settled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.core.backend import BatchConflict, CommitUnknown, WriterFenced, WriterRow
from perdure.errors import OutcomeUnknown, StoreBusy, StoreFull, StoreUnavailable, StoreWentBack
from tests.core.driving import Fault, job, jobs, started, together
from tests.core.memory import MemoryBackend
from tests.core.shop import JOB


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


async def test_a_batch_that_is_run_again_reads_at_once_what_the_try_before_came_upon(backend: MemoryBackend) -> None:
    """With locks, all of them are taken in one order."""
    writer = await started(backend)
    wanted: list[list[Any]] = []
    prefetch = backend.prefetch

    async def watched(what: Any, *, locked: bool) -> Any:
        wanted.append([*what.keys])
        return await prefetch(what, locked=locked)

    backend.prefetch = watched  # type: ignore[assignment, method-assign]
    backend.before = Fault("apply", BatchConflict("another node"), 1)

    await together(writer, [job(2), job(1)])

    assert wanted == [[], [JOB.key(2)], [JOB.key(1)], [JOB.key(2), JOB.key(1)]]


async def test_a_writer_that_is_cancelled_while_it_settles_tells_that_the_outcome_is_unknown(backend: MemoryBackend) -> None:
    writer = await started(backend)
    backend.after = Fault("commit", CommitUnknown("cut"))
    asked = asyncio.Event()

    async def fence() -> WriterRow:
        asked.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    backend.fence = fence  # type: ignore[method-assign]
    caller = asyncio.create_task(writer.run(job(1)))
    await asked.wait()
    assert writer._task is not None
    writer._task.cancel()

    with pytest.raises(OutcomeUnknown):
        await caller
    assert jobs(backend) == {1}


@pytest.mark.parametrize("error", [StoreBusy("no time"), StoreFull("no room")])
async def test_whatever_the_database_says_to_the_question_an_unsettled_outcome_is_unknown(backend: MemoryBackend, error: Exception) -> None:
    writer = await started(backend)
    backend.after = Fault("commit", CommitUnknown("cut"))
    backend.before = Fault("fence", error)

    with pytest.raises(OutcomeUnknown):
        await writer.run(job(1))
    assert jobs(backend) == {1}


async def test_a_fenced_writer_that_finds_its_acknowledged_batches_gone_stops_loudly(backend: MemoryBackend) -> None:
    writer = await started(backend)
    await writer.run(job(1))
    await writer.run(job(2))
    backend.database.writers["n1"] = WriterRow("n1", 1, 1)

    def fenced(call: str) -> None:
        if call == "commit":
            raise WriterFenced

    backend.before = fenced
    with pytest.raises(StoreWentBack, match="batch 2 was acknowledged, the database knows 1"):
        await writer.run(job(3))

    with pytest.raises(StoreUnavailable):
        await writer.run(job(4))

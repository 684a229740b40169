"""The writer's queue: who is let in, who hears what and when, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from perdure import limits
from perdure.core.view import View
from perdure.core.write import Transaction
from perdure.core.writer import Writer
from perdure.errors import (
    OutcomeUnknown,
    Overloaded,
    RejectedError,
    StoreUnavailable,
    TransactionRefused,
    TransactionTooLarge,
    UsageError,
)
from tests.core.driving import Broken, Look, job, jobs, started, together
from tests.core.memory import MemoryBackend
from tests.core.shop import JOB, Note


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


async def test_a_bug_in_a_decision_undoes_that_transaction_alone(backend: MemoryBackend) -> None:
    writer = await started(backend)

    told = await together(writer, [job(1), Broken(), job(2)])

    assert [type(error) for error in told] == [type(None), ZeroDivisionError, type(None)]
    assert jobs(backend) == {1, 2}


async def test_a_callback_that_fails_harms_nobody_else(backend: MemoryBackend) -> None:
    writer = await started(backend)

    def bad(_results: Any, _error: Exception | None) -> None:
        raise ZeroDivisionError

    writer.submit(Transaction((job(1),)), bad)
    await writer.run(job(2))

    assert jobs(backend) == {1, 2}


async def test_a_caller_who_is_cancelled_does_not_cancel_the_transaction(backend: MemoryBackend) -> None:
    writer = await started(backend)
    caller = asyncio.create_task(writer.run(job(1)))
    other = asyncio.create_task(writer.run(job(2)))
    await asyncio.sleep(0)
    caller.cancel()

    await other

    assert caller.cancelled()
    assert jobs(backend) == {1, 2}


async def test_a_full_queue_refuses_at_once(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUE_MAX", 3)
    writer = await started(backend)

    told = await together(writer, [job(id) for id in range(5)])

    assert [type(error) for error in told] == [type(None)] * 3 + [Overloaded] * 2
    await writer.run(job(9))


async def test_a_transaction_over_the_limit_is_refused_before_it_is_queued(backend: MemoryBackend) -> None:
    writer = await started(backend)

    with pytest.raises(TransactionTooLarge):
        await writer.run(job(1), size=limits.TRANSACTION_BYTES_MAX + 1)

    await writer.run(job(1), size=limits.TRANSACTION_BYTES_MAX)


async def test_a_batch_holds_no_more_than_its_limits(backend: MemoryBackend) -> None:
    writer = await started(backend)
    half = limits.BATCH_BYTES_MAX // 2

    await asyncio.gather(*(writer.run(job(id), size=half) for id in range(4)))
    assert backend.calls["commit"] == 2

    await together(writer, [job(id) for id in range(10, 10 + 2 * limits.BATCH_MAX)])
    assert backend.calls["commit"] == 4


async def test_close_finishes_what_was_accepted_and_refuses_what_comes_later(backend: MemoryBackend) -> None:
    writer = await started(backend)
    accepted = [asyncio.create_task(writer.run(job(id))) for id in range(600)]
    await asyncio.sleep(0)

    await writer.close()

    assert await asyncio.gather(*accepted) == [None] * 600
    with pytest.raises(StoreUnavailable, match="closed"):
        await writer.run(job(1000))
    assert backend.calls["close"] >= 1


async def test_two_who_close_at_once_both_wait_for_the_writer(backend: MemoryBackend) -> None:
    writer = await started(backend)
    accepted = asyncio.create_task(writer.run(job(1)))
    await asyncio.sleep(0)
    at_close: list[set[Any]] = []
    backend.before = lambda call: at_close.append(jobs(backend)) if call == "close" else None

    await asyncio.gather(writer.close(), writer.close())

    assert at_close == [{1}, {1}]
    await accepted


async def test_a_writer_that_is_cancelled_leaves_nobody_waiting(backend: MemoryBackend) -> None:
    writer = await started(backend)
    apply, stuck = backend.apply, asyncio.Event()

    async def hangs(batch: Any) -> None:
        await stuck.wait()
        await apply(batch)

    backend.apply = hangs  # type: ignore[method-assign]
    callers = [asyncio.create_task(writer.run(job(id))) for id in range(limits.BATCH_MAX + 1)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert writer._task is not None
    writer._task.cancel()

    told = await asyncio.gather(*callers, return_exceptions=True)

    assert {type(error) for error in told[: limits.BATCH_MAX]} == {OutcomeUnknown}
    assert type(told[-1]) is StoreUnavailable
    with pytest.raises(StoreUnavailable):
        await writer.run(job(1))
    await writer.close()


async def test_an_idle_writer_that_is_cancelled_takes_nothing_more(backend: MemoryBackend) -> None:
    writer = await started(backend)
    await asyncio.sleep(0)
    assert writer._task is not None
    writer._task.cancel()
    await asyncio.wait([writer._task])

    with pytest.raises(StoreUnavailable, match="cancelled"):
        await writer.run(job(1))
    await writer.close()


def test_a_commit_from_another_event_loop_is_refused(backend: MemoryBackend) -> None:
    writer = asyncio.run(started(backend))

    with pytest.raises(UsageError, match="belongs to the event loop"):
        asyncio.run(writer.run(job(1)))


async def test_nobody_hears_of_a_result_or_a_rejection_before_the_commit(backend: MemoryBackend) -> None:
    writer = await started(backend)
    heard: list[Any] = []
    at_commit: list[list[Any]] = []
    backend.before = lambda call: at_commit.append(list(heard)) if call == "commit" else None

    def resolve(name: str, _results: Any, _error: Exception | None) -> None:
        heard.append(name)

    done: Callable[[str], Callable[[Any, Exception | None], None]] = lambda name: partial(resolve, name)  # noqa: E731
    await writer.run(job(1))
    heard.clear()
    at_commit.clear()
    writer.submit(Transaction((job(1),)), done("rejected"))
    writer.submit(Transaction((Look(1),)), done("read"))
    await writer.run(job(2))

    assert at_commit == [[]]
    assert heard == ["rejected", "read"]


async def test_signals_are_sent_after_the_commit_and_only_then(backend: MemoryBackend) -> None:
    sent: list[tuple[str, ...]] = []
    writer = Writer(backend, on_signals=sent.append)
    await writer.start()
    at_commit: list[list[Any]] = []
    backend.before = lambda call: at_commit.append(list(sent)) if call == "commit" else None

    await writer.run(job(1))
    with pytest.raises(RejectedError):
        await writer.run(job(1))

    assert at_commit == [[]]
    assert sent == [("queue/a",)]


class Endless(msgspec.Struct, frozen=True):
    """A decision that reads on and on."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        for id in range(limits.DISCOVERY_ROUNDS_MAX + 1):
            view.get(JOB.key(id))


async def test_a_decision_that_reads_without_end_is_a_bug(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DISCOVERY_ROUNDS_MAX", 50)
    writer = await started(backend)

    with pytest.raises(AssertionError, match="reads without end"):
        await writer.run(Endless())


async def test_a_rejection_is_told_before_a_log_row_that_exists_in_a_batch_as_alone(backend: MemoryBackend) -> None:
    writer = await started(backend)
    await writer.commit(Note(1), job(1))

    alone = await asyncio.gather(writer.commit(Note(1), job(1)), return_exceptions=True)
    batch = await asyncio.gather(writer.commit(Note(2)), writer.commit(Note(2), job(1)), writer.commit(Note(2)), return_exceptions=True)

    assert [type(error) for error in alone] == [RejectedError]
    assert [type(error) for error in batch[1:]] == [RejectedError, TransactionRefused]

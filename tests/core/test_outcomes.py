"""The writer on a database that fails where it is told to: unknown outcomes, faults at each of its five calls, conflicts."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import limits
from perdure.core.backend import BatchConflict, BatchRefused, CommitUnknown
from perdure.core.write import Write
from perdure.errors import (
    LeaseLost,
    OutcomeUnknown,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
    StoreWentBack,
    TransactionRefused,
)
from tests.core.driving import Broken, Fault, job, started, together
from tests.core.shop import Note
from tests.core.subjects import Subject

# --- unknown outcomes ------------------------------------------------------------------------------


async def test_an_unknown_outcome_that_was_committed_is_told_as_success_and_written_once(backend: Subject) -> None:
    writer = await started(backend)
    backend.after = Fault("commit", CommitUnknown("cut"), 1)

    assert await together(writer, [job(1), job(2)]) == [None, None]

    assert backend.jobs() == {1, 2}
    assert backend.calls["commit"] == 1
    await writer.run(job(3))
    assert backend.row().batch == 2


async def test_an_unknown_outcome_that_was_not_committed_is_run_again(backend: Subject) -> None:
    writer = await started(backend)
    backend.before = Fault("commit", CommitUnknown("cut"), 1)

    assert await together(writer, [job(1), job(2)]) == [None, None]

    assert backend.jobs() == {1, 2}
    assert backend.calls["commit"] == 2
    assert backend.row().batch == 1


async def test_a_settled_outcome_is_fenced_against_what_is_still_under_way(backend: Subject) -> None:
    writer = await started(backend)
    backend.before = Fault("commit", CommitUnknown("cut"), 1)
    before = backend.row().incarnation

    await writer.run(job(1))

    assert backend.row().incarnation == before + 1


async def test_a_database_that_lost_acknowledged_commits_stops_the_store_loudly(backend: Subject) -> None:
    writer = await started(backend)
    await writer.run(job(1))
    await writer.run(job(2))

    def lose(call: str) -> None:
        if call == "commit":
            raise CommitUnknown("failed over")
        if call == "fence":
            backend.set_row(1, 0)

    backend.before = lose
    with pytest.raises(StoreWentBack, match="batch 2 was acknowledged, the database knows 0"):
        await writer.run(job(3))

    with pytest.raises(StoreUnavailable):
        await writer.run(job(4))


async def test_an_outcome_that_cannot_be_settled_is_told_with_the_number_of_its_batch(backend: Subject) -> None:
    writer = await started(backend)
    await writer.run(job(1))
    backend.after = Fault("commit", CommitUnknown("cut"))
    backend.before = Fault("fence", StoreUnavailable("gone"))

    with pytest.raises(OutcomeUnknown) as caught:
        await writer.run(job(2))

    assert (caught.value.node, caught.value.batch) == (backend.row().node, 2)


async def test_after_an_unknown_outcome_the_queue_hears_that_nothing_of_it_was_written(backend: Subject) -> None:
    writer = await started(backend)
    backend.after = Fault("commit", CommitUnknown("cut"))
    backend.before = Fault("fence", StoreUnavailable("gone"))
    told: list[Any] = await together(writer, [job(id) for id in range(limits.BATCH_MAX + 5)])

    assert {type(error) for error in told[: limits.BATCH_MAX]} == {OutcomeUnknown}
    assert {type(error) for error in told[limits.BATCH_MAX :]} == {StoreUnavailable}
    assert writer.waiting == 0


async def test_only_the_half_whose_commit_is_unknown_is_told_so(backend: Subject) -> None:
    """The other half was never tried: to settle its outcome by the number of the first one would be a lie."""
    writer = await started(backend)
    await backend.refuse_job(3)
    backend.after = Fault("commit", CommitUnknown("cut"))
    backend.before = Fault("fence", StoreUnavailable("gone"))

    told = await together(writer, [job(1), job(2), job(3), job(4)])

    assert [type(error) for error in told] == [OutcomeUnknown, OutcomeUnknown, StoreUnavailable, StoreUnavailable]
    assert backend.jobs() == {1, 2}


async def test_who_was_rejected_in_a_batch_of_unknown_outcome_is_told_that_nothing_was_written(backend: Subject) -> None:
    """Neither the rejection, which may rest on what is not committed, nor an outcome that settles as done."""
    writer = await started(backend)
    backend.after = Fault("commit", CommitUnknown("cut"))
    backend.before = Fault("fence", StoreUnavailable("gone"))

    told = await together(writer, [job(1), job(1)])

    assert [type(error) for error in told] == [OutcomeUnknown, StoreUnavailable]


# --- faults at each of the five calls ------------------------------------------------------------------


async def test_a_fault_when_the_writer_starts_is_told_to_who_opens_the_store(backend: Subject) -> None:
    backend.before = Fault("fence", StoreBusy("locked"), 1)

    with pytest.raises(StoreBusy):
        await started(backend)


@pytest.mark.parametrize("call", ["prefetch", "apply"])
async def test_a_store_that_became_unusable_refuses_everything(backend: Subject, call: str) -> None:
    writer = await started(backend)
    backend.before = Fault(call, StoreUnavailable("gone"))

    told = await together(writer, [job(1), job(2)])

    assert [type(error) for error in told] == [StoreUnavailable, StoreUnavailable]
    with pytest.raises(StoreUnavailable, match="has to be reopened"):
        await writer.run(job(3))
    assert backend.jobs() == set()


@pytest.mark.parametrize("call", ["prefetch", "apply", "commit"])
async def test_a_full_disk_is_told_to_its_callers_and_the_writer_goes_on(backend: Subject, call: str) -> None:
    writer = await started(backend)
    backend.before = Fault(call, BatchRefused(StoreFull("no room"), divisible=False), 1)

    assert [type(error) for error in await together(writer, [job(1), job(2)])] == [StoreFull, StoreFull]
    assert await together(writer, [job(1), job(2)]) == [None, None]
    assert backend.calls["abandon"] == 1


async def test_a_fault_when_a_batch_is_given_up_stops_the_store(backend: Subject) -> None:
    writer = await started(backend)
    conflict, gone = Fault("apply", BatchConflict("another node"), 1), Fault("abandon", StoreUnavailable("gone"))

    def before(call: str) -> None:
        conflict(call)
        gone(call)

    backend.before = before

    with pytest.raises(StoreUnavailable):
        await writer.run(job(1))
    with pytest.raises(StoreUnavailable):
        await writer.run(job(1))


async def test_a_fault_at_close_is_told_to_who_closes(backend: Subject) -> None:
    writer = await started(backend)
    await writer.run(job(1))
    backend.before = Fault("close", StoreUnavailable("the last checkpoint failed"))

    with pytest.raises(StoreUnavailable):
        await writer.close()


async def test_a_bug_of_the_backend_stops_the_store_and_leaves_no_batch_open(backend: Subject) -> None:
    writer = await started(backend)
    backend.before = Fault("apply", AssertionError("a bug"))

    told = await together(writer, [job(1), job(2)])

    assert [type(error) for error in told] == [AssertionError, AssertionError]
    with pytest.raises(StoreUnavailable, match="a bug"):
        await writer.run(job(3))
    await writer.close()
    assert backend.calls["abandon"] == 1


# --- conflicts, fences, halves -------------------------------------------------------------------------


async def test_a_conflict_is_run_again_with_locks(backend: Subject) -> None:
    writer = await started(backend)
    locked: list[bool] = []
    prefetch = backend.prefetch

    async def watched(wanted: Any, *, locked_now: bool) -> Any:
        locked.append(locked_now)
        return await prefetch(wanted, locked=locked_now)

    backend.prefetch = lambda wanted, *, locked: watched(wanted, locked_now=locked)  # type: ignore[method-assign]
    backend.before = Fault("apply", BatchConflict("another node"), 1, 2)

    await writer.run(Note(1))

    assert locked == [False, True, True]
    assert backend.calls["commit"] == 1


async def test_a_batch_that_conflicts_at_every_try_is_run_in_halves(backend: Subject) -> None:
    writer = await started(backend)
    tries = 1 + limits.CONFLICT_TRIES
    backend.before = Fault("apply", BatchConflict("another node"), *range(1, tries + 1))

    assert await together(writer, [job(1), job(2), job(3), job(4)]) == [None] * 4
    assert backend.calls["commit"] == 2


async def test_one_transaction_that_conflicts_at_every_try_is_busy_and_the_writer_goes_on(backend: Subject) -> None:
    writer = await started(backend)
    backend.before = Fault("apply", BatchConflict("another node"), *range(1, 2 + limits.CONFLICT_TRIES))

    with pytest.raises(StoreBusy):
        await writer.run(job(1))

    await writer.run(job(1))


async def test_a_fenced_writer_tells_its_callers_and_goes_on_as_a_newer_one(backend: Subject) -> None:
    writer = await started(backend)
    await writer.run(job(1))
    row = backend.row()
    backend.set_row(row.incarnation + 1, row.batch)

    with pytest.raises(LeaseLost):
        await writer.run(job(2))

    await writer.run(job(3))
    assert backend.jobs() == {1, 3}


async def test_of_a_thousand_one_that_fails_and_one_that_is_refused_leave_the_others_untouched(backend: Subject) -> None:
    writer = await started(backend)
    await backend.refuse_job(700)
    writes: list[Write[Any]] = [job(id) for id in range(1000)]
    writes[300] = Broken()

    told = await together(writer, writes)

    assert {number: type(error) for number, error in enumerate(told) if error is not None} == {
        300: ZeroDivisionError,
        700: TransactionRefused,
    }
    assert backend.jobs() == set(range(1000)) - {300, 700}

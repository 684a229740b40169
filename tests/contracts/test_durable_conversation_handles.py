"""Contract 4: several handles on one conversation, calls that are cancelled, and stores that fail."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from perdure.clock import VirtualClock
from perdure.conversations.contract import ResumeFrom, Skip, Start
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import MessageReceived, ProcessingStarted, StepCompleted, TimerFired
from perdure.core.access import Access
from perdure.core.backend import BatchRefused, CommitUnknown
from perdure.core.signals import Signals
from perdure.core.writer import Writer
from perdure.errors import IllegalTransition, OutcomeUnknown, SequenceConflict, StoreFull, StoreUnavailable, UsageError
from perdure.store import Store, open_store
from tests.contracts.conversations import CountingReader, PlayEngine, SeenThrough, finished
from tests.core.memory import MemoryBackend

Reopen = Callable[[], Awaitable[Store]]
recover = DurableConversation.recover


async def test_of_two_handles_the_second_is_refused_and_not_retried(store: Store) -> None:
    first, second = DurableConversation("conv-1", store), DurableConversation("conv-1", store)
    await first.record_message_received("m", 1)

    with pytest.raises(SequenceConflict) as caught:
        await second.record_message_received("m", 1)

    assert (caught.value.expected, caught.value.found) == (0, 1)
    assert (first.expected_seq, second.expected_seq) == (1, 0)
    assert second.state.open == {}
    assert (await store.info()).rows["event"] == 1


async def test_of_many_handles_at_once_one_wins(store: Store) -> None:
    handles = [DurableConversation("conv-1", store) for _ in range(20)]

    outcomes = await asyncio.gather(*(handle.receive_message("m", 1) for handle in handles), return_exceptions=True)

    assert outcomes.count(Start()) == 1
    assert sum(isinstance(outcome, SequenceConflict) for outcome in outcomes) == 19
    assert (await store.info()).rows["event"] == 1


async def test_a_handle_that_lost_its_conversation_is_refused_before_the_next_effect(store: Store) -> None:
    stale = DurableConversation("conv-1", store)
    await stale.receive_message("m", 1)
    await stale.record_processing_started("m")
    owner = await recover("conv-1", store)
    await owner.record_step_completed("m", 0, b"paid")

    with pytest.raises(SequenceConflict):
        await stale.receive_message("m", 2)

    await stale.refresh()
    assert await stale.receive_message("m", 2) == ResumeFrom(step_index=1, outputs=(b"paid",))


async def test_a_stale_handle_is_refused_even_where_its_record_would_be_illegal(store: Store) -> None:
    stale = DurableConversation("conv-1", store)
    await stale.receive_message("m", 1)
    await (await recover("conv-1", store)).record_processing_started("m")

    with pytest.raises(SequenceConflict):
        await stale.record_processing_finished("m")


async def test_a_finished_message_is_skipped_by_a_stale_handle_too(store: Store) -> None:
    stale = DurableConversation("conv-1", store)
    await finished(DurableConversation("conv-1", store), "m", result=b"result")

    assert await stale.receive_message("m", 1) == Skip(result=b"result")
    assert stale.expected_seq == 0


async def test_refresh_reads_the_tail_only(store: Store) -> None:
    for message in range(10):
        await finished(await recover("conv-1", store), f"m-{message}", b"x")
    reader = CountingReader(store.access.reader)
    conversation = await recover("conv-1", SeenThrough(store, reader))
    other = await recover("conv-1", store)
    await other.receive_message("open", 1)
    await finished(other, "late", b"x")
    reader.rows.clear()

    await conversation.refresh()

    assert reader.rows == {"process": 1, "event": 5}
    assert conversation.state == other.state
    assert await conversation.record_processing_started("open") == other.expected_seq


async def test_refresh_of_a_handle_that_is_up_to_date_changes_nothing(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.refresh()
    assert conversation.expected_seq == 0
    await conversation.receive_message("m", 1)
    before = conversation.state

    await conversation.refresh()

    assert conversation.state == before


async def test_calls_on_one_handle_follow_one_another(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)

    decisions = await asyncio.gather(*(conversation.receive_message(f"m-{number}", number) for number in range(20)))
    sequences = await asyncio.gather(*(conversation.record_processing_started(f"m-{number}") for number in range(20)))

    assert decisions == [Start()] * 20
    assert sequences == list(range(20, 40))
    assert (await recover("conv-1", store)).state == conversation.state


async def test_a_cancelled_record_goes_on_and_the_handle_follows_the_log(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")

    await _cancelled(conversation.record_step_completed("m", 0, b"paid"))

    assert await conversation.record_step_completed("m", 0, b"paid") == 2
    assert await conversation.record_step_completed("m", 1, b"sent") == 3
    assert (await recover("conv-1", store)).state == conversation.state
    assert (await store.info()).rows["event"] == 4


async def test_a_cancelled_receive_is_recorded_and_resumes(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)

    await _cancelled(conversation.receive_message("m", 1))

    assert await conversation.receive_message("m", 2) == ResumeFrom(step_index=0, outputs=())
    assert conversation.expected_seq == 1


async def test_a_call_cancelled_before_its_turn_does_nothing(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    first = asyncio.ensure_future(conversation.receive_message("first", 1))
    second = asyncio.ensure_future(conversation.receive_message("second", 1))
    await asyncio.sleep(0)
    second.cancel()

    assert await first == Start()
    with pytest.raises(asyncio.CancelledError):
        await second
    await conversation.refresh()
    assert list(conversation.state.open) == ["first"]


async def test_a_cancelled_record_that_is_refused_is_refused_in_silence(store: Store) -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
    conversation = DurableConversation("conv-1", store)

    await _cancelled(conversation.record_processing_started("m"))
    await conversation.refresh()
    conversation._running = None

    assert unheard == []
    assert conversation.expected_seq == 0


async def test_a_record_whose_caller_was_lost_is_found_after_a_restart(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")
    await _cancelled(conversation.record_step_completed("m", 0, b"paid"))

    conversation = await recover("conv-1", await reopen())

    assert await conversation.receive_message("m", 2) == ResumeFrom(step_index=1, outputs=(b"paid",))


async def _cancelled(call: Any) -> None:
    """Cancel a call once its transaction is on its way."""
    task = asyncio.ensure_future(call)
    for _ in range(2):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_a_handle_is_not_copied(store: Store, duplicate: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match="recover another one"):
        duplicate(DurableConversation("conv-1", store))


async def test_a_process_of_an_engine_can_be_looked_at_and_not_be_recorded_in(store: Store) -> None:
    events = (
        MessageReceived("src\nm", 1),
        ProcessingStarted("src\nm"),
        StepCompleted("src\nm", 0, b"x", "charge"),
        TimerFired("src\nm", "t"),
    )
    await store.commit(PlayEngine("order-1", events))
    before = (await store.info()).rows

    conversation = await recover("order-1", store)

    assert conversation.expected_seq == 4
    assert conversation.state.open["src\nm"].steps == (2,)
    for call in (
        conversation.receive_message("m", 1),
        conversation.record_message_received("m", 1),
        conversation.import_lce1([bytes.fromhex("4c434531 01 0000000000000001 6d 0000000000000001")]),
    ):
        with pytest.raises((IllegalTransition, UsageError), match=r"only its engine records|which LCE1 cannot say"):
            await call
    assert (await store.info()).rows == before


async def test_a_closed_store_is_refused_and_the_handle_is_not_changed() -> None:
    async with open_store("sqlite:///:memory:") as store:
        conversation = DurableConversation("conv-1", store)
        await conversation.receive_message("m", 1)

    with pytest.raises(StoreUnavailable):
        await conversation.record_processing_started("m")
    with pytest.raises(StoreUnavailable):
        await recover("conv-1", store)
    assert conversation.expected_seq == 1


def test_a_handle_belongs_to_the_event_loop_of_its_store() -> None:
    with asyncio.Runner() as runner:
        store = runner.run(_opened())
        conversation = DurableConversation("conv-1", store)
        with pytest.raises(UsageError, match="event loop"):
            asyncio.run(conversation.receive_message("m", 1))
        runner.run(store.close())


async def _opened() -> Store:
    return await open_store("sqlite:///:memory:")


# --- a store that fails ----------------------------------------------------------------------------------


class Failing:
    """A store of dictionaries that fails where it is told to."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend
        clock = VirtualClock()
        signals = Signals(clock)
        self.writer = Writer(backend, on_signals=signals.publish)
        self.access = Access(self.writer, backend, signals, clock, os.urandom)

    def once(self, moment: str, call: str, error: Exception) -> None:
        def fail(name: str) -> None:
            if name == call:
                setattr(self.backend, moment, lambda _call: None)
                raise error

        setattr(self.backend, moment, fail)


@pytest.fixture
async def failing() -> AsyncIterator[Failing]:
    failing = Failing(MemoryBackend())
    await failing.writer.start()
    yield failing
    await failing.writer.close()


async def test_a_full_disk_leaves_the_handle_where_it_was(failing: Failing) -> None:
    conversation = DurableConversation("conv-1", failing)
    await conversation.receive_message("m", 1)
    failing.once("before", "commit", BatchRefused(StoreFull("full"), divisible=False))

    with pytest.raises(StoreFull):
        await conversation.record_processing_started("m")

    assert conversation.expected_seq == 1
    assert await conversation.record_processing_started("m") == 1


@pytest.mark.parametrize("moment", ["before", "after"], ids=["not committed", "committed"])
async def test_an_append_whose_reply_is_lost_is_settled_and_stands_once(failing: Failing, moment: str) -> None:
    conversation = DurableConversation("conv-1", failing)
    failing.once(moment, "commit", CommitUnknown("the line is dead"))

    assert await conversation.receive_message("m", 1) == Start()

    assert await conversation.record_processing_started("m") == 1
    assert (await recover("conv-1", failing)).state == conversation.state


@pytest.mark.parametrize(("moment", "decision"), [("before", Start()), ("after", ResumeFrom(step_index=0, outputs=()))])
async def test_an_append_that_cannot_be_settled_is_told_and_found_after_reopening(failing: Failing, moment: str, decision: object) -> None:
    conversation = DurableConversation("conv-1", failing)
    failing.once(moment, "commit", CommitUnknown("the line is dead"))
    fence = failing.backend.fence
    failing.backend.fence = _unreachable  # type: ignore[method-assign]

    with pytest.raises(OutcomeUnknown):
        await conversation.receive_message("m", 1)

    assert conversation.expected_seq == 0
    with pytest.raises(StoreUnavailable):
        await conversation.receive_message("m", 1)
    failing.backend.fence = fence  # type: ignore[method-assign]
    reopened = Failing(failing.backend)
    await reopened.writer.start()
    assert await (await recover("conv-1", reopened)).receive_message("m", 1) == decision
    await reopened.writer.close()


async def _unreachable() -> Any:
    raise StoreUnavailable("nobody answers")

"""Contract 4: what may happen to a message, in full, and that a refusal leaves nothing behind."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest

from perdure import limits
from perdure.conversations.contract import ConversationState
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.events import (
    CallerEvent,
    ErrorOccurred,
    MessageReceived,
    ProcessingFinished,
    ProcessingStarted,
    StepCompleted,
)
from perdure.conversations.state import next_turn
from perdure.conversations.tables import TurnRow, TurnState
from perdure.errors import IllegalTransition, TurnTooLong
from perdure.store import Store

Reopen = Callable[[], Awaitable[Store]]
Call = Callable[[DurableConversation], Awaitable[int]]
recover = DurableConversation.recover

RECORDS: dict[str, Call] = {
    "received": lambda c: c.record_message_received("m", 1),
    "started": lambda c: c.record_processing_started("m"),
    "step 0": lambda c: c.record_step_completed("m", 0, b"zero"),
    "step 1": lambda c: c.record_step_completed("m", 1, b"one"),
    "step 2": lambda c: c.record_step_completed("m", 2, b"two"),
    "error": lambda c: c.record_error("m", "no"),
    "finished": lambda c: c.record_processing_finished("m", b"result"),
}
HISTORIES: dict[str, tuple[str, ...]] = {
    "unseen": (),
    "received": ("received",),
    "received, error": ("received", "error"),
    "started": ("received", "started"),
    "started, error": ("received", "started", "error"),
    "started twice": ("received", "started", "started"),
    "one step": ("received", "started", "step 0"),
    "one step, error": ("received", "started", "step 0", "error"),
    "two steps": ("received", "started", "step 0", "step 1"),
    "finished": ("received", "started", "step 0", "finished"),
    "finished after an error": ("received", "started", "error", "finished"),
}
APPENDS: dict[str, set[str]] = {
    "unseen": {"received"},
    "received": {"started", "error"},
    "received, error": {"started", "error"},
    "started": {"started", "step 0", "error", "finished"},
    "started, error": {"started", "step 0", "error", "finished"},
    "started twice": {"started", "step 0", "error", "finished"},
    "one step": {"started", "step 1", "error", "finished"},
    "one step, error": {"started", "step 1", "error", "finished"},
    "two steps": {"started", "step 2", "error", "finished"},
    "finished": set(),
    "finished after an error": set(),
}
CHANGES_NOTHING = {("one step", "step 0"), ("one step, error", "step 0"), ("two steps", "step 0"), ("two steps", "step 1")}


async def _made(store: Store, history: str, name: str) -> DurableConversation:
    conversation = DurableConversation(name, store)
    for record in HISTORIES[history]:
        await RECORDS[record](conversation)
    return conversation


async def test_a_record_is_appended_or_refused_or_known(store: Store, reopen: Reopen) -> None:
    states: dict[str, ConversationState] = {}
    for history, (record, call) in itertools.product(HISTORIES, RECORDS.items()):
        case = f"{history}; {record}"
        conversation = await _made(store, history, case)
        before, head = conversation.state, conversation.expected_seq

        if record in APPENDS[history]:
            assert await call(conversation) == head, case
            assert conversation.expected_seq == head + 1, case
        elif (history, record) in CHANGES_NOTHING:
            assert await call(conversation) == HISTORIES[history].index(record), case
            assert conversation.state == before, case
        else:
            with pytest.raises(IllegalTransition, match="'m'"):
                await call(conversation)
            assert conversation.state == before, case
        states[case] = conversation.state

    store = await reopen()

    for case, state in states.items():
        assert (await recover(case, store)).state == state, case


async def test_a_refusal_leaves_nothing_behind(store: Store, reopen: Reopen) -> None:
    conversations = {history: await _made(store, history, history) for history in HISTORIES}
    rows = (await store.info()).rows
    for history, conversation in conversations.items():
        for record, call in RECORDS.items():
            if record not in APPENDS[history] and (history, record) not in CHANGES_NOTHING:
                with pytest.raises(IllegalTransition):
                    await call(conversation)

    store = await reopen()

    after = (await store.info()).rows
    assert {table: after[table] for table in ("process", "turn", "event")} == {table: rows[table] for table in ("process", "turn", "event")}


async def test_a_step_again_with_the_same_bytes_changes_nothing_also_on_another_handle(store: Store, reopen: Reopen) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")
    sequence = await conversation.record_step_completed("m", 0, b"output", name="classify")

    conversation = await recover("conv-1", await reopen())

    assert await conversation.record_step_completed("m", 0, b"output", name="classify") == sequence
    assert conversation.expected_seq == 3


@pytest.mark.parametrize(("output", "name"), [(b"other", "classify"), (b"", "classify"), (b"output", "sort"), (b"output", None)])
async def test_a_recorded_step_is_never_overwritten(store: Store, output: bytes, name: str | None) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")
    await conversation.record_step_completed("m", 0, b"output", name="classify")

    with pytest.raises(IllegalTransition, match="another output or name, at sequence 2"):
        await conversation.record_step_completed("m", 0, output, name=name)

    assert conversation.expected_seq == 3


async def test_a_gap_between_steps_is_refused_with_the_number_expected(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)
    await conversation.record_processing_started("m")
    await conversation.record_step_completed("m", 0, b"")

    with pytest.raises(IllegalTransition, match="expected step 1 next, found 2"):
        await conversation.record_step_completed("m", 2, b"")


async def test_a_message_is_received_once(store: Store) -> None:
    conversation = DurableConversation("conv-1", store)
    await conversation.receive_message("m", 1)

    with pytest.raises(IllegalTransition, match="is received already"):
        await conversation.record_message_received("m", 1)


ATTEMPTS = {
    "received": 0,
    "received error": 1,
    "received error error": 2,
    "received started": 1,
    "received started error": 1,
    "received started error error": 2,
    "received started started": 2,
    "received started error started": 2,
    "received started error started error started": 3,
    "received error started error": 2,
}


async def test_attempts_are_counted_by_starts_and_by_errors_without_one(store: Store, reopen: Reopen) -> None:
    live = {history: DurableConversation(history, store) for history in ATTEMPTS}
    for history, conversation in live.items():
        for record in history.split():
            await RECORDS[record](conversation)

    store = await reopen()

    for history, attempts in ATTEMPTS.items():
        for conversation in (live[history], await recover(history, store)):
            message = conversation.state.open["m"]
            assert (message.attempts, message.failed) == (attempts, history.endswith("error")), history


def test_an_event_that_records_a_start_has_the_number_of_its_attempt() -> None:
    turn = TurnRow(state=TurnState.STARTED, attempts=3)

    assert next_turn(turn, ProcessingStarted("m", 4)).attempts == 4


def test_a_message_has_no_more_steps_than_the_limit() -> None:
    turn = TurnRow(state=TurnState.STARTED, steps=limits.TURN_EVENTS_MAX)

    with pytest.raises(TurnTooLong, match="split"):
        next_turn(turn, StepCompleted("m", limits.TURN_EVENTS_MAX, b""))


@pytest.mark.parametrize(
    ("event", "needs"),
    [
        (ProcessingStarted("m"), "received or started"),
        (StepCompleted("m", 0, b""), "started"),
        (ErrorOccurred("m", "x"), "received or started"),
        (ProcessingFinished("m"), "started"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_says_what_was_found_and_what_is_needed(event: CallerEvent, needs: str) -> None:
    with pytest.raises(IllegalTransition, match=f"'m' was never received; {type(event).__name__} needs one that is {needs}$"):
        next_turn(None, event)
    with pytest.raises(IllegalTransition, match=f"'m' is finished; {type(event).__name__} needs one that is {needs}$"):
        next_turn(TurnRow(state=TurnState.FINISHED), event)


def test_nothing_follows_finished() -> None:
    done = TurnRow(state=TurnState.FINISHED, outcome="ok")
    for event in (
        MessageReceived("m", 1),
        ProcessingStarted("m"),
        StepCompleted("m", 0, b""),
        ErrorOccurred("m", ""),
        ProcessingFinished("m"),
    ):
        with pytest.raises(IllegalTransition):
            next_turn(done, event)

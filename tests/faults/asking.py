"""Faults in what processes do together: replies, children, awakeables, delayed messages, very many effects."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
TESTS: Final = "tests/engine"

FAULTS: Final = (
    Fault(
        "child-that-ended-is-listed",
        f"{HERE}/children.py",
        "    if process.parent:\n",
        "    if False:\n",
        (f"{TESTS}/test_asking.py::test_the_values_are_those_of_the_handlers",),
    ),
    Fault(
        "awakeable-outlives-its-turn",
        f"{HERE}/flush.py",
        "        if self.forget:\n",
        "        if False:\n",
        (f"{TESTS}/test_awakeables.py::test_what_no_open_turn_has_made_cannot_be_completed",),
    ),
    Fault(
        "awakeable-completed-otherwise",
        f"{HERE}/awakeables.py",
        "            if (sealed.outcome, sealed.response) != (self.outcome, self.response):\n",
        "            if False:\n",
        (f"{TESTS}/test_awakeables.py::test_the_same_completion_again_is_nothing_and_another_one_a_conflict",),
    ),
    Fault(
        "message-answered-after-other-inputs",
        f"{HERE}/turn.py",
        "        self._answerable = None\n        if self.replay.recorded:\n",
        "        if self.replay.recorded:\n",
        (f"{TESTS}/test_turn_asking.py::test_only_the_message_that_receive_has_just_returned_is_answered_once",),
    ),
    Fault(
        "effects-in-one-transaction",
        f"{HERE}/flush.py",
        "        if groups[-1] and (len(groups[-1]) == limits.EFFECTS_CHUNK or",
        "        if groups[-1] and (",
        (f"{TESTS}/test_chunks.py::test_ten_thousand_spawns_are_twenty_transactions",),
    ),
    Fault(
        "delayed-message-delivered-at-once",
        f"{HERE}/handling.py",
        "self._delay(envelope, row) if envelope.available_at is not None else self.place(envelope, row)",
        "self.place(envelope, row)",
        (f"{TESTS}/test_later.py::test_each_is_delivered_when_it_is_due_after_its_sender_has_ended",),
    ),
)

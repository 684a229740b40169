"""Faults in flow control."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

WRITES: Final = "src/perdure/flows/writes.py"
HANDLING: Final = "src/perdure/engine/handling.py"
TESTS: Final = "tests/engine/test_flow.py"
STARTERS: Final = "tests/engine/test_flow_starters.py"

FAULTS: Final = (
    Fault(
        "flow-one-place-too-many",
        WRITES,
        "row.running < bounds.places)",
        "row.running <= bounds.places)",
        (f"{TESTS}::test_no_more_processes_of_a_type_run_at_once_than_allowed_and_all_do_in_the_end",),
    ),
    Fault(
        "flow-overtakes-who-waits",
        WRITES,
        "    if not row.waiting and _has_room(view, row, bounds):\n",
        "    if _has_room(view, row, bounds):\n",
        (f"{TESTS}::test_a_rate_that_has_room_again_goes_to_who_waits",),
    ),
    Fault(
        "flow-place-is-not-given-back",
        WRITES,
        "        _free(view, of_key)\n",
        "",
        (f"{TESTS}::test_a_key_that_is_full_keeps_no_other_waiting",),
        hangs=True,
    ),
    Fault(
        "flow-rate-of-a-key-counts-who-queues-for-the-type",
        WRITES,
        "next_at = _UNTIL_BEGUN if until_begun else view.now + bounds.interval",
        "next_at = view.now + bounds.interval",
        (f"{STARTERS}::test_eight_starters_together_keep_a_rate_and_a_rate_per_key",),
    ),
    Fault(
        "flow-who-follows-by-the-rate-of-a-key-is-not-woken",
        HANDLING,
        "            if place is not None and place.flow_key:\n",
        "            if False:\n",
        (f"{TESTS}::test_who_follows_by_the_rate_of_a_key_begins_in_time_after_the_one_that_the_type_held_up",),
        hangs=True,
    ),
    Fault(
        "flow-who-has-left-the-queue-of-the-type-holds-up-its-key",
        WRITES,
        "        if place.stage == TYPE:\n",
        "        if False:\n",
        (f"{TESTS}::test_who_is_cancelled_while_the_type_holds_it_up_lets_the_next_of_its_key_follow",),
        hangs=True,
    ),
    Fault(
        "flow-rate-without-its-time",
        WRITES,
        "(bounds.interval is None or view.now >= row.next_at)",
        "True",
        (f"{TESTS}::test_processes_begin_evenly_spaced_by_the_rate",),
    ),
    Fault(
        "flow-priority-is-not-looked-at",
        "src/perdure/engine/flow.py",
        'return PlaceRow(made.name, key, int(priority), 0, "")',
        'return PlaceRow(made.name, key, 0, 0, "")',
        (f"{TESTS}::test_the_lowest_priority_begins_first_and_of_equal_ones_the_oldest",),
    ),
    Fault(
        "flow-later-messages-overtake",
        HANDLING,
        "            and not process.placed  # it waits for a place, and what started it goes first\n",
        "",
        (f"{TESTS}::test_the_first_message_of_a_process_that_waits_goes_before_later_ones",),
    ),
    Fault(
        "flow-who-is-cancelled-stays-queued",
        HANDLING,
        "            self._return_mail(process_key, ended, mailbox.queued)\n        self.free(process_key)\n",
        "            self._return_mail(process_key, ended, mailbox.queued)\n",
        (f"{TESTS}::test_who_waits_for_a_place_can_be_cancelled_and_who_holds_one_gives_it_back",),
        hangs=True,
    ),
)

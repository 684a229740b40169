"""Faults in schedules: slots, firings, overlap, catch-up, and what people do with them."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

SLOTS: Final = "src/perdure/timers/slots.py"
ROWS: Final = "src/perdure/timers/schedules.py"
FIRING: Final = "src/perdure/engine/firing.py"
SCHEDULED: Final = "src/perdure/engine/scheduled.py"
SCHEDULES: Final = "src/perdure/engine/schedules.py"

PURE: Final = "tests/timers/test_slots.py"
RUNS: Final = "tests/engine/test_schedules.py"
PEOPLE: Final = "tests/engine/test_schedules_people.py"
CRASHES: Final = "tests/engine/test_schedules_crashes.py"

FAULTS: Final = (
    Fault(
        "slot-in-the-repeated-hour-goes-back",
        SLOTS,
        "            if slot > last:\n",
        "            if True:\n",
        (f"{PURE}::test_the_slots_after_an_instant_do_not_depend_on_where_one_begins",),
    ),
    Fault(
        "slot-in-utc",
        SLOTS,
        "moment(instant).astimezone(self._zone)",
        "moment(instant)",
        (f"{PURE}::test_slots_around_each_switch_of_the_clock_are_those_of_debian_cron",),
    ),
    Fault(
        "catch-up-without-window",
        SLOTS,
        "    kept = [slot for slot in slots if slot + delay(slot) >= oldest]\n",
        "    kept = slots\n",
        (f"{PURE}::test_catching_up_keeps_all_the_last_or_none_within_the_window",),
    ),
    Fault(
        "catch-up-of-the-oldest",
        SLOTS,
        "        slots = _latest(pattern, first - 1, now, most)\n",
        "        slots = slots[:most]\n",
        (f"{PURE}::test_a_year_without_an_engine_is_caught_up_with_a_bounded_number_of_slots",),
    ),
    Fault(
        "jitter-is-not-waited-for",
        SLOTS,
        "    while slots and slots[-1] + delay(slots[-1]) > now:\n",
        "    while False:\n",
        (f"{PURE}::test_a_slot_whose_delay_is_not_over_is_not_due",),
    ),
    Fault(
        "slot-fires-on-an-old-look",
        FIRING,
        "        if view.get(key) != self.seen:\n",
        "        if view.get(key) is None:\n",
        (f"{CRASHES}::test_a_schedule_that_was_paused_since_it_was_found_due_does_not_fire",),
    ),
    Fault(
        "slot-stays-due",
        FIRING,
        "        row = moved(self.schedule_id, row, self.following)\n",
        "",
        (f"{RUNS}::test_a_schedule_starts_a_process_for_each_slot_and_gives_it_the_slots_time",),
        hangs=True,
    ),
    Fault(
        "slot-fires-again-after-a-wrong-clock",
        FIRING,
        "    if handling.view.get(MESSAGE.key(tenant_id, SOURCE, message_id)) is not None:\n        return row\n",
        "",
        (f"{RUNS}::test_a_slot_that_was_fired_under_a_wrong_clock_is_not_fired_again",),
    ),
    Fault(
        "overlap-sees-only-what-is-open",
        FIRING,
        "message is not None and message.status in _UNDER_WAY\n",
        "message is not None and message.status == MessageStatus.OPEN\n",
        (f"{RUNS}::test_a_message_that_waits_for_its_receiver_has_not_ended",),
    ),
    Fault(
        "overlap-queue-without-limit",
        FIRING,
        'row.overlap == "queue" and row.queued < row.queue_max',
        'row.overlap == "queue"',
        (f"{RUNS}::test_queue_runs_slots_one_after_the_other_in_order_and_skips_what_is_over_its_limit",),
    ),
    Fault(
        "overlap-overtakes-what-waits",
        FIRING,
        "not (row.queued or _runs(",
        "not (_runs(",
        (f"{CRASHES}::test_a_slot_does_not_overtake_those_that_wait",),
    ),
    Fault(
        "overlap-cancels-nobody",
        FIRING,
        "        _cancel(handling, key, row)\n",
        "",
        (f"{RUNS}::test_cancel_previous_stops_the_process_before_in_the_commit_that_starts_the_next",),
        hangs=True,
    ),
    Fault(
        "release-during-a-pause",
        FIRING,
        "        if row is None or not row.queued or row.status != ScheduleStatus.ACTIVE:\n",
        "        if row is None or not row.queued:\n",
        (f"{CRASHES}::test_nothing_is_released_during_a_pause",),
    ),
    Fault(
        "trigger-tells-nobody-that-it-waits",
        FIRING,
        '            view.signal("engine")  # which waits for the one before it\n',
        "            pass\n",
        (f"{PEOPLE}::test_a_trigger_keeps_to_the_overlap_policy",),
        hangs=True,
    ),
    Fault(
        "pause-ends-with-a-new-definition",
        ROWS,
        "changed if changed.status == ScheduleStatus.PAUSED else moved(",
        "moved(",
        (f"{PEOPLE}::test_a_pause_outlives_a_new_definition",),
    ),
    Fault(
        "definition-changed-and-the-old-slot-fires",
        ROWS,
        "        slot = row.next_slot if same and not again else self.next_slot\n",
        "        slot = row.next_slot\n",
        (f"{PEOPLE}::test_a_changed_expression_counts_from_the_next_start_on",),
    ),
    Fault(
        "definition-changed-and-a-slot-is-lost",
        ROWS,
        "        slot = row.next_slot if same and not again else self.next_slot\n",
        "        slot = self.next_slot\n",
        (f"{PEOPLE}::test_a_changed_policy_leaves_the_next_slot_as_it_is",),
    ),
    Fault(
        "declaration-taken-from-another-app",
        ROWS,
        "            if row.declared_by != fresh.declared_by:\n",
        "            if False:\n",
        (f"{PEOPLE}::test_two_apps_cannot_declare_one_schedule",),
    ),
    Fault(
        "declared-no-more-and-fires",
        SCHEDULES,
        "            if key.parts not in declared:\n",
        "            if False:\n",
        (f"{PEOPLE}::test_what_is_declared_no_more_does_not_fire_and_fires_again_when_it_is_back",),
    ),
    Fault(
        "another-apps-schedule-fires",
        SCHEDULED,
        '        if row.declared_by not in ("", app.name):\n',
        "        if False:\n",
        (f"{PEOPLE}::test_the_schedules_of_another_app_are_left_alone",),
    ),
    Fault(
        "alarm-of-another-timer-silences-schedules",
        SCHEDULED,
        "            self._look(self._next)\n        elif",
        "            pass\n        elif",
        (f"{RUNS}::test_a_timer_that_rings_before_a_slot_does_not_silence_it",),
        hangs=True,
    ),
)

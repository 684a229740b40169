"""Seeded faults of what users test with: a virtual clock, crashes, replays; and one of the engine that only random programs meet."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/testing"
TESTS: Final = "tests/testing"
TIME: Final = f"{TESTS}/test_virtual_time.py"
CRASHES: Final = f"{TESTS}/test_crashes.py"
REPLAY: Final = f"{TESTS}/test_replay.py"

FAULTS: Final[tuple[Fault, ...]] = (
    Fault(
        "time-passes-under-a-step",
        f"{HERE}/engine.py",
        "        if self._owner.runs_steps or",
        "        if",
        (f"{TIME}::test_time_stands_still_while_a_thread_works",),
    ),
    Fault(
        "time-passes-for-nobody",
        f"{HERE}/engine.py",
        "        if not (self._auto_advance and self._owner.waiters):\n",
        "        if not self._auto_advance:\n",
        (f"{TIME}::test_time_stands_still_when_nobody_waits_for_a_reply",),
    ),
    Fault(
        "clock-jumps-over-what-is-due",
        f"{HERE}/engine.py",
        "            self._go_to(due)\n            await self.settled()\n",
        "            self._go_to(end)\n            await self.settled()\n",
        (f"{TIME}::test_by_hand_the_time_passes_only_as_told_and_what_is_due_on_the_way_happens_on_its_way",),
    ),
    Fault(
        "clock-goes-on-for-ever",
        f"{HERE}/engine.py",
        "            self._advances += 1\n",
        "",
        (f"{TIME}::test_a_reply_is_not_waited_for_over_more_than_so_many_steps_of_the_clock",),
    ),
    Fault(
        "loop-left-with-the-selector-of-a-test",
        f"{HERE}/idle.py",
        "            loop._selector = selector.inner\n",
        "            pass\n",
        (f"{TIME}::test_a_three_day_approval_is_over_without_one_real_wait",),
    ),
    Fault(
        "lost-batch-kept",
        f"{HERE}/backend.py",
        "        if crash.lost:\n",
        "        if False:\n",
        (f"{CRASHES}::test_a_message_is_accepted_again_when_its_commit_was_crashed",),
    ),
    Fault(
        "crash-report-without-effects-of-its-own",
        f"{HERE}/crashes.py",
        "        for what in {**expected, **found}\n",
        "        for what in expected\n",
        (f"{CRASHES}::test_an_effect_that_only_a_disturbed_run_has_is_a_difference",),
    ),
    Fault(
        "ledger-counts-repetitions",
        f"{HERE}/ledger.py",
        "for what, _ in {(one.what, one.idempotency_key) for one in self.effects})",
        "for what, _ in [(one.what, one.idempotency_key) for one in self.effects])",
        (f"{CRASHES}::test_a_ledger_tells_steps_from_repetitions_of_one_step",),
    ),
    Fault(
        "window-that-nobody-listed-passes",
        f"{HERE}/crashes.py",
        "for step in sorted(found - listed)]",
        "for step in sorted(found & set())]",
        (f"{CRASHES}::test_all_windows_of_at_least_once_are_listed_by_the_names_of_their_steps",),
    ),
    Fault(
        "listed-window-that-cannot-occur-passes",
        f"{HERE}/crashes.py",
        "for step in sorted(listed - found)]",
        "for step in sorted(listed & set())]",
        (f"{CRASHES}::test_all_windows_of_at_least_once_are_listed_by_the_names_of_their_steps",),
    ),
    Fault(
        "replay-forgets-committed-effects",
        "src/perdure/engine/trying.py",
        "            effects_done=exported.effects,\n",
        "            effects_done=0,\n",
        (f"{REPLAY}::test_the_report_says_of_changed_code_what_an_engine_says",),
    ),
    Fault(
        "replay-begins-each-turn-anew",
        "src/perdure/engine/trying.py",
        "            self._fields = _saved(self._type, process)\n",
        "            _saved(self._type, process)\n",
        (f"{REPLAY}::test_finished_turns_are_replayed_one_after_another_with_the_fields_of_the_ones_before",),
    ),
    Fault(
        "export-calls-any-record-complete",
        "src/perdure/engine/export.py",
        "turns[0].events[0].seq == 0",
        "turns[0].events[0].seq >= 0",
        (f"{REPLAY}::test_a_record_whose_beginning_is_gone_says_so",),
    ),
    Fault(
        "replay-takes-up-no-retry",
        "src/perdure/engine/turn.py",
        "            operation.attempt = event.attempt + 1\n",
        "            operation.attempt = event.attempt + bool(self.produced.events)\n",
        (f"{TESTS}/test_random_programs.py",),
    ),
)

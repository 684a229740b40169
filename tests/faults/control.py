"""Faults in what people ask of processes: cancel, pause, resume."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
CANCELLING: Final = f"{HERE}/cancelling.py"
FLUSH: Final = f"{HERE}/flush.py"
TURN: Final = f"{HERE}/turn.py"
TESTS: Final = "tests/engine"
CANCEL: Final = f"{TESTS}/test_cancel.py"
LATE: Final = f"{TESTS}/test_cancel_late.py"
CHILDREN: Final = f"{TESTS}/test_cancel_children.py"
FAMILIES: Final = f"{TESTS}/test_cancel_families.py"
RESTART: Final = f"{TESTS}/test_restart.py"
ELSEWHERE: Final = f"{TESTS}/test_restart_elsewhere.py"
ATTACK: Final = f"{TESTS}/test_attack_control.py"
PAUSE: Final = f"{TESTS}/test_pause.py"

FAULTS: Final = (
    Fault(
        "cancel-is-not-looked-for-by-who-waits-for-a-timer",
        FLUSH,
        "        told = (self.told or mailbox.cancelled is None) and not mailbox.forced\n",
        "        told = not mailbox.forced\n",
        (f"{CANCEL}::test_a_process_that_begins_to_wait_as_it_is_cancelled_hears_of_it",),
        hangs=True,
    ),
    Fault(
        "force-is-not-looked-for-by-who-begins-to-wait",
        FLUSH,
        "        told = (self.told or mailbox.cancelled is None) and not mailbox.forced\n",
        "        told = self.told or mailbox.cancelled is None\n",
        (f"{LATE}::test_a_process_that_begins_to_wait_as_it_is_ended_by_force_ends",),
        hangs=True,
    ),
    Fault(
        "look-passes-over-who-has-just-become-idle",
        f"{HERE}/recovery.py",
        "        if resident is None or (process.open_message is None and resident.turn is None):  # it may be on its way out of memory\n",
        "        if resident is None:\n",
        (f"{LATE}::test_what_another_asks_of_a_process_that_has_just_become_idle_is_found_by_the_look",),
    ),
    Fault(
        "cancel-leaves-who-waits-asleep",
        CANCELLING,
        "        status = ProcessStatus.RUNNABLE if process.status == ProcessStatus.WAITING else process.status\n",
        "        status = process.status\n",
        (f"{CANCEL}::test_a_process_is_cancelled_from_where_no_app_is",),
        hangs=True,
    ),
    Fault(
        "cancel-beside-a-plain-function",
        TURN,
        "        if any(operation.outlives_its_caller for operation in self.running.values()):\n",
        "        if False:\n",
        (f"{CANCEL}::test_a_plain_function_is_waited_for_and_its_outcome_recorded_but_nothing_more_begins",),
    ),
    Fault(
        "cancel-begins-what-it-drops",
        TURN,
        "        if not self._starts or self._cancel is not None:",
        "        if not self._starts:",
        (f"{CANCEL}::test_nothing_begins_in_one_branch_while_the_plain_function_of_another_is_waited_for",),
    ),
    Fault(
        "cancel-is-lost-between-two-turns",
        FLUSH,
        "        if mailbox.cancelled is not None:\n",
        "        if False:\n",
        (f"{CANCEL}::test_a_process_whose_turn_ends_as_it_is_cancelled_ends_with_it",),
    ),
    Fault(
        "cancel-asks-no-children",
        CANCELLING,
        "    if view.scan(Scan(CHILDREN, (tenant_id, process_id), 1, guard=key)):\n",
        "    if False:\n",
        (f"{CHILDREN}::test_children_are_cancelled_with_their_parent_and_detached_ones_go_on",),
    ),
    Fault(
        "cancel-lets-a-late-child-begin",
        CANCELLING,
        "    if mailbox is not None and mailbox.cancelled is not None:\n        _tell_parent(",
        "    if False:\n        _tell_parent(",
        (f"{FAMILIES}::test_a_child_that_is_started_before_its_parent_has_heard_never_begins",),
        hangs=True,
    ),
    Fault(
        "cancel-stops-the-clean-up",
        f"{HERE}/process.py",
        "child=not (detached or turn.cancelled is not None)",
        "child=not detached",
        (f"{CHILDREN}::test_what_a_process_starts_to_clean_up_is_not_cancelled",),
    ),
    Fault(
        "cancel-of-children-ends-with-the-engine",
        f"{HERE}/recovery.py",
        "        if await self._reader.scan(Scan(CANCELLATIONS, (), 1)):\n",
        "        if False:\n",
        (f"{FAMILIES}::test_a_family_is_cancelled_to_its_last_member_whatever_commit_is_crashed",),
    ),
    Fault(
        "cancel-of-children-of-another-process",
        CANCELLING,
        "if row.since <= child_row.at <= row.until else 1",
        "if child_row.at <= row.until else 1",
        (f"{TESTS}/test_cancel_again.py::test_children_of_a_process_that_was_removed_are_not_those_of_the_next_one_of_its_id",),
        hangs=True,
    ),
    Fault(
        "cancel-of-children-that-came-afterwards",
        CANCELLING,
        "if row.since <= child_row.at <= row.until else 1",
        "if row.since <= child_row.at else 1",
        (f"{TESTS}/test_cancel_again.py::test_children_of_a_process_that_runs_again_are_spared_by_the_request_before",),
    ),
    Fault(
        "pause-ends-with-the-turn",
        FLUSH,
        "            view.update(key, replace(process, open_message=None))\n            return\n",
        "            pass\n",
        (
            f"{PAUSE}::test_a_turn_that_ran_ahead_is_handled_after_the_resume",
            f"{PAUSE}::test_a_turn_that_ends_while_it_is_paused_stays_paused",
        ),
    ),
    Fault(
        "pause-forgotten-at-the-next-commit",
        FLUSH,
        "        if not held and row.status != status:\n",
        "        if row.status != status:\n",
        (f"{PAUSE}::test_a_step_that_runs_is_recorded_and_the_next_one_waits_for_the_resume",),
    ),
    Fault(
        "restart-joins-no-tags",
        TURN,
        "            again = copied.origin == self.id.process and not isinstance(effect, _ASKED)\n",
        "            again = False\n",
        (f"{RESTART}::test_a_failed_process_goes_on_from_the_step_that_failed",),
    ),
    Fault(
        "restart-spawns-under-other-names",
        TURN,
        "        return self.id if copied is None else TurnId(",
        "        return self.id if copied is None else self.id if copied else TurnId(",
        (f"{RESTART}::test_a_failed_process_goes_on_from_the_step_that_failed",),
    ),
    Fault(
        "restart-keeps-the-step",
        f"{HERE}/restarting.py",
        "        return ref, inputs[: names.index(self.step)]\n",
        "        return ref, inputs[: names.index(self.step) + 1]\n",
        (f"{RESTART}::test_an_open_turn_is_closed_and_its_callers_hear_of_it",),
    ),
    Fault(
        "restart-with-the-fields-of-the-end",
        f"{HERE}/restarting.py",
        "        if state is not None and state.saved != state.found:\n",
        "        if False:\n",
        (f"{RESTART}::test_an_open_turn_is_closed_and_its_callers_hear_of_it",),
    ),
    Fault(
        "restart-stays-cancelled",
        f"{HERE}/restarting.py",
        "        if mailbox is not None and mailbox.cancelled is not None:\n",
        "        if False:\n",
        (f"{RESTART}::test_a_cancelled_process_that_is_run_again_is_not_cancelled_any_more",),
    ),
    Fault(
        "restart-takes-keys-of-others-for-its-own",
        f"{HERE}/restarting.py",
        "            if owner != self.process_id:\n",
        "            if False:\n",
        (f"{RESTART}::test_a_key_that_another_process_has_by_now_is_not_taken_from_it",),
    ),
    Fault(
        "restart-elsewhere-leaves-the-old-turn-running",
        f"{HERE}/recovery.py",
        "            if process.open_message != resident.ref:\n",
        "            if False:\n",
        (f"{ELSEWHERE}::test_a_turn_in_memory_stops_at_once_and_its_callers_hear",),
    ),
    Fault(
        "restart-elsewhere-is-told-to-nobody",
        f"{HERE}/recovery.py",
        "        if any(isinstance(event, Restarted) for _, event in events):\n",
        "        if False:\n",
        (f"{ELSEWHERE}::test_callers_of_a_turn_that_has_left_memory_hear",),
    ),
    Fault(
        "cancel-keeps-the-answer-of-the-next-message",
        f"{HERE}/endings.py",
        "isinstance(note, TurnStarted) and note.ref == next.ref",
        'getattr(note, "ref", None) == next.ref',
        (f"{ATTACK}::test_who_waits_for_the_message_after_a_turn_hears_that_the_process_was_cancelled_at_its_end",),
    ),
    Fault(
        "force-decided-by-who-does-not-own-it",
        f"{HERE}/control.py",
        "        elif handling.foreign(process):\n            mailbox",
        "        elif False:\n            mailbox",
        (f"{ATTACK}::test_who_waits_hears_of_a_process_that_is_ended_by_force_from_where_no_app_is",),
    ),
    Fault(
        "resume-kills-what-runs",
        f"{HERE}/control.py",
        "Resumed(self.tenant_id, self.process_id)",
        '__import__("perdure.engine.notes", fromlist=["Dropped"]).Dropped(self.tenant_id, self.process_id, reload=True)',
        (f"{ATTACK}::test_a_step_that_runs_while_its_process_is_paused_and_resumed_runs_once",),
    ),
    Fault(
        "pause-is-not-looked-at-again",
        f"{HERE}/owner.py",
        "            self.overtaken(resident)  # it may have been resumed meanwhile\n",
        "            self.evict(resident)\n",
        (f"{ATTACK}::test_a_process_that_is_resumed_by_another_before_its_step_has_ended_goes_on",),
    ),
    Fault(
        "pause-leaves-answers-about-keys-open",
        f"{HERE}/resident.py",
        "        if owners:\n            turn.bound(owners)\n",
        "        if owners and not self.held:\n            turn.bound(owners)\n",
        (f"{ATTACK}::test_a_paused_process_with_an_answer_about_a_key_under_way_records_what_its_steps_do",),
    ),
    Fault(
        "pause-takes-mail-out-of-memory",
        f"{HERE}/resident.py",
        "        self.window.shut()\n",
        "",
        (f"{ATTACK}::test_mail_in_memory_is_not_taken_while_the_process_is_paused",),
    ),
    Fault(
        "pause-claims-to-have-seen-the-mail",
        f"{HERE}/window.py",
        "        self.seen = 0\n        self.more = True\n",
        "        self.more = True\n",
        (f"{ATTACK}::test_what_came_for_a_process_that_was_resumed_before_its_turn_ended_is_handled",),
    ),
    Fault(
        "resume-by-another-leaves-who-waits-a-suspect",
        f"{HERE}/resident.py",
        "        self._stored_waiting = False\n        self.window.more = True\n",
        "        self.window.more = True\n",
        (f"{ATTACK}::test_a_process_that_waits_is_stored_so_again_after_another_has_paused_and_resumed_it",),
    ),
    Fault(
        "pause-undone-by-recovery",
        f"{HERE}/leaving.py",
        " or process.status not in RECOVERED:",
        ":",
        (f"{ATTACK}::test_a_process_that_is_paused_as_it_is_recovered_stays_paused",),
    ),
    Fault(
        "pause-undone-by-a-misfit",
        f"{HERE}/leaving.py",
        "        if process.status != ProcessStatus.PAUSED:\n",
        "        if True:\n",
        (f"{ATTACK}::test_code_that_does_not_fit_does_not_end_a_pause",),
    ),
    Fault(
        "pause-undone-by-a-redrive",
        f"{HERE}/redriving.py",
        '        if row.note != f"{HANDLER_FAILED}: {process.note}":',
        "        if False:",
        (f"{ATTACK}::test_a_redriven_message_does_not_end_a_pause",),
    ),
    Fault(
        "stuck-for-ever",
        f"{HERE}/recovery.py",
        "            self._owner.goes_on(resident.tenant_id, resident.process_id)\n",
        "",
        (f"{ATTACK}::test_who_asks_again_after_a_stuck_process_was_resumed_by_another_waits_for_its_answer",),
    ),
    Fault(
        "handler-that-raises-no-exception-stops-the-engine",
        f"{HERE}/endings.py",
        "    except BaseException as raised:",
        "    except Exception as raised:",
        (f"{TESTS}/test_attack_misuse.py::test_a_handler_that_raises_no_exception_fails_and_the_engine_goes_on",),
    ),
)

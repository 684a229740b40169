"""Faults in what people ask of processes: cancel, pause, resume."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
FLUSH: Final = f"{HERE}/flush.py"
TURN: Final = f"{HERE}/turn.py"
TESTS: Final = "tests/engine"
CANCEL: Final = f"{TESTS}/test_cancel.py"
RESTART: Final = f"{TESTS}/test_restart.py"
PAUSE: Final = f"{TESTS}/test_pause.py"

FAULTS: Final = (
    Fault(
        "cancel-is-no-mail",
        f"{HERE}/control.py",
        "last=mailbox.last + 1, cancelled",
        "last=mailbox.last, cancelled",
        (f"{CANCEL}::test_a_process_that_begins_to_wait_as_it_is_cancelled_hears_of_it",),
        hangs=True,
    ),
    Fault(
        "cancel-leaves-who-waits-asleep",
        f"{HERE}/control.py",
        "            if process.status == ProcessStatus.WAITING:\n",
        "            if False:\n",
        (f"{CANCEL}::test_a_process_is_cancelled_from_where_no_app_is",),
        hangs=True,
    ),
    Fault(
        "cancel-beside-a-plain-function",
        TURN,
        "        if any(operation.known is not None and not operation.known.is_async for operation in self._running.values()):\n",
        "        if False:\n",
        (f"{CANCEL}::test_a_plain_function_is_waited_for_and_its_outcome_recorded_but_nothing_more_begins",),
    ),
    Fault(
        "cancel-begins-what-it-drops",
        TURN,
        "        if self._starts and self._cancel is None:",
        "        if self._starts:",
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
        "            again = copied.origin == self.id.process and not isinstance(effect, SendEffect | AskEffect | AwakeableEffect)\n",
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
)

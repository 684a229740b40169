"""Faults in steps that run at most once or in a limit of time, on threads, and in what handlers change with."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
TURN: Final = f"{HERE}/turn.py"
REPLAY: Final = f"{HERE}/replay.py"
ATTEMPTS: Final = f"{HERE}/attempts.py"
RESIDENT: Final = f"{HERE}/resident.py"
STAGE: Final = f"{HERE}/stage.py"
TESTS: Final = "tests/engine"
LIMITS: Final = f"{TESTS}/test_step_limits.py"
ONCE: Final = (f"{TESTS}/test_turn_once.py",)
PATCHES: Final = f"{TESTS}/test_turn_patches.py"

FAULTS: Final = (
    Fault(
        "once-begins-without-a-record",
        TURN,
        "                self.record(StepBegun(self.id.message, operation.id, operation.input, operation.attempt))\n",
        "                pass\n",
        ONCE,
    ),
    Fault(
        "once-is-begun-again-after-a-crash",
        TURN,
        "            operation.attempt = operation.options.begun = event.attempt\n            self._starts.pop(operation.id, None)\n",
        "            operation.options.begun = event.attempt - 1\n",
        ONCE,
    ),
    Fault(
        "once-retries-are-not-begun",
        TURN,
        "options.at_most_once and options.begun != operation.attempt:\n                options.begun",
        "options.at_most_once and not options.begun:\n                options.begun",
        ONCE,
    ),
    Fault(
        "once-probe-counts-as-an-attempt",
        TURN,
        "            if event.probe and operation.options is not None:\n",
        "            if False:\n",
        ONCE,
    ),
    Fault(
        "once-late-is-a-failure-that-is-known",
        ATTEMPTS,
        "self._options.at_most_once and self._is_late and isinstance(error, StepTimedOut):\n",
        "False:\n",
        (f"{TESTS}/test_at_most_once.py::test_who_runs_at_most_once_and_takes_too_long_is_asked_about",),
    ),
    Fault(
        "once-probe-beside-its-thread",
        ATTEMPTS,
        "self._options.probe is None or self._operation.thread is not None:",
        "self._options.probe is None:",
        (f"{TESTS}/test_at_most_once.py::test_a_thread_that_goes_on_is_no_matter_for_a_probe",),
        hangs=True,
    ),
    Fault(
        "limit-rings-early",
        ATTEMPTS,
        "        if self._owner.clock.now() < self._due:\n",
        "        if True:\n",
        (f"{LIMITS}::test_the_last_attempt_that_takes_too_long_is_an_error_with_a_type",),
        hangs=True,
    ),
    Fault(
        "thread-of-an-earlier-attempt-has-the-context",
        ATTEMPTS,
        "operation.context.copy()",
        "operation.context",
        (f"{LIMITS}::test_the_late_outcome_of_an_abandoned_attempt_is_not_that_of_the_next",),
        hangs=True,
    ),
    Fault(
        "thread-is-not-waited-for",
        TURN,
        "            self.outlived = bool(self._lingering)\n",
        "            pass\n",
        (f"{LIMITS}::test_a_turn_does_not_end_before_the_thread_of_a_step_that_it_called_off",),
        hangs=True,
    ),
    Fault(
        "thread-that-was-called-off-is-tried-again",
        STAGE,
        " and turn.runs(operation):\n            due =",
        ":\n            due =",
        (f"{LIMITS}::test_an_error_of_a_step_that_was_called_off_is_recorded_and_not_tried_again",),
    ),
    Fault(
        "replay-minds-late-outcomes",
        REPLAY,
        "            operation = self._called_off.get(name)",
        "            operation = operations.get(name)",
        (f"{LIMITS}::test_its_outcome_is_recorded_in_the_middle_of_the_turn_and_no_replay_minds",),
        hangs=True,
    ),
    Fault(
        "patch-in-a-turn-that-was-here",
        REPLAY,
        "        if not self.active:\n            return None\n        for position",
        "        if not self.recorded:\n            return None\n        for position",
        (f"{PATCHES}::test_a_turn_that_waits_right_where_the_patch_is_goes_on_the_old_way",),
    ),
    Fault(
        "patch-is-looked-for-everywhere",
        REPLAY,
        "            if not isinstance(event, Patched):\n                break\n",
        "            if not isinstance(event, Patched):\n                continue\n",
        (f"{PATCHES}::test_a_patch_that_is_asked_for_earlier_is_told_to_take_another_name",),
    ),
    Fault(
        "patch-has-many-answers",
        REPLAY,
        "            self._patches[name] = found is not False\n        return self._patches[name]\n",
        "            return found is not False\n        return self._patches[name]\n",
        (f"{PATCHES}::test_one_name_has_one_answer_in_a_turn_wherever_it_is_asked",),
    ),
    Fault(
        "patch-is-not-recorded",
        REPLAY,
        "                turn.record(Patched(turn.id.message, name))\n",
        "                pass\n",
        (f"{PATCHES}::test_what_follows_a_patch_begins_when_the_patch_is_durable",),
    ),
    Fault(
        "chance-is-the-same-in-every-turn",
        f"{HERE}/chance.py",
        'random.Random(derived_id(*id, "random", ""))',
        'random.Random(derived_id("random", ""))',
        (f"{TESTS}/test_chance.py",),
    ),
)

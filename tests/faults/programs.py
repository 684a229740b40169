"""Faults of the engine that random programs find: what is lost, repeated or forgotten around crashes, evictions, pauses and requests."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
OWNER: Final = f"{HERE}/owner.py"
RECOVERY: Final = f"{HERE}/recovery.py"
FLUSH: Final = f"{HERE}/flush.py"
RESIDENT: Final = f"{HERE}/resident.py"
TURN: Final = f"{HERE}/turn.py"
WHEEL: Final = f"{HERE}/wheel.py"
HANDLING: Final = f"{HERE}/handling.py"
PROGRAMS: Final = ("tests/testing/test_random_programs.py::test_a_random_program_comes_to_what_the_model_says_however_it_is_disturbed",)
CRASHED: Final = ("tests/testing/test_chosen_programs.py::test_a_program_with_everything_may_crash_at_any_commit",)
STOPPED: Final = ("tests/testing/test_chosen_programs.py::test_a_program_with_everything_may_be_asked_to_stop_at_any_round",)

FAULTS: Final = (
    Fault(
        "programs-mail-wakes-nobody-who-was-evicted",
        OWNER,
        "        elif note.wakes:\n            self.load(note.tenant_id, note.process_id)\n",
        "",
        PROGRAMS,
    ),
    Fault(
        "programs-timers-wake-nobody-who-was-evicted",
        OWNER,
        "            self.wake(tenant_id, process_id)\n        else:\n            resident.due(",
        "            pass\n        else:\n            resident.due(",
        PROGRAMS,
    ),
    Fault(
        "programs-a-replay-begins-with-fields-of-later",
        RECOVERY,
        "        found = None if state is None else state.found\n",
        "        found = None if state is None else state.saved\n",
        PROGRAMS,
    ),
    Fault(
        "programs-a-cancellation-is-forgotten-with-the-memory",
        RECOVERY,
        "            if mailbox.cancelled is not None:\n                resident.cancel(",
        "            if False:\n                resident.cancel(",
        ("tests/engine/test_cancel_late.py::test_a_request_that_was_made_while_no_engine_ran_is_heard_before_a_step_begins_again",),
        hangs=True,
    ),
    Fault(
        "programs-a-cancellation-ends-no-turn-that-ends-by-itself",
        FLUSH,
        "        if mailbox.cancelled is not None:\n",
        "        if False:\n",
        STOPPED,
    ),
    Fault(
        "programs-a-duplicate-is-placed-again",
        HANDLING,
        "            return Receipt(duplicate=True, status=row.status, process_id=row.process_id, copies=row.copies)\n",
        "            self.view.update(envelope.key, self.place(envelope, row))\n            return Receipt(duplicate=True, status=row.status, process_id=row.process_id, copies=row.copies)\n",
        PROGRAMS,
    ),
    Fault(
        "programs-timers-are-not-stored",
        FLUSH,
        "                view.insert(timer, TimerRow(due, shard))\n                change += 1\n",
        "                pass\n",
        PROGRAMS,
    ),
    Fault(
        "programs-what-is-delayed-waits-for-ever",
        WHEEL,
        "            owner.later(owner.route, await owner.store.access.writer.run(ReleaseDelayed(owner.rules)))\n",
        "            await owner.store.access.writer.run(ReleaseDelayed(owner.rules))\n",
        PROGRAMS,
    ),
    Fault(
        "programs-the-next-message-is-not-looked-for",
        FLUSH,
        "        elif finish.status == ProcessStatus.IDLE and mailbox.last > self.mail_seen:\n            handling.start_next(key)\n",
        "",
        PROGRAMS,
    ),
    Fault(
        "programs-what-was-parked-stays-parked",
        FLUSH,
        "            handling.hand_over(self.tenant_id, self.process_id, under_key(name))\n",
        "            pass\n",
        PROGRAMS,
    ),
    Fault(
        "programs-who-was-paused-is-not-loaded-again",
        OWNER,
        "        if resident is None:\n            self.load(*key)\n        elif resident.loading:\n",
        "        if resident is None:\n            pass\n        elif resident.loading:\n",
        PROGRAMS,
    ),
    Fault(
        "programs-a-paused-process-goes-on-at-a-restart",
        RECOVERY,
        "        if process is None or process.open_message is None or process.status != ProcessStatus.RUNNABLE:\n            return None\n",
        "        if process is None or process.open_message is None:\n            return None\n",
        PROGRAMS,
    ),
    Fault(
        "programs-what-runs-at-most-once-begins-unrecorded",
        TURN,
        "                self.record(StepBegun(self.id.message, operation.id, operation.input, operation.attempt))\n",
        "                pass\n",
        PROGRAMS,
    ),
    Fault(
        "programs-a-probe-begins-a-step-behind-a-key",
        TURN,
        "        if self._blocked:  # its start would",
        "        if False:  # its start would",
        ("tests/testing/test_chosen_programs.py::test_a_probe_that_ends_while_a_key_is_asked_for_leaves_a_record_that_fits",),
    ),
    Fault(
        "programs-a-fan-out-ends-with-its-first-chunk",
        "src/perdure/engine/fan_outs.py",
        "        if more:\n            self.go_on(*key)\n",
        "",
        PROGRAMS,
    ),
    Fault(
        "programs-a-patch-leaves-no-record",
        f"{HERE}/replay.py",
        "                turn.record(Patched(turn.id.message, name))\n",
        "                pass\n",
        CRASHED,
    ),
    Fault(
        "programs-a-reply-wakes-nobody",
        "src/perdure/replies.py",
        "    wakes = process.status == ProcessStatus.WAITING\n",
        "    wakes = False\n",
        PROGRAMS,
    ),
    Fault(
        "programs-effects-are-made-again-by-a-replay",
        RECOVERY,
        "                effects_done=_effects(turn),\n",
        "                effects_done=0,\n",
        PROGRAMS,
    ),
    Fault(
        "programs-a-retry-is-due-at-once",
        TURN,
        "            operation.due = self.produced.arm[operation.id] = event.due\n",
        "            operation.due = self.produced.arm[operation.id] = self.now\n",
        PROGRAMS,
    ),
)

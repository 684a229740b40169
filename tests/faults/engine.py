"""Faults in the engine: deliveries, commits of turns, replay, recovery."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/engine"
HANDLING: Final = f"{HERE}/handling.py"
DELIVERY: Final = f"{HERE}/delivery.py"
UPKEEP: Final = f"{HERE}/upkeep.py"
REDRIVING: Final = f"{HERE}/redriving.py"
LEAVING: Final = f"{HERE}/leaving.py"
FLUSH: Final = f"{HERE}/flush.py"
TURN: Final = f"{HERE}/turn.py"
RESIDENT: Final = f"{HERE}/resident.py"
STAGE: Final = f"{HERE}/stage.py"
MAIL: Final = "src/perdure/messages/writes.py"

TESTS: Final = "tests/engine"
ARRIVALS: Final = f"{TESTS}/test_delivery.py"
FAILURES: Final = f"{TESTS}/test_failures.py"
RECOVERY: Final = f"{TESTS}/test_recovery.py"
ORDERS: Final = f"{TESTS}/test_faults_engine.py"
MOMENTS: Final = f"{TESTS}/test_faults_turns.py"
CRASHES: Final = (f"{TESTS}/test_turn_replay.py::test_a_crash_at_any_commit_changes_nothing",)
EDITS: Final = (f"{TESTS}/test_turn_edits.py",)
AGREES: Final = (f"{MOMENTS}::test_after_work_of_every_kind_the_store_agrees_with_itself",)

FAULTS: Final = (
    Fault(
        "patch-is-not-looked-for-behind-answers",
        "src/perdure/engine/replay.py",
        "            if isinstance(event, Bound):\n                continue\n            if not isinstance(event, Patched):\n",
        "            if not isinstance(event, Patched):\n",
        ("tests/engine/test_turn_patches.py::test_a_patch_is_found_again_behind_the_answers_about_keys_that_came_with_the_one_before_it",),
    ),
    Fault(
        "expired-mail-is-given-to-a-turn",
        "src/perdure/engine/flush.py",
        '        if row.status != MessageStatus.QUEUED:\n            raise SequenceConflict(stream=f"mailbox/',
        '        if not row.status:\n            raise SequenceConflict(stream=f"mailbox/',
        ("tests/engine/test_expiry.py::test_a_turn_that_has_an_expired_message_in_memory_does_not_get_it",),
        hangs=True,
    ),
    Fault(
        "expired-mail-that-has-a-handler-dies",
        "src/perdure/engine/handling.py",
        "        expires_at = None if handled else row.expires_at\n",
        "        expires_at = row.expires_at\n",
        ("tests/engine/test_expiry.py::test_mail_with_a_handler_has_no_expiry_once_it_is_queued",),
    ),
    Fault(
        "queued-mail-never-expires",
        "src/perdure/engine/wheel.py",
        "        await self._expire(MessageStatus.QUEUED, ExpireQueued(self._owner.rules))\n",
        "",
        ("tests/engine/test_expiry.py::test_a_queued_message_without_a_handler_is_a_dead_letter_when_it_expires",),
        hangs=True,
    ),
    # --- deliveries ----------------------------------------------------------------------------------
    Fault(
        "delivery-content-is-not-compared",
        HANDLING,
        "            if row.digest != envelope.digest and row.status != MessageStatus.EXPIRED:\n",
        "            if False:\n",
        (f"{ARRIVALS}::test_an_id_with_other_content_is_refused",),
    ),
    Fault(
        "fields-of-another-type-are-committed",
        f"{HERE}/app.py",
        "        if self.durable and data != self._sound:\n",
        "        if False:\n",
        (f"{TESTS}/test_field_types.py::test_a_field_that_does_not_fit_its_declaration_fails_the_turn_and_the_process_goes_on",),
    ),
    Fault(
        "delivery-sources-are-one",
        "src/perdure/messages/mail.py",
        '    return f"{source}\\n{message_id}" if source else message_id\n',
        "    return message_id\n",
        (f"{MOMENTS}::test_messages_of_two_sources_may_have_one_id",),
    ),
    Fault(
        "delivery-derived-ids-meet",
        "src/perdure/identity.py",
        '        digest.update(len(data).to_bytes(4, "big"))\n',
        "",
        (f"{ORDERS}::test_derived_ids_of_different_parts_never_meet",),
    ),
    Fault(
        "delivery-hand-over-out-of-order",
        HANDLING,
        "            for key, row in rows:\n                lasting =",
        "            for key, row in reversed(rows):\n                lasting =",
        (f"{ARRIVALS}::test_a_message_for_an_unbound_key_is_parked_and_handed_over_in_order",),
    ),
    Fault(
        "delivery-start-leaves-what-was-parked",
        HANDLING,
        "        if address.name:\n            self.hand_over(",
        "        if False:\n            self.hand_over(",
        (f"{ARRIVALS}::test_a_message_for_an_unbound_key_is_parked_and_handed_over_in_order",),
    ),
    Fault(
        "delivery-parked-under-a-key-are-not-counted-out",
        HANDLING,
        "            take_parked(self.view, tenant_id, name, taken)\n",
        "            pass\n",
        AGREES,
    ),
    Fault(
        "delivery-parked-under-a-tag-are-not-counted-out",
        HANDLING,
        "            self.view.update(parking_key, ParkingRow(parking.parked - taken))\n",
        "",
        AGREES,
    ),
    Fault(
        "delivery-expired-under-a-tag-are-not-counted-out",
        UPKEEP,
        "                view.update(guard, ParkingRow(present(view.get(guard)).parked - 1))\n",
        "",
        AGREES,
    ),
    Fault(
        "delivery-mail-is-not-counted-out",
        MAIL,
        "    view.update(key, replace(row, queued=row.queued - count))\n",
        "    view.update(key, row)\n",
        AGREES,
    ),
    Fault(
        "delivery-mail-without-numbers-of-its-own",
        MAIL,
        "    view.update(key, replace(row, last=row.last + 1, queued=row.queued + 1))\n    return row.last + 1\n",
        "    view.update(key, replace(row, queued=row.queued + 1))\n    return row.last\n",
        (f"{ORDERS}::test_mail_is_numbered_in_the_order_of_its_acceptance",),
    ),
    Fault(
        "delivery-mailbox-without-bound",
        MAIL,
        "    if refuse and row.queued >= limits.MAILBOX_MAX:\n",
        "    if False:\n",
        (f"{ORDERS}::test_a_full_mailbox_refuses_and_keeps_what_it_has",),
    ),
    Fault(
        "delivery-two-turns-at-a-time",
        HANDLING,
        "            process.open_message is None\n            and process.status == ProcessStatus.IDLE\n            and not",
        "            not",
        (f"{ARRIVALS}::test_messages_are_handled_one_at_a_time_and_in_order",),
    ),
    Fault(
        "delivery-waiting-process-is-not-woken",
        HANDLING,
        '            wakes = turn is not None and row.kind in turn.awaits.split("\\n")\n',
        "            wakes = False\n",
        (f"{ORDERS}::test_what_a_waiting_turn_asks_for_wakes_it_and_nothing_else_does",),
    ),
    Fault(
        "delivery-end-keeps-addresses",
        HANDLING,
        "            release(self.view, TenantId(tenant_id), ProcessId(process_id), guard=process_key)\n",
        "            pass\n",
        (f"{ARRIVALS}::test_the_end_of_a_process_answers_its_mail_and_frees_its_key",),
    ),
    Fault(
        "delivery-ended-processes-get-mail",
        HANDLING,
        "        if process is None or not process.process_type or process.status in OVER:\n",
        "        if process is None or not process.process_type:\n",
        (f"{ARRIVALS}::test_the_end_of_a_process_answers_its_mail_and_frees_its_key",),
    ),
    Fault(
        "fan-out-stops-after-a-chunk",
        DELIVERY,
        "            return True, handling.notes\n",
        "            return False, handling.notes\n",
        (f"{ORDERS}::test_a_fan_out_goes_through_all_members_chunk_by_chunk",),
    ),
    Fault(
        "fan-out-cursor-stands-still",
        DELIVERY,
        "            cursor = FanOutRow(cursor.tag, cursor.until, member_row.tick, process_id, cursor.delivered + 1)\n",
        "            cursor = FanOutRow(cursor.tag, cursor.until, cursor.at, cursor.process_id, cursor.delivered + 1)\n",
        (f"{ORDERS}::test_a_fan_out_goes_through_all_members_chunk_by_chunk",),
    ),
    Fault(
        "fan-out-without-bound",
        DELIVERY,
        ", upto=(cursor.until,))",
        ")",
        (f"{ORDERS}::test_who_joins_a_tag_after_the_acceptance_of_a_message_does_not_get_it",),
    ),
    Fault(
        "fan-out-copies-with-one-id",
        DELIVERY,
        'derived_id("fan-out", self.tenant_id, self.source, self.message_id, process_id)',
        "derived_id(self.tenant_id, self.source, self.message_id)",
        (f"{ARRIVALS}::test_a_fan_out_reaches_each_member_once",),
    ),
    Fault(
        "redrive-twice",
        REDRIVING,
        "        if letter.redriven_as is not None:\n",
        "        if False:\n",
        (f"{FAILURES}::test_a_parked_process_waits_for_a_person_and_redrive_goes_first",),
    ),
    # --- commits of turns ----------------------------------------------------------------------------
    Fault(
        "turn-commits-over-another-owners",
        FLUSH,
        "        if process is None or process.head != self.head or process.open_message != self.ref:\n",
        "        if process is None or process.open_message != self.ref:\n",
        (f"{ORDERS}::test_a_turn_that_somebody_else_has_gone_on_with_commits_nothing",),
    ),
    Fault(
        "turn-waits-with-unseen-mail",
        FLUSH,
        "        return told and mailbox.last <= self.mail_seen\n",
        "        return told\n",
        (f"{ORDERS}::test_a_turn_waits_only_if_its_owner_has_seen_all_mail",),
    ),
    Fault(
        "turn-failed-keeps-its-fields",
        FLUSH,
        "if ok else state.found\n",
        "if ok else state.saved\n",
        (f"{FAILURES}::test_a_failed_turn_seals_its_error_and_goes_back_to_the_fields_it_found",),
    ),
    Fault(
        "turn-after-a-failed-one-begins-with-its-fields",
        RESIDENT,
        '        found = self._saved if finish.outcome == "ok" else self._found\n',
        "        found = self._saved\n",
        (f"{MOMENTS}::test_the_turn_after_a_failed_one_begins_with_the_fields_before_it",),
    ),
    Fault(
        "turn-failed-commits-its-effects",
        RESIDENT,
        "            effects=produced.stops if failed else produced.effects,\n",
        "            effects=produced.effects,\n",
        (f"{MOMENTS}::test_what_a_failed_handler_asked_for_last_does_not_happen",),
    ),
    Fault(
        "turn-timers-stay",
        FLUSH,
        "            if view.get(timer) is not None:\n                view.delete(timer)\n",
        "            if view.get(timer) is not None:\n",
        AGREES,
    ),
    Fault(
        "turn-bind-leaves-what-was-parked",
        FLUSH,
        "            handling.hand_over(self.tenant_id, self.process_id, under_key(name))\n",
        "            pass\n",
        (f"{MOMENTS}::test_a_bind_takes_over_what_was_parked",),
    ),
    Fault(
        "turn-step-before-its-commit",
        RESIDENT,
        "        self._unsaved.append((flush, starts))\n        self._submit()\n",
        "        self._unsaved.append((flush, []))\n        self._submit()\n        self._start(starts)\n",
        (f"{MOMENTS}::test_no_step_begins_while_the_commit_before_it_is_under_way",),
    ),
    Fault(
        "turn-gets-the-object-of-the-step",
        STAGE,
        "functools.partial(completed, data), value))\n",
        "functools.partial(completed, data), result))\n",
        (f"{MOMENTS}::test_live_the_code_gets_what_was_recorded_and_not_the_object_of_the_step",),
    ),
    Fault(
        "turn-mail-of-others-is-not-caught-up",
        f"{HERE}/window.py",
        "        if self.more or mail.number > self.seen + 1 or not (self.room",
        "        if self.more or not (self.room",
        (f"{TESTS}/test_attack_commits.py::test_what_a_command_line_redrives_to_a_busy_process_is_handled_in_order",),
    ),
    # --- replay --------------------------------------------------------------------------------------
    Fault(
        "replay-repeats-effects",
        TURN,
        "        if self.effects <= self.replay.effects_done:\n",
        "        if False:\n",
        CRASHES,
    ),
    Fault(
        "replay-does-not-compare-inputs",
        f"{HERE}/replay.py",
        "        case StepCompleted() | StepFailed() | StepBegun() if event.input != operation.input:\n",
        "        case StepCompleted() | StepFailed() | StepBegun() if False:\n",
        EDITS,
    ),
    Fault(
        "replay-does-not-compare-kinds",
        f"{HERE}/replay.py",
        "    if kind is not None and kind != operation.kind:\n",
        "    if False:\n",
        (f"{ORDERS}::test_what_is_recorded_of_a_step_is_no_record_of_anything_else",),
    ),
    Fault(
        "replay-does-not-compare-fields",
        f"{HERE}/replay.py",
        "        if saved is not None and (fields := self._fields()) != saved and fields != self.rewrite(saved):\n",
        "        if (fields := self._fields()) and saved and False:\n",
        EDITS,
    ),
    Fault(
        "replay-does-not-compare-effects",
        f"{HERE}/replay.py",
        "        if turn.effects < self.effects_done or (turn.effects > self.effects_done and not self._more):\n",
        "        if False:\n",
        EDITS,
    ),
    Fault(
        "replay-ends-before-the-record",
        f"{HERE}/replay.py",
        "        if not self._answers.issuperset(names):\n",
        "        if False:\n",
        EDITS,
    ),
    Fault(
        "replay-at-another-time",
        TURN,
        "            self.now = max(self.now, at)\n",
        "            pass\n",
        CRASHES,
    ),
    Fault(
        "replay-steps-are-not-counted",
        TURN,
        "        if isinstance(event, StepCompleted):\n            self.steps += 1\n",
        "",
        CRASHES,
    ),
    Fault(
        "turn-names-meet",
        TURN,
        '            id = f"{name}#{self._names[name]}"\n',
        '            id = f"{name}#2"\n            break\n',
        (f"{TESTS}/test_turn_verbs.py::test_a_name_that_looks_like_a_number_is_never_given_twice",),
    ),
    # --- attempts and recovery -----------------------------------------------------------------------
    Fault(
        "recovery-crashes-do-not-count",
        LEAVING,
        "        attempt: int = turn.attempts + 1\n",
        "        attempt: int = turn.attempts\n",
        (f"{ORDERS}::test_crashes_count_as_attempts_and_clean_stops_do_not",),
    ),
    Fault(
        "recovery-clean-stops-count",
        LEAVING,
        "            view.update(key, replace(turn, attempts=max(0, turn.attempts - 1)))\n",
        "            view.update(key, turn)\n",
        (f"{ORDERS}::test_crashes_count_as_attempts_and_clean_stops_do_not",),
    ),
    Fault(
        "recovery-loads-who-waits",
        FLUSH,
        "        status = ProcessStatus.WAITING if waiting else ProcessStatus.RUNNABLE\n",
        "        status = ProcessStatus.RUNNABLE\n",
        (f"{ORDERS}::test_a_turn_waits_only_if_its_owner_has_seen_all_mail",),
    ),
    Fault(
        "retry-once-too-often",
        f"{HERE}/retry.py",
        "        return attempt < self.max_attempts and",
        "        return attempt <= self.max_attempts and",
        (f"{TESTS}/test_turn_retries.py::test_the_policy_says_which_failures_are_tried_again_and_how_often",),
    ),
    Fault(
        "engine-beside-another",
        "src/perdure/core/ownership.py",
        '        await self._exclusive("engine")\n',
        "",
        (f"{MOMENTS}::test_a_second_engine_on_the_same_store_is_refused",),
    ),
    Fault(
        "turn-that-is-over-keeps-itself-in-memory",
        TURN,
        "        self.loop.turn_is_over()\n",
        "",
        (f"{TESTS}/test_memory.py::test_a_turn_that_is_over_is_freed_without_the_collector_of_cycles",),
    ),
    Fault(
        "step-outcome-taken-in-from-inside-a-task",
        STAGE,
        "            self.owner.later(self._stepped, turn, operation, value, None)\n",
        "            self._stepped(turn, operation, value, None)\n",
        (f"{TESTS}/test_memory.py::test_a_turn_is_never_driven_from_inside_a_task",),
    ),
)

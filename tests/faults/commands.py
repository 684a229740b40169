"""Faults in commands: their queue, leases, ends and policies."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

QUEUE: Final = "src/perdure/commands/queueing.py"
WRITES: Final = "src/perdure/commands/writes.py"
FACADE: Final = "src/perdure/commands/registry.py"
ARGUMENTS: Final = "src/perdure/commands/arguments.py"
CONTRACT: Final = "src/perdure/commands/contract.py"
STATES: Final = "src/perdure/commands/states.py"

SEED: Final = "tests/contracts/test_command_registry.py"
BAD: Final = "tests/contracts/test_command_registry_arguments.py"
CANCEL: Final = "tests/contracts/test_command_registry_cancel.py"
DEFECTS: Final = "tests/contracts/test_command_registry_defects.py"
ENDS: Final = "tests/contracts/test_command_registry_ends.py"
LEASES: Final = "tests/contracts/test_command_registry_leases.py"
LISTS: Final = "tests/contracts/test_command_registry_lists.py"
WAITS: Final = "tests/contracts/test_command_registry_waits.py"
POLICIES: Final = "tests/commands/test_policies.py"

FAULTS: Final = (
    # --- states and the queue ---------------------------------------------------------------------------
    Fault(
        "commands-what-is-over-goes-on",
        STATES,
        "    return before == after or after in _NEXT.get(before, frozenset())\n",
        "    return before == after or after in _NEXT.get(before, frozenset(CommandState))\n",
        (f"{SEED}::test_section_1_5_1_a_terminal_command_is_never_resurrected",),
    ),
    Fault(
        "commands-states-are-set-whatever-they-were",
        WRITES,
        "        check_transition(self.key, row, self.state)\n",
        "",
        (f"{SEED}::test_a_state_is_set_where_the_table_leads_there_and_nowhere_else",),
    ),
    Fault(
        "commands-leased-ones-stay-in-the-queue",
        WRITES,
        "        ready=0,\n        token=view.tick(),\n",
        "        token=view.tick(),\n",
        (f"{LEASES}::test_a_command_that_somebody_has_is_given_to_nobody_else_until_its_lease_ends",),
    ),
    Fault(
        "commands-a-delay-is-none",
        QUEUE,
        "    ready = int(at <= view.now)\n",
        "    ready = 1\n",
        (f"{LEASES}::test_what_is_given_back_for_later_waits_so_long",),
    ),
    Fault(
        "commands-a-lease-is-never-due",
        QUEUE,
        "    times = [row.deadline, row.lease_expires_at]\n",
        "    times = [row.deadline]\n",
        (f"{LEASES}::test_a_command_that_somebody_has_is_given_to_nobody_else_until_its_lease_ends",),
    ),
    Fault(
        "commands-a-deadline-is-never-due",
        QUEUE,
        "    times = [row.deadline, row.lease_expires_at]\n",
        "    times = [row.lease_expires_at]\n",
        (f"{ENDS}::test_a_command_that_is_not_done_by_its_deadline_expires_once",),
    ),
    Fault(
        "commands-a-delay-is-never-due",
        QUEUE,
        "        times.append(row.available_at)\n",
        "        pass\n",
        (f"{LEASES}::test_a_delayed_command_is_given_out_at_its_time_and_not_before",),
    ),
    Fault(
        "commands-the-rows-of-what-is-due-stay",
        QUEUE,
        "        view.delete(old)\n",
        "",
        (f"{LEASES}::test_a_lease_is_renewed_from_now_on_with_progress",),
    ),
    Fault(
        "commands-who-waits-is-not-told-of-a-delay",
        QUEUE,
        "        if after.state == CommandState.PENDING and not after.ready:",
        "        if False:",
        (f"{WAITS}::test_who_waits_already_gets_what_is_delayed_at_its_time",),
    ),
    Fault(
        "commands-who-came-second-looks-no-more",
        FACADE,
        "        return next_due if taken else now, taken",
        "        return next_due, taken",
        (f"{WAITS}::test_of_two_who_wait_for_one_command_the_second_gets_it_at_the_end_of_the_firsts_lease",),
    ),
    Fault(
        "commands-several-names-are-several-queues",
        WRITES,
        "    return sorted(found, key=_place)[:count]\n",
        "    return list(found)[:count]\n",
        (f"{LEASES}::test_several_names_are_one_queue",),
    ),
    Fault(
        "commands-names-are-not-looked-at",
        WRITES,
        "        if self.names is None:\n            yield Scan(READY_ALL",
        "        if True:\n            yield Scan(READY_ALL",
        (f"{LEASES}::test_who_names_what_it_can_do_gets_nothing_else",),
    ),
    Fault(
        "commands-all-params-of-a-request-come-at-once",
        WRITES,
        "            if taken and size > limits.COMMAND_LEASE_BYTES_MAX:\n",
        "            if False:\n",
        (f"{LEASES}::test_params_come_with_the_lease_up_to_their_sum",),
    ),
    Fault(
        "commands-bytes-kept-apart-count",
        WRITES,
        "    return size if size <= limits.COMMAND_PARAMS_MAX else 0\n",
        "    return size\n",
        (f"{LEASES}::test_bytes_that_are_kept_apart_do_not_count",),
    ),
    # --- leases -------------------------------------------------------------------------------------------
    Fault(
        "commands-any-token-will-do",
        QUEUE,
        "    if row.holder and row.token == token:\n",
        "    if row.holder:\n",
        (f"{LEASES}::test_a_token_that_is_not_the_present_one_changes_nothing",),
    ),
    Fault(
        "commands-the-last-token-is-always-right",
        QUEUE,
        "    if row.holder and row.token == token:\n",
        "    if row.token == token:\n",
        (f"{LEASES}::test_what_comes_after_the_lease_does_not_count_when_it_was_taken_back",),
    ),
    Fault(
        "commands-zero-is-a-token",
        ARGUMENTS,
        "    if type(token) is not int or not 1 <= token",
        "    if type(token) is not int or not 0 <= token",
        (f"{LEASES}::test_a_token_that_nobody_was_given_is_nobodys",),
    ),
    Fault(
        "commands-a-release-keeps-the-attempt",
        WRITES,
        "at=view.now + self.delay), attempt=row.attempt + 1)\n",
        "at=view.now + self.delay), attempt=row.attempt)\n",
        (f"{LEASES}::test_what_is_given_back_waits_again_with_the_next_attempt_and_is_no_failure",),
    ),
    Fault(
        "commands-progress-outlives-its-attempt",
        WRITES,
        "        progress=None,\n    )\n    return save",
        "    )\n    return save",
        (f"{LEASES}::test_progress_is_that_of_the_present_attempt",),
    ),
    Fault(
        "commands-a-deadline-is-renewed",
        WRITES,
        '            raise StaleLease(f"command {self.key.parts[1]!s}: its deadline has passed; stop working on it")\n',
        "            pass\n",
        (f"{ENDS}::test_a_result_after_the_deadline_does_not_count_and_who_said_it_is_told",),
    ),
    # --- ends ---------------------------------------------------------------------------------------------
    Fault(
        "commands-the-same-again-is-a-lost-lease",
        WRITES,
        "        if not row.holder and row.completed_by == self.token == row.token:\n",
        "        if False:\n",
        (f"{ENDS}::test_who_says_the_same_again_hears_the_same",),
    ),
    Fault(
        "commands-who-had-it-once-is-heard-again",
        WRITES,
        "row.completed_by == self.token == row.token:\n",
        "row.completed_by == self.token:\n",
        (f"{ENDS}::test_who_says_it_again_after_somebody_else_had_the_command_has_lost_it",),
    ),
    Fault(
        "commands-another-result-is-the-same",
        WRITES,
        "            return row.state == CommandState.SUCCEEDED and view.get(BODY.key(*self.key.parts, RESULT)) == self.ending.result\n",
        "            return row.state == CommandState.SUCCEEDED\n",
        (
            f"{ENDS}::test_who_says_the_same_again_hears_the_same",
            f"{DEFECTS}::test_section_5_9_nobody_changes_what_was_asked_for_or_answered",
        ),
    ),
    Fault(
        "commands-a-result-is-never-late",
        WRITES,
        "        held_by(self.key, row, self.token)\n        if row.deadline is not None and view.now >= row.deadline:\n            error",
        "        held_by(self.key, row, self.token)\n        if False:\n            error",
        (f"{ENDS}::test_a_result_after_the_deadline_does_not_count_and_who_said_it_is_told",),
    ),
    Fault(
        "commands-one-attempt-too-many",
        QUEUE,
        "failures < policy.max_attempts and",
        "failures <= policy.max_attempts and",
        (f"{ENDS}::test_a_failed_attempt_is_followed_by_another_after_longer_and_longer_waits_and_then_it_is_dead",),
    ),
    Fault(
        "commands-every-code-is-worth-it",
        QUEUE,
        " and error.code not in policy.give_up_on\n",
        "\n",
        (f"{ENDS}::test_a_code_that_is_not_worth_it_is_not_tried_again",),
    ),
    Fault(
        "commands-every-failure-is-a-dead-letter",
        QUEUE,
        "dead=int(retryable))",
        "dead=1)",
        (f"{ENDS}::test_a_failure_for_good_ends_the_command_with_its_reason",),
    ),
    Fault(
        "commands-a-worker-that-went-away-keeps-the-attempt",
        QUEUE,
        "    return replace(make_ready(view, row, at=at), attempt=row.attempt + 1)\n",
        "    return make_ready(view, row, at=at)\n",
        (f"{LEASES}::test_a_command_that_somebody_has_is_given_to_nobody_else_until_its_lease_ends",),
    ),
    Fault(
        "commands-all-vary-alike",
        QUEUE,
        "    return int.from_bytes(digest) / _CHANCES\n",
        "    return 0.5\n",
        (f"{ENDS}::test_waits_vary_from_command_to_command_and_never_beyond_their_share",),
    ),
    Fault(
        "commands-details-are-none-or-raw",
        CONTRACT,
        '    code: str\n    message: str = ""\n    details: msgspec.Raw = NOTHING\n\n\nclass CommandEnd',
        '    code: str\n    message: str = ""\n    details: msgspec.Raw | None = None\n\n\nclass CommandEnd',
        (f"{ENDS}::test_a_failure_for_good_ends_the_command_with_its_reason",),
    ),
    Fault(
        "commands-a-name-of-bytes-is-no-plain-text",
        ARGUMENTS,
        "BodyRow(None, str(ContentHash(body.sha256)), size, kind)",
        "BodyRow(None, ContentHash(body.sha256), size, kind)",
        (f"{ENDS}::test_a_result_that_is_kept_apart_is_named",),
    ),
    Fault(
        "commands-a-wait-has-no-longest",
        CONTRACT,
        "            wait = min(self.maximum, self.initial * self.factor ** (failures - 1))\n",
        "            wait = self.initial * self.factor ** (failures - 1)\n",
        (f"{POLICIES}::test_waits_grow_by_their_factor_up_to_the_longest",),
    ),
    # --- cancellation, redrive, time -------------------------------------------------------------------------
    Fault(
        "commands-who-is-asked-to-stop-has-lost-it",
        WRITES,
        "        if row.holder:\n            after = noted(view, self.key, asked",
        "        if False:\n            after = noted(view, self.key, asked",
        (f"{CANCEL}::test_a_worker_is_told_when_it_renews_and_stops",),
    ),
    Fault(
        "commands-what-was-set-back-cannot-be-cancelled",
        WRITES,
        "(row.cancel_requested and row.holder):\n",
        "row.cancel_requested:\n",
        (f"{CANCEL}::test_what_is_set_back_by_hand_can_still_be_cancelled",),
    ),
    Fault(
        "commands-what-was-to-stop-is-given-out-again",
        WRITES,
        "        if row.cancel_requested:\n            after = cancelled(view, self.key, after",
        "        if False:\n            after = cancelled(view, self.key, after",
        (f"{CANCEL}::test_it_ends_as_its_worker_says_and_is_not_given_out_again",),
    ),
    Fault(
        "commands-what-was-to-stop-is-tried-again",
        QUEUE,
        "        if row.cancel_requested:\n            return cancelled",
        "        if False:\n            return cancelled",
        (f"{CANCEL}::test_it_ends_as_its_worker_says_and_is_not_given_out_again",),
    ),
    Fault(
        "commands-anybody-stops",
        WRITES,
        "            if not row.cancel_requested:\n                raise",
        "            if False:\n                raise",
        (f"{CANCEL}::test_nobody_stops_what_nobody_asked_to_stop",),
    ),
    Fault(
        "commands-a-dead-letter-is-driven-twice",
        WRITES,
        "        if row.redriven_as:\n            return row.redriven_as\n",
        "",
        (f"{ENDS}::test_what_was_not_done_is_driven_again_once_as_a_new_command",),
    ),
    Fault(
        "commands-what-was-done-is-driven-again",
        WRITES,
        "        if row.state not in TERMINAL or row.state == CommandState.SUCCEEDED:\n",
        "        if row.state not in TERMINAL:\n",
        (f"{ENDS}::test_what_is_not_over_or_was_done_is_not_driven_again",),
    ),
    Fault(
        "commands-a-pass-stops-after-one-chunk",
        FACADE,
        "        while done == limits.COMMAND_DUE_CHUNK:\n",
        "        while False:\n",
        (f"{ENDS}::test_more_than_one_look_can_hold_is_done_in_one_call",),
    ),
    Fault(
        "commands-somebody-elses-clock-is-right",
        WRITES,
        "upto=(min(self.now, view.now),)",
        "upto=(self.now,)",
        (f"{ENDS}::test_nobody_expires_what_is_due_by_somebody_elses_clock",),
    ),
    # --- keys, lists, arguments ----------------------------------------------------------------------------------
    Fault(
        "commands-a-key-is-any-requests",
        WRITES,
        "        if made.digest != self.new.digest:\n",
        "        if False:\n",
        (f"{LISTS}::test_the_same_key_and_other_params_are_a_conflict",),
    ),
    Fault(
        "commands-a-late-key-is-refused",
        WRITES,
        "            if made is not None:\n                return self._made_before(view, made)\n",
        "            if made is not None and (new.deadline is None or new.deadline > view.now):\n                return self._made_before(view, made)\n",
        (f"{LISTS}::test_the_same_key_and_params_are_the_same_command",),
    ),
    Fault(
        "commands-params-are-replaced",
        WRITES,
        "            if view.get(BODY.key(*self.key.parts, PARAMS)) == self.params:\n                return\n            raise",
        "            if view.get(BODY.key(*self.key.parts, PARAMS)) == self.params or row.holder:\n                return\n            raise",
        (f"{SEED}::test_params_that_are_given_again_change_nothing_and_others_are_refused",),
    ),
    Fault(
        "commands-a-list-forgets-the-dead",
        FACADE,
        "        and (matching.dead is None or matching.dead == bool(row.dead))\n",
        "",
        (f"{LISTS}::test_a_list_shows_what_was_asked_for",),
    ),
    Fault(
        "commands-a-list-ends-where-nothing-is-found",
        FACADE,
        "            if len(rows) < limits.READ_PAGE:\n                return CommandPage",
        "            if len(rows) < limits.READ_PAGE or not found:\n                return CommandPage",
        (f"{LISTS}::test_a_list_finds_what_is_rare_among_many",),
    ),
    Fault(
        "commands-any-policy-is-stored",
        ARGUMENTS,
        "    if not isinstance(retry, CommandRetry):\n",
        "    if False:\n",
        (f"{BAD}::test_what_cannot_be_a_command_is_refused_and_nothing_is_written",),
    ),
    Fault(
        "commands-an-error-is-of-any-size",
        ARGUMENTS,
        "    if len(found) > limit:\n",
        "    if False:\n",
        (f"{BAD}::test_a_call_that_cannot_be_meant_is_refused_and_nothing_is_written",),
    ),
    Fault(
        "commands-overdue-is-given-out-when-much-is",
        "src/perdure/commands/writes.py",
        "        if len(due) == limits.COMMAND_DUE_CHUNK:\n",
        "        if False:\n",
        ("tests/contracts/test_command_registry_defects.py::test_section_5_5_a_lease_gives_out_nothing_overdue_however_much_is",),
    ),
)

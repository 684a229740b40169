"""Faults in sending commands to endpoints."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

WRITES: Final = "src/perdure/commands/push_writes.py"
CREATING: Final = "src/perdure/commands/writes.py"
QUEUEING: Final = "src/perdure/commands/queueing.py"
PUSHER: Final = "src/perdure/engine/pushing.py"
TABLES: Final = "src/perdure/commands/tables.py"
OUTCOMES: Final = "tests/push/test_outcomes.py"
BREAKER: Final = "tests/push/test_breaker.py"
ENDPOINTS: Final = "tests/push/test_endpoints.py"
CRASHES: Final = "tests/push/test_crashes.py"
FOR_NOW: Final = f"{OUTCOMES}::test_what_is_refused_for_now_is_sent_again_and_never_before_the_time_that_was_asked_for"
UNKNOWN: Final = f"{OUTCOMES}::test_what_may_have_arrived_is_not_sent_again_before_its_lease_is_over_and_a_late_result_counts"
SECRETS: Final = f"{ENDPOINTS}::test_each_secret_signs_while_they_are_rotated"
OPEN: Final = f"{BREAKER}::test_an_open_breaker_holds_its_queue_back_lets_one_probe_through_and_closes_again"

FAULTS: Final = (
    Fault(
        "push-retry-after-is-ignored",
        WRITES,
        "            least = self.outcome.retry_after or 0\n",
        "            least = 0\n",
        (FOR_NOW,),
    ),
    Fault(
        "push-what-is-unknown-is-sent-again",
        WRITES,
        "        ending, least = self.ending, 0\n",
        "        ending, least = self.ending, 0\n"
        "        if isinstance(self.outcome, Ambiguous):\n"
        "            ending = Ending(state=CommandState.FAILED, error=CommandError(code=DELIVERY_FAILED), retryable=True)\n",
        (UNKNOWN,),
        hangs=True,
    ),
    Fault(
        "push-a-late-outcome-counts-against-the-next-attempt",
        WRITES,
        "        if row is None or not row.holder or row.token != self.token:\n",
        "        if row is None or not row.holder:\n",
        ("tests/push/test_writes.py::test_an_outcome_that_comes_after_its_lease_changes_nothing_of_the_next_attempt",),
    ),
    Fault(
        "push-an-answer-is-heard-after-the-end",
        WRITES,
        "        if row is None or not row.holder or row.token != self.token:\n",
        "        if row is None or row.token != self.token:\n",
        (f"{OUTCOMES}::test_section_1_5_3_a_result_that_comes_before_the_answer_to_its_sending_counts",),
    ),
    Fault(
        "push-a-disabled-endpoint-is-sent-to",
        WRITES,
        "        if row is None or not row.enabled:\n            return None\n        breaker",
        "        if row is None:\n            return None\n        breaker",
        ("tests/push/test_writes.py::test_nothing_is_given_out_for_an_endpoint_that_was_disabled_meanwhile",),
    ),
    Fault(
        "push-an-open-breaker-gives-out",
        WRITES,
        "        if not allowed:\n            return None\n",
        "",
        ("tests/push/test_writes.py::test_nothing_is_given_out_while_a_breaker_is_open_and_one_as_a_probe",),
    ),
    Fault(
        "push-a-probe-has-company",
        WRITES,
        "self._head(1 if breaker.open_until is not None else self.most)",
        "self._head(self.most)",
        (f"{BREAKER}::test_a_probe_is_alone",),
    ),
    Fault(
        "push-a-probe-is-not-noted",
        WRITES,
        "        if taken and breaker != breaker_of(row):\n            view.update(self.key, _with_breaker(row, breaker))\n        return",
        "        return",
        (f"{BREAKER}::test_a_probe_is_alone",),
    ),
    Fault(
        "push-outcomes-do-not-count-for-the-breaker",
        WRITES,
        "        if breaker != breaker_of(row):\n            view.update(self.key, _with_breaker(row, breaker))\n\n\ndef",
        "\n\ndef",
        (OPEN,),
    ),
    Fault(
        "push-an-outcome-counts-for-another-url",
        WRITES,
        "        if row is None or row.url != self.url:",
        "        if row is None:",
        ("tests/push/test_writes.py::test_an_outcome_says_nothing_of_a_url_that_was_set_meanwhile",),
    ),
    Fault(
        "push-a-passed-deadline-is-sent",
        WRITES,
        "            if after is not None:",
        "            if False:",
        ("tests/push/test_writes.py::test_what_is_past_its_deadline_is_not_given_out",),
    ),
    Fault(
        "push-a-change-takes-the-secrets-away",
        WRITES,
        "self.secrets or (self.made if before is None else before.secrets)",
        "self.secrets or self.made",
        (f"{ENDPOINTS}::test_a_change_keeps_what_it_does_not_name_and_closes_the_breaker",),
    ),
    Fault(
        "push-rotation-drops-the-secret-in-use",
        WRITES,
        'secrets=f"{self.made} {row.secrets.split()[0]}"',
        "secrets=self.made",
        (SECRETS,),
    ),
    Fault(
        "push-a-disabled-endpoint-gets-new-commands",
        CREATING,
        "        if row is not None and row.enabled:\n            return str",
        "        if row is not None:\n            return str",
        (f"{ENDPOINTS}::test_a_deployment_without_enabled_endpoint_is_for_workers",),
    ),
    Fault(
        "push-the-deployment-stands-before-the-target",
        CREATING,
        '        yield PUSH_ENDPOINT.key(self.tenant_id, self.deployment_id, self.target)\n        if self.target:\n            yield PUSH_ENDPOINT.key(self.tenant_id, self.deployment_id, "")\n',
        '        yield PUSH_ENDPOINT.key(self.tenant_id, self.deployment_id, "")\n        if self.target:\n            yield PUSH_ENDPOINT.key(self.tenant_id, self.deployment_id, self.target)\n',
        (f"{ENDPOINTS}::test_a_command_is_for_the_endpoint_of_its_target_or_else_of_its_deployment",),
    ),
    Fault(
        "push-workers-get-what-is-sent",
        QUEUEING,
        "    if row.model == DeploymentModel.PUSH:\n",
        "    if False:\n",
        (f"{ENDPOINTS}::test_a_command_is_for_the_endpoint_of_its_target_or_else_of_its_deployment",),
        hangs=True,
    ),
    Fault(
        "push-nobody-hears-of-a-command",
        QUEUEING,
        "        view.signal(PUSH_TOPIC if pushed else ",
        "        view.signal(",
        (f"{OUTCOMES}::test_an_answer_may_say_how_the_command_ended",),
        hangs=True,
    ),
    Fault(
        "push-secrets-are-in-the-repr",
        TABLES,
        '        return f"PushEndpointRow(enabled={self.enabled})"\n',
        '        return f"PushEndpointRow(enabled={self.enabled}, secrets={self.secrets})"\n',
        (f"{ENDPOINTS}::test_an_endpoint_is_shown_without_its_secrets_and_its_query",),
    ),
    Fault(
        "push-every-node-sends",
        PUSHER,
        "            if not self._leads():",
        "            if False:",
        (f"{CRASHES}::test_who_does_not_lead_sends_nothing",),
    ),
    Fault(
        "push-what-is-answered-is-not-read",
        PUSHER,
        "        ending = ending_said(outcome.answer) if",
        "        ending = None if",
        (f"{OUTCOMES}::test_an_answer_may_say_how_the_command_ended",),
        hangs=True,
    ),
    Fault(
        "push-large-params-are-not-named",
        PUSHER,
        "        params_blob=ref_of(params),\n",
        "        params_blob=None,\n",
        ("tests/push/test_flows.py::test_bytes_are_identical_at_the_far_end_when_the_result_comes_later",),
    ),
    Fault(
        "push-one-endpoint-takes-all-places",
        PUSHER,
        "        free = min(limits.PUSH_ENDPOINT_UNDER_WAY - self._under_way[place], limits.PUSH_UNDER_WAY - self._under_way.total())\n",
        "        free = limits.PUSH_UNDER_WAY - self._under_way.total()\n",
        (f"{BREAKER}::test_an_endpoint_that_does_not_answer_takes_few_places_and_others_have_theirs",),
    ),
    Fault(
        "push-the-first-endpoint-is-always-first",
        PUSHER,
        "            self._last = place\n",
        "",
        (f"{BREAKER}::test_when_all_places_are_taken_endpoints_have_their_turns",),
    ),
    Fault(
        "push-closing-does-not-wait",
        PUSHER,
        "                while self._under_way.total():\n",
        "                while False:\n",
        (f"{CRASHES}::test_an_engine_that_closes_waits_for_answers_under_way_and_stores_them",),
    ),
    Fault(
        "push-everything-may-be-sent-to",
        PUSHER,
        "allowed=self._allowed)\n",
        'allowed=Allowed(networks=("0.0.0.0/0",)))\n',
        (f"{OUTCOMES}::test_a_private_address_is_refused_unless_it_is_allowed",),
    ),
    Fault(
        "push-ids-are-the-same-at-each-attempt",
        PUSHER,
        'f"{command_id}:{row.attempt}"',
        'f"{command_id}:1"',
        (f"{OUTCOMES}::test_a_failure_that_an_answer_tells_is_tried_again_by_policy",),
    ),
)

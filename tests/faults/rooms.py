"""Faults in the decisions of the rooms: routing, operations, conversations, streams."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

ROUTING: Final = "src/perdure/routing/writes.py"
OPERATIONS: Final = "src/perdure/operations/writes.py"
OPERATION_ROWS: Final = "src/perdure/operations/courses.py"
RECORDS: Final = "src/perdure/conversations/writes.py"
STATE: Final = "src/perdure/conversations/state.py"
HANDLE: Final = "src/perdure/conversations/conversation.py"
STREAMS: Final = "src/perdure/streams/writes.py"

CONTRACTS: Final = "tests/contracts"
STORE: Final = f"{CONTRACTS}/test_faults_contracts.py"
REGISTRY: Final = f"{CONTRACTS}/test_process_registry.py"
TAGS: Final = f"{CONTRACTS}/test_process_registry_tags.py"
ADDRESSES: Final = f"{CONTRACTS}/test_process_registry_decisions.py"
RECORD: Final = f"{CONTRACTS}/test_process_registry_record.py"
RACES: Final = f"{CONTRACTS}/test_process_registry_faults.py"
SEALS: Final = f"{CONTRACTS}/test_operation_store.py"
BEGINS: Final = f"{CONTRACTS}/test_operation_store_begin.py"
COURSES: Final = f"{CONTRACTS}/test_operation_store_decisions.py"
UPKEEP: Final = f"{CONTRACTS}/test_operation_store_upkeep.py"
SCHEMAS: Final = f"{CONTRACTS}/test_operation_store_schemas.py"
TALKS: Final = f"{CONTRACTS}/test_durable_conversation.py"
RECOVERY: Final = f"{CONTRACTS}/test_durable_conversation_recovery.py"
TRANSITIONS: Final = f"{CONTRACTS}/test_durable_conversation_transitions.py"
HANDLES: Final = f"{CONTRACTS}/test_durable_conversation_handles.py"
ENTRIES: Final = f"{CONTRACTS}/test_durable_store.py"
PAGES: Final = f"{CONTRACTS}/test_durable_store_pages.py"

FAULTS: Final = (
    # --- routing -------------------------------------------------------------------------------------
    Fault(
        "routing-binding-steals",
        ROUTING,
        "    if row is not None and row.process_id not in (None, identity.process_id):\n",
        "    if False:\n",
        (f"{ADDRESSES}::test_binding_never_steals",),
    ),
    Fault(
        "routing-the-last-one-wins",
        ROUTING,
        "        if owner is not None and owner.process_id != self.identity.process_id:\n",
        "        if False:\n",
        (f"{REGISTRY}::test_the_first_one_who_registers_if_absent_keeps_the_key",),
    ),
    Fault(
        "routing-absence-is-no-row",
        ROUTING,
        "        view.insert(place, KeyRow(parked=1))\n        return\n",
        "        return\n",
        (f"{RACES}::test_no_message_is_lost_between_parking_on_one_node_and_binding_on_another",),
    ),
    Fault(
        "routing-parked-count-stands-still",
        ROUTING,
        "    _keep(view, place, replace(row, parked=row.parked - count))\n",
        "    _keep(view, place, row)\n",
        (f"{ADDRESSES}::test_binding_keeps_the_count_until_the_messages_are_handed_over",),
    ),
    Fault(
        "routing-guard-of-parked-messages-goes",
        ROUTING,
        "    if row.process_id is None and not row.parked:\n",
        "    if row.process_id is None:\n",
        (f"{ADDRESSES}::test_a_removed_key_keeps_the_guard_of_what_is_parked",),
    ),
    Fault(
        "routing-keys-are-not-counted-out",
        ROUTING,
        "    view.count(KEYS_COUNTER, -1)\n",
        "",
        (f"{REGISTRY}::test_len_counts_the_bound_keys_of_all_tenants",),
    ),
    Fault(
        "routing-keys-that-change-hands-count-twice",
        ROUTING,
        "    if before is None or before.process_id is None:\n        view.count",
        "    if True:\n        view.count",
        (f"{REGISTRY}::test_r04_the_last_one_who_registers_has_the_key_and_it_counts_once",),
    ),
    Fault(
        "routing-anybody-may-remove",
        ROUTING,
        "        if row is None or row.process_id is None or self.process_id not in (None, row.process_id):\n",
        "        if row is None or row.process_id is None:\n",
        (f"{REGISTRY}::test_a_key_is_removed_only_for_the_expected_owner",),
    ),
    Fault(
        "routing-unbind-is-not-recorded",
        ROUTING,
        "    _record(view, place, row, tick=view.tick(), what=Change.UNBIND, process_id=row.process_id, actor=actor)\n",
        "",
        (f"{RECORD}::test_every_change_is_recorded_and_nothing_else",),
    ),
    Fault(
        "routing-tag-again-takes-a-new-place",
        ROUTING,
        "    tick = view.tick() if before is None else before.tick\n",
        "    tick = view.tick()\n",
        (f"{TAGS}::test_n07_and_defect_06_the_order_is_that_of_the_first_registration",),
    ),
    Fault(
        "routing-tags-in-order-of-ids",
        "src/perdure/routing/tables.py",
        'MEMBERS = Index(CORRELATION, "correlation_member", prefix=("tenant_id", "tag"), order=("tick", "process_id"))\n',
        'MEMBERS = Index(CORRELATION, "correlation_member", prefix=("tenant_id", "tag"), order=("process_id", "tick"))\n',
        (f"{TAGS}::test_n07_and_defect_06_the_order_is_that_of_the_first_registration",),
    ),
    Fault(
        "routing-ended-processes-get-addresses",
        "src/perdure/store.py",
        "    if process is not None and process.status in OVER:\n",
        "    if False:\n",
        (f"{STORE}::test_a_process_that_is_over_gets_no_address_through_the_store",),
    ),
    Fault(
        "routing-verify-says-nothing",
        "src/perdure/routing/audit.py",
        "            if right != found:\n",
        "            if False:\n",
        (f"{RECORD}::test_verify_says_what_differs_and_how",),
    ),
    Fault(
        "routing-verify-mends",
        "src/perdure/routing/audit.py",
        "                if self.mend:\n",
        "                if True:\n",
        (f"{RECORD}::test_verify_changes_nothing_and_sees_one_tenant",),
    ),
    # --- operations ----------------------------------------------------------------------------------
    Fault(
        "operations-seal-is-not-final",
        OPERATIONS,
        "    elif row.state != ADMITTED:\n        return False\n",
        "",
        (f"{COURSES}::test_what_is_final_stays_whatever_is_sealed_over_it",),
    ),
    Fault(
        "operations-another-answer-is-taken-for-the-same",
        OPERATIONS,
        '        raise AlreadySealed(f"{_named(key)} has another answer already',
        '        return True\n        raise AlreadySealed(f"{_named(key)} has another answer already',
        (f"{SEALS}::test_seal_twice_with_another_answer_is_refused_and_the_first_stays",),
    ),
    Fault(
        "operations-digest-is-not-compared",
        OPERATION_ROWS,
        "    if row.method and (row.method, row.request_digest) != (method, request_digest):\n",
        "    if row.method and row.method != method:\n",
        (f"{BEGINS}::test_another_method_or_another_request_is_a_conflict_in_every_state",),
    ),
    Fault(
        "operations-tombstone-is-unknown",
        OPERATION_ROWS,
        "            return Course.EXPIRED\n",
        "            return Course.START\n",
        (f"{UPKEEP}::test_an_evicted_operation_is_never_taken_for_unknown",),
    ),
    Fault(
        "operations-evicted-answers-leave-nothing",
        OPERATIONS,
        "replace(row, state=EXPIRED, outcome",
        "replace(row, state=ADMITTED, outcome",
        (f"{UPKEEP}::test_an_evicted_operation_is_never_taken_for_unknown",),
    ),
    Fault(
        "operations-lease-is-ignored",
        OPERATION_ROWS,
        "                return Course.ATTACH",
        "                return Course.START",
        (f"{BEGINS}::test_of_many_who_begin_one_id_at_once_exactly_one_is_started",),
    ),
    Fault(
        "operations-lease-ends-too-late",
        OPERATION_ROWS,
        "now < row.lease_expires_at\n",
        "now <= row.lease_expires_at\n",
        (f"{COURSES}::test_what_a_begin_comes_to",),
    ),
    Fault(
        "operations-stale-token-is-good",
        OPERATIONS,
        "    elif token != row.token:\n",
        "    elif False:\n",
        (f"{BEGINS}::test_a_stale_token_seals_marks_and_removes_nothing",),
    ),
    Fault(
        "operations-token-is-not-asked-for",
        OPERATIONS,
        "    if token is None:\n        if is_held(row, view.now):\n",
        "    if token is None:\n        if False:\n",
        (f"{BEGINS}::test_a_leased_operation_takes_the_token_to_seal_and_to_remove",),
    ),
    Fault(
        "operations-effects-happen-twice",
        OPERATION_ROWS,
        "            return Course.INDETERMINATE if may_not_rerun(row, policy) else Course.START\n",
        "            return Course.START\n",
        (f"{CONTRACTS}/test_operation_store_crashes.py::test_a_retry_is_told_what_the_crash_matrix_says",),
    ),
    Fault(
        "operations-attempts-are-not-counted",
        OPERATIONS,
        "attempts=bound.attempts + 1",
        "attempts=bound.attempts",
        (f"{STORE}::test_an_operation_counts_its_attempts",),
    ),
    Fault(
        "operations-sweep-takes-everything",
        OPERATIONS,
        "limits.READ_PAGE, self.after, (self.now,))",
        "limits.READ_PAGE, self.after)",
        (f"{UPKEEP}::test_an_answer_is_kept_for_its_retention_from_the_seal_on",),
    ),
    Fault(
        "operations-nobody-hears-of-a-seal",
        OPERATIONS,
        "    view.signal(topic_of(key))\n",
        "",
        (f"{COURSES}::test_the_row_of_an_engines_reply_needs_no_schema_no_request_and_no_lease",),
    ),
    Fault(
        "operations-only-the-root-schema-is-stored",
        OPERATIONS,
        "        for schema in schemas:\n            if view.get(SCHEMA.key(schema.hash)) is None:\n",
        "        for schema in schemas:\n            if view.get(SCHEMA.key(schema.hash)) is None and schema.hash == answer.root_type:\n",
        (f"{SCHEMAS}::test_every_schema_that_is_reached_is_stored_with_the_answer",),
    ),
    Fault(
        "operations-names-of-schemas-are-believed",
        "src/perdure/operations/stored_schemas.py",
        "            verify(Schema(name, document))\n",
        "",
        (f"{SCHEMAS}::test_a_document_that_does_not_hash_to_its_name_is_refused_and_nothing_is_stored",),
    ),
    # --- conversations -------------------------------------------------------------------------------
    Fault(
        "conversations-sequence-is-not-checked",
        RECORDS,
        "        if found != self.expected_seq:\n",
        "        if False:\n",
        (f"{HANDLES}::test_of_two_handles_the_second_is_refused_and_not_retried",),
    ),
    Fault(
        "conversations-finished-message-runs-again",
        RECORDS,
        "        if turn is not None and turn.state == TurnState.FINISHED:\n",
        "        if False:\n",
        (f"{TALKS}::test_a_duplicate_of_a_finished_message_gets_its_result_and_appends_nothing",),
    ),
    Fault(
        "conversations-step-with-another-output-is-the-same",
        RECORDS,
        "        if recorded is None or recorded.data != encode_event(event):\n",
        "        if recorded is None:\n",
        (f"{TRANSITIONS}::test_a_recorded_step_is_never_overwritten",),
    ),
    Fault(
        "conversations-callers-record-in-an-engines-process",
        RECORDS,
        "        if row is not None and row.process_type:\n",
        "        if False:\n",
        (f"{HANDLES}::test_a_process_of_an_engine_can_be_looked_at_and_not_be_recorded_in",),
    ),
    Fault(
        "conversations-snapshot-goes-back",
        RECORDS,
        "        elif found.version == SNAPSHOT_VERSION and place.expected_seq < found.seq <= head:\n",
        "        elif False:\n",
        (f"{RECOVERY}::test_a_stored_snapshot_never_goes_back",),
    ),
    Fault(
        "conversations-snapshot-without-its-sequence",
        STATE,
        "        self.next_seq = state.next_seq\n",
        "",
        (f"{RECOVERY}::test_a_snapshot_makes_recovery_read_it_and_the_tail_only",),
    ),
    Fault(
        "conversations-attempts-are-not-counted",
        STATE,
        "        return replace(event, attempt=turn.attempts + 1)\n",
        "        return event\n",
        (f"{TRANSITIONS}::test_attempts_are_counted_by_starts_and_by_errors_without_one",),
    ),
    Fault(
        "conversations-steps-leave-gaps",
        STATE,
        "            if event.step_index != turn.steps:\n",
        "            if False:\n",
        (f"{TRANSITIONS}::test_a_gap_between_steps_is_refused_with_the_number_expected",),
    ),
    Fault(
        "conversations-lost-event-is-not-missed",
        HANDLE,
        "                if key.parts[2] != seq:\n",
        "                if False:\n",
        (f"{RECOVERY}::test_a_bad_conversation_is_quarantined_by_name_and_others_are_not_affected",),
    ),
    Fault(
        "conversations-lost-tail-is-not-missed",
        HANDLE,
        "        if seq < head:\n",
        "        if False:\n",
        (f"{RECOVERY}::test_a_conversation_that_lost_events_is_found_by_refresh_and_by_snapshot", RECOVERY),
    ),
    # --- streams -------------------------------------------------------------------------------------
    Fault(
        "streams-sequence-is-not-checked",
        STREAMS,
        "        if found != self.expected_seq:\n",
        "        if False:\n",
        (f"{ENTRIES}::test_an_append_elsewhere_conflicts_behind_and_ahead_and_writes_nothing",),
    ),
    Fault(
        "streams-values-are-set-without-comparing",
        STREAMS,
        "        if found != self.old:\n",
        "        if False:\n",
        (f"{ENTRIES}::test_a_value_is_set_if_it_is_what_was_expected",),
    ),
    Fault(
        "streams-truncation-takes-one-too-many",
        STREAMS,
        "upto=(first - 1,)",
        "upto=(first,)",
        (f"{PAGES}::test_entries_before_a_truncation_answer_that_they_are_gone",),
    ),
    Fault(
        "streams-truncated-entries-are-simply-absent",
        "src/perdure/streams/store.py",
        "        if row is not None and seq < row.first:\n",
        "        if False:\n",
        (f"{PAGES}::test_entries_before_a_truncation_answer_that_they_are_gone",),
    ),
)

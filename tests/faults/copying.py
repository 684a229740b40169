"""Faults in what moves a store, and in what joins a transaction of the application."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

TRANSFER: Final = "src/perdure/core/transfer.py"
MARKS: Final = "src/perdure/backends/marks.py"
SQLITE: Final = "src/perdure/backends/sqlite/transfer.py"
POSTGRES: Final = "src/perdure/backends/postgres/transfer.py"
JOINED: Final = "src/perdure/backends/postgres/joined.py"
CONNECTION: Final = "src/perdure/backends/postgres/connection.py"

MOVED: Final = "tests/copying/test_copy_store.py"
TOGETHER: Final = "tests/postgres/test_joined.py"
STOPPED: Final = "tests/copying/test_copy_stopped.py"

FAULTS: Final = (
    Fault(
        "copy-begins-each-table-anew",
        TRANSFER,
        "after, copied = await target.last(table), 0",
        "after, copied = None, 0",
        (f"{STOPPED}::test_a_copy_that_is_stopped_at_any_call_ends_like_one_that_was_not",),
    ),
    Fault(
        "copy-is-not-compared",
        TRANSFER,
        "        if expected != found:\n",
        "        if False:\n",
        (f"{STOPPED}::test_a_change_of_what_has_arrived_is_found_in_the_end",),
    ),
    Fault(
        "copy-of-another-source-goes-on",
        TRANSFER,
        "if place != source.place:",
        "if False:",
        (f"{STOPPED}::test_an_unfinished_copy_goes_on_only_from_its_own_source",),
    ),
    Fault(
        "copy-of-a-source-that-moved-goes-on",
        TRANSFER,
        "if last_tick != source.last_tick:",
        "if False:",
        (f"{STOPPED}::test_a_source_that_was_written_to_meanwhile_is_refused_at_once",),
    ),
    Fault(
        "copy-takes-any-target-for-its-own",
        TRANSFER,
        "if not same or digests[table.name] != await digest(source, table):",
        "if False:",
        (f"{STOPPED}::test_a_target_that_holds_something_is_left_as_it_is",),
    ),
    Fault(
        "copy-that-is-not-finished-is-opened",
        MARKS,
        "    if MARK in tables:\n",
        "    if False:\n",
        (f"{STOPPED}::test_a_copy_that_is_stopped_at_any_call_ends_like_one_that_was_not",),
    ),
    Fault(
        "copy-lets-others-write-into-a-file",
        SQLITE,
        '"BEGIN IMMEDIATE" if alone else "BEGIN"',
        '"BEGIN"',
        (f"{MOVED}::test_nobody_writes_into_the_source_meanwhile",),
    ),
    Fault(
        "copy-lets-others-write-into-a-server",
        POSTGRES,
        "in share mode",
        "in access share mode",
        (f"{MOVED}::test_nobody_writes_into_the_source_meanwhile",),
    ),
    Fault(
        "copy-is-of-many-moments",
        POSTGRES,
        "isolation level repeatable read, read only",
        "isolation level read committed, read only",
        (f"{MOVED}::test_what_is_written_meanwhile_is_not_in_a_copy_of_one_moment",),
    ),
    Fault(
        "copy-forgets-the-tick",
        SQLITE,
        "SET last_tick = max(last_tick, ?)",
        "SET last_tick = max(last_tick, 0 * ?)",
        (f"{MOVED}::test_counters_arrive_and_the_next_tick_is_greater_than_any_before",),
    ),
    Fault(
        "copy-forgets-the-tick-on-a-server",
        POSTGRES,
        "set last_tick = greatest(last_tick, $1)",
        "set last_tick = greatest(last_tick, 0 * $1)",
        (f"{MOVED}::test_counters_arrive_and_the_next_tick_is_greater_than_any_before",),
    ),
    Fault(
        "copy-has-chunks-without-bound",
        POSTGRES,
        'f"where _before < {limits.COPY_BYTES} order by {keys}"',
        'f"order by {keys}"',
        (f"{MOVED}::test_a_chunk_is_bounded_in_rows_and_in_bytes",),
    ),
    Fault(
        "session-goes-on-with-a-transaction-that-is-gone",
        CONNECTION,
        "            if amid:\n",
        "            if False:\n",
        ("tests/postgres/test_session.py",),
    ),
    Fault(
        "joined-undoes-nothing",
        JOINED,
        '"rollback to savepoint perdure"',
        '"select 1"',
        (f"{TOGETHER}::test_one_id_in_two_transactions_at_once_is_one_message",),
    ),
    Fault(
        "joined-transactions-wait-for-one-another",
        JOINED,
        "limit 1 for update skip locked",
        "limit 1 for update",
        (f"{TOGETHER}::test_transactions_about_different_things_do_not_wait_for_one_another",),
    ),
    Fault(
        "joined-holds-its-locks-for-as-long-as-it-likes",
        JOINED,
        "(setting::bigint = 0 or",
        "(false and",
        (f"{TOGETHER}::test_a_transaction_that_idles_after_a_call_is_ended_by_the_server",),
    ),
    Fault(
        "joined-writes-outside-of-transactions",
        "src/perdure/backends/postgres/borrowed.py",
        "if not self._connection.is_in_transaction():",
        "if False:",
        (f"{TOGETHER}::test_what_cannot_be_joined_says_so",),
    ),
)

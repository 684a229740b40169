"""Faults that show when connections break, servers restart, and several writers meet."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/backends/postgres"
BACKEND: Final = f"{HERE}/backend.py"
CONNECTION: Final = f"{HERE}/connection.py"
STATEMENTS: Final = f"{HERE}/statements.py"
WRITERS: Final = f"{HERE}/writers.py"
WRITER: Final = "src/perdure/core/writer.py"

LOST: Final = "tests/postgres/test_lost_connections.py"
LOST_ONE: Final = f"{LOST}::test_every_caller_hears_what_became_of_a_batch_whose_connection_broke"
UNDER_WAY: Final = f"{LOST}::test_what_is_still_under_way_when_the_writer_looks_is_waited_for_or_stopped"
MEETINGS: Final = "tests/postgres/test_meetings.py"
OUTAGES: Final = "tests/postgres/test_outages.py"
RESTARTS: Final = "tests/postgres/test_restarts.py"
SETTLING: Final = "tests/core/test_settling.py"
HOSTS: Final = "tests/postgres/test_hosts.py"
RACES: Final = "tests/postgres/test_races.py"
OUTCOMES: Final = "tests/core/test_outcomes.py"

FAULTS: Final = (
    # --- unknown outcomes ----------------------------------------------------------------------------
    Fault(
        "postgres-write-of-any-incarnation",
        STATEMENTS,
        "where node = $4 and lane = 0 and incarnation = $5 and batch = $1 - 1",
        "where node = $4 and lane = 0 and $5 > 0 and batch = $1 - 1",
        (LOST_ONE,),
    ),
    Fault(
        "postgres-write-behind-lost-batches",
        STATEMENTS,
        "and incarnation = $5 and batch = $1 - 1",
        "and incarnation = $5 and batch < $1",
        (f"{RESTARTS}::test_a_server_that_lost_acknowledged_batches_stops_the_store_loudly",),
    ),
    Fault(
        "postgres-late-fence-stops-the-writer",
        WRITERS,
        "where node = $1 and lane = 0 and incarnation < $4",
        "where node = $1 and lane = 0 and $4 > 0",
        (UNDER_WAY,),
    ),
    Fault("postgres-fence-is-not-repeated", BACKEND, "patient=not first", "patient=False", (UNDER_WAY,)),
    Fault(
        "postgres-forgets-what-an-unsettled-writer-knows",
        BACKEND,
        "if self._row is not None and not self._unsettled:",
        "if self._row is not None:",
        (f"{MEETINGS}::test_a_writer_that_is_cancelled_within_a_statement_tells_that_the_outcome_is_unknown",),
    ),
    Fault(
        "sqlite-forgets-what-an-unsettled-writer-knows",
        "src/perdure/backends/sqlite/backend.py",
        "if self._row is not None and not self._unsettled:",
        "if self._row is not None:",
        (
            "tests/sqlite/test_stopping.py::test_the_outcome_of_a_writer_that_was_cancelled_in_its_commit_can_be_settled_after_a_clean_close",
        ),
    ),
    Fault(
        "writer-tells-nothing-was-written-when-settling-fails",
        WRITER,
        "except (StoreError, asyncio.CancelledError) as error:",
        "except StoreUnavailable as error:",
        (
            f"{SETTLING}::test_a_writer_that_is_cancelled_while_it_settles_tells_that_the_outcome_is_unknown",
            f"{SETTLING}::test_whatever_the_database_says_to_the_question_an_unsettled_outcome_is_unknown",
        ),
    ),
    # --- connections ---------------------------------------------------------------------------------
    Fault(
        "postgres-rows-in-memory-outlive-their-connection",
        BACKEND,
        "            self._made = self._session.made\n            self._cache.clear()\n",
        "            self._made = self._session.made\n",
        (f"{RESTARTS}::test_rows_in_memory_that_another_node_wrote_and_the_server_lost_are_read_again",),
    ),
    Fault(
        "postgres-close-gives-up-at-the-first-lost-connection",
        BACKEND,
        "if self._leaving and (tries or not isinstance(failed, Lost)):",
        "if self._leaving:",
        (f"{OUTAGES}::test_a_connection_that_breaks_while_a_store_closes_is_no_reason_to_give_up",),
    ),
    Fault(
        "postgres-reads-after-the-close",
        f"{HERE}/reader.py",
        "            self.check()  # it may have been closed while this waited\n",
        "",
        (f"{OUTAGES}::test_reads_that_wait_when_the_store_closes_are_refused_and_leave_no_connection",),
    ),
    Fault(
        "postgres-asks-a-mute-server-first-each-time",
        CONNECTION,
        "self._server = number",
        "self._server = 0",
        (f"{HOSTS}::test_a_connection_goes_first_to_the_server_that_answered_last",),
    ),
    # --- several writers -----------------------------------------------------------------------------
    Fault(
        "postgres-locks-of-one-table-in-two-orders",
        STATEMENTS,
        "if sum(map(bool, (work.unchanged, work.update, work.renew, work.delete))) > 1:",
        "if work.unchanged and (work.update or work.renew or work.delete):",
        (f"{MEETINGS}::test_two_who_change_and_remove_the_same_rows_crosswise_do_not_wait_for_one_another",),
    ),
    Fault(
        "postgres-guards-are-locked-last",
        STATEMENTS,
        "for table in sorted(found, key=lambda table: table.place)}",
        "for table in sorted(found, key=lambda table: table.name)}",
        (f"{MEETINGS}::test_rows_that_guard_ranges_are_locked_before_what_is_in_the_ranges",),
    ),
    Fault(
        "postgres-gives-one-slot-twice",
        WRITERS,
        "where node = '' and lane = 0 for update\")",
        "where node = '' and lane = 0\")",
        (f"{MEETINGS}::test_stores_that_are_opened_at_once_give_out_different_ticks",),
    ),
    Fault(
        "postgres-fence-forgets-the-ticks-of-what-it-waited-for",
        WRITERS,
        "greatest(last_tick, (select max(last_tick) from {self._schema}.writer))",
        "(select max(last_tick) from {self._schema}.writer)",
        (f"{MEETINGS}::test_ticks_grow_behind_a_batch_that_was_committed_while_the_writer_fenced",),
    ),
    Fault(
        "postgres-looks-at-what-it-has-unlocked",
        BACKEND,
        "            found = (await self._session.rows(sql, values))[0][0] if seen else 0  # what is locked still is\n            await self._session.rollback()\n",
        "            await self._session.rollback()\n            found = (await self._session.rows(sql, values))[0][0] if seen else 0\n",
        (f"{MEETINGS}::test_a_decision_that_only_reads_is_not_disturbed_by_who_waits_for_its_rows",),
    ),
    Fault(
        "postgres-checks-without-a-lock",
        STATEMENTS,
        'join {sql.name} t on {here} {lock} of t"',
        'join {sql.name} t on {here} {lock[:0]}"',
        (f"{RACES}::test_of_two_who_each_look_whether_the_other_one_stays_one_stays",),
    ),
    Fault(
        "writer-locks-one-row-after-the-other",
        WRITER,
        "tried[-1].looked() if tried else ()",
        "()",
        (f"{SETTLING}::test_a_batch_that_is_run_again_reads_at_once_what_the_try_before_came_upon",),
    ),
)

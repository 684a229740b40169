"""Faults in the PostgreSQL backend."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/backends/postgres"
BACKEND: Final = f"{HERE}/backend.py"
CONNECTION: Final = f"{HERE}/connection.py"
STATEMENTS: Final = f"{HERE}/statements.py"
WRITERS: Final = f"{HERE}/writers.py"

ALONE: Final = "tests/postgres/test_backend.py"
NODES: Final = "tests/postgres/test_nodes.py"
LOST: Final = "tests/postgres/test_lost_connections.py"
OUTCOMES: Final = "tests/core/test_outcomes.py"
LAW: Final = "tests/core/test_law.py::test_one_batch_of_n_is_n_batches_of_one[asyncio-postgres]"
MADE_AGAIN: Final = f"{NODES}::test_a_row_that_another_node_changed_meanwhile_is_read_and_decided_again"

FAULTS: Final = (
    # --- tables that are partitioned -------------------------------------------------------------------------
    Fault(
        "postgres-name-of-a-partition-is-no-tables",
        BACKEND,
        "[key for key in inserts if key.table.name == (taken or error.table_name)] or inserts",
        "[key for key in inserts if key.table.name == (taken or error.table_name)]",
        ("tests/postgres/test_partitions.py::test_of_two_nodes_that_insert_the_same_row_into_a_partition_the_second_decides_again",),
    ),
    Fault(
        "postgres-partitions-are-tables-of-their-own",
        f"{HERE}/database.py",
        " and not relispartition order by 1",
        " order by 1",
        ("tests/postgres/test_partitions.py::test_partitions_are_no_tables_of_their_own_to_people_and_a_backup_has_every_row",),
    ),
    # --- what is compared when a batch is written ----------------------------------------------------------
    Fault(
        "postgres-update-without-version",
        STATEMENTS,
        '    here = sql.on(table.key_columns) + f" and {sql.rev} = u._rev"\n',
        "    here = sql.on(table.key_columns)\n",
        (MADE_AGAIN,),
    ),
    Fault(
        "postgres-update-that-finds-no-row-is-done",
        STATEMENTS,
        "<> {numbers.next('bigint')} then",
        "> {numbers.next('bigint')} then",
        (MADE_AGAIN,),
    ),
    Fault(
        "postgres-unchanged-rows-not-compared",
        STATEMENTS,
        "(work.unchanged if rev else work.absent).append(",
        "(list[Values]() if rev else work.absent).append(",
        (f"{NODES}::test_a_row_that_was_only_looked_at_is_looked_at_again_when_another_node_changed_it",),
    ),
    Fault(
        "postgres-guard-of-a-range-not-compared",
        "src/perdure/core/view.py",
        "found = [(key, rev) for key, rev in revs.items() if key not in dirty and",
        "found = [(key, rev) for key, rev in revs.items() if key not in dirty and key.table.name != 'owner' and",
        (f"{NODES}::test_a_range_with_a_guard_is_looked_at_again_when_another_node_added_to_it",),
    ),
    Fault(
        "postgres-absent-rows-not-compared",
        STATEMENTS,
        "(work.unchanged if rev else work.absent).append(",
        "(work.unchanged if rev else list[Values]()).append(",
        (f"{NODES}::test_a_row_that_was_absent_is_looked_for_again_when_another_node_made_it",),
    ),
    Fault(
        "postgres-new-row-is-remembered-at-one",
        BACKEND,
        "change.rev + 1 if change.rev else first",
        "change.rev + 1",
        (f"{ALONE}::test_a_row_is_read_from_the_server_once",),
    ),
    Fault(
        "postgres-versions-stand-still",
        STATEMENTS,
        '"rev = t.rev + 1"',
        '"rev = t.rev"',
        (MADE_AGAIN, LAW),
    ),
    Fault(
        "postgres-insert-takes-the-place-of-what-is-there",
        STATEMENTS,
        'from {numbers.unnest(table.columns, sql.types)} returning 1"',
        "from {numbers.unnest(table.columns, sql.types)} on conflict ({_list(table.key_columns, 'x').replace('x.', '')}) "
        'do update set {table.columns[-1]} = excluded.{table.columns[-1]} returning 1"',
        (f"{NODES}::test_a_row_that_another_node_is_about_to_insert_is_waited_for_and_decided_again",),
    ),
    Fault(
        "postgres-insert-looks-not-ahead",
        STATEMENTS,
        "[checks[0], *vacant, *checks[1:], *inserts]",
        "[*checks, *inserts]",
        (f"{ALONE}::test_a_row_that_is_there_though_nobody_looked_is_refused_with_the_name_of_its_table",),
    ),
    Fault(
        "postgres-update-leaves-what-never-changes-in-a-renewed-row",
        STATEMENTS,
        '() if kind == "renew" else table.fixed',
        "table.fixed",
        (f"{NODES}::test_a_row_that_is_deleted_and_made_again_in_one_transaction_is_a_new_one",),
    ),
    Fault(
        "postgres-look-not-compared",
        BACKEND,
        "        if found != sum(map(len, seen.values())):\n",
        "        if False:\n",
        (f"{NODES}::test_a_decision_that_only_reads_sees_what_another_node_has_committed",),
    ),
    # --- the writer's row ------------------------------------------------------------------------------------
    Fault(
        "postgres-writer-row-not-compared",
        STATEMENTS,
        "and incarnation = $5 and batch = $1 - 1 returning 1",
        "and $5 > 0 and batch = $1 - 1 returning 1",
        (f"{ALONE}::test_a_writer_that_a_newer_one_replaced_writes_nothing_more",),
    ),
    Fault(
        "postgres-batch-number-not-compared",
        STATEMENTS,
        "and batch = $1 - 1 returning 1",
        "returning 1",
        (f"{ALONE}::test_a_batch_is_written_once_under_its_number",),
    ),
    Fault(
        "postgres-writer-without-a-row-goes-on",
        STATEMENTS,
        "when (select count(*) from w) <> 1 then",
        "when (select count(*) from w) > 1 then",
        (f"{ALONE}::test_a_writer_that_a_newer_one_replaced_writes_nothing_more",),
    ),
    Fault(
        "postgres-incarnation-not-raised",
        WRITERS,
        "set incarnation = $4, seen_at = coalesce($2, {NOW}), slot = least(slot, $3 - 1), {renewed()}, knows = $5",
        "set seen_at = coalesce($2, {NOW}), slot = least(slot, $3 - 1), {renewed()}, knows = $5",
        (f"{OUTCOMES}::test_a_settled_outcome_is_fenced_against_what_is_still_under_way[asyncio-postgres]",),
    ),
    Fault(
        "postgres-settling-does-not-fence",
        WRITERS,
        "set incarnation = incarnation + 1 where node = $1 and lane = 0 and node <> '' returning batch",
        "set incarnation = incarnation where node = $1 and lane = 0 and node <> '' returning batch",
        (f"{ALONE}::test_a_batch_is_settled_by_its_number_and_its_writer_fenced",),
    ),
    Fault(
        "postgres-settles-every-batch-as-done",
        WRITERS,
        "return bool(found[0][0] >= batch)",
        "return True",
        (f"{ALONE}::test_a_batch_is_settled_by_its_number_and_its_writer_fenced",),
    ),
    Fault(
        "postgres-counters-are-set-not-added",
        STATEMENTS,
        "set value = counter.value + excluded.value returning 1",
        "set value = excluded.value returning 1",
        (f"{ALONE}::test_counters_are_the_sum_over_writers_and_survive_them",),
    ),
    Fault(
        "postgres-counters-of-a-closed-writer-are-lost",
        WRITERS,
        "select name, '', value from counted ",
        "select name, '', 0 from counted ",
        (f"{ALONE}::test_counters_are_the_sum_over_writers_and_survive_them",),
    ),
    Fault(
        "postgres-writers-with-the-same-slot",
        WRITERS,
        "where not exists (select 1 from {schema}.writer where slot = s)",
        "where s > 0",
        (f"{ALONE}::test_writers_that_decide_at_the_same_time_give_out_different_ticks",),
    ),
    Fault(
        "postgres-last-tick-not-read",
        BACKEND,
        "        self._last_tick = max(self._last_tick, found[-2])\n",
        "",
        (f"{ALONE}::test_ticks_grow_over_all_writers_and_after_a_reopening",),
    ),
    Fault(
        "postgres-last-tick-of-a-later-read-not-taken",
        "src/perdure/core/view.py",
        "        self.last_tick = max(self.last_tick, found.last_tick)",
        "        pass",
        (f"{ALONE}::test_ticks_grow_over_all_writers_and_after_a_reopening",),
    ),
    Fault(
        "postgres-tick-of-a-closed-writer-is-lost",
        WRITERS,
        "set last_tick = greatest(writer.last_tick, gone.last_tick)",
        "set last_tick = writer.last_tick",
        (f"{ALONE}::test_ticks_grow_over_all_writers_and_after_a_reopening",),
    ),
    Fault(
        "postgres-commits-of-a-writer-that-came-and-went-are-not-seen",
        WRITERS,
        "batch = writer.batch + gone.moves",
        "batch = writer.batch",
        ("tests/postgres/test_notices.py::test_a_commit_of_another_store_is_heard_of_whether_or_not_it_stays",),
    ),
    Fault(
        "postgres-versions-begin-anew",
        STATEMENTS,
        'return 1 + int.from_bytes(randomness(7), "big")',
        "return 1",
        ("tests/postgres/test_meetings.py::test_a_row_that_was_removed_and_made_anew_is_not_taken_for_the_one_in_memory",),
    ),
    Fault(
        "postgres-insert-waits-for-who-deletes",
        STATEMENTS,
        "[checks[0], *vacant, *checks[1:], *inserts]",
        "[*checks, *inserts]",
        ("tests/postgres/test_meetings.py::test_who_inserts_what_is_there_does_not_wait_for_who_deletes_it",),
    ),
    Fault(
        "postgres-statements-without-names",
        f"{HERE}/connection.py",
        "connection.prepare(sql, name=name)",
        "connection.prepare(sql)",
        ("tests/postgres/test_session.py::test_a_statement_is_prepared_once_per_connection",),
    ),
    Fault(
        "postgres-what-is-given-up-goes-on",
        CONNECTION,
        "            self._given_up = self._pid\n",
        "            pass\n",
        (f"{LOST}::test_every_caller_hears_what_became_of_a_batch_whose_connection_broke[asyncio-mute_in_the_middle_of_a_locked_run]",),
        hangs=True,
    ),
    Fault(
        "postgres-a-dead-machine-is-waited-for",
        CONNECTION,
        'f"tcp_keepalives_{name}": str(n)',
        'f"tcp_keepalives_{name}": "0"',
        ("tests/postgres/test_session.py::test_the_server_notices_soon_that_the_machine_of_a_connection_is_gone",),
    ),
    # --- reading -------------------------------------------------------------------------------------------------
    Fault(
        "postgres-scan-from-its-own-place",
        STATEMENTS,
        '("<", ">=") if backwards else (">", "<=")',
        '("<", ">=") if backwards else (">=", "<=")',
        (f"{ALONE}::test_a_scan_goes_from_after_one_place_up_to_another_in_both_directions",),
    ),
    Fault(
        "postgres-scan-backwards-ends-too-early",
        STATEMENTS,
        '("<", ">=") if backwards else (">", "<=")',
        '("<", ">") if backwards else (">", "<=")',
        (f"{ALONE}::test_a_scan_goes_from_after_one_place_up_to_another_in_both_directions",),
    ),
    Fault(
        "postgres-page-is-always-whole",
        STATEMENTS,
        "[scan.limit + 1 for scan in same]",
        "[scan.limit for scan in same]",
        (f"{ALONE}::test_a_batch_reads_what_is_wanted_and_whether_each_range_ends",),
    ),
    Fault(
        "postgres-ranges-read-before-the-locks",
        BACKEND,
        "            await self._read(Wanted(wanted.keys, ()), read, lock=True)\n",
        "            return await self._read(wanted, read, lock=True)\n",
        (f"{NODES}::test_a_range_is_read_behind_the_locks_so_that_it_has_what_they_waited_for",),
    ),
    Fault(
        "postgres-reads-without-locks-when-told-to-lock",
        STATEMENTS,
        '"" if not lock else " for share of t" if',
        '"" if True else " for share of t" if',
        (f"{NODES}::test_what_a_batch_has_locked_nobody_changes_before_its_end",),
    ),
    Fault(
        "postgres-locks-rows-as-they-come",
        STATEMENTS,
        "return {table: sorted(found[table], key=lambda key: key.parts) for",
        "return {table: found[table] for",
        (f"{NODES}::test_rows_are_locked_in_one_order_when_they_are_read",),
    ),
    Fault(
        "postgres-locks-tables-as-they-come",
        STATEMENTS,
        "for table in sorted(found, key=lambda table: table.place)}",
        "for table in found}",
        (f"{NODES}::test_rows_are_locked_in_one_order_when_they_are_read",),
    ),
    Fault(
        "postgres-writes-rows-as-they-come",
        STATEMENTS,
        "(kind, sorted(rows, key=_key_of(table)))",
        "(kind, rows)",
        (f"{NODES}::test_rows_are_locked_in_one_order_when_they_are_written",),
    ),
    Fault(
        "postgres-writes-tables-as-they-come",
        STATEMENTS,
        "for table in sorted(tables, key=lambda each: each.place):",
        "for table in sorted(tables, key=lambda each: each.place, reverse=True):",
        (f"{NODES}::test_rows_are_locked_in_one_order_when_they_are_written",),
    ),
    # --- rows in memory ------------------------------------------------------------------------------------------
    Fault(
        "postgres-cache-survives-a-refused-write",
        BACKEND,
        "        self._drop(key for key, _ in unchanged)\n",
        "",
        (f"{NODES}::test_what_a_refused_write_was_decided_on_is_forgotten",),
    ),
    Fault(
        "postgres-cache-survives-an-old-look",
        BACKEND,
        "            self._drop(key for rows in seen.values() for key, _ in rows)\n",
        "",
        (f"{NODES}::test_what_was_found_to_be_old_is_forgotten",),
    ),
    Fault(
        "postgres-cache-keeps-what-was-deleted",
        BACKEND,
        "            if row is None:\n                self._cache.drop(key)\n",
        "            if row is None:\n                pass\n",
        (f"{ALONE}::test_a_deleted_row_is_read_once",),
    ),
    Fault(
        "postgres-reads-in-memory-taken-for-certain",
        BACKEND,
        "certain = first and not read.rows and not self._locked",
        "certain = first and not self._locked",
        (f"{NODES}::test_a_decision_that_only_reads_sees_what_another_node_has_committed",),
    ),
    # --- what errors mean ----------------------------------------------------------------------------------------
    Fault(
        "postgres-unique-violation-taken-for-a-refusal",
        CONNECTION,
        '    "23505": Failure.DUPLICATE,\n',
        '    "23505": Failure.REFUSED,\n',
        (f"{NODES}::test_a_row_that_another_node_is_about_to_insert_is_waited_for_and_decided_again",),
    ),
    Fault(
        "postgres-log-row-that-is-there-taken-for-a-conflict",
        BACKEND,
        "if not locked or any(key in looked_for for key in named):",
        "if True:",
        (f"{ALONE}::test_a_log_row_is_written_once",),
    ),
    Fault(
        "postgres-row-that-is-there-taken-for-a-conflict",
        CONNECTION,
        "    TAKEN: Failure.DUPLICATE,\n",
        "    TAKEN: Failure.CONFLICT,\n",
        (f"{ALONE}::test_a_row_that_is_there_though_nobody_looked_is_refused_with_the_name_of_its_table",),
    ),
    Fault(
        "postgres-bad-value-taken-for-a-broken-server",
        CONNECTION,
        '    "22": Failure.REFUSED,\n',
        '    "22": Failure.BROKEN,\n',
        (f"{ALONE}::test_what_the_database_cannot_hold_is_refused_alone",),
    ),
    Fault(
        "postgres-check-taken-for-a-broken-server",
        CONNECTION,
        '    "23": Failure.REFUSED,\n',
        '    "23": Failure.BROKEN,\n',
        (f"{ALONE}::test_what_the_database_cannot_hold_is_refused_alone",),
    ),
    Fault(
        "postgres-full-disk-taken-for-a-busy-server",
        CONNECTION,
        '    "53100": Failure.FULL,\n',
        "",
        (f"{ALONE}::test_each_error_of_the_server_is_told_as_what_it_means",),
    ),
    Fault(
        "postgres-deadlock-taken-for-a-broken-server",
        CONNECTION,
        '    "40P01": Failure.CONFLICT,\n',
        "",
        (f"{ALONE}::test_each_error_of_the_server_is_told_as_what_it_means",),
    ),
    Fault(
        "postgres-time-goes-back",
        BACKEND,
        "        elif first:\n            self._now = max(self._now, self._clock.now())\n",
        "        elif first:\n            self._now = self._clock.now()\n",
        (f"{ALONE}::test_the_stores_time_does_not_go_back",),
    ),
)

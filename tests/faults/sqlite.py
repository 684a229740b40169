"""Faults in the SQLite backend and its schema."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/backends/sqlite"
BACKEND: Final = f"{HERE}/backend.py"
STATEMENTS: Final = f"{HERE}/statements.py"
FILE: Final = f"{HERE}/file.py"
WRITERS: Final = f"{HERE}/writers.py"
MIGRATIONS: Final = f"{HERE}/migrations.py"

BACKEND_TESTS: Final = "tests/sqlite/test_backend.py"
STOPPING: Final = "tests/sqlite/test_stopping.py"
TWO: Final = "tests/sqlite/test_faults_sqlite.py"
POWER: Final = "tests/sqlite/test_power_loss.py"
MIGRATION_TESTS: Final = "tests/sqlite/test_migrations.py"
SAME: Final = "tests/core/test_law.py::test_every_database_and_a_dictionary_come_to_the_same_results[asyncio-sqlite]"

FAULTS: Final = (
    # --- one batch -----------------------------------------------------------------------------------
    Fault(
        "sqlite-begins-without-the-lock",
        BACKEND,
        '_BEGIN: Final = "BEGIN IMMEDIATE"\n',
        '_BEGIN: Final = "BEGIN"\n',
        (f"{BACKEND_TESTS}::test_the_lock_is_taken_before_the_first_read",),
    ),
    Fault(
        "sqlite-update-without-version",
        STATEMENTS,
        'there = f"{found} AND rev=?{len(fields) + len(keys) + 1}"',
        'there = f"{found} AND ?{len(fields) + len(keys) + 1}>0"',
        (f"{BACKEND_TESTS}::test_a_row_in_memory_that_is_not_the_files_is_found_at_the_latest_when_it_is_written",),
    ),
    Fault(
        "sqlite-update-leaves-what-an-index-looks-at",
        BACKEND,
        "sql.indexed(known[1]) == sql.indexed(new)",
        "sql.indexed(known[1])",
        ("tests/sqlite/test_lists.py::test_what_an_index_looks_at_is_written_when_it_changes",),
    ),
    Fault(
        "sqlite-update-that-finds-no-row-is-done",
        BACKEND,
        "        if connection.total_changes() - before != sum(map(len, versioned.values())):\n",
        "        if False:\n",
        (f"{BACKEND_TESTS}::test_a_row_in_memory_that_is_not_the_files_is_found_at_the_latest_when_it_is_written",),
    ),
    Fault(
        "sqlite-update-without-key",
        STATEMENTS,
        'there = f"{found} AND rev',
        "there = f\"{found.replace('AND', 'OR')} AND rev",
        (f"{TWO}::test_a_change_of_one_row_leaves_its_neighbours",),
    ),
    Fault(
        "sqlite-versions-stand-still",
        STATEMENTS,
        '"rev=rev+1"',
        '"rev=rev"',
        (f"{BACKEND_TESTS}::test_a_row_is_read_from_the_file_once", SAME),
    ),
    Fault(
        "sqlite-scan-from-its-own-place",
        STATEMENTS,
        '(">", "<=", "")',
        '(">=", "<=", "")',
        (f"{BACKEND_TESTS}::test_a_scan_goes_from_after_one_place_up_to_another",),
    ),
    Fault(
        "sqlite-scan-ends-too-early",
        STATEMENTS,
        '(">", "<=", "")',
        '(">", "<", "")',
        (f"{BACKEND_TESTS}::test_a_scan_goes_from_after_one_place_up_to_another",),
    ),
    Fault(
        "sqlite-scan-without-order",
        STATEMENTS,
        'order = ", ".join(column + way for column in index.order)',
        "order = index.order[-1] + way",
        (f"{BACKEND_TESTS}::test_a_scan_tells_whether_the_range_ends",),
    ),
    Fault(
        "sqlite-page-is-always-whole",
        BACKEND,
        "sql.scan(scan, scan.limit + 1)",
        "sql.scan(scan, scan.limit)",
        (f"{BACKEND_TESTS}::test_a_scan_tells_whether_the_range_ends",),
    ),
    Fault(
        "sqlite-abandon-without-rollback",
        BACKEND,
        '                    self._file.writing.execute("ROLLBACK")\n',
        '                    self._file.writing.execute("COMMIT")\n',
        ("tests/core/test_law.py::test_the_law_holds_when_the_database_refuses_rows[asyncio-sqlite]",),
    ),
    # --- rows in memory, other processes -------------------------------------------------------------
    Fault(
        "sqlite-cache-outlives-another-processs-commit",
        BACKEND,
        "            self._data_version = version\n            self._cache.clear()\n",
        "            self._data_version = version\n",
        (f"{TWO}::test_a_decision_that_only_reads_sees_what_another_process_has_committed",),
    ),
    Fault(
        "sqlite-cache-keeps-what-was-deleted",
        BACKEND,
        "                self._cache.drop(key)\n",
        "                pass\n",
        (f"{BACKEND_TESTS}::test_a_deleted_row_is_not_remembered",),
    ),
    Fault(
        "sqlite-cache-counts-what-was-deleted",
        "src/perdure/backends/cache.py",
        "            self._bytes -= size\n",
        "            pass\n",
        ("tests/sqlite/test_cache.py::test_what_was_deleted_takes_no_room_of_what_stays",),
    ),
    Fault(
        "sqlite-cache-survives-a-refusal",
        BACKEND,
        "        except (BatchConflict, WriterFenced):\n            self._cache.clear()\n",
        "        except (BatchConflict, WriterFenced):\n",
        (f"{BACKEND_TESTS}::test_a_row_in_memory_that_is_not_the_files_is_found_at_the_latest_when_it_is_written",),
    ),
    Fault(
        "sqlite-ticks-of-other-writers-unseen",
        BACKEND,
        "            self._last_tick = writers.last_tick(self._file.writing)\n",
        "",
        (f"{BACKEND_TESTS}::test_ticks_grow_over_all_writers_and_after_a_reopening",),
    ),
    Fault(
        "sqlite-time-goes-back",
        BACKEND,
        "        self._open = True\n        self._now = max(self._now, file.clock.now())\n",
        "        self._open = True\n        self._now = file.clock.now()\n",
        (f"{BACKEND_TESTS}::test_the_stores_time_does_not_go_back",),
    ),
    Fault(
        "sqlite-fenced-writer-goes-on",
        WRITERS,
        "AND incarnation = ?6 AND batch = ?1 - 1",
        "AND ?6 > 0 AND batch = ?1 - 1",
        (f"{BACKEND_TESTS}::test_a_writer_that_a_newer_one_replaced_writes_nothing_more",),
    ),
    Fault(
        "sqlite-counters-of-a-closed-writer-are-lost",
        WRITERS,
        "SELECT name, '', value FROM counter WHERE node = ? ",
        "SELECT name, '', 0 FROM counter WHERE node = ? ",
        (f"{BACKEND_TESTS}::test_counters_are_the_sum_over_writers_and_survive_them",),
    ),
    Fault(
        "sqlite-counters-are-set-not-added",
        WRITERS,
        "VALUES (?, ?, ?) ON CONFLICT (name, node) DO UPDATE SET value = value + excluded.value",
        "VALUES (?, ?, ?) ON CONFLICT (name, node) DO UPDATE SET value = excluded.value",
        (f"{BACKEND_TESTS}::test_counters_are_the_sum_over_writers_and_survive_them",),
    ),
    Fault(
        "sqlite-settles-every-batch-as-done",
        WRITERS,
        "    return found >= batch\n",
        "    return True\n",
        (f"{STOPPING}::test_beside_another_open_store_a_failed_commit_did_not_happen_and_cannot_come_back",),
    ),
    # --- disks ---------------------------------------------------------------------------------------
    Fault(
        "sqlite-failed-commit-taken-for-a-refusal",
        BACKEND,
        "        return told if certain and isinstance(told, BatchRefused | StoreCorrupt) else CommitUnknown(str(told))\n",
        "        return told\n",
        (f"{STOPPING}::test_a_failed_commit_is_unknown_to_its_callers_and_stops_the_store",),
    ),
    Fault(
        "sqlite-goes-on-after-an-io-error",
        FILE,
        "        if failure_of(error) in _DOUBTFUL and self._why_not is None:\n",
        "        if False:\n",
        (f"{STOPPING}::test_a_read_that_fails_stops_the_store_too",),
    ),
    Fault(
        "sqlite-checkpoint-errors-swallowed",
        f"{HERE}/checkpoints.py",
        '                logger.warning("checkpoint: %s", self._file.judged(error))\n',
        '                logger.warning("checkpoint: %s", error)\n',
        (f"{STOPPING}::test_a_failed_checkpoint_stops_the_store_and_loses_nothing",),
    ),
    Fault(
        "sqlite-believes-the-wal-at-opening",
        FILE,
        "            self._empty_wal()\n",
        "",
        (f"{POWER}::test_what_a_failed_sync_left_in_the_cache_is_on_the_disk_before_it_is_believed",),
    ),
    Fault(
        "sqlite-cache-counts-pages-for-kibibytes",
        f"{HERE}/connection.py",
        "-(limits.SQLITE_PAGES_BYTES // limits.KIB)",
        "limits.SQLITE_PAGES_BYTES // limits.KIB",
        ("tests/sqlite/test_opening.py::test_a_connection_keeps_no_more_pages_in_memory_than_its_limit",),
    ),
    Fault(
        "sqlite-commits-without-sync",
        f"{HERE}/connection.py",
        '    connection.pragma("synchronous", "full")\n',
        '    connection.pragma("synchronous", "normal")\n',
        (f"{POWER}::test_after_a_loss_of_power_at_any_call_everything_acknowledged_is_there_and_all_is_whole",),
    ),
    Fault(
        "sqlite-full-disk-poisons",
        f"{HERE}/connection.py",
        "    apsw.SQLITE_FULL: Failure.FULL,\n",
        "    apsw.SQLITE_FULL: Failure.BROKEN,\n",
        (f"{STOPPING}::test_a_full_disk_is_told_to_its_callers_and_the_writer_goes_on",),
    ),
    # --- the schema ----------------------------------------------------------------------------------
    Fault(
        "sqlite-edited-migration-accepted",
        "src/perdure/backends/migrations.py",
        "        if migration.checksum != checksum:\n",
        "        if False:\n",
        (f"{MIGRATION_TESTS}::test_an_edited_migration_refuses_to_open",),
    ),
    Fault(
        "sqlite-newer-schema-accepted",
        "src/perdure/backends/migrations.py",
        "        if migration is None:\n",
        "        if migration is None:\n            continue\n",
        ("tests/upgrades/test_phases.py::test_a_phase_that_is_not_known_refuses_like_a_contract",),
    ),
    Fault(
        "sqlite-migration-applied-twice",
        MIGRATIONS,
        "        if migration.number not in _applied(connection):",
        "        if True:",
        (f"{MIGRATION_TESTS}::test_a_migration_that_another_process_applied_meanwhile_is_not_applied_again",),
    ),
    Fault(
        "sqlite-sealed-without-an-answer",
        f"{HERE}/schema/0003_operations.sql",
        "    CHECK ((state = 'sealed') = (response IS NOT NULL)),\n",
        "",
        ("tests/contracts/test_operation_store_defects.py::test_defect_07_what_is_sealed_has_an_answer_and_nothing_else_has",),
    ),
    Fault(
        "sqlite-index-in-another-order",
        f"{HERE}/schema/0002_routing.sql",
        "ON correlation (tenant_id, tag, tick, process_id)",
        "ON correlation (tenant_id, tag, process_id, tick)",
        ("tests/sqlite/test_plans.py",),
    ),
    Fault(
        "sqlite-index-of-other-rows",
        f"{HERE}/schema/0004_conversations.sql",
        "WHERE status IN ('runnable', 'stuck')",
        "WHERE status IN ('runnable')",
        ("tests/sqlite/test_plans.py",),
    ),
    Fault(
        "sqlite-memory-remembers-the-first-ones-clock",
        MIGRATIONS,
        '    connection.execute("UPDATE migration SET applied_at = ?", (clock.now(),))\n',
        "",
        (f"{MIGRATION_TESTS}::test_stores_in_memory_have_nothing_in_common_but_their_tables",),
    ),
    Fault(
        "sqlite-memory-has-the-tables-of-other-migrations",
        MIGRATIONS,
        "        made = _made.get(known)\n",
        "        made = next(iter(_made.values()), None)\n",
        (f"{MIGRATION_TESTS}::test_stores_in_memory_have_nothing_in_common_but_their_tables",),
    ),
)

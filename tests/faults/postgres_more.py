"""Faults in what the PostgreSQL backend remembers, in what it makes of errors, and in its schema."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/backends/postgres"
ADDRESS: Final = f"{HERE}/address.py"
BACKEND: Final = f"{HERE}/backend.py"
CONNECTION: Final = f"{HERE}/connection.py"
MIGRATIONS: Final = f"{HERE}/migrations.py"
READER: Final = f"{HERE}/reader.py"
STATEMENTS: Final = f"{HERE}/statements.py"

ALONE: Final = "tests/postgres/test_backend.py"
NODES: Final = "tests/postgres/test_nodes.py"
PLANS: Final = "tests/postgres/test_plans.py"
SCHEMA: Final = "tests/postgres/test_schema.py"
MIGRATING: Final = "tests/postgres/test_migrations.py"
URLS: Final = "tests/postgres/test_address.py"

FAULTS: Final = (
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
        (f"{NODES}::test_of_two_nodes_that_insert_the_same_row_the_second_decides_again",),
    ),
    Fault(
        "postgres-log-row-that-is-there-taken-for-a-conflict",
        BACKEND,
        "return self._refusal(error) if surely else BatchConflict(str(error))",
        "return BatchConflict(str(error))",
        (f"{ALONE}::test_a_log_row_is_written_once",),
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
    # --- the schema, its name, and how it is reached ----------------------------------------------------------------
    Fault(
        "postgres-schema-not-said-in-a-write",
        STATEMENTS,
        "insert into {self.schema}.counter (name",
        "insert into counter (name",
        (f"{ALONE}::test_counters_are_the_sum_over_writers_and_survive_them",),
    ),
    Fault(
        "postgres-schema-not-said-in-a-read",
        READER,
        "from {self._statements.schema}.counter where",
        "from counter where",
        (f"{ALONE}::test_counters_are_the_sum_over_writers_and_survive_them",),
    ),
    Fault(
        "postgres-tables-made-in-any-schema",
        MIGRATIONS,
        'await session.execute(f"set local search_path = {schema}")',
        'await session.execute("set local search_path = perdure, public")',
        (f"{ALONE}::test_stores_in_two_schemas_of_a_database_know_nothing_of_one_another",),
    ),
    Fault(
        "postgres-one-engine-for-all-schemas",
        "src/perdure/backends/postgres/ownership.py",
        'f"perdure {schema} {name}"',
        'f"perdure {name}"',
        (f"{ALONE}::test_stores_in_two_schemas_of_a_database_know_nothing_of_one_another",),
    ),
    Fault(
        "postgres-migration-applied-twice",
        MIGRATIONS,
        "        if migration.number not in await _applied(session, address):",
        "        if True:",
        (f"{MIGRATING}::test_who_opens_during_a_migration_waits_for_it_and_does_not_apply_it_again",),
    ),
    Fault(
        "postgres-migrations-side-by-side",
        MIGRATIONS,
        "select pg_advisory_xact_lock({_lock(schema)})",
        "select {_lock(schema)}",
        (f"{MIGRATING}::test_any_number_that_open_at_once_make_one_store",),
    ),
    Fault(
        "postgres-migration-without-transaction",
        MIGRATIONS,
        "    await session.begin()\n",
        "",
        (f"{MIGRATING}::test_a_migration_that_fails_leaves_nothing_and_keeps_those_before",),
    ),
    Fault(
        "postgres-anything-taken-for-a-store",
        MIGRATIONS,
        '    if not {"migration", "store", "writer"} <= tables:\n',
        '    if not {"migration"} <= tables:\n',
        (f"{MIGRATING}::test_another_programs_schema_refuses_to_open_and_stays_as_it_is",),
    ),
    Fault(
        "postgres-password-in-the-place",
        ADDRESS,
        "f\"postgresql://{netloc or parameters.get('host', '')}/",
        "f\"postgresql://{parts.netloc or parameters.get('host', '')}/",
        (URLS,),
    ),
    Fault(
        "postgres-password-that-ends-too-early-is-shown",
        ADDRESS,
        '    if not credentials and "@" in f"{parts.path}{parts.query}{parts.fragment}":\n',
        "    if False:\n",
        (URLS,),
    ),
    Fault(
        "postgres-index-in-another-order",
        f"{HERE}/schema/0002_routing.sql",
        "ON correlation (tenant_id, tag, tick, process_id)",
        "ON correlation (tenant_id, tag, process_id, tick)",
        (PLANS, SCHEMA),
    ),
    Fault(
        "postgres-index-of-other-rows",
        f"{HERE}/schema/0004_conversations.sql",
        "WHERE status IN ('runnable', 'stuck')",
        "WHERE status IN ('runnable')",
        (PLANS,),
    ),
    Fault(
        "postgres-rows-found-by-a-part-of-their-key",
        STATEMENTS,
        'where = " and ".join(f"t.{column} = ${n}" for n, column in enumerate(table.key_columns, 1))',
        'where = " and ".join(f"t.{column}||\'\' = ${n}" for n, column in enumerate(table.key_columns, 1))',
        (PLANS,),
    ),
    Fault(
        "postgres-text-compared-by-the-servers-locale",
        f"{HERE}/schema/0002_routing.sql",
        '    key text COLLATE "C" NOT NULL CHECK',
        "    key text NOT NULL CHECK",
        (f"{SCHEMA}::test_text_is_compared_by_bytes_everywhere",),
    ),
)

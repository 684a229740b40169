"""Faults in PostgreSQL's schema, its name, and how it is reached."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/backends/postgres"
ADDRESS: Final = f"{HERE}/address.py"
CONNECTION: Final = f"{HERE}/connection.py"
DATABASE: Final = f"{HERE}/database.py"
MIGRATIONS: Final = f"{HERE}/migrations.py"
READER: Final = f"{HERE}/reader.py"
STATEMENTS: Final = f"{HERE}/statements.py"

ALONE: Final = "tests/postgres/test_backend.py"
PLANS: Final = "tests/postgres/test_plans.py"
SCHEMA: Final = "tests/postgres/test_schema.py"
MIGRATING: Final = "tests/postgres/test_migrations.py"
URLS: Final = "tests/postgres/test_address.py"

FAULTS: Final = (
    Fault(
        "postgres-connection-cut-off-in-its-making",
        CONNECTION,
        "await asyncio.wait([connecting])\n            self._connecting = None",
        "await connecting\n            self._connecting = None",
        ("tests/postgres/test_cancelled.py",),
    ),
    Fault(
        "testing-store-not-used",
        "src/perdure/testing/engine.py",
        "Incarnations(clock, store)",
        "Incarnations(clock)",
        ("tests/testing/test_other_stores.py::test_what_a_test_has_left_in_a_store_can_be_looked_at",),
    ),
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
        '    if not {"migration", "store", "writer"} <= tables.keys():\n',
        '    if not {"migration"} <= tables.keys():\n',
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

"""Faults in upgrades: old and new releases on one store."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

SHARED: Final = "src/perdure/backends/migrations.py"
POSTGRES: Final = "src/perdure/backends/postgres"
SQLITE: Final = "src/perdure/backends/sqlite"
FLEET: Final = "tests/upgrades/test_side_by_side.py"
SERVER: Final = "tests/upgrades/test_on_a_server.py"

FAULTS: Final = (
    Fault(
        "upgrade-what-was-added-refuses-an-old-release",
        SHARED,
        "            if phase != EXPAND:\n                raise too_new",
        "            if phase:\n                raise too_new",
        (f"{FLEET}::test_a_fleet_goes_over_to_a_new_release_and_back_and_over_again",),
    ),
    Fault(
        "upgrade-what-was-taken-away-refuses-nobody",
        f"{POSTGRES}/migrations.py",
        "            if migration.phase != EXPAND:",
        "            if False:",
        (f"{FLEET}::test_a_fleet_goes_over_to_a_new_release_and_back_and_over_again",),
    ),
    Fault(
        "upgrade-contract-while-an-old-release-is-open",
        f"{POSTGRES}/migrations.py",
        "and coalesce(open_until > {NOW}, true) limit 1",
        "and false limit 1",
        (f"{FLEET}::test_a_store_that_only_reads_holds_back_what_it_needs",),
    ),
    Fault(
        "upgrade-contract-waits-for-who-is-dead",
        f"{POSTGRES}/migrations.py",
        "coalesce(open_until > {NOW}, true)",
        "coalesce(open_until > 0, true)",
        (f"{FLEET}::test_a_process_that_was_killed_holds_back_nothing_for_long",),
    ),
    Fault(
        "upgrade-store-let-in-while-a-contract-is-applied",
        f"{POSTGRES}/migrations.py",
        '    await session.execute(f"lock table {schema}.migration in access exclusive mode")\n',
        "",
        (f"{FLEET}::test_who_registers_while_a_contract_is_applied_waits_for_it_and_is_refused",),
    ),
    Fault(
        "upgrade-store-registered-without-a-look",
        f"{POSTGRES}/writers.py",
        "session.rows(beyond(self._schema), (self._knows,))",
        "session.rows(beyond(self._schema), (2**62,))",
        (
            f"{FLEET}::test_who_looked_before_and_registers_after_a_contract_is_refused",
            f"{FLEET}::test_a_store_that_was_taken_for_dead_neither_writes_nor_reads_any_more",
        ),
    ),
    Fault(
        "upgrade-who-was-taken-for-dead-writes",
        f"{POSTGRES}/migrations.py",
        "set incarnation = incarnation + 1, expires_at = null where {older}",
        "set expires_at = null where {older}",
        (f"{FLEET}::test_a_store_that_was_taken_for_dead_neither_writes_nor_reads_any_more",),
    ),
    Fault(
        "upgrade-open-store-gives-no-sign",
        f"{POSTGRES}/database.py",
        "        self.backend.on_fenced = self.presence.begin\n",
        "",
        (f"{FLEET}::test_an_open_store_says_so_until_it_is_closed",),
    ),
    Fault(
        "upgrade-open-store-folded-when-it-is-quiet",
        f"{POSTGRES}/writers.py",
        "and coalesce(open_until < {NOW}, true)",
        "and true",
        ("tests/postgres/test_backend.py::test_a_writer_that_writes_nothing_for_long_stays_while_its_store_is_open",),
    ),
    Fault(
        "upgrade-old-release-copies-half",
        f"{POSTGRES}/transfer.py",
        'beyond(self._schema, only="true")',
        "beyond(self._schema)",
        (f"{FLEET}::test_an_old_release_copies_nothing_that_it_does_not_know",),
    ),
    Fault(
        "upgrade-joined-looks-only-once",
        f"{POSTGRES}/joined.py",
        "in await self.rows(beyond(schema), (knows,)):",
        "in await self.rows(beyond(schema), (knows + 2**40,)):",
        (f"{SERVER}::test_a_joined_transaction_of_an_old_release_works_until_the_store_is_narrowed",),
    ),
    Fault(
        "upgrade-migration-waits-in-front-of-everybody",
        f"{POSTGRES}/migrations.py",
        'await session.execute(f"set local lock_timeout = {limits.MIGRATION_LOCK_MS}")',
        'await session.execute("set local lock_timeout = 0")',
        (f"{SERVER}::test_a_migration_does_not_keep_everybody_waiting_for_one_long_transaction",),
        hangs=True,
    ),
    Fault(
        "upgrade-file-contract-while-an-old-release-is-open",
        f"{SQLITE}/presence.py",
        "if knows < number)",
        "if knows < number - 10**6)",
        (f"{FLEET}::test_a_store_that_only_reads_holds_back_what_it_needs",),
    ),
    Fault(
        "upgrade-file-opened-without-a-second-look",
        f"{SQLITE}/backend.py",
        "                file.check_known()\n",
        "",
        (f"{FLEET}::test_in_a_file_who_opens_while_a_contract_is_applied_is_refused",),
    ),
)

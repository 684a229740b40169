"""Faults in what processes run: which version they start on, and what is asked before its code is run."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

STARTING: Final = "src/perdure/engine/starting.py"
VERSIONS: Final = "src/perdure/engine/versions.py"
UPKEEP: Final = "src/perdure/engine/upkeep.py"
CONTROL: Final = "src/perdure/engine/control.py"
RESTARTING: Final = "src/perdure/engine/restarting.py"
TABLES: Final = "src/perdure/conversations/tables.py"
WEAK: Final = "tests/engine/test_package_weak_spots.py"
OWNER: Final = "src/perdure/engine/owner.py"
REVIVING: Final = "src/perdure/engine/reviving.py"
KEPT: Final = "tests/engine/test_versions.py"
AGAIN: Final = "tests/engine/test_packages_again.py"
HOSTILE: Final = "tests/engine/test_packages_hostile.py"
DOOR: Final = "tests/deploying/test_hostile.py"

FAULTS: Final = (
    Fault(
        "child-follows-the-route",
        STARTING,
        "    if package is None or view.get(TYPE.key(process_type, package)) is None:\n",
        "    if True:\n",
        (
            f"{AGAIN}::test_a_child_starts_on_the_version_of_its_parent_also_after_a_crash",
            f"{WEAK}::test_weak_spot_a11_a_version_is_chosen_for_what_a_process_starts",
        ),
    ),
    Fault(
        "child-starts-on-a-version-that-is-gone",
        STARTING,
        "    if package is None or view.get(TYPE.key(process_type, package)) is None:\n",
        "    if package is None:\n",
        (f"{AGAIN}::test_what_is_sent_for_later_follows_the_route_when_the_senders_version_is_gone",),
    ),
    Fault(
        "later-follows-the-route",
        UPKEEP,
        "                package=package_of(view, tenant_id, row.sender),\n",
        "",
        (f"{AGAIN}::test_what_is_sent_for_later_starts_on_the_version_of_its_sender",),
    ),
    Fault(
        "start-chooses-without-its-key",
        STARTING,
        "key=envelope.address.name or process_id,",
        'key="",',
        (f"{WEAK}::test_weak_spot_a11_a_share_of_new_processes_starts_on_the_next_version",),
    ),
    Fault(
        "other-code-runs-under-a-hash",
        VERSIONS,
        "identity=package, trust=self.trust)",
        "trust=self.trust)",
        (
            f"{WEAK}::test_weak_spot_a5_other_code_under_a_hash_is_not_run",
            f"{HOSTILE}::test_nothing_of_a_hostile_archive_is_run_and_its_processes_say_why",
        ),
    ),
    Fault(
        "trust-is-not-asked-at-a-load",
        VERSIONS,
        "identity=package, trust=self.trust)",
        "identity=package)",
        (f"{WEAK}::test_weak_spot_a13_whose_packages_are_run_is_asked_at_each_load",),
    ),
    Fault(
        "paused-process-pins-nothing",
        TABLES,
        "where_sql=\"package_hash is not null and status <> 'ended' and status <> 'removed'\",",
        "where_sql=\"package_hash is not null and status <> 'ended' and status <> 'removed' and status <> 'paused'\",",
        (
            f"{WEAK}::test_weak_spot_a3_no_unload_strands_what_is_paused_failed_or_stranded",
            f"{WEAK}::test_weak_spot_a4_a_paused_process_is_paused_after_a_restart_and_keeps_its_version",
        ),
    ),
    Fault(
        "deploy-looks-at-no-signature",
        "src/perdure/deploying/deploy.py",
        "identity=expected, trust=trust)",
        "identity=expected)",
        (f"{DOOR}::test_wrong_hashes_and_signatures_are_refused_before_anything_runs",),
    ),
    Fault(
        "deploy-takes-another-package",
        "src/perdure/deploying/deploy.py",
        "identity=expected, trust=trust)",
        "trust=trust)",
        (f"{DOOR}::test_wrong_hashes_and_signatures_are_refused_before_anything_runs",),
    ),
    Fault(
        "version-is-kept-by-who-has-left",
        OWNER,
        "        self.versions.give_back(resident)\n",
        "",
        (f"{KEPT}::test_a_version_is_used_by_nobody_when_its_processes_have_left_memory",),
    ),
    Fault(
        "failure-is-kept-with-its-frames",
        VERSIONS,
        "                self.failed[package] = bare(error)",
        "                self.failed[package] = error",
        (f"{KEPT}::test_a_failure_that_is_kept_keeps_no_frames_and_does_not_grow",),
    ),
    Fault(
        "begins-at-a-restart-only",
        REVIVING,
        "        elif isinstance(error, PerdureError) and error.retryable:\n",
        "        elif not error:\n",
        (f"{KEPT}::test_a_process_begins_when_the_store_was_busy_while_its_version_was_loaded",),
    ),
    Fault(
        "stored-before-it-was-stranded",
        REVIVING,
        "            owner.background(until_done(owner, partial(self._revive, write.tenant_id, write.process_id, process)))\n",
        "            pass\n",
        (f"{KEPT}::test_what_is_stored_between_the_look_for_it_and_the_stranding_revives",),
    ),
    Fault(
        "revived-and-still-called-stranded",
        REVIVING,
        "        self._owner.goes_on(tenant_id, process_id)\n",
        "",
        (f"{KEPT}::test_who_asks_again_for_a_process_that_goes_on_is_not_told_that_it_was_stranded",),
    ),
    Fault(
        "stranded-before-it-began-and-told-to-nobody",
        "src/perdure/engine/recovery.py",
        "        return [reference(str(key.parts[1]), str(key.parts[2])) for key, _ in mail]\n",
        "        return []\n",
        ("tests/engine/test_stranded.py::test_who_starts_a_process_and_waits_hears_that_its_version_cannot_be_loaded",),
        hangs=True,
    ),
    Fault(
        "change-is-forgotten-when-the-store-fails",
        REVIVING,
        "await owner.versions.changed()) or changed\n",
        "await owner.versions.changed())\n",
        (f"{KEPT}::test_stranded_processes_are_looked_at_again_when_the_store_could_not_be_read",),
    ),
    Fault(
        "time-passes-under-a-load",
        "src/perdure/testing/engine.py",
        " or self._owner.versions.busy:",
        ":",
        ("tests/testing/test_packages.py::test_no_time_passes_while_a_version_is_loaded",),
    ),
    Fault(
        "postgres-starts-wait-for-one-another",
        "src/perdure/backends/postgres/statements.py",
        '" for share of t" if table.mostly_read else " for update of t"',
        '" for update of t"',
        ("tests/postgres/test_joined.py::test_transactions_about_different_things_do_not_wait_for_one_another",),
    ),
)

"""Faults in what a sweep removes and leaves."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

REMOVAL: Final = "src/perdure/engine/removal.py"
SWEEPER: Final = "src/perdure/engine/sweeper.py"
HANDLING: Final = "src/perdure/engine/handling.py"
KEPT: Final = "tests/engine/test_retention.py"
EDGES: Final = "tests/engine/test_retention_edges.py"
CRASHES: Final = ("tests/crash/test_sweeps.py",)
RANDOM: Final = ("tests/engine/test_retention_random.py",)

FAULTS: Final = (
    Fault(
        "retention-late-duplicates-are-answered-as-if-known",
        HANDLING,
        "            if row.status == MessageStatus.EXPIRED and not envelope.inner:\n",
        "            if False:\n",
        (f"{KEPT}::test_a_late_duplicate_is_refused_after_retention_and_has_no_second_effect",),
        hangs=True,
    ),
    Fault(
        "retention-tombstones-are-left-out",
        REMOVAL,
        "            view.update(key, tombstone)\n",
        "            view.delete(key)\n",
        RANDOM,
        hangs=True,
    ),
    Fault(
        "retention-tombstones-go-at-once",
        REMOVAL,
        "                expires_at=view.now + self.tombstones,\n",
        "                expires_at=view.now,\n",
        RANDOM,
    ),
    Fault(
        "retention-replies-are-forgotten-instead-of-expired",
        REMOVAL,
        "                evict(view, operation, sealed)\n",
        "                view.delete(operation)\n",
        (f"{KEPT}::test_a_tombstone_keeps_nothing_of_what_was_said",),
    ),
    Fault(
        "retention-evicted-replies-are-never-forgotten",
        REMOVAL,
        "            if evicted is not None and evicted.state == OperationState.EXPIRED:\n",
        "            if False:\n",
        (f"{KEPT}::test_a_tombstone_stands_for_as_long_as_is_promised_and_then_goes",),
    ),
    Fault(
        "retention-messages-go-before-their-time",
        REMOVAL,
        "Scan(AGED, (), limits.SWEEP_CHUNK, upto=(view.now - self.age,))",
        "Scan(AGED, (), limits.SWEEP_CHUNK)",
        (f"{KEPT}::test_a_late_duplicate_is_refused_after_retention_and_has_no_second_effect",),
    ),
    Fault(
        "retention-dead-letters-lose-their-message",
        REMOVAL,
        "    if row is not None and row.status == MessageStatus.DONE:",
        "    if row is not None:",
        (f"{EDGES}::test_the_message_of_a_dead_letter_outlives_its_turn",),
    ),
    Fault(
        "retention-removed-processes-are-half-seen",
        REMOVAL,
        "status=ProcessStatus.REMOVED, first=process.head",
        "status=process.status, first=process.head",
        CRASHES,
    ),
    Fault(
        "retention-search-attributes-stay",
        REMOVAL,
        "            view.delete(attribute)\n",
        "            pass\n",
        ("tests/engine/test_attributes_again.py::test_attributes_are_removed_with_their_process",),
    ),
    Fault(
        "retention-reopened-processes-are-removed",
        REMOVAL,
        "process.over_at is None or process.over_at > view.now - self.age",
        "(process.over_at or 0) > view.now - self.age",
        (f"{EDGES}::test_a_process_that_is_not_over_is_not_removed",),
    ),
    Fault(
        "retention-received-messages-stay-for-ever",
        REMOVAL,
        "            _begin_to_age(view, tenant_id, event.taken, row.at)\n",
        "            continue\n",
        (f"{KEPT}::test_what_is_open_is_never_removed",),
    ),
    Fault(
        "retention-fan-outs-stay-for-ever",
        "src/perdure/engine/delivery.py",
        "status=MessageStatus.DONE, done_at=view.now, copies",
        "status=MessageStatus.DONE, copies",
        (f"{EDGES}::test_messages_to_tags_go_too",),
    ),
    Fault(
        "retention-last-turns-are-removed",
        REMOVAL,
        "        first = max(process.first, min(self.before, process.turn_seq))\n",
        "        first = max(process.first, self.before)\n",
        (f"{EDGES}::test_a_boundary_behind_the_last_turn_is_drawn_back",),
    ),
    Fault(
        "retention-rest-of-a-stopped-removal-stays",
        SWEEPER,
        "        return await self._each(AGES, (Aging.ROWS,), self._access.clock.now(), self._clear) or failed\n",
        "        return failed\n",
        CRASHES,
    ),
    Fault(
        "retention-events-go-before-they-are-written-out",
        SWEEPER,
        "                await self._write_out(key, process, process.first, before)\n",
        "                pass\n",
        ("tests/engine/test_archive.py::test_events_are_in_the_folder_before_they_are_out_of_the_store",),
    ),
    Fault(
        "retention-second-turns-begin-no-aging",
        HANDLING,
        "        if process.head and not process.aging:\n",
        "        if False:\n",
        (f"{KEPT}::test_finished_turns_of_a_living_process_are_compacted_and_it_goes_on",),
    ),
    Fault(
        "retention-removed-processes-are-cancelled",
        "src/perdure/engine/control.py",
        " or process.status == ProcessStatus.REMOVED:\n",
        ":\n",
        (f"{KEPT}::test_nobody_can_ask_anything_of_a_process_that_was_removed",),
    ),
    Fault(
        "retention-removed-processes-get-addresses",
        "src/perdure/conversations/tables.py",
        "OVER = (ProcessStatus.ENDED, ProcessStatus.FAILED, ProcessStatus.REMOVED)\n",
        "OVER = (ProcessStatus.ENDED, ProcessStatus.FAILED)\n",
        (f"{KEPT}::test_nobody_can_ask_anything_of_a_process_that_was_removed",),
    ),
    Fault(
        "retention-torn-lines-are-written-on",
        "src/perdure/engine/archive.py",
        "            _cut_torn_line(file.fileno())\n",
        "",
        ("tests/engine/test_archive.py::test_a_line_that_a_crash_has_torn_is_cut_off_and_never_read",),
    ),
)

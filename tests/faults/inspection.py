"""Faults in queries, search attributes, lists, timelines and explanations."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

ATTRIBUTES: Final = "src/perdure/conversations/attributes.py"
SEARCHING: Final = "src/perdure/engine/searching.py"
QUERIES: Final = "tests/engine/test_queries.py"
ATTRIBUTED: Final = "tests/engine/test_attributes.py"
AGAIN: Final = "tests/engine/test_attributes_again.py"
SEARCHED: Final = "tests/engine/test_searching.py"
TOLD: Final = "tests/engine/test_timeline.py"
LISTS: Final = "tests/sqlite/test_lists.py"

FAULTS: Final = (
    # --- queries -------------------------------------------------------------------------------------
    Fault(
        "query-shows-what-the-turn-found",
        "src/perdure/engine/queries.py",
        "made.load(None if state is None else state.saved)",
        "made.load(None if state is None else state.found)",
        (f"{QUERIES}::test_a_query_shows_what_is_committed_and_nothing_more",),
    ),
    Fault(
        "query-of-another-class-is-answered",
        "src/perdure/engine/queries.py",
        "    if found is None or method not in (None, found.function):\n",
        "    if found is None:\n",
        (f"{QUERIES}::test_what_cannot_be_asked_is_said",),
    ),
    # --- attributes ----------------------------------------------------------------------------------
    Fault(
        "attribute-of-a-failed-turn-stands",
        ATTRIBUTES,
        "    kind, value = (row.kind, row.value) if ok else (row.found_kind, row.found)\n",
        "    kind, value = row.kind, row.value\n",
        (f"{ATTRIBUTED}::test_a_failed_turn_goes_back_to_the_attributes_that_it_found",),
    ),
    Fault(
        "attribute-forgets-what-the-turn-found",
        ATTRIBUTES,
        "    elif marks[name]:  # what the turn found is kept already\n",
        "    elif False:\n",
        (f"{ATTRIBUTED}::test_a_failed_turn_goes_back_to_the_attributes_that_it_found",),
    ),
    Fault(
        "attribute-is-never-settled",
        ATTRIBUTES,
        "    if not is_marked(process.attributes):\n",
        "    if process:\n",
        (f"{ATTRIBUTED}::test_an_attribute_is_changed_to_another_kind_and_taken_away",),
    ),
    Fault(
        "attribute-names-of-the-turn-before-are-unknown",
        "src/perdure/engine/attributes.py",
        "    return frozenset(name for name, there in turn.attributes.items() if there)\n",
        "    return turn.attributes_found\n",
        (f"{ATTRIBUTED}::test_turns_that_follow_ahead_of_the_disk_know_the_names_of_those_before",),
    ),
    Fault(
        "attribute-names-of-an-open-turn-are-taken-for-found",
        ATTRIBUTES,
        "for text in attributes.split() if not text.startswith(ADDED))\n",
        "for text in attributes.replace(ADDED, CHANGED).split())\n",
        (f"{ATTRIBUTED}::test_a_turn_that_is_replayed_and_fails_leaves_the_names_that_it_found_to_the_next",),
    ),
    Fault(
        "attribute-numbers-below-zero-are-upside-down",
        ATTRIBUTES,
        "bits ^ (2 * _SIGN - 1) if bits & _SIGN else bits | _SIGN\n",
        "bits ^ _SIGN\n",
        (f"{ATTRIBUTED}::test_numbers_are_in_order_whatever_their_kind",),
    ),
    Fault(
        "attribute-of-a-copied-record-is-not-set-again",
        "src/perdure/engine/turn.py",
        "            if not (again or isinstance(effect, AttributeEffect | LogEffect)):\n",
        "            if not again:\n",
        (f"{AGAIN}::test_a_copy_of_a_process_has_the_attributes_that_the_turn_found_and_those_it_sets",),
    ),
    Fault(
        "attribute-and-tag-of-a-copied-record-are-set-twice",
        "src/perdure/engine/turn.py",
        "        if self.effects <= self.replay.effects_done:\n",
        "        if self.replay.copied is None and self.effects <= self.replay.effects_done:\n",
        (f"{AGAIN}::test_a_failed_turn_that_is_run_again_sets_its_attributes_again_and_once",),
    ),
    Fault(
        "attribute-of-a-turn-ended-by-force-stands",
        "src/perdure/engine/cancelling.py",
        "    settle_attributes(view, key, ok=False)\n",
        "",
        (f"{AGAIN}::test_a_process_that_is_ended_by_force_goes_back_to_what_its_turn_found",),
    ),
    # --- lists ---------------------------------------------------------------------------------------
    Fault(
        "list-beginning-takes-in-the-next-text",
        SEARCHING,
        'return (self.end,) if self.closed else (self.end, "")\n',
        "return (self.end,)\n",
        (f"{SEARCHED}::test_attributes_are_found_by_value_range_and_beginning",),
    ),
    Fault(
        "list-second-attribute-takes-in-the-next-text",
        SEARCHING,
        "(value <= self.end if self.closed else value < self.end)\n",
        "value <= self.end\n",
        (f"{SEARCHED}::test_attributes_are_found_by_value_range_and_beginning",),
    ),
    Fault(
        "list-takes-any-cursor",
        SEARCHING,
        "                if digest == self._digest() and len(place) == len(self.index.order):\n",
        "                if digest:\n",
        (f"{SEARCHED}::test_a_cursor_of_another_list_is_refused",),
    ),
    Fault(
        "list-looks-at-every-row",
        SEARCHING,
        "        if looked >= limits.LIST_ROWS_MAX and place is not None:\n",
        "        if False:\n",
        (f"{SEARCHED}::test_a_page_looks_at_so_many_rows_and_says_where_to_go_on",),
    ),
    Fault(
        "list-backwards-misses-its-end",
        "src/perdure/backends/sqlite/statements.py",
        '("<", ">=", " DESC")',
        '("<", ">", " DESC")',
        (f"{LISTS}::test_a_list_is_read_backwards_from_one_place_down_to_another",),
    ),
    Fault(
        "row-made-anew-keeps-what-is-fixed",
        "src/perdure/backends/sqlite/backend.py",
        "                if change.renewed:\n",
        "                if not change:\n",
        (f"{LISTS}::test_a_row_that_is_removed_and_made_anew_in_one_batch_has_its_new_fixed_fields",),
    ),
    # --- timelines and explanations ------------------------------------------------------------------
    Fault(
        "timeline-forgets-between-pages",
        "src/perdure/engine/timeline.py",
        "    begin = after - 1 if after > 0 else -1\n",
        "    begin = after\n",
        (f"{TOLD}::test_a_timeline_comes_in_pages_that_join",),
    ),
    Fault(
        "explain-counts-the-message-itself",
        "src/perdure/engine/explaining.py",
        "    before = (row.mail_number or 0) - 1\n",
        "    before = row.mail_number or 0\n",
        (f"{TOLD}::test_a_queued_message_says_what_it_is_behind",),
    ),
)

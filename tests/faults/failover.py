"""Faults in how a store follows its servers, and in what `make ha` measures."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

CONNECTION: Final = "src/perdure/backends/postgres/connection.py"
BACKEND: Final = "src/perdure/backends/postgres/backend.py"
REPLACED: Final = "tests/postgres/test_replaced_primary.py"
GOES_ON: Final = f"{REPLACED}::test_a_store_goes_on_to_the_server_that_takes_writes"
NO_ANSWER: Final = f"{REPLACED}::test_a_connection_that_got_no_answer_in_time_is_made_to_the_next_server"
ALL_LEAVE: Final = f"{REPLACED}::test_all_connections_of_a_store_leave_a_server_once_another_one_has_taken_a_write"
FENCED: Final = f"{REPLACED}::test_what_a_store_reads_comes_from_where_it_was_fenced"
WROTE: Final = f"{REPLACED}::test_what_a_store_reads_comes_from_where_it_wrote_last"

FAULTS: Final = (
    Fault(
        "postgres-goes-back-to-a-server-that-did-not-answer",
        CONNECTION,
        "self._server = (self._server + 1) % len(self._address.servers)",
        "self._server = self._server % len(self._address.servers)",
        (GOES_ON, NO_ANSWER),
        hangs=True,
    ),
    Fault(
        "postgres-stays-at-a-server-that-was-replaced",
        CONNECTION,
        "return before != self._server\n",
        "return before == self._server\n",
        (ALL_LEAVE,),
    ),
    Fault(
        "postgres-leaves-a-server-amid-a-transaction",
        CONNECTION,
        "if self._transaction or self._changes == leading.changes:",
        "if self._changes == leading.changes:",
        (ALL_LEAVE,),
    ),
    Fault(
        "postgres-keeps-to-itself-where-it-wrote",
        BACKEND,
        "        self._end()\n        self._session.wrote()\n",
        "        self._end()\n",
        (WROTE,),
    ),
    Fault(
        "postgres-keeps-to-itself-where-it-was-fenced",
        BACKEND,
        "        self._session.wrote()\n        self._row, self._slot",
        "        self._row, self._slot",
        (FENCED,),
    ),
    Fault(
        "engine-gives-up-a-turn-at-which-the-server-failed",
        "src/perdure/engine/flush.py",
        "isinstance(error, StoreFull | StoreBusy) or (isinstance(error, StoreUnavailable) and not stopped)",
        "isinstance(error, StoreFull | StoreBusy)",
        ("tests/postgres/test_failing_server.py::test_a_turn_whose_commit_the_server_fails_at_is_committed_when_it_works_again",),
    ),
    Fault(
        "failover-gap-begins-with-the-disaster",
        "tests/ha/gaps.py",
        "times[first - 1] if first else since",
        "since",
        ("tests/ha/test_ha.py::test_the_gap_begins_with_the_last_acknowledgement_before_the_disaster",),
    ),
)

"""Faults in how many connections there are to PostgreSQL, and in what each asks."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure/backends/postgres"
BACKEND: Final = f"{HERE}/backend.py"
READERS: Final = "tests/postgres/test_readers.py"

FAULTS: Final = (
    Fault(
        "postgres-readers-never-become-more",
        f"{HERE}/reader.py",
        "                if self._lent < len(self._all):\n",
        "                if self._lent < 1:\n",
        (f"{READERS}::test_more_are_made_up_to_the_limit_when_reads_wait_for_long",),
    ),
    Fault(
        "postgres-readers-are-all-made-at-once",
        f"{HERE}/reader.py",
        "asyncio.Semaphore(1)",
        "asyncio.Semaphore(len(self._all))",
        (f"{READERS}::test_reads_share_a_connection_when_none_takes_long",),
    ),
    Fault(
        "postgres-types-are-asked-for-anew",
        f"{HERE}/connection.py",
        "            connection_class=Connection,\n",
        "",
        (f"{READERS}::test_only_the_first_connection_asks_for_the_servers_own_types",),
    ),
    Fault(
        "postgres-types-of-one-database-are-those-of-all",
        f"{HERE}/driver.py",
        "            if max(asked, default=_OWN) < _OWN:\n",
        "            if asked:\n",
        (f"{READERS}::test_types_of_a_database_s_own_are_asked_for_by_each_connection",),
    ),
    Fault(
        "postgres-the-first-fence-leaves-its-connection",
        BACKEND,
        "        if self._fences:  # what",
        "        if True:  # what",
        (f"{READERS}::test_opening_a_store_and_writing_to_it_takes_one_connection",),
    ),
)

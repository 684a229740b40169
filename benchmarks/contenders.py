"""Who runs in `make bench-peers`, on what, with which settings, and what each does less or more than the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import environment, output_of
from benchmarks.servers import STEPS_PATIENCE, Place, postgresql, postgresql_binaries, restate, temporal

SQLITE, POSTGRESQL, OWN_LOG = "SQLite", "PostgreSQL", "a log of its own"
OURS = "Perdure"
LEVELS = (1, 16, 64)
OUR_LEVELS = (*LEVELS, 256, 1000)

Begin = Callable[[Place], AbstractContextManager[list[str]]]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of the table.

    Attributes:
        backend: where its data is durable.
        settings: what tells this row from another one of the same system.
        program: the module that is the client, run by `peer`'s Python, or by ours.
        begin: starts what the program needs, and yields the program's first arguments.
        usual_per_s: about what it does, so that every client of it gets its answers within the time.
    """

    system: str
    backend: str
    settings: str
    program: str
    begin: Begin
    peer: str | None = None
    levels: tuple[int, ...] = LEVELS
    usual_per_s: float = 50

    @property
    def name(self) -> str:
        """Return what it is called in results and on the page."""
        return f"{self.system} on {self.backend}, {self.settings}"


def _file(*arguments: str) -> Begin:
    @contextmanager
    def begin(place: Place) -> Iterator[list[str]]:
        yield [f"sqlite:///{place.folder}/bench.db", *arguments]

    return begin


def _database(*arguments: str) -> Begin:
    @contextmanager
    def begin(place: Place) -> Iterator[list[str]]:
        with postgresql(place) as url:
            yield [url, *arguments]

    return begin


def _queue(poll: str) -> Begin:
    @contextmanager
    def begin(place: Place) -> Iterator[list[str]]:
        variables = environment(ABSURD_DATABASE_URL="", PATH=f"{postgresql_binaries()}:/usr/bin:/bin")  # it calls psql
        with postgresql(place) as url:
            for command in (["init"], ["create-queue", "bench"]):
                output_of([place.program("absurdctl"), *command, "-d", url], place.log, seconds=STEPS_PATIENCE, env=variables)
            yield [url, poll]

    return begin


@contextmanager
def _temporal(place: Place) -> Iterator[list[str]]:
    with temporal(place) as address:
        yield [address]


def _restate(**settings: str) -> Begin:
    @contextmanager
    def begin(place: Place) -> Iterator[list[str]]:
        with restate(place, **settings) as url:
            yield [url]

    return begin


CONTENDERS = (
    Contender(system=OURS, backend=SQLITE, settings="defaults", program="four_steps", begin=_file(), levels=OUR_LEVELS, usual_per_s=1000),
    Contender(
        system=OURS, backend=POSTGRESQL, settings="defaults", program="four_steps", begin=_database(), levels=OUR_LEVELS, usual_per_s=1000
    ),
    Contender(system="DBOS", backend=SQLITE, settings="defaults", program="peer_dbos", begin=_file("async"), peer="dbos"),
    Contender(system="DBOS", backend=SQLITE, settings="tuned", program="peer_dbos", begin=_file("threads"), peer="dbos"),
    Contender(system="DBOS", backend=POSTGRESQL, settings="defaults", program="peer_dbos", begin=_database("async"), peer="dbos"),
    Contender(system="DBOS", backend=POSTGRESQL, settings="tuned", program="peer_dbos", begin=_database("threads"), peer="dbos"),
    Contender(
        system="Temporal", backend=SQLITE, settings="tuned", program="peer_temporal", begin=_temporal, peer="temporal", usual_per_s=10
    ),
    Contender(system="Restate", backend=OWN_LOG, settings="defaults", program="peer_restate", begin=_restate(), peer="restate"),
    Contender(
        system="Restate",
        backend=OWN_LOG,
        settings="tuned",
        program="peer_restate",
        begin=_restate(RESTATE_DEFAULT_NUM_PARTITIONS="4"),
        peer="restate",
    ),
    Contender(system="Absurd", backend=POSTGRESQL, settings="defaults", program="peer_absurd", begin=_queue("defaults"), peer="absurd"),
    Contender(system="Absurd", backend=POSTGRESQL, settings="tuned polling", program="peer_absurd", begin=_queue("tuned"), peer="absurd"),
    Contender(
        system="Procrastinate",
        backend=POSTGRESQL,
        settings="defaults",
        program="peer_procrastinate",
        begin=_database("defaults"),
        peer="procrastinate",
    ),
    Contender(
        system="Procrastinate",
        backend=POSTGRESQL,
        settings="tuned polling",
        program="peer_procrastinate",
        begin=_database("tuned"),
        peer="procrastinate",
    ),
)

# Said on the page, once for each system: client and settings, and what it does less or more.
REMARKS = {
    OURS: (
        "One process: clients call `Engine.call`, handlers run beside them. Defaults: WAL and `synchronous=FULL` on SQLite. "
        "Each workflow leaves its message, its steps and its sealed reply behind."
    ),
    "DBOS": (
        "One process, like ours: clients call the workflow itself. Defaults: `async` functions, and the rollback journal that SQLite "
        "begins with. Tuned: ordinary functions in a thread for each client, and a file in WAL mode; `synchronous=FULL` in both."
    ),
    "Temporal": (
        "The development server on a SQLite file, in WAL mode with `synchronous=FULL`, beside one process with client and worker; eager start, "
        "no sandbox. It does more: a server for many workers, task queues, a visibility store. It is not what Temporal recommends for production; "
        "a cluster was not measured."
    ),
    "Restate": (
        "The server, its service (hypercorn with uvloop) and the client (aiohttp with uvloop) are three processes. It has no database: it syncs "
        "a replicated log of its own, with one replica here, and keeps state in RocksDB. Defaults: 24 partitions. Tuned: 4. Calls have no "
        "idempotency key, so it does less: the client cannot ask again for a reply."
    ),
    "Absurd": (
        "One process with clients and up to 8 workers, a connection each. Defaults: workers poll each 250 ms, and the client waits for the "
        "result with the SDK's own call. Tuned: a client polls each 2 ms for every client there is, a worker eight times as often, but not below 2 ms."
        " More often costs the database more than it brings."
    ),
    "Procrastinate": (
        "One process with clients and a worker of as many jobs. It has no steps, results or replay, so it does less: four jobs, each of which "
        "defers the next, and the last resolves a future of the client in memory. Defaults: `LISTEN`, and a poll each 5 s. Tuned: a poll each "
        "50 ms, and finished jobs deleted."
    ),
}


def python_of(contender: Contender, place: Place) -> Path:
    """Return the interpreter that runs its program."""
    return place.program("python") if contender.peer else Path(sys.executable)

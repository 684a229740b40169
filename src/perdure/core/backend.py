"""What a database has to do for the core: five calls for the writer, and reads for everybody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from perdure.clock import Micros
from perdure.core.table import AnyRow, Key, RowT, Scalar, Scan, Table


class BatchConflict(Exception):
    """Another node changed a row that the batch was decided on; nothing was written, run it again."""


class BatchRefused(Exception):
    """The database refused the batch; nothing was written. `cause` is an error of `perdure.errors`.

    `divisible` says whether halves of the batch are worth a try: a bad row is found so, a full disk is not.
    """

    def __init__(self, cause: Exception, *, divisible: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.divisible = divisible


class WriterFenced(Exception):
    """A newer incarnation of this writer exists; nothing was written, and nothing of this one ever will be."""


class CommitUnknown(Exception):
    """Whether the batch was committed is not known."""


class Wanted(NamedTuple):
    """What to read."""

    keys: Sequence[Key[Any]]
    scans: Sequence[Scan[Any]]


class ScanPage(NamedTuple):
    """The head of a range: its keys in order; `whole` if the range ends with them; `last`, the place of the last one."""

    keys: tuple[Key[Any], ...]
    whole: bool
    last: tuple[Scalar, ...]
    limit: int


class Ticks(NamedTuple):
    """Which ticks a writer may give out: those that are `slot`, modulo `slots`. Writers of one database have different slots."""

    slot: int = 0
    slots: int = 1


class Found(NamedTuple):
    """What was read. A wanted key that is not in `rows` is absent. `rows` also holds the rows of the pages.

    `certain`: it is all of one moment, as is everything else of the batch that was `certain`; otherwise `apply` has to find
    that what was read still stands, and what was absent still is.
    """

    now: Micros
    last_tick: int
    keys: Sequence[Key[Any]]
    rows: Mapping[Key[Any], tuple[int, AnyRow]]
    pages: Sequence[tuple[Scan[Any], ScanPage]]
    ticks: Ticks = Ticks()
    certain: bool = True


class Change(msgspec.Struct, frozen=True, gc=False):
    """One row to write: rev 0 means it must not exist, n means it must exist at n; row None deletes it.

    `renewed`: it was deleted and inserted in this batch, so that fields which are `fixed` may have changed, too.
    """

    key: Key[Any]
    rev: int
    row: AnyRow | None
    renewed: bool = False


class Batch(NamedTuple):
    """One durable, all-or-nothing change of the store.

    `unchanged` are the rows that were read and stay, with their versions; after reads that were not `certain` also those
    that were absent, at 0. A batch without changes and counts is only a look at these.
    """

    number: int
    last_tick: int
    changes: Sequence[Change]
    unchanged: Callable[[], Sequence[tuple[Key[Any], int]]]
    counts: Mapping[str, int]


class WriterRow(msgspec.Struct, frozen=True):
    """What a writer knows of itself in the database: its incarnation, and the last batch that did commit."""

    node: str
    incarnation: int
    batch: int


class Backend(Protocol):
    """One writer's connection. Five calls; a fault can be injected into each.

    Raises, besides the exceptions of this module: StoreUnavailable, when the store is closed or poisoned.

    Source: architecture.md, "Backends".
    """

    async def fence(self) -> WriterRow:
        """Open a new incarnation of this writer: nothing older can commit afterwards."""
        ...

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        """Read, and open the batch.

        Called again within the batch, not locked, for what a decision discovered. `locked`: lock the rows in (`Table.place`, key) order,
        then scan in a later statement. Not locked: one statement, one snapshot, nothing held. A backend whose batches
        exclude one another may treat both alike.
        """
        ...

    def read_now(self, wanted: Wanted) -> Found | None:
        """Read within the open batch without waiting, what a decision discovers; None when this backend has to wait for it.

        Only a matter of speed: without it the decision is made again, once for each row that it had not named.
        """
        ...

    async def apply(self, batch: Batch) -> None:
        """Write and commit, durably, all or nothing.

        The writer's row first (incarnation and number must follow), then updates and unchanged rows in (`Table.place`, key)
        order, then inserts in the same order. Without changes nothing is written, and the number stays free.
        """
        ...

    async def abandon(self) -> None:
        """Give up the open batch."""
        ...

    async def close(self) -> None:
        """Give back everything; a clean close makes the next start cheap."""
        ...


class Reader(Protocol):
    """Reads outside of a batch: each sees everything that was committed before it began."""

    async def get(self, key: Key[RowT]) -> RowT | None:
        """Return the row or None."""
        ...

    async def get_all(self, keys: Sequence[Key[RowT]]) -> list[RowT | None]:
        """Return the rows of one table, or None for each that is not there."""
        ...

    async def scan(self, scan: Scan[RowT]) -> list[tuple[Key[RowT], RowT]]:
        """Return the rows in index order; `claim` and `guard` mean nothing here."""
        ...

    async def counter(self, name: str) -> int:
        """Return an exact counter: the sum over all writers."""
        ...

    async def count(self, table: Table[Any]) -> int:
        """Return the number of rows, by looking at all of them; for `verify`, not for a hot path."""
        ...

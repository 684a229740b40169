"""One open database: what a store needs of it beside the writer's calls and the reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from perdure.clock import Clock
from perdure.core.backend import Backend, Reader
from perdure.core.ownership import Ownership
from perdure.core.table import Table
from perdure.core.transfer import Export, Import
from perdure.errors import OutcomeUnknown


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What `info` tells of a store.

    Args:
        place: path or address, without any password.
        engine: the database and its version.
        format: of the tables, raised when an older Perdure could not read them.
        migrations: their names, in the order of their numbers.
        waiting: those of this release that wait until no store of an older one is open.
        shards: the number of shares that all processes are spread over.
        writers: how many stores are open, or were not closed cleanly.
        data_bytes: of the database, free pages included.
        log_bytes: of what waits to be copied into it.
        rows: the exact number of rows per table.
    """

    place: str
    engine: str
    format: int
    migrations: tuple[str, ...]
    waiting: tuple[str, ...]
    shards: int
    writers: int
    data_bytes: int
    log_bytes: int
    rows: dict[str, int]


class Database(Protocol):
    """One open database; a store owns it."""

    @property
    def backend(self) -> Backend:
        """The writer's calls."""
        ...

    @property
    def reader(self) -> Reader:
        """Reads outside of a batch."""
        ...

    @property
    def clock(self) -> Clock:
        """The store's time."""
        ...

    @property
    def shards(self) -> int:
        """The number of shares that all processes are spread over, chosen when the store was made."""
        ...

    @property
    def beside(self) -> bool:
        """Whether a batch is worked on beside this process, which has its processor for something else meanwhile."""
        ...

    @property
    def ownership(self) -> Ownership:
        """The shards that this node owns."""
        ...

    def watch(
        self, listeners: int, on_change: Callable[[], None], on_topics: Callable[[tuple[str, ...]], None] = lambda _topics: None
    ) -> None:
        """Tell of commits of other nodes for as long as `listeners` is not 0: of their topics, or of anything at all, perhaps too often."""
        ...

    def committed(self, topics: tuple[str, ...]) -> None:
        """Tell other nodes, soon, of topics that a commit has signalled; a hint."""
        ...

    def leave(self) -> None:
        """Wait no longer for a database that does not answer: the store closes."""
        ...

    def stay(self) -> None:
        """Wait for it again."""
        ...

    async def exclusive(self, name: str) -> None:
        """Be the only open store that holds `name`; see `Store.exclusive`."""
        ...

    async def give_back(self, name: str) -> None:
        """Let another open store hold `name`; harmless when it is not held."""
        ...

    async def close(self) -> None:
        """Give back what is held besides the backend, which the writer closes first."""
        ...

    async def settle(self, error: OutcomeUnknown) -> bool:
        """Return whether that batch was committed; see `Store.settle`."""
        ...

    async def info(self) -> StoreInfo:
        """Return sizes and counts; it looks at every row."""
        ...

    async def integrity(self) -> list[str]:
        """Return what the database itself finds wrong with its files; nothing when it is sound."""
        ...

    async def backup(self, target: Path, tables: Sequence[Table[Any]]) -> None:
        """Copy everything that is committed, all of `tables` among it; see `Store.backup`."""
        ...

    def exporting(self, tables: Sequence[Table[Any]], *, alone: bool) -> AbstractAsyncContextManager[Export]:
        """Look at everything as of one moment, for as long as it takes; only while the writer has not started.

        Args:
            tables: all that there are.
            alone: nobody writes meanwhile: who tries waits, or is refused.
        """
        ...

    @property
    def filling(self) -> Import:
        """What fills this database, if it is empty; only while the writer has not started."""
        ...

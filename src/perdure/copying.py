"""Moving a store to another place, and from one kind of database to another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from perdure.clock import Clock
from perdure.core.database import Database
from perdure.core.transfer import Digest, Moved, Progress, transfer
from perdure.errors import CopyRefused, EngineRunning
from perdure.identity import SYSTEM_RANDOMNESS, Randomness
from perdure.store import connection
from perdure.tables import TABLES

ENGINE = "engine"


def _silent(_moved: Moved) -> None:
    """Tell nobody."""


async def copy_store(
    source: str, target: str, *, progress: Progress = _silent, clock: Clock | None = None, randomness: Randomness = SYSTEM_RANDOMNESS
) -> dict[str, Digest]:
    """Copy all of a store into a new one, of the same or of another kind, and compare them.

    No engine may run on the source, and nobody can write into it meanwhile. A copy that is stopped, at any moment and
    however, goes on where it was when it is called again; until it is done, `open_store` refuses the target. What
    other programs have under way when the source is stopped is not settled by the target: `Store.settle` knows no batch of theirs.

    Args:
        source: URL of the store, see `open_store`; its schema is brought up to date.
        target: URL of a store that does not exist, or is new.
        progress: called after each chunk, and for each table that was compared.
        clock: see `open_store`.
        randomness: see `open_store`.

    Returns:
        For each table the number of rows and a hash over them, in both stores.

    Raises:
        CopyRefused: the target holds something else, or cannot hold what the source has, or both are the same store.
        CopyFailed: the target has not what the source has; remove it and begin again.
        EngineRunning: an engine runs on one of them, or another copy.
        StoreNotFound: there is no source.
        StoreError: see `open_store`; repeat the call to go on.
    """
    # A URL that is wrong is found before anything is opened.
    open_source = connection(source, clock, randomness, create=False)
    open_target = connection(target, clock, randomness, create=True, unfinished=True)
    if source == target:
        raise CopyRefused("source and target are the same store; expected a new one as the target")
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(_opened(await open_source()))
        reading = await stack.enter_async_context(old.exporting(TABLES, alone=True))
        new = await stack.enter_async_context(_opened(await open_target()))
        return await transfer(reading, new.filling, tables=TABLES, progress=progress)


@asynccontextmanager
async def _opened(database: Database) -> AsyncIterator[Database]:
    """Hold a database as an engine does, so that none runs on it; close it in the end."""
    try:
        try:
            await database.exclusive(ENGINE)
        except EngineRunning as error:
            raise EngineRunning(f"{error}; a copy needs both stores without an engine until it is done") from error
        yield database
    finally:
        database.leave()
        await database.backend.close()
        await database.close()

"""Signs that a store is open, for who wants to take away what its release needs."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import asyncio
import logging

from perdure import limits
from perdure.backends.migrations import too_new
from perdure.backends.postgres.migrations import beyond
from perdure.backends.postgres.reader import Readers
from perdure.backends.postgres.writers import open_until
from perdure.errors import StoreError

logger = logging.getLogger("perdure.postgres")


class Presence:
    """Renews `open_until` of an open store, whether it writes or not, and in any case looks whether it may still read.

    Rows, not a lock of the connection: behind a pooler a connection is nobody's own.

    Args:
        readers: of the store; they are stopped when what they need was taken away.
        node: the store's writer.
        place: of the store, for people.
        schema: of the store.
        knows: the last migration of this installation.
    """

    def __init__(self, readers: Readers, node: str, *, place: str, schema: str, knows: int) -> None:
        self._readers = readers
        self._node = node
        self._place = place
        self._schema = schema
        self._knows = knows
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Renew what the writer's row says from now on; harmless when called again."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._renew(), name="perdure-presence")

    async def close(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():  # else its loop is over, and it with that
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> bool:
        """Say that the store is open; False when it is of no use any more."""
        narrowed = await self._readers.rows(beyond(self._schema), (self._knows,))
        if narrowed:
            number, name = narrowed[0]
            error = too_new(self._place, number, name, self._knows)
            logger.error("%s; this store was silent for so long that it was taken for closed", error)
            self._readers.stop(str(error))
            return False
        await self._readers.rows(
            f"update {self._schema}.writer set {open_until()} where node = $1 and lane = 0 returning 1",
            (self._node,),
        )
        return True

    async def _renew(self) -> None:
        going = True
        while going:
            await asyncio.sleep(limits.OPEN_RENEW_SECONDS)
            try:
                going = await self.look()
            except StoreError as error:
                logger.info("%s: the sign that the store is open was not given, the next one is soon: %s", self._place, error)

"""Processes that wait for the code of their version: those that have yet to begin, and those that are stranded.

Source: packages.md, "Stranded".
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.tables import PROCESS, STRANDED, STRANDED_SHARDS, ProcessRow, ProcessStatus
from perdure.core.signals import Listener
from perdure.core.table import Scan
from perdure.engine.leaving import Revive, StartQueued, Strand
from perdure.engine.notes import ToLoad
from perdure.engine.shards import with_rows
from perdure.engine.versions import UNLOADABLE
from perdure.errors import LeaseLost, PerdureError, StoreError

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")


class Reviving:
    """Loads versions for processes, and tries again when that may help."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = owner.store.access.reader
        self._to_begin: dict[str, deque[ToLoad]] = {}

    # --- turns to begin --------------------------------------------------------------------------------

    def begin(self, note: ToLoad) -> None:
        """Load the version of a process that has a turn to begin, and begin it: of one version in the order of their notes."""
        if not self._owner.is_open:  # it is runnable in the store: the next engine begins it
            return
        queue = self._to_begin.get(note.package)
        if queue is not None:
            queue.append(note)
            return
        self._to_begin[note.package] = queue = deque([note])
        self._owner.background(self._begin_all(note.package, queue))

    async def _begin_all(self, package: str, queue: deque[ToLoad]) -> None:
        try:
            while queue:
                await self._begin_some([queue.popleft() for _ in range(min(len(queue), limits.READ_PAGE))])
        finally:
            del self._to_begin[package]

    async def _begin_some(self, notes: list[ToLoad]) -> None:
        try:
            async with self._owner.versions.using(notes[0].process_type, notes[0].package):
                await self._each(self._begin, notes)
        except UNLOADABLE:
            await self._each(self._not_begun, notes)
        except StoreError as error:
            for note in notes:
                self._begin_again(note, error)

    async def _each(self, work: Callable[[ToLoad], Awaitable[None]], notes: list[ToLoad]) -> None:
        outcomes = await asyncio.gather(*map(work, notes), return_exceptions=True)
        for note, outcome in zip(notes, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                self._begin_again(note, outcome)

    async def _begin(self, note: ToLoad) -> None:
        start = StartQueued(self._owner.rules, note.tenant_id, note.process_id)
        await self._owner.commit(start, lambda notes: notes, lease=self._owner.shards.lease_of(note.tenant_id, note.process_id))

    async def _not_begun(self, note: ToLoad) -> None:
        process = await self._reader.get(PROCESS.key(note.tenant_id, note.process_id))
        if process is not None and process.status == ProcessStatus.RUNNABLE and process.open_message is None:
            await self._owner.recovery.recover(note.tenant_id, note.process_id, process, first=False)

    def _begin_again(self, note: ToLoad, error: BaseException) -> None:
        """Try once more in a while: nothing else would, for the process is runnable already."""
        clock = self._owner.clock
        if isinstance(error, LeaseLost):
            logger.info("process %s is another node's by now, which takes it up", note.process_id)
        elif isinstance(error, PerdureError) and error.retryable:
            logger.warning("process %s does not begin now; the next try is soon: %s", note.process_id, error)
            clock.call_at(clock.now() + limits.STALL_US, partial(self._owner.later, self.begin, note))
        else:
            logger.error("process %s does not begin; a restart begins it", note.process_id, exc_info=error)

    # --- what is stranded ------------------------------------------------------------------------------

    def strand(self, write: Strand) -> None:
        """Stop a process whose version cannot be loaded here."""
        lease = self._owner.shards.lease_of(write.tenant_id, write.process_id)
        self._owner.submit(write, 0, self._stranded, write, lease=lease)

    def _stranded(self, write: Strand, results: Any, error: Exception | None) -> None:
        owner, process = self._owner, None if error is not None else results[0]
        if isinstance(error, PerdureError) and error.retryable and not isinstance(error, LeaseLost):
            owner.clock.call_at(owner.clock.now() + limits.STALL_US, partial(owner.later, self.strand, write))
        elif error is not None:
            logger.error("%s", error)
        elif process is not None and process.package_hash not in owner.versions.failed and owner.is_open:
            # What it failed for has changed before it was stored as stranded, and who looked for such has not found it.
            owner.background(self._revive_one(write.tenant_id, write.process_id, process))

    async def _revive_one(self, tenant_id: str, process_id: str, process: ProcessRow) -> None:
        await self._revive(tenant_id, process_id, process)

    async def revive(self, shards: Collection[int] | None = None, *, package: str | None = None) -> int:
        """Try stranded processes again: of these shards or of all that are owned, of one package or of all. Return how many go on."""
        revived = 0
        async for shard in with_rows(self._reader, STRANDED_SHARDS, self._owner.ownership.shards if shards is None else shards):
            after: tuple[Any, ...] | None = None
            while rows := await self._reader.scan(Scan(STRANDED, (shard,), limits.READ_PAGE, after=after)):
                after = rows[-1][0].parts
                for key, process in rows:
                    if package in {None, process.package_hash}:
                        revived += await self._revive(str(key.parts[0]), str(key.parts[1]), process)
        return revived

    async def look_for_packages(self, stored: Listener) -> None:
        """Look which versions can be loaded here, and try stranded processes again whenever their package was stored."""
        owner, changed = self._owner, False
        again: Micros | None = None
        while owner.is_open:
            try:
                await owner.versions.survey()
            except Exception:  # an edge: it only tells
                logger.exception("which packages this node cannot load is not known; it is looked at again when one is stored")
            await stored.wait(again)
            again = None
            try:
                changed = bool(await owner.versions.changed()) or changed
                if changed:
                    await self.revive()
                    if owner.rules.leads:
                        owner.wheel.look_at_flows()
                changed = False
            except Exception as error:  # an edge: whatever it is, the next package is looked at
                logger.exception("stranded processes cannot be looked at; they are soon, when a package is stored, or at a restart")
                ended = isinstance(error, PerdureError) and not error.retryable
                again = None if ended else owner.clock.now() + limits.STALL_US

    async def _revive(self, tenant_id: str, process_id: str, process: ProcessRow) -> bool:
        """Let a stranded process go on if its version can be loaded by now."""
        owner = self._owner
        try:
            async with owner.versions.using(process.process_type, process.package_hash):
                lease = owner.shards.lease_of(tenant_id, process_id)
                revived = await owner.store.access.writer.run(Revive(tenant_id, process_id), lease=lease)
        except UNLOADABLE:
            return False
        except LeaseLost:
            logger.info("process %s is another node's by now, which takes it up", process_id)
            return False
        if revived is None:
            return False
        logger.info("process %s goes on: its version can be loaded", process_id)
        owner.later(self._go_on, tenant_id, process_id, revived)
        return True

    def _go_on(self, tenant_id: str, process_id: str, process: ProcessRow) -> None:
        self._owner.goes_on(tenant_id, process_id)
        if process.open_message is not None:
            self._owner.load(tenant_id, process_id)
        else:
            assert process.package_hash is not None, "only packages are not there"
            self.begin(ToLoad(tenant_id, process_id, process.process_type, process.package_hash))

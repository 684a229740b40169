"""Processes that wait for the code of their version: those that have yet to begin, and those that are stranded.

Source: packages.md, "Stranded".
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from perdure import limits
from perdure.conversations.tables import PROCESS, STRANDED, ProcessRow, ProcessStatus
from perdure.core.signals import Listener
from perdure.core.table import Scan
from perdure.engine.leaving import Revive, StartQueued
from perdure.engine.notes import ToLoad
from perdure.engine.versions import UNLOADABLE
from perdure.errors import LeaseLost

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")


class Stranded:
    """Loads versions for processes, and tries again when that may help."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = owner.store.access.reader
        self._to_begin: dict[str, deque[ToLoad]] = {}

    def begin(self, note: ToLoad) -> None:
        """Load the version of a process that has a turn to begin, and begin it: of one version in the order of their notes."""
        if not self._owner.is_open:  # the next engine finds it runnable
            return
        queue = self._to_begin.get(note.package)
        if queue is not None:
            queue.append(note)
            return
        self._to_begin[note.package] = deque([note])
        self._owner.background(self._begin_all(note.package))

    async def _begin_all(self, package: str) -> None:
        owner, queue = self._owner, self._to_begin[package]
        try:
            while queue:
                async with owner.versions.using(queue[0].process_type, package):
                    notes = [queue.popleft() for _ in range(min(len(queue), limits.READ_PAGE))]
                    outcomes = await asyncio.gather(*map(self._begin, notes), return_exceptions=True)
                    for note, outcome in zip(notes, outcomes, strict=True):
                        if isinstance(outcome, BaseException):
                            logger.warning(
                                "process %s does not begin now; a restart or its next message begins it: %s", note.process_id, outcome
                            )
        except UNLOADABLE:
            for note in queue:
                process = await self._reader.get(PROCESS.key(note.tenant_id, note.process_id))
                if process is not None and process.status == ProcessStatus.RUNNABLE and process.open_message is None:
                    await self._owner.recovery.recover(note.tenant_id, note.process_id, process, first=False)
        finally:
            del self._to_begin[package]

    async def _begin(self, note: ToLoad) -> None:
        start = StartQueued(self._owner.rules, note.tenant_id, note.process_id)
        await self._owner.run(start, lambda notes: notes, lease=self._owner.shards.lease_of(note.tenant_id, note.process_id))

    async def revive(self, shards: Collection[int] | None = None, *, package: str | None = None) -> int:
        """Try stranded processes again: of these shards or of all that are owned, of one package or of all. Return how many go on."""
        revived = 0
        for shard in sorted(self._owner.ownership.shards if shards is None else shards):
            after: tuple[Any, ...] | None = None
            while rows := await self._reader.scan(Scan(STRANDED, (shard,), limits.READ_PAGE, after=after)):
                after = rows[-1][0].parts
                for key, process in rows:
                    if package in {None, process.package_hash}:
                        revived += await self._revive(str(key.parts[0]), str(key.parts[1]), process)
        return revived

    async def look_out(self, stored: Listener) -> None:
        """Look which versions can be loaded here, and try stranded processes again whenever their package was stored."""
        while self._owner.is_open:
            try:
                await self._owner.versions.survey()
            except Exception:  # an edge: it only tells
                logger.exception("which packages this node cannot load is not known; it is looked at again when one is stored")
            await stored.wait(None)
            try:
                changed = await self._owner.versions.changed()
                for package in changed:
                    await self.revive(package=package)
                if changed and self._owner.rules.leads:
                    self._owner.wheel.look_at_flows()
            except Exception:  # an edge: whatever it is, the next package is looked at
                logger.exception("stranded processes cannot be looked at; they are when a package is stored, or at a restart")

    async def _revive(self, tenant_id: str, process_id: str, process: ProcessRow) -> bool:
        """Let a stranded process go on if its version can be loaded by now."""
        owner = self._owner
        try:
            async with owner.versions.using(process.process_type, process.package_hash):
                lease = owner.shards.lease_of(tenant_id, process_id)
                revived = await owner.store.access.writer.run(Revive(tenant_id, process_id), lease=lease)
                if revived is None:
                    return False
                logger.info("process %s goes on: its version can be loaded", process_id)
                await self._owner.recovery.recover(tenant_id, process_id, revived, first=False)
        except UNLOADABLE:
            return False
        except LeaseLost:
            logger.info("process %s is another node's by now, which takes it up", process_id)
            return False
        return True

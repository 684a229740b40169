"""The shards of this node, as its engine sees them: which processes are its own, and what it does when that changes.

Source: architecture.md, "More than one machine".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from perdure import limits
from perdure.conversations.writes import shard_of
from perdure.core.ownership import Lease
from perdure.engine.handling import operation_key
from perdure.engine.leaving import Leave
from perdure.engine.notes import Sealed
from perdure.errors import StoreError

if TYPE_CHECKING:
    from perdure.engine.owner import Owner
    from perdure.engine.recovery import Recovery
    from perdure.engine.wheel import Wheel

logger = logging.getLogger("perdure.engine")
_Key = tuple[str, str]
SEALED: Final = "sealed"
"""The topic of replies that nobody waits for where they are sealed."""
_NOT_HELD: Final = Lease()
_NOT_HELD.held = False


class Shards:
    """See `perdure.core.ownership.Keeper`.

    Args:
        owner: of the processes in memory.
        recovery: takes up what is runnable.
        wheel: looks for what is due.
    """

    def __init__(self, owner: Owner, recovery: Recovery, wheel: Wheel) -> None:
        self._owner = owner
        self._ownership = owner.store.ownership
        self._count = owner.store.shards
        self._recovery = recovery
        self._wheel = wheel

    def mine(self, tenant_id: str, process_id: str) -> bool:
        """Return whether this node owns a process."""
        return self._ownership.whole or self._ownership.owns(shard_of(tenant_id, process_id, self._count))

    def lease_of(self, tenant_id: str, process_id: str) -> Lease:
        """Return what work on a process depends on; one that is not held when another node owns it."""
        lease = self._ownership.lease(0 if self._ownership.whole else shard_of(tenant_id, process_id, self._count))
        return _NOT_HELD if lease is None else lease

    def gained(self, shards: Collection[int]) -> None:
        """Take up the processes of shards that this node owns from now on."""
        if self._owner.is_open:
            self._owner.background(self._take_up(frozenset(shards)))

    async def _take_up(self, shards: frozenset[int]) -> None:
        await self._recovery.gained(shards)
        self._wheel.schedules.look_again()
        self._wheel.look_at_flows()

    def forget(self, shards: Collection[int]) -> None:
        """Forget the processes of shards that another node owns; nothing of them can be committed any more."""
        self._owner.later(self._forget, frozenset(shards))

    def _forget(self, shards: frozenset[int]) -> list[_Key]:
        found = [key for key in self._owner.residents if shard_of(*key, self._count) in shards]
        for key in found:
            self._owner.evict(self._owner.residents[key])
        return found

    async def release(self, shards: Collection[int]) -> None:
        """Stop working on shards: what was begun is committed, or was not begun as far as the next owner can tell."""
        owner, writer = self._owner, self._owner.store.access.writer
        heard: asyncio.Future[list[_Key]] = owner.loop.create_future()
        owner.later(lambda: heard.set_result(self._forget(frozenset(shards))))
        leaving = await heard
        await writer.commit()
        await asyncio.gather(*(writer.commit(Leave(*key)) for key in leaving))

    async def look_for_replies(self) -> None:
        """Answer those who wait here for what another node has sealed."""
        owner, access = self._owner, self._owner.store.access
        with access.signals.listen(SEALED) as listener:
            while owner.is_open:
                look = owner.loop.call_later(limits.REPLY_LOOK_SECONDS, listener.wake)  # other nodes have no part in a test's clock
                await listener.wait(None)
                look.cancel()
                waiting = owner.waiting
                for at in range(0, len(waiting), limits.READ_PAGE):
                    page = waiting[at : at + limits.READ_PAGE]
                    try:
                        rows = await access.reader.get_all([operation_key(*key) for key in page])
                    except StoreError as error:
                        logger.warning("looking for replies: %s; the next look is soon", error)
                        break
                    for (tenant_id, ref), row in zip(page, rows, strict=True):
                        if row is not None and row.response is not None:
                            owner.later(owner.route, [Sealed(tenant_id, ref, row.outcome, row.response)])

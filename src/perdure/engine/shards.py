"""The shards of this node, as its engine sees them: which processes are its own, and what it does when that changes.

Source: architecture.md, "More than one machine".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from perdure import limits
from perdure.conversations.tables import ProcessRow
from perdure.conversations.writes import shard_of
from perdure.core.backend import Reader
from perdure.core.ownership import Lease
from perdure.core.table import Index, Scan
from perdure.engine.handling import operation_key
from perdure.engine.leaving import Leave
from perdure.engine.notes import Sealed, TurnStarted
from perdure.errors import StoreError

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")
_Key = tuple[str, str]
SEALED: Final = "sealed"
"""The topic of replies that nobody waits for where they are sealed."""
_NOT_HELD: Final = Lease()
_NOT_HELD.held = False


async def with_rows(reader: Reader, index: Index[ProcessRow], shards: Collection[int]) -> AsyncIterator[int]:
    """Yield those of some shards that an index of processes has rows of, in order. The index begins with the shard; most have none."""
    after = -1
    while rows := await reader.scan(Scan(index, (), 1, after=(after,))):
        after = rows[0][1].shard
        if after in shards:
            yield after


class Shards:
    """Takes up the processes of shards, and lets go of them; see `perdure.core.ownership.Keeper`."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._releasing: set[_Key] | None = None  # whose turns were opened while their shard was given back

    def mine(self, tenant_id: str, process_id: str) -> bool:
        """Return whether this node owns a process."""
        return self._owner.ownership.whole or self._owner.ownership.owns(shard_of(tenant_id, process_id, self._owner.store.shards))

    def lease_of(self, tenant_id: str, process_id: str) -> Lease:
        """Return what work on a process depends on; one that is not held when another node owns it."""
        lease = self._owner.ownership.lease(0 if self._owner.ownership.whole else shard_of(tenant_id, process_id, self._owner.store.shards))
        return _NOT_HELD if lease is None else lease

    def gained(self, shards: Collection[int]) -> None:
        """Take up the processes of shards that this node owns from now on."""
        ours = frozenset(shard for shard in shards if self._owner.ownership.owns(shard))
        if self._owner.is_open and ours:
            self._owner.background(self._take_up(ours))

    async def _take_up(self, shards: frozenset[int]) -> None:
        owner = self._owner
        try:
            await owner.recovery.gained(shards)
        except Exception:  # an edge: whatever it is, nobody else looks at these processes
            logger.exception("processes of shards that are ours now were not taken up; the next try is soon")
            owner.clock.call_at(owner.clock.now() + limits.STALL_US, partial(owner.later, self.gained, shards))
        owner.wheel.schedules.look_again()
        owner.wheel.look_at_flows()

    def forget(self, shards: Collection[int]) -> None:
        """Forget the processes of shards that another node owns; nothing of them can be committed any more."""
        self._owner.later(self._forget, frozenset(shards))

    async def release(self, leases: Mapping[int, Lease]) -> None:
        """Stop working on shards: what was begun is committed, or was not begun as far as the next owner can tell."""
        owner, writer, loop = self._owner, self._owner.store.access.writer, self._owner.loop
        begun: set[_Key] = set()
        self._releasing = begun
        heard: asyncio.Future[set[_Key]] = loop.create_future()
        owner.later(lambda: heard.set_result(self._forget(leases)))
        leaving = await heard
        await writer.commit()
        over: asyncio.Future[None] = loop.create_future()
        owner.later(over.set_result, None)  # behind what those commits ask for
        await over
        self._releasing = None
        found = {key: leases.get(self._shard(key)) for key in leaving | begun}
        leaves = [writer.commit(Leave(*key), lease=lease) for key, lease in found.items() if lease is not None]
        for error in await asyncio.gather(*leaves, return_exceptions=True):
            if isinstance(error, BaseException):
                logger.warning("an open turn will count that its shard was given back as a crash: %s", error)

    def opened(self, note: TurnStarted) -> None:
        """Take in that a commit of ours has opened a turn of a process that is not ours any more."""
        if self._releasing is not None:
            self._releasing.add((note.tenant_id, note.process_id))

    def _forget(self, shards: Collection[int]) -> set[_Key]:
        """Forget processes; return whose open turns have an attempt that is counted, and did not crash."""
        owner = self._owner
        residents = [resident for key, resident in owner.residents.items() if self._shard(key) in shards]
        begun = {(one.tenant_id, one.process_id) for one in residents if one.resumed or not one.loading}
        for resident in residents:
            owner.evict(resident)
        begun |= owner.dispatcher.forget(lambda *key: self._shard(key) in shards)
        owner.recovery.forget(shards)
        for key in [key for key in owner.why_stuck if self._shard(key) in shards]:  # whether they go on is for another to say
            owner.goes_on(*key)
        return begun

    def _shard(self, key: _Key) -> int:
        return shard_of(*key, shards=self._owner.store.shards)

    async def look_for_replies(self) -> None:
        """Answer those who wait here for what another node has sealed."""
        owner, access = self._owner, self._owner.store.access
        with access.signals.listen(SEALED) as listener:
            while owner.is_open:
                look = owner.loop.call_later(limits.REPLY_LOOK_SECONDS, listener.wake)  # other nodes have no part in a test's clock
                await listener.wait(None)
                look.cancel()
                waiting = owner.waiters.all
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

"""How long a turn that waits stays in memory.

Source: engine.md, "States, memory, recovery".
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from perdure import limits
from perdure.clock import Alarm

if TYPE_CHECKING:
    from perdure.engine.owner import Owner
    from perdure.engine.resident import Resident


class Residency:
    """Turns that wait, the longest first. Each leaves when its time is over, or when too many processes are in memory.

    A turn that has left comes back by replay. It stays for a while because most answers come soon, and for as many
    times its replay that replaying can never be more than a small part of the work.

    Args:
        owner: of the processes.
        most: processes in memory, beyond those that have something under way.
    """

    def __init__(self, owner: Owner, *, most: int) -> None:
        self._owner = owner
        self._most = most
        self._resting: OrderedDict[tuple[str, str], Resident] = OrderedDict()
        self._alarm: Alarm | None = None

    def rest(self, resident: Resident) -> None:
        """Take in that a turn waits, and is stored so."""
        owner, key = self._owner, (resident.tenant_id, resident.process_id)
        if not owner.evicts:
            return
        resident.rests_until = owner.clock.now() + max(limits.REST_US, limits.REST_REPLAYS * resident.replay_time)
        self._resting[key] = resident
        self._resting.move_to_end(key)
        while len(owner.residents) > self._most and len(self._resting) > 1:
            _, oldest = self._resting.popitem(last=False)
            self._evict(oldest)
        if self._alarm is None:
            self._alarm = owner.clock.call_at(owner.clock.now() + limits.REST_US, lambda: owner.later(self._look))

    def stop(self) -> None:
        """Look no more."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._resting.clear()

    def _look(self) -> None:
        """Evict whose time is over; a part of them in each round of the loop."""
        self._alarm = None
        now, left = self._owner.clock.now(), 0
        for key, resident in list(self._resting.items()):
            if not resident.rests:
                del self._resting[key]  # it moves again, and comes back when it waits
            elif resident.rests_until <= now or resident.rests_until - now > limits.REST_MAX_US:  # the clock may have been set back
                del self._resting[key]
                self._evict(resident)
                left += 1
                if left == limits.WAKE_UPS:
                    break
        if not self._resting:
            return
        if left == limits.WAKE_UPS:
            self._owner.loop.call_soon(self._owner.later, self._look)
        else:
            self._alarm = self._owner.clock.call_at(now + limits.REST_US, lambda: self._owner.later(self._look))

    def _evict(self, resident: Resident) -> None:
        if resident.rests:
            self._owner.evict(resident)

"""Messages to tags on their way to the members: one page at a time, each a transaction, whatever crashes.

Source: engine.md, "Addressing and delivery", 6.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from perdure import limits
from perdure.engine.delivery import FanOutChunk
from perdure.errors import PerdureError

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")


class FanOuts:
    """The fan-outs that are under way: nothing about them is only in memory."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._under_way: set[tuple[str, str, str]] = set()

    def go_on(self, tenant_id: str, source: str, message_id: str) -> None:
        """Deliver to the next members, unless that is under way."""
        owner, key = self._owner, (tenant_id, source, message_id)
        if owner.is_open and owner.rules.leads and key not in self._under_way:
            self._under_way.add(key)
            owner.submit(FanOutChunk(owner.rules, *key), 0, self._delivered, key)

    def _delivered(self, key: tuple[str, str, str], results: Any, error: Exception | None) -> None:
        owner = self._owner
        self._under_way.discard(key)
        if error is not None:
            logger.error("fan-out of %s stopped: %s; a restart goes on with it", key[2], error)
            if isinstance(error, PerdureError) and error.retryable and owner.is_open:
                owner.clock.call_at(owner.clock.now() + limits.STALL_US, partial(owner.later, self.go_on, *key))
            return
        more, notes = results[0]
        owner.route(notes)
        if more:
            self.go_on(*key)

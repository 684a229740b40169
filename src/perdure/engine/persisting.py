"""Work beside the turns that nobody else would do, if the store could not be used just then.

Source: engine.md, "States, memory, recovery".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from perdure import limits
from perdure.clock import sleep
from perdure.errors import PerdureError

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")


async def until_done(owner: Owner, work: Callable[[], Awaitable[object]]) -> None:
    """Do some work, and again in a while as long as it fails for what passes.

    Args:
        owner: while it is open.
        work: what can be done again from its beginning.

    Raises:
        Exception: what it raises for good.
    """
    while owner.is_open:
        try:
            await work()
        except PerdureError as error:
            if not error.retryable:
                raise
            logger.warning("work beside the turns is not done now; the next try is soon: %s", error)
            await sleep(owner.clock, limits.STALL_US)
        else:
            return

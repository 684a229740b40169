"""What looks like chance to the code of a turn, and is the same on every replay.

Source: engine.md, "The TurnLoop".
"""

from __future__ import annotations

import random
import uuid
from typing import Final

from perdure.engine.addressing import TurnId
from perdure.identity import RESERVED_ID_PREFIX, derived_id

_HEX: Final = slice(len(RESERVED_ID_PREFIX), None)


class Chance:
    """Random numbers and ids of one turn, derived from its tenant, process and message."""

    def __init__(self, id: TurnId) -> None:
        self.of = id
        # One part more than the name of a step has: no step's idempotency key is the same.
        self.random = random.Random(derived_id(*id, "random", ""))  # noqa: S311  # it has to be known again on replay
        self._namespace = uuid.UUID(hex=derived_id(*id, "uuid", "")[_HEX])
        self._made = 0

    def uuid(self) -> uuid.UUID:
        """Return the turn's next id, of version 5: a hash of a name, which here is the turn and the number of the call."""
        self._made += 1
        return uuid.uuid5(self._namespace, str(self._made))

"""Where a process object finds its open turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import NotInTurn

if TYPE_CHECKING:
    from perdure.engine.turn import Turn


class TurnSlot:
    """Where a process object finds its open turn."""

    __slots__ = ("_turn",)
    if TYPE_CHECKING:  # msgspec would take a plain annotation for a field
        _turn: Turn

    def _open(self) -> Turn:
        try:
            return self._turn
        except AttributeError:
            raise NotInTurn(f"{type(self).__name__}: no turn is open on this object; verbs are for handlers that the engine runs") from None

"""Search attributes as handlers set them.

Source: engine.md, "Verbs of a turn".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perdure import limits
from perdure.conversations.attributes import AttributeValue, checked_name, encoded
from perdure.engine.effects import AttributeEffect
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.engine.apart.remote import AnyTurn
    from perdure.engine.turn import Turn


class Attributes:
    """What a process is found by: `self.attributes["customer"] = "c-7"`, `del self.attributes["customer"]`.

    They are set, not read: what a handler has to know belongs into a field. A change is committed with the turn's next
    commit; a turn that fails goes back to the attributes that it found. They stay when the process ends.

    Raises:
        UsageError: the name, the value or the number of names is not allowed; nothing was changed.
    """

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __setitem__(self, name: str, value: AttributeValue) -> None:
        checked = checked_name(name)
        there = self._there()
        stored = encoded(value, what=f"attribute {checked!r}")
        # What this turn has taken away counts until it is over: on replay, the same names have to be refused.
        if checked not in there and len(there) >= limits.ATTRIBUTES_MAX:
            raise UsageError(
                f"attribute {checked!r}: a process has {limits.ATTRIBUTES_MAX} attributes at most; take one away in a turn before"
            )
        there[checked] = True
        self._turn.effect(AttributeEffect(checked, stored))

    def __delitem__(self, name: str) -> None:
        checked = checked_name(name)
        there = self._there()
        if checked in there:
            there[checked] = False
        self._turn.effect(AttributeEffect(checked, None))

    def update(self, values: Mapping[str, AttributeValue], /) -> None:
        """Set several."""
        for name, value in values.items():
            self[name] = value

    def _there(self) -> dict[str, bool]:
        turn = self._turn
        turn.check_open("attributes")
        if turn.attributes is None:
            turn.attributes = dict.fromkeys(turn.attributes_found, True)
        return turn.attributes


def attributes_after(turn: AnyTurn, *, ok: bool) -> frozenset[str]:
    """Return the names that a turn leaves."""
    if not ok or turn.attributes is None:
        return turn.attributes_found
    return frozenset(name for name, there in turn.attributes.items() if there)

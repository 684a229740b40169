"""Flow control as people declare it, with their process types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.errors import DefinitionError, UsageError
from perdure.flows.tables import PlaceRow
from perdure.flows.writes import Bounds, Limits
from perdure.identity import checked_text

if TYPE_CHECKING:
    from perdure.engine.app import ProcessType


class Rate(msgspec.Struct, frozen=True):
    """At most `count` in any time of length `per`: they begin evenly spaced, `per / count` apart."""

    count: int
    per: timedelta


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """How many processes of a type run at once, how fast they begin, and who is first.

    A start over a limit is accepted, durably, and waits; its turn begins in the transaction that makes room. A place is held
    from the beginning of a process's first turn to the end of that turn. Limits are per tenant.

    Args:
        concurrency: places of the whole type.
        rate: of beginnings, of the whole type.
        key: from a message (of a function: from its arguments) to a text; each text has limits of its own. Pure.
        key_concurrency: places of each key.
        key_rate: of beginnings, of each key.
        priority: a number, or a pure function like `key`; the lowest begins first, of equal ones the oldest.

    Raises:
        DefinitionError, when the type is registered: a limit is not positive, or a limit of keys has no key.

    Source: docs/flow-control.md.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    key: Callable[..., str] | None = None
    key_concurrency: int | None = None
    key_rate: Rate | None = None
    priority: int | Callable[..., int] = 0


class FlowRule:
    """The flow control of one process type, as decisions use it."""

    def __init__(self, made: ProcessType, flow: Flow) -> None:
        if flow.key is None and (flow.key_concurrency is not None or flow.key_rate is not None):
            raise DefinitionError(f"{made.name}: a flow with limits per key needs `key=`")
        self._made = made
        self._flow = flow
        self.limits = Limits(
            _bounds(made.name, flow.concurrency, flow.rate),
            _bounds(made.name, flow.key_concurrency, flow.key_rate),
        )

    @property
    def priority(self) -> int:
        """The priority of all starts, if no function tells it."""
        return self._flow.priority if isinstance(self._flow.priority, int) else 0

    @property
    def is_fixed(self) -> bool:
        """Whether it asks no function of the user's."""
        return self._flow.key is None and isinstance(self._flow.priority, int)

    def place(self, kind: str, payload: bytes) -> PlaceRow:
        """Return key and priority of a start.

        Raises:
            UsageError: the flow's own functions failed, or returned no text or number.
        """
        flow, made = self._flow, self._made
        try:
            value = made.handlers[kind].decode(payload)
            arguments = tuple(value) if made.is_function else (value,)
            key = "" if flow.key is None else flow.key(*arguments)
            priority: Any = flow.priority if isinstance(flow.priority, int) else flow.priority(*arguments)
        except Exception as error:  # whatever the user's functions raise, this start is at fault and no other
            raise UsageError(f"{made.name}: key or priority of its flow cannot be told: {error!r}") from error
        if not isinstance(priority, int) or abs(priority) > limits.PRIORITY_MAX:
            raise UsageError(f"{made.name}: a priority is a whole number within ±{limits.PRIORITY_MAX:,}, found {priority!r}")
        if flow.key is not None:
            key = checked_text(key, what="flow key", limit=limits.REGISTRY_KEY_MAX)
        return PlaceRow(made.name, key, int(priority), 0, "")


def _bounds(name: str, places: int | None, rate: Rate | None) -> Bounds:
    if places is not None and places < 1:
        raise DefinitionError(f"{name}: a flow's concurrency is at least 1, found {places}")
    interval: Micros | None = None
    if rate is not None:
        if rate.count < 1 or rate.per <= timedelta():
            raise DefinitionError(f"{name}: a flow's rate is at least one in a positive time, found {rate.count} in {rate.per}")
        interval = -(-(rate.per // timedelta(microseconds=1)) // rate.count)
    return Bounds(places, interval)

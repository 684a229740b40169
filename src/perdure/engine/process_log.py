"""A durable list of a process that only grows: what would make the durable fields large is kept as rows of its own.

Its length is a durable field like any other: so it goes back with the fields when a turn fails, and a replay begins with the
length that the turn found. Entries behind the length are those of failed turns, and are written over.

Source: engine.md, "Verbs of a turn", fields.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.conversations.tables import LOG_ENTRIES
from perdure.core.backend import Reader
from perdure.core.table import Scan
from perdure.engine.effects import LogEffect
from perdure.engine.functions import StepFunction
from perdure.engine.searching import checked_limit
from perdure.engine.steps import input_of
from perdure.errors import NotInTurn, PayloadTooLarge

if TYPE_CHECKING:
    from perdure.engine.turn import Turn

T = TypeVar("T")


class LogType:
    """One log of a process type: its name, and how its entries are read."""

    __slots__ = ("decode", "known", "name")

    def __init__(self, name: str, entry: Any) -> None:
        async def page() -> Any: ...

        page.__annotations__["return"] = list[entry]
        self.name = name
        self.decode: Callable[[bytes], Any] = JSON.decoder(entry)
        self.known = StepFunction(page)


class _LogSlot:
    __slots__ = ("_of", "_turn")
    if TYPE_CHECKING:  # msgspec would take plain annotations for fields
        _turn: Turn
        _of: LogType


class Log(_LogSlot, msgspec.Struct, Generic[T]):
    """A durable list that only grows: `history: perdure.Log[str] = msgspec.field(default_factory=perdure.Log)`.

    `length` counts its entries, those appended in this turn included.
    """

    length: int = 0

    def bind(self, turn: Turn, of: LogType) -> None:
        """Belong to an open turn from here on."""
        self._turn = turn
        self._of = of

    def __len__(self) -> int:
        return self.length

    def append(self, entry: T, /) -> None:
        """Add an entry, written with the turn's next commit. When the turn fails, all that it appended is gone.

        Raises:
            PayloadUnencodable, PayloadInvalid: it is not of the type that the log is declared with.
            PayloadTooLarge: it is over 1 MiB.
        """
        turn, of = self._open("append")
        data = JSON.encode(entry)
        of.decode(data)
        if len(data) > limits.MESSAGE_MAX:
            raise PayloadTooLarge(f"an entry of {of.name}", size=len(data), limit=limits.MESSAGE_MAX)
        turn.effect(LogEffect(of.name, self.length, data))
        self.length += 1

    def page(self, *, after: int = -1, limit: int = limits.PAGE_DEFAULT) -> Coroutine[Any, Any, list[T]]:
        """Return entries in order, as a step whose output, at most 1 MiB, is recorded.

        Args:
            after: the position, from 0, of the last one of the page before.
            limit: how many at most.
        """
        turn, of = self._open("page")
        checked_limit(limit)
        operation = turn.operation(f"{of.name}.page", "step")
        operation.function = turn.read_log
        operation.known = of.known
        operation.arguments = (of, after, self.length, limit)
        operation.input = input_of(f"{of.name}.page", turn.read_log, (after, self.length, limit))
        return turn.wait(operation)

    def last(self, count: int, /) -> Coroutine[Any, Any, list[T]]:
        """Return the last `count` entries, oldest first, as `page` does."""
        return self.page(after=max(0, self.length - count) - 1, limit=count)

    def _open(self, verb: str) -> tuple[Turn, LogType]:
        try:
            turn, of = self._turn, self._of
        except AttributeError:
            raise NotInTurn(f"Log.{verb}: no turn is open on this log; use the one that the process has, and do not replace it") from None
        turn.check_open(verb)
        return turn, of


def logs_of(target: type[msgspec.Struct]) -> dict[str, LogType]:
    """Return the logs that a process class declares, by name."""
    found: dict[str, LogType] = {}
    for field in msgspec.structs.fields(target):
        if (typing.get_origin(field.type) or field.type) is Log:
            found[field.name] = LogType(field.name, *(typing.get_args(field.type) or (Any,)))
    return found


def entries_of(reader: Reader, tenant_id: str, process_id: str) -> Callable[[LogType, int, int, int], Coroutine[Any, Any, list[Any]]]:
    """Return what reads entries of the logs of a process: those that were there when its turn asked. They are never changed."""

    async def read(of: LogType, after: int, length: int, limit: int) -> list[Any]:
        scan = Scan(LOG_ENTRIES, (tenant_id, process_id, of.name), limit, after=(after,), upto=(length - 1,))
        return [of.decode(row.data) for _, row in await reader.scan(scan)]

    return read

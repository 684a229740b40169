"""Lists of processes: by type, status, time and search attributes, page by page, each page from an index.

Source: engine.md, "Versions, operations, time".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from perdure import limits
from perdure.clock import Micros, micros_of
from perdure.conversations.attributes import AttributeValue, checked_name, encoded
from perdure.conversations.tables import (
    ATTRIBUTE,
    BY_ATTRIBUTE,
    BY_STATUS,
    CREATED,
    HALTED,
    PROCESS,
    PROCESSES,
    ProcessRow,
    ProcessStatus,
)
from perdure.core.backend import Reader
from perdure.core.table import Index, Key, Scalar, Scan
from perdure.cursors import cursor_of, named_by, no_cursor
from perdure.errors import UsageError
from perdure.identity import TenantId
from perdure.names import shown

T = TypeVar("T")
Order = Literal["id", "created", "-created"]
_ORDERS: Final = ("id", "created", "-created")
_LISTED: Final = tuple(status for status in ProcessStatus if status != ProcessStatus.REMOVED)


class Page(list[T], Generic[T]):
    """One page of a list; `next` is the cursor of the page after it, None when there is none.

    A page may have fewer rows than were asked for, or none, and still be followed by another: only so many rows are
    looked at for one.
    """

    __slots__ = ("next",)

    def __init__(self, rows: Iterable[T] = (), *, next: str | None = None) -> None:
        super().__init__(rows)
        self.next = next


class Between(msgspec.Struct, frozen=True):
    """Attributes from `low` to `high`, both included; None is open. Ends of one kind: numbers, text, or times."""

    low: AttributeValue | None = None
    high: AttributeValue | None = None


class StartsWith(msgspec.Struct, frozen=True):
    """Attributes that are text and begin with this one."""

    text: str


AttributeFilter = AttributeValue | Between | StartsWith


def checked_limit(limit: int) -> int:
    """Return how many rows of a page are asked for. Raises UsageError."""
    if not 1 <= limit <= limits.PAGE_MAX:
        raise UsageError(f"limit is 1 to {limits.PAGE_MAX}, found {limit}")
    return limit


class Range(NamedTuple):
    """Bytes of values from `start` on, up to `end`, which belongs to it or not."""

    start: bytes
    end: bytes
    closed: bool

    def holds(self, value: bytes | None) -> bool:
        """Return whether a value is in it; nothing is not."""
        return value is not None and self.start <= value and (value <= self.end if self.closed else value < self.end)

    @property
    def exact(self) -> bool:
        """Whether it is one value."""
        return self.start == self.end

    @property
    def before(self) -> tuple[Scalar, ...]:
        """The place, by value and process, right before it."""
        return (self.start, "")

    @property
    def upto(self) -> tuple[Scalar, ...]:
        """The last place of it: no process has an empty id."""
        return (self.end,) if self.closed else (self.end, "")


def range_of(name: str, wanted: AttributeFilter) -> Range:
    """Return the values that a filter means. Raises UsageError."""
    what = f"attribute {name!r}"
    match wanted:
        case StartsWith(text=str(text)):
            _, start = encoded(text, what=what)
            return Range(start, start[:-1] + bytes([start[-1] + 1]), closed=False)  # no byte of UTF-8 is 255
        case Between(low=None, high=None):
            raise UsageError(f"{what}: Between needs an end: Between(low, high), Between(low=…) or Between(high=…)")
        case Between():
            return _between(what, wanted)
        case _:
            value = encoded(wanted, what=what)[1]
            return Range(value, value, closed=True)


def _between(what: str, wanted: Between) -> Range:
    ends = [(end, encoded(end, what=what)[1]) for end in (wanted.low, wanted.high) if end is not None]
    kind = ends[0][1][0]
    if any(data[0] != kind for _, data in ends):
        raise UsageError(
            f"{what}: the ends of Between are both numbers, both text, or both times; found {' and '.join(repr(end) for end, _ in ends)}"
        )
    start = bytes([kind]) if wanted.low is None else ends[0][1]
    if wanted.high is None:
        return Range(start, bytes([kind + 1]), closed=False)
    return Range(start, ends[-1][1], closed=True)


class Found(NamedTuple):
    """One process of a list."""

    key: Key[ProcessRow]
    row: ProcessRow


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, checked: see `inspection.processes`."""

    tenant_id: TenantId
    process_type: str | None
    status: str | None
    attributes: tuple[tuple[str, Range], ...]
    created_after: Micros | None
    updated_before: Micros | None
    order: Order | None

    @classmethod
    def of(
        cls,
        *,
        tenant: str,
        type: Any = None,
        status: str | None = None,
        attributes: Mapping[str, AttributeFilter] | None = None,
        created_after: datetime | None = None,
        updated_before: datetime | None = None,
        order: str | None = None,
    ) -> Search:
        """Return what is asked for. Raises UsageError, InvalidIdentifier."""
        if status not in (None, *_LISTED):
            raise UsageError(f"status {status!r}: expected one of {', '.join(_LISTED)}")
        if order not in (None, *_ORDERS):
            raise UsageError(f"order {order!r}: expected one of {', '.join(_ORDERS)}")
        if order is not None and attributes:
            raise UsageError("order and attributes exclude one another: what is found by an attribute comes in its order, then by id")
        name = type if type is None or isinstance(type, str) else getattr(type, "__name__", None)
        if type is not None and not name:
            raise UsageError(f"type: expected a process type or its name, found {shown(type)}")
        ranges = [(checked_name(name), range_of(name, wanted)) for name, wanted in (attributes or {}).items()]
        if len(ranges) > limits.ATTRIBUTES_MAX:
            raise UsageError(f"{len(ranges)} attributes; no process has more than {limits.ATTRIBUTES_MAX}")
        return cls(
            tenant_id=TenantId(tenant),
            process_type=name,
            status=status,
            attributes=tuple(sorted(ranges, key=lambda each: not each[1].exact)),
            created_after=_instant("created_after", created_after),
            updated_before=_instant("updated_before", updated_before),
            order=order,  # type: ignore[arg-type]  # checked above
        )

    @property
    def filters(self) -> bool:
        """Whether not every row that is read is asked for."""
        return self != Search(
            tenant_id=self.tenant_id,
            process_type=None,
            status=None,
            attributes=(),
            created_after=None,
            updated_before=None,
            order=self.order,
        )

    @property
    def index(self) -> Index[Any]:
        """Return the path that is read: what leads to the fewest rows, in an order that does not change."""
        if self.attributes:
            return BY_ATTRIBUTE
        if self.order in ("created", "-created") or (self.order is None and self.created_after is not None and self.status not in HALTED):
            return CREATED
        return BY_STATUS if self.status in HALTED else PROCESSES

    def scan(self, after: tuple[Scalar, ...] | None, limit: int) -> Scan[Any]:
        """Return the read of the rows behind a place."""
        index, tenant = self.index, self.tenant_id
        if index is BY_ATTRIBUTE:
            name, wanted = self.attributes[0]
            return Scan(index, (tenant, name), limit, after=after or wanted.before, upto=wanted.upto)
        if index is BY_STATUS:
            return Scan(index, (tenant, self.status), limit, after=after)
        if index is PROCESSES or self.created_after is None:
            return Scan(index, (tenant,), limit, after=after, backwards=self.order == "-created")
        if self.order == "-created":
            return Scan(index, (tenant,), limit, after=after, upto=(self.created_after + 1,), backwards=True)
        return Scan(index, (tenant,), limit, after=after or (self.created_after,))

    async def match(self, reader: Reader, key: Key[Any], row: Any) -> Found | None:
        """Return the process that a row of the path leads to, if it is asked for."""
        if self.attributes:
            key = PROCESS.key(key.parts[0], key.parts[1])
            row = await reader.get(key)
        if row is None or not self._is_asked_for(row):
            return None
        for name, wanted in self.attributes[1:]:
            attribute = await reader.get(ATTRIBUTE.key(*key.parts, name))
            if attribute is None or not wanted.holds(attribute.value):
                return None
        return Found(key, row)

    def _is_asked_for(self, row: ProcessRow) -> bool:
        return (
            bool(row.process_type)  # else it is a conversation, which no engine runs
            and row.status != ProcessStatus.REMOVED
            and self.process_type in (None, row.process_type)
            and self.status in (None, row.status)
            and (self.created_after is None or row.created_at > self.created_after)
            and (self.updated_before is None or row.updated_at < self.updated_before)
        )

    def cursor(self, place: tuple[Scalar, ...]) -> str:
        """Return a text that names a place of this list."""
        return cursor_of((self._digest(), place))

    def place(self, cursor: str | None) -> tuple[Scalar, ...] | None:
        """Return the place that a cursor names. Raises UsageError when it is none, or one of another list."""
        if cursor is None:
            return None
        match named_by(cursor, list[Any]):
            case [bytes(digest), [*place]] if all(isinstance(part, str | int | bytes) for part in place):
                if digest == self._digest() and len(place) == len(self.index.order):
                    return tuple(place)
                raise UsageError(f"after={cursor!r}: it is the `next` of another list; ask as for the page before")
            case _:
                raise no_cursor(cursor)

    def _digest(self) -> bytes:
        return hashlib.blake2b(repr(msgspec.structs.astuple(self)).encode(), digest_size=8).digest()


async def search(reader: Reader, wanted: Search, *, after: str | None, limit: int) -> Page[Found]:
    """Return a page of the processes that are asked for."""
    found: Page[Found] = Page()
    place, looked = wanted.place(after), 0
    while True:
        size = limits.READ_PAGE if wanted.filters else min(limits.READ_PAGE, limit - len(found))
        rows = await reader.scan(wanted.scan(place, size))
        for key, row in rows:
            place = wanted.index.order_of(key.parts, row)
            one = await wanted.match(reader, key, row)
            if one is not None:
                found.append(one)
                if len(found) == limit:
                    found.next = wanted.cursor(place)
                    return found
        if len(rows) < size:
            return found
        looked += size
        if looked >= limits.LIST_ROWS_MAX and place is not None:
            found.next = wanted.cursor(place)
            return found
        await asyncio.sleep(0)  # a list is for people; the turns go on meanwhile


def _instant(what: str, value: datetime | None) -> Micros | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise UsageError(f"{what}: expected a datetime with a time zone, found {value!r}")
    return micros_of(value)

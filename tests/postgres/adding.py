"""Callers who each add one, what they were told, and what there is: a sum that was written once per caller who heard of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable

import asyncpg
import msgspec

from perdure.core.backend import CommitUnknown
from perdure.core.table import Read
from perdure.core.view import View
from perdure.core.writer import Writer
from perdure.errors import OutcomeUnknown, PerdureError
from perdure.store import Store
from perdure.streams.tables import VALUE, ValueRow


class Add(msgspec.Struct, frozen=True):
    """Add to a value, and to a counter; returns the sum."""

    key: str = "sum"
    number: int = 1

    def reads(self) -> Iterable[Read]:
        yield VALUE.key("acme", self.key)

    def decide(self, view: View) -> int:
        key = VALUE.key("acme", self.key)
        row = view.get(key)
        view.count("added", self.number)
        if row is None:
            view.insert(key, ValueRow(self.number, view.now))
            return self.number
        assert row.value is not None
        view.update(key, ValueRow(row.value + self.number, view.now))
        return row.value + self.number


class Look(msgspec.Struct, frozen=True):
    """Read a value in a batch."""

    key: str = "sum"

    def reads(self) -> Iterable[Read]:
        yield VALUE.key("acme", self.key)

    def decide(self, view: View) -> int | None:
        row = view.get(VALUE.key("acme", self.key))
        return None if row is None else row.value


class Told(msgspec.Struct):
    """What callers were told: sums, or errors."""

    sums: list[int] = msgspec.field(default_factory=list)
    errors: list[PerdureError] = msgspec.field(default_factory=list)

    async def add(self, store: Store, times: int = 1) -> None:
        """Add so many times, one after the other."""
        for _ in range(times):
            try:
                self.sums.extend(await store.commit(Add()))
            except PerdureError as error:
                self.errors.append(error)

    async def add_together(self, store: Store, callers: int, times: int = 1) -> None:
        """Add from several callers at once."""
        await asyncio.gather(*(self.add(store, times) for _ in range(callers)))


async def problems(url: str, told: Told) -> list[str]:
    """Return how what is in the database differs from what the callers were told, whose errors all say that nothing was written."""
    connection = await asyncpg.connect(url)
    try:
        total = await connection.fetchval("select value from perdure.value where tenant_id = 'acme' and key = 'sum'") or 0
        counted = await connection.fetchval("select coalesce(sum(value), 0)::bigint from perdure.counter where name = 'added'")
    finally:
        await connection.close()
    found = []
    if sorted(told.sums) != list(range(1, total + 1)):
        found.append(f"the sum is {total}, {len(told.sums)} callers heard of {len(set(told.sums))} sums up to {max(told.sums, default=0)}")
    if counted != total:
        found.append(f"the sum is {total}, the counter {counted}")
    if any(isinstance(error, OutcomeUnknown) for error in told.errors):
        found.append("an outcome was left unknown")
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Return once it is true."""
    for _ in itertools.repeat(None):
        if condition():
            return
        await asyncio.sleep(0)


# --- writers that do not settle an unknown outcome ----------------------------------------------------------


class Retrying(Writer):
    """The mistake: what is not known to be committed is run again."""

    async def _was_committed(self, number: int, unknown: CommitUnknown) -> bool:
        self._row = await self._backend.fence()
        return False


class Trusting(Writer):
    """The mistake: what is not known to have failed is taken for committed."""

    async def _was_committed(self, number: int, unknown: CommitUnknown) -> bool:
        self._row = await self._backend.fence()
        return True


class Unfenced(Writer):
    """The mistake: it looks what became of the batch, and does not stop what may still be under way."""

    async def _was_committed(self, number: int, unknown: CommitUnknown) -> bool:
        assert self._row is not None
        session = self._backend._session  # type: ignore[attr-defined]
        session.drop()
        [(batch,)] = await session.rows("select batch from perdure.writer where node = $1", (self._row.node,))
        return bool(batch == number)

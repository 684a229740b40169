"""One of several processes that race on the same keys, conversations, operations and values of one file.

Run as `python -m tests.sqlite.racer PATH NUMBER ROUNDS VARIANT`. It says `ready`, begins when it is told anything, and
ends after so many rounds, or, if they are 0, when its input is closed. Then it prints, as JSON, what it was told.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import apsw
import msgspec

from perdure.backends.sqlite import database
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.backends.sqlite.connection import insist
from perdure.conversations.conversation import DurableConversation
from perdure.core.backend import Batch, Found, Wanted
from perdure.core.view import View
from perdure.errors import PerdureError, SequenceConflict, ValueConflict
from perdure.identity import RegistryKey
from perdure.operations.contract import Started
from perdure.store import Store, open_store
from perdure.streams.tables import VALUE, ValueRow
from tests.contracts.operations import begin, named
from tests.contracts.registry import ACME, process

TASKS = 4
WATCH = ("watch-0", "watch-1")


class Telling(msgspec.Struct):
    """What one process was told. Sequences are of what it appended; keys are with the owner that it learned."""

    added: int = 0
    stream: dict[int, str] = msgspec.field(default_factory=dict)
    conversation: dict[int, str] = msgspec.field(default_factory=dict)
    started: list[str] = msgspec.field(default_factory=list)
    owners: dict[str, str] = msgspec.field(default_factory=dict)
    nobody_on_watch: int = 0
    errors: list[str] = msgspec.field(default_factory=list)


class Watch(msgspec.Struct, frozen=True):
    """Go on watch, or off it if the other one is on: at least one always is. It reads both rows and writes one."""

    mine: int

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> bool:
        """Return whether somebody was on watch."""
        mine, other = (VALUE.key("acme", WATCH[number]) for number in (self.mine, 1 - self.mine))
        rows = [view.get(mine), view.get(other)]
        if rows[0] is None:
            view.insert(mine, ValueRow(1, view.now))
            return True
        on, other_on = (row is not None and row.value == 1 for row in rows)
        if not on or other_on:
            view.update(mine, ValueRow(0 if on else 1, view.now))
        return on or other_on


class ReadsFirst(SqliteBackend):
    """The mistake: it reads, decides, and takes the lock only then."""

    async def _begin(self) -> None:
        self._open = True
        self._now = max(self._now, self._file.clock.now())
        self._catch_up()

    async def apply(self, batch: Batch) -> None:
        await self._file.off_loop(lambda: insist(self._file.randomness, lambda: self._file.writing.execute("BEGIN IMMEDIATE")))
        await super().apply(batch)

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        try:
            return await super().prefetch(wanted, locked=locked)
        except apsw.BusyError:
            return await super().prefetch(wanted, locked=locked)


class Racer:
    """Does the same as the others do, at the same time."""

    def __init__(self, store: Store, number: int) -> None:
        self.store = store
        self.number = number
        self.told = Telling()
        self.heads: dict[str, int] = {}
        self.conversation = DurableConversation("race", store, tenant_id=ACME)

    async def round(self, n: int) -> None:
        """Race once on everything; the others are at about the same number."""
        for attempt in (self._add, self._append, self._converse, self._begin, self._bind, self._watch):
            try:
                await attempt(n)
            except (SequenceConflict, ValueConflict):
                continue
            except (PerdureError, AssertionError) as error:  # a decision that meets what cannot be is a finding, too
                self.told.errors.append(f"{type(error).__name__}: {error}")

    async def _add(self, _n: int) -> None:
        value = await self.store.streams.read_value("sum", tenant_id=ACME)
        await self.store.streams.cas("sum", value, (value or 0) + 1, tenant_id=ACME)
        self.told.added += 1

    async def _append(self, n: int) -> None:
        text = f"{self.number}/{n}/{self.told.added}"
        try:
            seq = await self.store.streams.append("race", text.encode(), self.heads.get("race", 0), tenant_id=ACME)
        except SequenceConflict as conflict:
            self.heads["race"] = conflict.found
            raise
        self.told.stream[seq] = text
        self.heads["race"] = seq + 1

    async def _converse(self, n: int) -> None:
        message = f"{self.number}/{n}"
        try:
            seq = await self.conversation.record_message_received(message, 1)
        except SequenceConflict:
            await self.conversation.refresh()
            raise
        self.told.conversation[seq] = message

    async def _begin(self, n: int) -> None:
        if isinstance(await begin(self.store.operations, named(str(n))), Started):
            self.told.started.append(str(n))

    async def _bind(self, n: int) -> None:
        owner = await self.store.processes.register_if_absent(ACME, RegistryKey(f"key {n}"), process(f"p{self.number}"))
        self.told.owners[f"key {n}"] = str(owner.process_id)

    async def _watch(self, _n: int) -> None:
        if self.number < len(WATCH):
            [somebody] = await self.store.commit(Watch(self.number))
            self.told.nobody_on_watch += not somebody


async def race(path: str, number: int, rounds: int) -> Telling:
    async with open_store(f"sqlite:///{path}") as store:
        racer = Racer(store, number)
        loop = asyncio.get_running_loop()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.readline)
        closed = asyncio.ensure_future(loop.run_in_executor(None, sys.stdin.read)) if not rounds else None

        async def task(place: int) -> None:
            n = place
            while n < rounds * TASKS if closed is None else not closed.done():
                await racer.round(n)
                n += TASKS

        await asyncio.gather(*(task(place) for place in range(TASKS)))
    return racer.told


def main(path: str, number: str, rounds: str, variant: str) -> None:
    if variant == "reads-first":
        database.SqliteBackend = ReadsFirst  # type: ignore[attr-defined]
    told: Any = asyncio.run(race(path, int(number), int(rounds)))
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

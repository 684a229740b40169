"""One of several processes that race on the same keys, tags, conversations, operations, streams and values of one store.

Run as `python -m tests.racing.racer URL NUMBER ROUNDS MISTAKE`. It says `ready`, begins when it is told anything, and
ends after so many rounds, or, if they are 0, when its input is closed. Then it prints, as JSON, what it was told.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from perdure import limits
from perdure.clock import SECOND
from perdure.commands.contract import CommandRetry, Succeeded
from perdure.conversations.conversation import DurableConversation
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.errors import PerdureError, SequenceConflict, StoreBusy, ValueConflict
from perdure.identity import RegistryKey
from perdure.messages.tables import MESSAGE, PARKED, PARKING, MessageRow, MessageStatus, ParkingRow
from perdure.messages.writes import under_tag
from perdure.operations.contract import Started
from perdure.store import Store, open_store
from perdure.streams.tables import VALUE, ValueRow
from tests.contracts.operations import begin, named
from tests.contracts.registry import ACME, process
from tests.racing import mistakes

TASKS = 16
MANY = 64  # so that a batch has many calls, and many of them come second
HELD = 1_000_000
LEASE = 86_400 * SECOND  # longer than one can be behind the others
PATIENT = CommandRetry(max_attempts=1_000, initial=0)
NAMES = ("name-0", "name-1")
WATCH = ("watch-0", "watch-1")
Attempts = tuple[Callable[[int], Awaitable[None]], ...]


class Telling(msgspec.Struct):
    """What one process was told. Sequences are of what it appended; keys are with the owner that it learned."""

    added: int = 0
    stream: dict[int, str] = msgspec.field(default_factory=dict)
    conversation: dict[int, str] = msgspec.field(default_factory=dict)
    started: list[str] = msgspec.field(default_factory=list)
    owners: dict[str, str] = msgspec.field(default_factory=dict)
    nobody_on_watch: int = 0
    ticks: list[int] = msgspec.field(default_factory=list)
    parked: list[int] = msgspec.field(default_factory=list)
    taken: list[int] = msgspec.field(default_factory=list)
    stuck: list[int] = msgspec.field(default_factory=list)
    commands: dict[str, str] = msgspec.field(default_factory=dict)
    done: list[str] = msgspec.field(default_factory=list)
    busy: int = 0
    calls: int = 0
    refused: int = 0  # because another one was first
    again: int = 0  # decided once more, because another one has changed a row since
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


class Tick(msgspec.Struct, frozen=True):
    """Take a tick."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> int:
        view.count("ticks", 1)
        return view.tick()


class Park(msgspec.Struct, frozen=True):
    """Leave something under a name that nobody holds; the name's row counts what waits, and is at HELD while it is held."""

    name: str
    number: int

    def reads(self) -> Iterable[Read]:
        yield _guard(self.name)

    def decide(self, view: View) -> bool:
        """Return whether it waits; otherwise it has come to the holder."""
        row = view.get(_guard(self.name))
        if row is not None and row.parked == HELD:
            return False
        place = MESSAGE.key("acme", "", str(self.number))
        assert view.get(place) is None
        under = under_tag(self.name)
        row_of_it = MessageRow(
            digest=b"",
            kind="k",
            status=MessageStatus.PARKED,
            address=under,
            parked_under=under,
            tick=view.tick(),
            accepted_at=view.now,
            payload=b"",
        )
        view.insert(place, row_of_it)
        self.count(view, row)
        return True

    def count(self, view: View, row: ParkingRow | None) -> None:
        _put(view, self.name, 1 if row is None else row.parked + 1)


class Take(msgspec.Struct, frozen=True):
    """Take a name that nobody holds, and everything that waits under it."""

    name: str

    def reads(self) -> Iterable[Read]:
        yield _guard(self.name)
        yield _waiting(self.name)

    def decide(self, view: View) -> list[int] | None:
        row = view.get(_guard(self.name))
        if row is not None and row.parked == HELD:
            return None
        _put(view, self.name, HELD)
        return _emptied(view, self.name)


class GiveBack(msgspec.Struct, frozen=True):
    """Hold a name no more; returns what waited all the same, which nobody would have looked for."""

    name: str

    def reads(self) -> Iterable[Read]:
        yield _guard(self.name)
        yield _waiting(self.name)

    def decide(self, view: View) -> list[int]:
        view.delete(_guard(self.name))
        return _emptied(view, self.name)


def _guard(name: str) -> Key[ParkingRow]:
    return PARKING.key("acme", under_tag(name))


def _put(view: View, name: str, parked: int) -> None:
    key = _guard(name)
    if view.get(key) is None:
        view.insert(key, ParkingRow(parked))
    else:
        view.update(key, ParkingRow(parked))


def _waiting(name: str) -> Scan[MessageRow]:
    return Scan(PARKED, ("acme", under_tag(name)), limits.PAGE_MAX, guard=_guard(name))


def _emptied(view: View, name: str) -> list[int]:
    found = [key for key, _ in view.scan(_waiting(name))]
    for key in found:
        view.delete(key)
    return [int(str(key.parts[2])) for key in found]


class Racer:
    """Does the same as the others do, at the same time."""

    def __init__(self, store: Store, number: int) -> None:
        self.store = store
        self.number = number
        self.told = Telling()
        self.heads: dict[str, int] = {}
        self._count_what_is_decided_again(store.access.writer)
        self.conversation = DurableConversation("race", store, tenant_id=ACME)

    def _count_what_is_decided_again(self, writer: Any) -> None:
        decide = writer._decide

        async def counted(batch: Any, tried: Any, *, locked: bool) -> Any:
            self.told.again += len(batch) if locked else 0
            return await decide(batch, tried, locked=locked)

        writer._decide = counted

    async def rounds(self, count: int) -> Telling:
        """Race so many rounds, each once on everything, with several tasks."""
        attempts = (*self._quick, self._converse, self._command)
        await asyncio.gather(*(self._task(attempts, range(place, count, TASKS)) for place in range(TASKS)))
        return self.told

    async def until(self, ended: Callable[[], bool]) -> Telling:
        """Race until it is ended. What takes many statements has tasks of its own, and holds up nothing that takes one."""
        paces = (self._quick, (self._converse,), (self._command,))
        await asyncio.gather(*(self._task(pace, itertools.count(place, MANY), ended) for pace in paces for place in range(MANY)))
        return self.told

    @property
    def _quick(self) -> Attempts:
        return self._add, self._append, self._begin, self._bind, self._tag, self._watch, self._park, self._take

    async def _task(self, attempts: Attempts, rounds: Iterable[int], ended: Callable[[], bool] = lambda: False) -> None:
        for n in rounds:
            if ended():
                return
            for attempt in attempts:
                await self._try(attempt(n))

    async def _try(self, attempt: Awaitable[None]) -> None:
        """Race once on something; the others are at about the same number."""
        self.told.calls += 1
        try:
            await attempt
        except (SequenceConflict, ValueConflict):
            self.told.refused += 1
        except StoreBusy:
            self.told.busy += 1
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
        if isinstance(await begin(self.store.operations, named(str(n)), lease_for=LEASE), Started):
            self.told.started.append(str(n))

    async def _bind(self, n: int) -> None:
        owner = await self.store.processes.register_if_absent(ACME, RegistryKey(f"key {n}"), process(f"p{self.number}"))
        self.told.owners[f"key {n}"] = str(owner.process_id)

    async def _tag(self, n: int) -> None:
        owner = process(f"p{self.number}-{n % 7}")
        await self.store.processes.register_correlated(ACME, f"tag {n % 3}", owner.process_id, owner)

    async def _watch(self, _n: int) -> None:
        if self.number < len(WATCH):
            [somebody] = await self.store.commit(Watch(self.number))
            self.told.nobody_on_watch += not somebody

    async def _park(self, n: int) -> None:
        number = 10 * n + self.number
        waits, tick = await self.store.commit(Park(NAMES[n % 2], number), Tick())
        self.told.ticks.append(tick)
        if waits:
            self.told.parked.append(number)

    async def _take(self, n: int) -> None:
        name = NAMES[n % 2]
        [taken] = await self.store.commit(Take(name))
        if taken is not None:
            self.told.taken += taken
            self.told.stuck += (await self.store.commit(GiveBack(name)))[0]

    async def _command(self, n: int) -> None:
        """Give out work and do some: one of those who ask with one key has made it, and one of those who take does it."""
        commands = self.store.commands
        made = await commands.create_command("race", "work", tenant_id=ACME, idempotency_key=str(n), retry=PATIENT)
        self.told.commands[str(n)] = made.command_id
        for lease in await commands.lease("race", tenant_id=ACME, max_leases=2, lease_for=LEASE):
            if n % 5 == self.number:
                await commands.release(lease.command_id, lease.token, tenant_id=ACME)
            elif await commands.complete(lease.command_id, lease.token, Succeeded(), tenant_id=ACME):
                self.told.done.append(lease.command_id)


async def race(url: str, number: int, rounds: int) -> Telling:
    async with open_store(url) as store:
        racer = Racer(store, number)
        loop = asyncio.get_running_loop()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.readline)
        if rounds:
            return await racer.rounds(rounds * TASKS)
        closed = asyncio.ensure_future(loop.run_in_executor(None, sys.stdin.read))
        return await racer.until(closed.done)


def main(url: str, number: str, rounds: str, mistake: str) -> None:
    mistakes.make(mistake)
    told: Any = asyncio.run(race(url, int(number), int(rounds)))
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Random programs, deliveries, crashes, full disks and hours: whatever happens, what engine.md promises holds."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from perdure import Address, Engine, Store, VirtualClock, limits, open_store
from perdure.conversations.events import MessageReceived, MessageTaken, ProcessingFinished, StepCompleted, decode_event
from perdure.conversations.tables import EVENTS, PROCESSES
from perdure.core.backend import Batch, BatchRefused
from perdure.core.table import Index, Scan
from perdure.engine import inspection
from perdure.engine.handling import operation_key
from perdure.engine.verification import verify
from perdure.errors import PerdureError, StoreFull
from perdure.identity import derived_id
from perdure.messages.mail import reference
from perdure.messages.tables import MESSAGES
from perdure.timers.tables import OF_PROCESS
from tests.engine.actors import ACTORS, ALIASES, CALM, TAGS, WILD, Do, Effects, Note, Word, actors, script
from tests.engine.orders import crash

TENANT = "default"
WIDE: Mapping[str, int] = {}
NARROW: Mapping[str, int] = {"max_concurrency": 2, "max_steps": 1, "max_resident": 2}
NARROW_LIMITS = {"MAIL_WINDOW": 2, "MAIL_LOOK": 1, "DISPATCH_MAX": 2, "DISPATCH_NOTES": 1, "WAKE_UPS": 1}
Delivery = Callable[[Engine], Awaitable[Any]]


class Run:
    """One random history on one store. `calm` ones come to the same end however they are disturbed; `bounds` are the engine's."""

    def __init__(self, store: Store, clock: VirtualClock, seed: int, *, calm: bool, disturbed: bool, bounds: Mapping[str, int]) -> None:
        self.store, self.clock, self.calm = store, clock, calm
        self.random, self.luck = Random(seed), Random(seed + 1)
        self.disturbed, self.bounds = disturbed, bounds
        self.effects = Effects()
        self.app = actors(self.effects)
        self.full = False
        self.paused: set[str] = set()
        self.cancelled: set[str] = set()
        self.engine = Engine(store, self.app, **bounds)  # type: ignore[arg-type]  # only bounds are named
        backend: Any = store.access.writer._backend
        self._apply, backend.apply = backend.apply, self._applied

    async def _applied(self, batch: Batch) -> None:
        if self.full and self.luck.random() < 0.3:
            raise BatchRefused(StoreFull("the disk is full"), divisible=False)
        await self._apply(batch)

    def deliveries(self) -> list[Delivery]:
        random, made = self.random, []
        for number in range(random.randrange(3, 14)):
            made.append(self.delivery(f"m{number}", random))
        return [self.delivery_of(f"first {n}", Do(f"actor {n}", []), None, {}) for n in range(ACTORS)] * self.calm + made

    def delivery(self, id: str, random: Random) -> Delivery:
        text, what = f"{id}{random.randrange(10)}", random.randrange(2 if self.calm else 6)
        lasting = {"keep_for": timedelta(seconds=9)} if random.random() < 0.5 else {}
        actor = f"actor {random.randrange(ACTORS)}"
        match what:
            case 0:
                return self.delivery_of(id, Do(actor, script(random, CALM if self.calm else WILD)), None, {})
            case 1:
                return self.delivery_of(id, Note(text), Address.key(actor), {})
            case 2 | 3:
                return self.delivery_of(id, Word(text), Address.key(actor), lasting)
            case 4:
                return self.delivery_of(id, Note(text), Address.tag(random.choice(TAGS)), lasting)
            case _:
                return self.delivery_of(id, random.choice([Note, Word])(text), Address.key(random.choice(ALIASES)), lasting)

    def delivery_of(self, id: str, message: object, to: Address | None, options: dict[str, Any]) -> Delivery:
        wait = to is not None and to.way == "key" and self.random.random() < 0.3
        return lambda engine: engine.deliver(message, id=id, to=to, wait=wait, **options)  # type: ignore[call-overload]  # either one

    async def go(self) -> None:
        await self.start()
        todo, tasks = self.deliveries(), list[asyncio.Future[Any]]()
        again = list(todo) if self.disturbed else []
        while todo or again:
            queue = todo if todo and (not again or self.luck.random() < 0.7) else again
            delivery = queue.pop(0)
            tasks.append(asyncio.ensure_future(self.stubborn(delivery)))
            await self.disturb()
        await self.resume_all()
        for _ in range(1000):
            self.full = False
            await self.settle()
            due = self.clock.next_alarm()
            if due is None:
                break
            self.clock.advance(max(0, due - self.clock.now()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.settle()

    async def resume_all(self) -> None:
        """What was paused has done nothing since; let it go on."""
        self.full = False
        await self.settle()
        for process in await inspection.processes(self.store):
            held = process.process_id in self.paused and process.status not in {"ended", "failed"}
            if held and process.status == "runnable":  # the engine has still to look for the request, if the disk was full when it did
                assert process.process_id in self.cancelled
                continue
            assert (process.status == "paused") == held
            if process.status == "paused":
                resident = self.engine._owner.residents.get((TENANT, process.process_id))
                assert resident is None or not resident.holds_still, "it was paused elsewhere and waits, or the disk was full"
                asked: Any = (self.engine, ()) if self.luck.random() < 0.5 else (inspection, (self.store,))
                await asked[0].resume(*asked[1], process.process_id)
        await self.settle()

    async def start(self) -> None:
        for _ in range(100):
            self.engine = Engine(self.store, self.app, **self.bounds)  # type: ignore[arg-type]  # see above
            try:
                await self.engine.__aenter__()
            except StoreFull:
                continue
            return
        raise AssertionError("it does not start")

    async def stubborn(self, delivery: Delivery) -> None:
        """Deliver until it is accepted, as a sender does."""
        for _ in range(1000):
            try:
                await delivery(self.engine)
            except PerdureError as error:
                if not error.retryable and error.code != "usage":
                    return
            except Exception:  # noqa: BLE001  # what the handler raised: it is the reply
                return
            else:
                return
            await asyncio.sleep(0)

    async def disturb(self) -> None:
        for _ in range(self.luck.randrange(30)):
            await asyncio.sleep(0)
        if not self.disturbed:
            return
        self.full = self.luck.random() < 0.2
        match self.luck.randrange(16):
            case 0:
                await crash(self.engine)
                await self.store.access.writer.commit()  # a killed writer has no queue that a later engine could be overtaken by
                await self.start()
            case 1:
                await self.engine.close()
                await self.start()
            case 2 | 3:
                self.clock.advance(self.luck.randrange(-1_000_000, 5_000_000))
            case 4 if not self.calm:
                letters = [one for one in await inspection.dead_letters(self.store) if not one.redriven_as]
                if letters:
                    letter = self.luck.choice(letters)
                    with suppress(PerdureError):  # its process may be over, or the disk full: it stays a dead letter
                        if self.luck.random() < 0.5:
                            await self.engine.redrive(letter.message_id)
                        else:
                            await inspection.redrive(self.store, letter.message_id)
            case 5 if not self.calm:
                await self.ask(self.luck.choice(["cancel", "cancel", "force"]))
            case 6 | 7 | 8:
                await self.ask(self.luck.choice(["pause", "pause", "resume"]))
            case _:
                pass

    async def ask(self, what: str) -> None:
        """Ask something of one of the processes, as a person does, at the engine or elsewhere."""
        found = await inspection.processes(self.store)
        if not found:
            return
        process_id, here = self.luck.choice(found).process_id, self.luck.random() < 0.5
        asked: Any = self.engine if here else inspection
        of = (process_id,) if here else (self.store, process_id)
        with suppress(PerdureError):  # it is over, stuck, or the disk is full
            match what:
                case "cancel" | "force":
                    await asked.cancel(*of, force=what == "force")
                    self.cancelled.add(process_id)
                case "pause":
                    if await asked.pause(*of):
                        self.paused.add(process_id)
                case _:
                    await asked.resume(*of)
                    self.paused.discard(process_id)

    async def settle(self) -> None:
        quiet, commits = 0, -1
        for _ in range(20_000):
            await asyncio.sleep(0)
            owner = self.engine._owner
            busy = self.store.access.writer.waiting or owner._later or len(owner._tasks) > 3 + len(self.engine._clocks)
            now = self.store.access.writer.commits
            quiet, commits = (quiet + 1 if not busy and now == commits else 0), now
            if quiet > 30:
                return
        raise AssertionError(f"it never comes to rest: {self.engine._owner.residents}, {self.engine._owner._tasks}")

    # --- what has to hold ---------------------------------------------------------------------------------------

    async def check(self) -> None:
        assert await verify(self.store) == []
        processes = {str(key.parts[1]): row for key, row in await self.rows(PROCESSES)}
        messages = {reference(str(key.parts[1]), str(key.parts[2])): row for key, row in await self.rows(MESSAGES)}
        handled: Counter[str] = Counter()
        for process_id, process in processes.items():
            handled += await self.check_process(process_id, process, messages)
        assert not [ref for ref, times in handled.items() if times > 1], "handled twice"
        for ref, row in messages.items():
            await self.check_message(ref, row, processes, handled)

    async def check_process(self, process_id: str, process: Any, messages: dict[str, Any]) -> Counter[str]:
        assert process.status in {"idle", "waiting", "ended", "failed"}, (process_id, process)
        timers = await self.store.access.reader.scan(Scan(OF_PROCESS, (TENANT, process_id), 100))
        assert len(timers) == process.timers, process_id
        assert process.open_message is not None or not timers, (process_id, timers)
        events = [decode_event(row.data, stream="s", seq=0) for _, row in await self.events(process)]
        steps = Counter((event.message_id, event.name) for event in events if isinstance(event, StepCompleted))
        for (ref, name), times in steps.items():
            assert times == 1, (process_id, ref, name)
            assert self.effects.done[derived_id(TENANT, process_id, ref, name)] >= 1
        received = [event.message_id for event in events if isinstance(event, MessageReceived)]
        finished = [event.message_id for event in events if isinstance(event, ProcessingFinished)]
        assert received == finished + [process.open_message] * (process.open_message is not None), process_id
        direct = [messages[ref] for ref in received if messages[ref].address.startswith("key actor")]
        ticks = [row.tick for row in direct if row.tick > process.stream_no]
        assert ticks == sorted(ticks), (process_id, received)
        return Counter(received) + Counter(event.taken for event in events if isinstance(event, MessageTaken))

    async def check_message(self, ref: str, row: Any, processes: dict[str, Any], handled: Counter[str]) -> None:
        process: Any = processes.get(row.process_id)
        sealed = await self.store.access.reader.get(operation_key(TENANT, ref))
        if row.status in {"done", "dead"}:
            assert getattr(sealed, "response", None) is not None, (ref, row)
            assert row.status == "dead" or row.process_id is None or handled[ref] == 1, (ref, row)
        else:
            assert sealed is None, (ref, row)
        match row.status:
            case "queued":
                assert process.status == "waiting" or (process.status == "idle" and row.kind == "word"), (ref, row, process)
            case "open":
                assert getattr(process, "status", None) == "waiting", (ref, row, process)
            case "parked":
                key = row.parked_under.removeprefix("key ")
                assert row.parked_under.startswith("tag") or await self.store.processes.lookup(TENANT, key) is None, (ref, row)  # type: ignore[arg-type]
            case "dead":
                assert row.note, (ref, row)
            case _:
                assert row.status == "done"

    async def rows(self, index: Index[Any]) -> list[tuple[Any, Any]]:
        return await self.store.access.reader.scan(Scan(index, (TENANT,), 100_000))

    async def events(self, process: Any) -> list[tuple[Any, Any]]:
        return await self.store.access.reader.scan(Scan(EVENTS, (TENANT, process.stream_no), 100_000))

    async def outcome(self) -> tuple[Any, ...]:
        """Return what does not depend on the order of things."""
        keys = {f"actor {n}": await self.store.processes.lookup(TENANT, f"actor {n}") for n in range(ACTORS)}  # type: ignore[arg-type]
        heard = {key: found and (await inspection.process(self.store, found.process_id)).fields for key, found in keys.items()}
        notes = {key: sorted(fields["heard"]) if fields else None for key, fields in heard.items()}
        statuses = Counter((row.kind, row.status) for _, row in await self.rows(MESSAGES))
        return notes, statuses


async def once(seed: int, *, calm: bool, disturbed: bool, bounds: Mapping[str, int] = WIDE) -> tuple[Any, ...]:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        run = Run(store, clock, seed, calm=calm, disturbed=disturbed, bounds=bounds)
        await run.go()
        await run.check()
        outcome = await run.outcome()
        await run.engine.close()
    return outcome


RUNS = int(os.environ.get("PERDURE_SOAK_RUNS", "5000"))


async def wild(seeds: range, bounds: Mapping[str, int] = WIDE) -> None:
    for seed in seeds:
        try:
            await once(seed, calm=False, disturbed=True, bounds=bounds)
        except BaseException as error:
            error.add_note(f"wild seed {seed}")
            raise


async def calm(seeds: range, bounds: Mapping[str, int] = WIDE) -> None:
    for seed in seeds:
        try:
            assert await once(seed, calm=True, disturbed=True, bounds=bounds) == await once(seed, calm=True, disturbed=False)
        except BaseException as error:
            error.add_note(f"calm seed {seed}")
            raise


async def test_whatever_happens_each_message_ends_somewhere_and_nothing_happens_twice() -> None:
    await wild(range(100))


async def test_crashes_and_full_disks_change_nothing_in_the_outcome() -> None:
    await calm(range(50))


async def test_narrow_bounds_change_nothing_but_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NARROW_LIMITS.items():
        monkeypatch.setattr(limits, name, value)
    await wild(range(100), NARROW)
    await calm(range(50), NARROW)


@pytest.mark.soak
async def test_many_random_runs() -> None:
    await wild(range(1_000_000, 1_000_000 + RUNS))
    await calm(range(2_000_000, 2_000_000 + RUNS // 2))

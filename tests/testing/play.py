"""Playing a case on a real engine, and holding what comes of it against the model."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec

from perdure import Address
from perdure.engine import inspection
from perdure.engine.notes import Receipt
from perdure.engine.verification import verify
from perdure.errors import PerdureError
from perdure.identity import DEFAULT_TENANT, RegistryKey
from tests.testing.cases import UNIT, Case
from tests.testing.model import End, Event, Model
from tests.testing.parts import Hear
from tests.testing.programs import RUNNER, WORLD, Begin, Free, Hold, Join, Note, Word, app, milliseconds
from tests.testing.restless import RestlessEngine, restless

MEMBERS = ("collector", "member 1", "member 2")
HOURS = 10_000  # seconds until nothing is left to come


def text_of_reply(task: asyncio.Task[Any]) -> str:
    """Return how a delivery ended: with which reply, with which error, or not at all."""
    if task.cancelled():
        return "none"
    error = task.exception()
    if error is None:
        return "accepted" if isinstance(task.result(), Receipt) else f"ok: {task.result()!r}"
    return error.code if isinstance(error, PerdureError) else type(error).__name__


class Happening(NamedTuple):
    """What happens at an instant, and whether it is a message that may be repeated."""

    at: int
    what: str
    do: Callable[[], Awaitable[Any]]
    message: bool = False


class Play:
    """One case on a real engine. `replies` has what was answered to each delivery, by the message's name."""

    def __init__(self, case: Case, made: RestlessEngine) -> None:
        self.case, self.engine = case, made
        self.luck = itertools.cycle(case.luck)
        self.replies: dict[str, list[asyncio.Task[Any]]] = {}
        self.asked: int | None = case.outside.cancel
        self.late: set[int] = set()
        self.tasks: list[asyncio.Task[Any]] = []
        self.commits = 0

    async def go(self) -> None:
        await self.set_up()
        WORLD.on_token = self.on_token
        self.engine.crash_at(*self.case.crashes)
        self.engine.disturbed_by(list(self.case.disturbances))
        self.engine.on_rounds(self.case.cancel, self.cancel_now)
        for at, group in itertools.groupby(self.happenings(), key=lambda happening: happening.at):
            sorts = sorted((next(self.luck), number, happening) for number, happening in enumerate(group))
            for _, _, happening in sorts:
                self.engine.clock.call_at(WORLD.began + at * 1_000, partial(self.happen, happening))
        await self.engine.advance(HOURS)
        self.commits = self.engine.commits
        await self.engine.calm()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def outcome(self) -> str:
        """Return what every delivery of the first message was answered."""
        [outcome] = {text_of_reply(task) for task in self.replies["begin"]}
        return outcome

    def taken(self) -> list[str]:
        """Return which words were taken, by what was answered to those that can be; each repetition gets the same answer."""
        taken = []
        for name, replies in self.replies.items():
            if name.startswith("word"):
                answers = {text_of_reply(task) for task in replies}
                assert len(answers) == 1, (name, answers)
                taken += [f"took {name}"] * (f"ok: 'took {name}'" in answers)
                assert answers <= {f"ok: 'took {name}'", "none", "process-ended", "accepted"}, (name, answers)
        return taken

    async def set_up(self) -> None:
        for name in MEMBERS:
            await self.engine.deliver(Join(name), id=name, wait=True)
        held = sum(1 << slot for slot in self.case.outside.frees)
        await self.engine.deliver(Hold(held), id="hold", wait=True)

    def happen(self, happening: Happening) -> None:
        self.tasks.append(asyncio.ensure_future(self.after_a_while(next(self.luck), happening)))

    async def after_a_while(self, rounds: int, happening: Happening) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        await happening.do()

    # --- what happens -------------------------------------------------------------------------------------

    def happenings(self) -> list[Happening]:
        outside = self.case.outside
        made = [self.message(0, "begin", Begin(self.case.program), Address.start("Runner", id="runner"))]
        ways = {part.slot: part.by for part in hears(self.case.program)}
        numbers: Counter[int] = Counter()
        for word in outside.words:
            name, way = f"word {word.slot}.{numbers[word.slot]}", ways.get(word.slot, "runner")
            numbers[word.slot] += 1
            to = {"runner": RUNNER, "key": Address.key(f"slot {word.slot}"), "tag": Address.tag(f"slot {word.slot}")}[way]
            keep = {"keep_for": milliseconds(word.keep)} if word.keep is not None and way == "tag" else {}
            made.append(self.message(word.at, name, Word(word.slot, name), to, wait=way != "tag", **keep))
        made += [self.message(at, f"note {number}", Note(f"note {number}"), RUNNER) for number, at in enumerate(outside.notes)]
        made += [Happening(at, f"complete {slot}", partial(self.complete, slot), True) for slot, at in outside.completions.items()]
        made += [self.message(at, f"free {slot}", Free(slot), Address.key("rival")) for slot, at in outside.frees.items()]
        again = [(made[which % len(made)], later) for which, later in self.case.repeats]
        made += [happening._replace(at=happening.at + UNIT * later) for happening, later in again]
        if outside.pause is not None:
            made += [Happening(at, "pause", do) for at, do in zip(outside.pause, (self.pause, self.resume), strict=True)]
        if outside.cancel is not None:
            made.append(Happening(outside.cancel, "cancel", self.cancel))
        if outside.upgrade is not None:
            made.append(Happening(outside.upgrade, "upgrade", self.upgrade))
        return sorted(made, key=lambda happening: happening.at)

    def message(self, at: int, name: str, message: Any, to: Address, *, wait: bool = True, **options: Any) -> Happening:
        async def deliver() -> None:
            deliver_it: Any = self.engine.deliver
            task = asyncio.ensure_future(deliver_it(message, id=name, to=to, wait=wait, **options))
            self.replies.setdefault(name, []).append(task)
            self.tasks.append(task)

        return Happening(at, name, deliver, True)

    async def complete(self, slot: int) -> None:
        if slot not in WORLD.tokens:
            self.late.add(slot)  # whoever completes it waits for its token
            return
        with suppress(PerdureError):  # nobody waits for it any more
            await self.engine.complete_awakeable(WORLD.tokens[slot], f"woken {slot}")

    def on_token(self, slot: int) -> None:
        if slot in self.late:
            self.tasks.append(asyncio.ensure_future(self.complete(slot)))

    async def pause(self) -> None:
        self.engine.paused = True
        with suppress(PerdureError):  # it is over
            await self.engine.pause("runner")

    async def resume(self) -> None:
        self.engine.paused = False
        with suppress(PerdureError):
            await self.engine.resume("runner")

    async def cancel(self) -> None:
        await self.engine.cancel("runner")

    async def upgrade(self) -> None:
        WORLD.upgraded = True
        if self.engine.is_up:
            self.engine.restart()

    def cancel_now(self) -> None:
        self.tasks.append(asyncio.ensure_future(self.cancel_somewhere()))

    async def cancel_somewhere(self) -> None:
        at = WORLD.since(self.engine.clock.now())
        with suppress(PerdureError):  # it has not begun yet
            await self.engine.cancel("runner")
            self.asked = at


def hears(program: Any) -> list[Hear]:
    """Return the parts of a program that hear."""
    found: list[Hear] = []

    def look(part: Any) -> None:
        if isinstance(part, Hear):
            found.append(part)
        elif isinstance(part, tuple):
            for one in part:
                look(one)
        elif isinstance(part, msgspec.Struct):
            for name in part.__struct_fields__:
                look(getattr(part, name))

    look(program.part)
    return found


class Found(NamedTuple):
    """What came of a case, in the words of the model."""

    outcome: str
    noted: Any
    status: str
    events: Counter[str]


async def play(case: Case, store: str | None = None) -> tuple[Found, Play]:
    """Play a case on an empty store, in memory when it is not given, and return what came of it."""
    async with restless(app, narrow=case.narrow, store=store) as made:
        WORLD.forget(made.clock.now(), upgraded=case.outside.upgrade is None)
        played = Play(case, made)
        await played.go()
        assert await verify(made.store) == []
        runner = await inspection.process(made.store, "runner")
        effects = {
            (one.what, "" if one.what.startswith("once ") else f" {one.attempt}", one.idempotency_key) for one in WORLD.ledger.effects
        }
        events = Counter(f"did {what}{attempt}" for what, attempt, _ in effects)
        for name in MEMBERS:
            holder = await made.store.processes.lookup(DEFAULT_TENANT, RegistryKey(name))
            assert holder is not None
            heard = (await inspection.process(made.store, holder.process_id)).fields["heard"]
            events.update(f"{name} heard {text} at {at}" for text, at in heard)
        events.update(played.taken())
    return Found(played.outcome(), runner.fields["noted"], runner.status, events), played


def differences(found: Found, end: End) -> list[str]:
    """Return what is not as the model says."""
    found_what = [("outcome", found.outcome, end.outcome), ("fields", found.noted, end.noted), ("status", found.status, end.status)]
    made = [f"{what}: {here!r}, by the model {there!r}" for what, here, there in found_what if here != there]
    sure = Counter(text_of(event) for event in end.events if event.sure)
    possible = Counter(text_of(event) for event in end.events)
    made += [f"missing: {what}" for what in sure - found.events]
    return made + [f"too much: {what}" for what in found.events - possible]


def text_of(event: Event) -> str:
    return f"{event.what} at {event.at}" if " heard " in event.what else event.what


async def compare(case: Case, store: str | None = None) -> None:
    """Play a case, and raise AssertionError unless it came to what the model says. Raises Tie: the model does not say."""
    outside = case.outside
    Model(outside, interrupted=False).run(case.program)
    found, played = await play(case, store)
    asked = msgspec.structs.replace(outside, cancel=played.asked)
    ends = Model(asked, interrupted=played.engine.interrupted).run(case.program)
    made = [differences(found, end) for end in ends]
    assert min(made, key=len) == [], made
    assert not WORLD.twice, "what runs at most once ran twice"
    assert all(len(values) == 1 for values in WORLD.drawn.values()), WORLD.drawn

"""What a program comes to, by the meaning of its parts and a clock: without commits, records, queues, loops, or anything of the engine's."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.testing.parts import (
    Ask,
    Attempt,
    Awake,
    Branch,
    Call,
    Chance,
    Claim,
    Fail,
    First,
    Hear,
    InTime,
    Look,
    Outside,
    Part,
    Patch,
    Program,
    Send,
    Sequence,
    Sleep,
    Spawn,
    Step,
    Together,
    Until,
)

NEVER = 10**12


class Tie(Exception):
    """Two things that decide something are due at one instant: what comes of it is nobody's promise."""


class Event(NamedTuple):
    """Something that others see: what code did at `caused`, seen at `at`. Not `sure`: it may have happened, or not.

    `acted`, of what other processes did that this code has started: when the last one of the family did what led to it. `kin` is
    when the first one between them and this code ends: until then they can be asked to stop.
    """

    caused: int
    at: int
    what: str
    sure: bool = True
    acted: int | None = None
    kin: int = NEVER


class Outcome(NamedTuple):
    """What a part comes to, and when."""

    value: Any
    end: int
    events: list[Event] = []
    failed: bool = False


class End(NamedTuple):
    """What a whole program comes to: `outcome` is its reply, `noted` what is in its fields."""

    outcome: str
    noted: list[Any]
    status: str
    events: list[Event]


def cut(events: Iterable[Event], end: int) -> list[Event]:
    """Return what of it happened in spite of an end; at the very instant, perhaps."""
    return [event if event.caused < end else event._replace(sure=False) for event in events if event.caused <= end]


def without(events: Iterable[Event], asked: int) -> list[Event]:
    """Return what of it the children did before they were asked to stop; at the very instant, perhaps."""
    left = []
    for event in events:
        if event.acted is None or event.acted < asked or event.kin < asked:
            left.append(event)
        elif asked in (event.acted, event.kin):
            left.append(event._replace(sure=False))
    return left


def decided(*instants: int) -> None:
    """Raise Tie if there is no first one."""
    first, second, *_ = sorted(instants)
    if first == second:
        raise Tie


class Model:
    """The meaning of parts for the process that is paused, or for one that is not.

    `interrupted`: something has stopped steps under way, and of those that run at most once nobody knows whether they ran.
    """

    def __init__(self, outside: Outside, *, interrupted: bool, pausable: bool = True) -> None:
        self.outside = outside
        self.interrupted = interrupted
        self.pause = outside.pause if pausable else None

    def seen(self, at: int) -> int:
        """When the process hears of what happens then."""
        return self.pause[1] if self.pause is not None and self.pause[0] <= at < self.pause[1] else at

    def do(self, part: Part, path: str, now: int) -> Outcome:
        match part:
            case Step():
                return self.step(part, path, now)
            case Sleep():
                return Outcome("slept", self.seen(now + part.time))
            case Hear():
                return self.hear(part, now)
            case Awake():
                comes = self.outside.completions.get(part.slot, NEVER)
                return self.in_time(Outcome(f"woken {part.slot}", self.seen(max(now, comes))), self.seen(now + part.time))
            case Claim():
                freed = self.outside.frees.get(part.slot, -1)
                decided(freed, now)
                return Outcome("taken" if now < freed else "mine", now)
            case Send():
                told = now + (part.after or 0)
                names = ("collector", "member 1", "member 2") if part.everybody else ("collector",)
                return Outcome("sent", now, [Event(now, told, f"{name} heard {part.text}") for name in names])
            case Ask():
                return Outcome(f"echo {part.text}", now, [Event(now, now, f"did echo {part.text} 1")])
            case Spawn() | Call():
                return self.other(part, path, now)
            case Look():
                return Outcome(now, now)
            case Chance():
                return Outcome("drawn", now, [Event(now, now, f"did {path} 1")])
            case Patch():
                changed = -1 if self.outside.upgrade is None else self.outside.upgrade
                decided(changed, now)
                way = "old" if now < changed else "new"
                return Outcome(way, now, [Event(now, now, f"did {path} {one} 1") for one in ("before", way)])
            case Fail():
                return Outcome(None, now, failed=True)
            case _:
                return self.compound(part, path, now)

    def compound(self, part: Any, path: str, now: int) -> Outcome:
        match part:
            case Attempt():
                tried = self.do(part.part, path, now)
                return tried._replace(value="caught", failed=False) if tried.failed else tried
            case Branch():
                step = self.step(part.step, f"{path}?", now)
                way = self.do(part.fails if step.value == "broken" else part.works, f"{path}!", step.end)
                return way._replace(value=[step.value, way.value], events=step.events + way.events)
            case Sequence():
                return self.sequence(part, path, now)
            case InTime():
                return self.in_time(self.do(part.part, path, now), self.seen(now + part.time))
        if isinstance(part, Together) and part.how == "limited":
            return self.joined(part, self.limited(part, path, now))
        ends = [self.do(one, f"{path}{number}", now) for number, one in enumerate(part.parts)]
        match part:
            case First():
                return self.first(ends)
            case Until():
                return self.until(part, ends)
            case _:
                return self.joined(part, ends)

    def step(self, part: Step, path: str, now: int) -> Outcome:
        if part.how != "usual":
            sure = part.how == "probed" or not self.interrupted
            return Outcome(f"{path}:1" if part.how == "probed" else "once", now, [Event(now, now, f"did once {path}", sure)])
        attempts = min(part.works_at, part.attempts)
        events = []
        for attempt in range(1, attempts + 1):
            events.append(Event(now, now, f"did {path} {attempt}"))
            if attempt < attempts:
                now = self.seen(now + part.retry)
        return Outcome(f"{path}:{attempts}" if part.works_at <= part.attempts else "broken", now, events)

    def hear(self, part: Hear, now: int) -> Outcome:
        came = []
        for number, word in enumerate(word for word in self.outside.words if word.slot == part.slot):
            if part.by == "tag" and word.at <= now:
                decided(word.at, now)
                decided(word.at + (word.keep or 0), now)
                if word.keep is None or word.at + word.keep < now:
                    continue
            came.append((word.at, f"word {part.slot}.{number}"))
        heard: list[Any] = []
        events = []
        for wait in part.waits:
            late, at = self.seen(now + wait), self.seen(max(now, came[0][0])) if came else NEVER
            decided(late, at)
            now = min(late, at)
            text = came.pop(0)[1] if at < late else None
            heard.append(text)
            if text is not None and part.by != "tag":  # nobody gets an answer from a tag
                events.append(Event(now, now, f"took {text}"))
        return Outcome(heard, now, events)

    def other(self, part: Spawn | Call, path: str, now: int) -> Outcome:
        model = Model(self.outside, interrupted=self.interrupted, pausable=False)
        there = model.do(part.part, f"{path}c", now)
        detached = isinstance(part, Spawn) and part.detached
        events = []
        for event in cut(there.events, there.end) if there.failed else there.events:
            if detached:
                events.append(event._replace(caused=now, acted=now, kin=NEVER))
            elif event.acted is None:
                events.append(event._replace(caused=now, acted=event.caused))
            else:
                events.append(event._replace(caused=now, kin=min(event.kin, there.end)))
        if isinstance(part, Spawn):
            return Outcome("spawned", now, events)
        return there._replace(end=self.seen(there.end), events=events)

    def sequence(self, part: Sequence, path: str, now: int) -> Outcome:
        values, events = [], []
        for number, one in enumerate(part.parts):
            value, now, more, failed = self.do(one, f"{path}{number}", now)
            values.append(value)
            events += more
            if failed:
                return Outcome(None, now, events, failed=True)
        return Outcome(values, now, events)

    def in_time(self, done: Outcome, late: int) -> Outcome:
        decided(done.end, late)
        return done if done.end < late else Outcome("late", late, cut(done.events, late))

    def first(self, ends: list[Outcome]) -> Outcome:
        if len(ends) > 1:
            decided(*(one.end for one in ends))
        place = min(range(len(ends)), key=lambda number: ends[number].end)
        won = ends[place]
        lost = [event for one in ends if one is not won for event in cut(one.events, won.end)]
        return won._replace(value=[place, won.value], events=won.events + lost)

    def until(self, part: Until, ends: list[Outcome]) -> Outcome:
        enough = min(part.enough, len(ends))
        instants = sorted(one.end for one in ends)
        end = instants[enough - 1]
        if enough < len(ends):
            decided(end, instants[enough])
        values = [("failed" if one.failed else one.value) if one.end <= end else "cancelled" for one in ends]
        events = [event for one in ends for event in (one.events if one.end <= end else cut(one.events, end))]
        return Outcome(values, end, events)

    def limited(self, part: Together, path: str, now: int) -> list[Outcome]:
        """Begin the next whenever one of two has ended."""
        free = [now, now]
        ends = []
        for number, one in enumerate(part.parts):
            begin = heapq.heappop(free)
            ends.append(self.do(one, f"{path}{number}", begin))
            heapq.heappush(free, ends[-1].end)
        return ends

    def joined(self, part: Together, ends: list[Outcome]) -> Outcome:
        fails = min((one.end for one in ends if one.failed), default=None)
        if fails is not None and part.how != "gather":
            return Outcome(None, fails, [event for one in ends for event in cut(one.events, fails)], failed=True)
        values = ["failed" if one.failed else one.value for one in ends]
        values = sorted(values, key=repr) if part.how == "completed" else values
        return Outcome(values, max(one.end for one in ends), [event for one in ends for event in one.events])

    # --- a whole program --------------------------------------------------------------------------------

    def run(self, program: Program) -> list[End]:
        """Return what may become of the process that runs it from 0 on: one end, unless it is asked to stop at the very instant of it."""
        done = self.do(program.part, "r", 0)
        asked = self.outside.cancel
        if asked is None or asked > done.end:
            return [self.finished(program, done, asked)]
        if self.pause is not None:
            decided(asked, self.pause[0])
            decided(self.seen(asked), done.end)
            if self.seen(asked) != asked:  # its children hear of it before
                for event in done.events:
                    decided(self.seen(asked), event.caused)
        cancelled = self.cancelled(program, done, asked)
        return [cancelled, self.finished(program, done, asked)] if asked == done.end else [cancelled]

    def finished(self, program: Program, done: Outcome, asked: int | None) -> End:
        failed = program.fails or done.failed
        events = cut(done.events, done.end) if failed else list(done.events)
        if asked is not None:
            events = without(events, asked)
        noted = [] if failed else ["begun", done.value]
        for number, at in enumerate(self.outside.notes):
            handled = self.seen(max(at, done.end))
            if asked is None or handled < asked:
                noted.append(f"note {number}")
                events.append(Event(handled, handled, f"did note {number} 1"))
        return End("Failed" if failed else f"ok: {done.value!r}", noted, "idle" if asked is None else "ended", events)

    def cancelled(self, program: Program, done: Outcome, asked: int) -> End:
        before = without(done.events, asked)
        asked = self.seen(asked)
        events = [*cut(before, asked), Event(asked, asked, "did clean-up 1")]
        if program.cleans != "raises":  # what a turn that fails sends after its last commit is not sent
            events.append(Event(asked, asked, "collector heard cleaned"))
        if program.cleans == "returns":
            return End("ok: 'cleaned'", ["begun", "cleaned"], "ended", events)
        return End("process-cancelled", [], "ended", events)

"""A turn without an engine: the world around it in virtual time, and a crash wherever one can happen.

A `World` says when things happen; a `Life` is one stay of the turn in memory. Steps are started only once the commit
that asked for them is durable, and a later life is opened with nothing but what an earlier one has committed.
"""

from __future__ import annotations

import functools
import heapq
import inspect
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.codec import JSON
from perdure.conversations.events import (
    Bound,
    decode_event,
    encode_event,
)
from perdure.engine.addressing import TurnId
from perdure.engine.functions import known
from perdure.engine.kinds import kind_of
from perdure.engine.operation import Input, Operation, Produced
from perdure.engine.process import Process
from perdure.engine.steps import STEP_INFO, StepInfo
from perdure.engine.turn import Turn
from perdure.errors import PerdureError
from perdure.messages.mail import Mail
from tests.engine.answers import answer, answering, asking, request
from tests.engine.inputs import attempt_failed, completed, failed, fired

START: Final = 1_700_000_000 * SECOND
LATENCIES: Final = (1_000, 2_000, 2_000, 5_000, 9_000, 30_000, 2_000_000)  # ties are wanted
LAGS: Final = (0, 0, 100, 1_000, 4_000)  # until a commit is durable


class Diary(Process):
    """The process of most tests."""

    log: list[str] = msgspec.field(default_factory=list)  # type: ignore[assignment]  # it hides the verb, as no process of an app may
    total: int = 0


Handler = Callable[[Any], Coroutine[Any, Any, Any]]


class Letter(NamedTuple):
    """A message that comes `after` microseconds."""

    after: Micros
    message: Any


class Commit(NamedTuple):
    """What is durable of one quiescence.

    `timers` is what the store then holds, `running` the steps under way, `resumes` when a life that begins here begins.
    """

    at: Micros
    events: list[tuple[Micros, bytes]]
    effects: list[Any]
    effects_done: int
    fields: bytes
    timers: dict[str, Micros]
    running: frozenset[str]
    resumes: Micros
    binds: bool = False
    letters: frozenset[str] = frozenset()  # of all replies that were taken out of the mailbox by then


class World:
    """When and how things happen around one turn: a function of the seed, and the same for every life."""

    def __init__(
        self,
        handler: Handler,
        *,
        seed: int = 0,
        letters: Sequence[Letter] = (),
        owners: dict[str, str] | None = None,
        process: type[Process] = Diary,
        message: str = "m",
        lags: Sequence[Micros] = LAGS,
    ) -> None:
        self.handler = handler
        self.seed = seed
        self.process = process
        self.id = TurnId("acme", "p1", message)
        self.owners = owners or {}
        self._lags = lags
        self.mail = [
            (START + letter.after, Mail(number, "", f"mail-{number}", kind_of(type(letter.message)), JSON.encode(letter.message)))
            for number, letter in enumerate(letters, 1)
        ]
        self._chances: dict[tuple[object, ...], float] = {}
        self._instants: dict[tuple[str, str, int], Micros] = {}

    def chance(self, *key: object) -> float:
        """A number from 0 to 1, the same for the same key."""
        if key not in self._chances:
            self._chances[key] = random.Random(f"{self.seed}/{key}").random()
        return self._chances[key]

    def stored(self, binds: list[tuple[str, str]], commit: int, now: Micros) -> Micros:
        """When a commit is durable; the answer about keys comes at the same instant in every life."""
        instant = now + self._lags[int(self.chance("lag", commit) * len(self._lags))]
        return self._instants.setdefault(("binds", str(binds), 0), instant) if binds else instant

    def completion(self, operation: Operation, start: Micros) -> Micros:
        """When an attempt ends: the same in every life, also when it has to be made again."""
        latency = LATENCIES[int(self.chance("latency", operation.id, operation.attempt) * len(LATENCIES))]
        return self._instants.setdefault(("step", operation.id, operation.attempt), start + latency)

    def ringing(self, timer_id: str, due: Micros, stored: Micros) -> Micros:
        return self._instants.setdefault(("timer", timer_id, due), max(due, stored))


def recorded_by(commits: Sequence[Commit]) -> list[tuple[Micros, Any]]:
    """The events of some commits, read back."""
    return [(at, decode_event(data, stream="p1", seq=0)) for commit in commits for at, data in commit.events]


class Life:
    """One stay of the turn in memory. It begins with `commits`, all that is left of the lives before.

    Its turn is told which timers the store holds if it `knows_timers`.
    """

    def __init__(self, world: World, commits: Sequence[Commit] = (), *, knows_timers: bool = True) -> None:
        self.world = world
        self.commits = list(commits)
        self.replayed = len(commits)
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.undecodable: list[Mail] = []
        self.over = False
        self.value: Any = None
        self.error: BaseException | None = None
        last = commits[-1] if commits else None
        self.timers = dict(last.timers) if last else {}
        self.now = last.resumes if last else START
        self._heap: list[tuple[Micros, int, float, str, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._starts: dict[int, list[Operation]] = {}
        self._durable = len(commits)
        self._durable_at = self.now
        self.process = world.process()
        self.found = JSON.encode(self.process)
        self.saved = last.fields if last else self.found
        recorded = self.events
        taken = {getattr(event, "taken", "") for _, event in recorded}
        self.replies: list[Mail] = []
        self.letters = last.letters if last else frozenset()
        self.mail = [mail for at, mail in world.mail if at <= self.now and mail.ref not in taken]
        self.turn = Turn(
            world.id,
            now=START,
            recorded=recorded,
            effects_done=last.effects_done if last else 0,
            changed=bool(recorded) or self.saved != self.found or bool(last and last.effects_done),
            fields=self._fields,
            saved=self.saved,
            timers=dict(self.timers) if knows_timers else None,
            mail=self.mail,
            replies=self.replies,
            clock=lambda: self.now,
            request=request,
        )
        self.turn.cancel_step = self._cancel_step
        self.process._turn = self.turn
        for at, mail in world.mail:
            if at > self.now:
                self._at(at, 2, f"{mail.number:09}", functools.partial(self.mail.append, mail))
        for timer_id, due in self.timers.items():
            self._ring_at(timer_id, due)
        self._answer_later(self.effects)
        self.turn.begin(world.handler(self.process))
        self._pump()

    # --- running ---------------------------------------------------------------------------------

    def run(self) -> Life:
        """Live to the end of the turn, or until nothing will happen any more."""
        while self._heap and not self.over:
            self.go_on()
        return self

    def go_on(self) -> None:
        """Let the next instant come: all that happens then, and what the turn makes of it."""
        instant = self._heap[0][0]
        self.now = max(self.now, instant)
        while self._heap and self._heap[0][0] == instant:
            heapq.heappop(self._heap)[-1]()
        if not self.over:
            self._pump()

    def _at(self, instant: Micros, rank: int, name: str, happen: Callable[[], None]) -> None:
        tie = self.world.chance("tie", name) if rank == 1 else 0.0
        heapq.heappush(self._heap, (instant, rank, tie, name, next(self._order), happen))

    def _pump(self) -> None:
        try:
            self.turn.advance()
        except BaseException:
            self.turn.leave()
            raise
        if self.turn.done:
            self._finish()
            return
        fields = self._fields()
        produced = self.turn.take()
        if produced or fields != self.saved:
            self._commit(produced, fields)
        elif self._durable < len(self.commits):
            self._starts[len(self.commits) - 1].extend(produced.starts)
        else:
            self._start(produced.starts)
            return
        for operation in produced.starts:
            self.world.completion(operation, self._durable_at)

    def _commit(self, produced: Produced, fields: bytes) -> None:
        index = len(self.commits)
        events = [*produced.events, *((self.turn.now, encode_event(self._bound(*bind))) for bind in produced.binds)]
        self._keep_timers(produced)
        running = frozenset(self.turn.running)
        self._durable_at = max(self._durable_at, self.world.stored(produced.binds, index, self.now))
        for timer_id, due in produced.arm.items():
            self.world.ringing(timer_id, due, self._durable_at)
        for effect in asking(produced.effects):
            answering(self.world, effect, self._durable_at)
        self.letters |= {mail.ref for mail in produced.replies}
        resumes = self._durable_at if produced.binds else self.now
        done = self.turn.effects
        commit = Commit(
            self.now, events, produced.effects, done, fields, dict(self.timers), running, resumes, bool(produced.binds), self.letters
        )
        self.commits.append(commit)
        self.saved = fields
        self.undecodable += [mail for mail, _ in produced.undecodable]
        self._starts[index] = produced.starts
        self._at(self._durable_at, 0, f"{index:09}", functools.partial(self._stored, index, produced))

    def _stored(self, index: int, produced: Produced) -> None:
        self._durable = index + 1
        if produced.binds:
            self.turn.bound([(event.name, event.key, event.owner) for event in (self._bound(*bind) for bind in produced.binds)])
        for timer_id, due in produced.arm.items():
            self._ring_at(timer_id, due)
        self._answer_later(produced.effects)
        self._start(self._starts.pop(index))

    def _finish(self) -> None:
        turn = self.turn
        try:
            self.value = turn.result()
            self.error = turn.forgotten()
        except BaseException as error:  # noqa: BLE001  # whatever the handler raised is its outcome
            self.error = error
        armed = turn.armed
        turn.leave()
        produced = turn.take()
        for timer_id in [*produced.disarm, *armed]:
            self.timers.pop(timer_id, None)
        effects = [] if self.error is not None else produced.effects
        commit = Commit(self.now, produced.events, effects, turn.effects, self._fields(), dict(self.timers), frozenset(), self.now)
        self.commits.append(commit)
        self.over = True

    # --- steps, timers, keys -----------------------------------------------------------------------

    def _start(self, starts: list[Operation]) -> None:
        for operation in starts:
            if self.turn.runs(operation):
                self.started.append(operation.id)
                at = self.world.completion(operation, self.now)
                self._at(at, 1, operation.id, functools.partial(self._end, operation))

    def _cancel_step(self, operation: Operation) -> bool:
        self.cancelled.append(operation.id)
        return False

    def _end(self, operation: Operation) -> None:
        if self.turn.runs(operation):
            self.turn.feed(outcome(self.world, operation, self.now))

    def _answer_later(self, effects: list[Any]) -> None:
        for effect in asking(effects):
            mail = answer(self.world, effect)
            if mail.ref not in self.letters:
                self._at(answering(self.world, effect, self.now), 2, f"~{mail.ref}", functools.partial(self.replies.append, mail))

    def _ring_at(self, timer_id: str, due: Micros) -> None:
        self._at(self.world.ringing(timer_id, due, self.now), 1, timer_id, functools.partial(self._ring, timer_id, due))

    def _ring(self, timer_id: str, due: Micros) -> None:
        if self.turn.expects(timer_id, due):
            self.turn.feed(fired(timer_id))

    def _keep_timers(self, produced: Produced) -> None:
        for timer_id in produced.disarm:
            self.timers.pop(timer_id, None)
        self.timers |= produced.arm
        wanted = {operation.id: operation.due for operation in self.turn._operations.values() if operation.due is not None}
        assert self.timers == wanted, "the store holds the timers that somebody waits for, and no other"

    def _bound(self, operation_id: str, key: str) -> Bound:
        return Bound(self.world.id.message, operation_id, key, self.world.owners.get(key, ""))

    # --- what is left of it --------------------------------------------------------------------------

    def _fields(self) -> bytes:
        return JSON.encode(self.process)

    @property
    def events(self) -> list[tuple[Micros, Any]]:
        """All that is recorded."""
        return recorded_by(self.commits)

    @property
    def effects(self) -> list[Any]:
        """All that is committed, in order."""
        return [effect for commit in self.commits for effect in commit.effects]

    @property
    def outcome(self) -> Any:
        """What the turn came to, comparable."""
        error = None if self.error is None else (type(self.error), str(self.error))
        return self.value, error, self.effects, self.commits[-1].fields, self.events


def perform(world: World, operation: Operation, function: Callable[..., Any] | None = None) -> tuple[Any, BaseException | None]:
    """Run a step's function, or its probe, as an engine would, outside of the turn's loop."""
    function = function or operation.function
    assert operation.context is not None
    assert function is not None
    operation.context.run(STEP_INFO.set, StepInfo(operation.attempt, *world.id, operation.id))
    try:
        value = operation.context.run(function, *operation.arguments)
        if inspect.iscoroutine(value):
            value = operation.context.run(_driven, value)
    except BaseException as error:  # noqa: BLE001  # it is the step's outcome
        return None, error
    return value, None


def _driven(code: Coroutine[Any, Any, Any]) -> Any:
    try:
        code.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("steps of these tests wait for nothing")


def outcome(world: World, operation: Operation, now: Micros) -> Input:
    """Run a step and return what the turn has to be told."""
    return told(world, operation, *perform(world, operation), now)


def told(world: World, operation: Operation, value: Any, error: BaseException | None, now: Micros) -> Input:
    """Return what the turn has to be told of a run that has ended so."""
    function = operation.function
    assert function is not None
    if error is None:
        try:
            data, decoded = known(function).output.record(value, what=f"step {operation.id!r}", limit=limits.STEP_OUTPUT_MAX)
        except PerdureError as invalid:
            return failed(operation.id, invalid)
        return completed(operation.id, data, decoded)
    if operation.retry is not None and operation.retry.allows(error, operation.attempt):
        jitter = world.chance("jitter", operation.id, operation.attempt)
        return attempt_failed(operation.id, error, now + operation.retry.delay(operation.attempt, lambda: jitter))
    return failed(operation.id, error)

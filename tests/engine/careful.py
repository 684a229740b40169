"""The world of steps with options: what the engine does for them, in virtual time, with the effect at the start of a run.

A run whose outcome is not recorded has had its effect all the same: that is what a crash leaves behind.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from perdure.clock import Micros
from perdure.conversations.events import Event, StepAttemptFailed
from perdure.engine.operation import Input, Operation, outcome_unknown
from perdure.engine.outcomes import encode_error
from perdure.engine.steps import NotDone
from perdure.errors import StepTimedOut
from tests.engine.inputs import failed
from tests.engine.turns import LATENCIES, Commit, Life, World, perform, told


class CarefulWorld(World):
    """A world that knows steps with options. `begun` are the runs of functions that began, by step and attempt; `asked`, those of probes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begun: list[tuple[str, int]] = []
        self.asked: list[tuple[str, int]] = []

    def latency(self, operation: Operation) -> Micros:
        """How long a run would take that nobody stops."""
        return LATENCIES[int(self.chance("latency", operation.id, operation.attempt) * len(LATENCIES))]

    def is_late(self, operation: Operation) -> bool:
        """Whether it is stopped."""
        options = operation.options
        return options is not None and options.timeout is not None and not options.unknown and self.latency(operation) > options.timeout

    def completion(self, operation: Operation, start: Micros) -> Micros:
        options = operation.options
        if options is None:
            return super().completion(operation, start)
        latency = self.latency(operation)
        kind = f"probe {options.probes}" if options.unknown else "careful step"
        limit = options.timeout or latency
        return self._instants.setdefault((kind, operation.id, operation.attempt), start + min(latency, limit))


class CarefulLife(Life):
    """A life in it."""

    world: CarefulWorld

    def __init__(self, world: CarefulWorld, commits: Sequence[Commit] = (), *, knows_timers: bool = True) -> None:
        super().__init__(world, commits, knows_timers=knows_timers)

    def _start(self, starts: list[Operation]) -> None:
        super()._start([operation for operation in starts if operation.options is None])
        for operation in starts:
            if operation.options is not None and self.turn.runs(operation):
                self.started.append(operation.id)
                self._begin(operation)

    def _begin(self, operation: Operation) -> None:
        world, options = self.world, operation.options
        assert options is not None
        (world.asked if options.unknown else world.begun).append((operation.id, operation.attempt))
        at = world.completion(operation, self.now)
        result = perform(world, operation, options.probe if options.unknown else None)
        self._at(at, 1, operation.id, functools.partial(self._end_carefully, operation, result))

    def _end_carefully(self, operation: Operation, result: tuple[Any, BaseException | None]) -> None:
        turn, options = self.turn, operation.options
        if not turn.runs(operation):
            return
        assert options is not None
        value, error = result
        late = StepTimedOut(f"{operation.id} is late") if self.world.is_late(operation) else None
        if options.unknown:
            self._answered(operation, value, error)
        elif late is not None and options.at_most_once and options.probe is not None:
            options.unknown = True
            self._begin(operation)
        elif late is not None and options.at_most_once:
            turn.feed(failed(operation.id, outcome_unknown(turn, operation, "late")))
        else:
            turn.feed(told(self.world, operation, value, late or error, self.now))

    def _answered(self, operation: Operation, value: Any, error: BaseException | None) -> None:
        turn, options = self.turn, operation.options
        assert options is not None
        asked = options.probes + 1
        if error is None and isinstance(value, NotDone):
            turn.begin_again(operation)
        elif error is None:
            turn.feed(told(self.world, operation, value, None, self.now))
        elif operation.retry is not None and operation.retry.allows(error, asked):
            turn.feed(probe_failed(operation.id, error, self.now + operation.retry.delay(asked, lambda: 0.0)))
        else:
            turn.feed(failed(operation.id, outcome_unknown(turn, operation, "its probe failed")))


def probe_failed(operation_id: str, error: BaseException, due: Micros) -> Input:
    data = encode_error(error)

    def make(turn: Any, operation: Operation) -> Event:
        return StepAttemptFailed(turn.id.message, operation.id, operation.options.probes + 1, data, due, probe=True)  # type: ignore[union-attr]

    return Input(operation_id, make)

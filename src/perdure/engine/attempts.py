"""One attempt of a step that is asked for more than a plain one: with a limit of time, at most once, left to itself.

Source: engine.md, "Verbs of a turn".
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from perdure.clock import SECOND, Alarm, Micros
from perdure.conversations.events import Event, StepAttemptFailed
from perdure.engine.operation import Input, Operation, outcome_unknown, step_failed
from perdure.engine.outcomes import encode_error
from perdure.engine.steps import STEP_INFO, NotBegun, NotDone, StepInfo, called, runs_async
from perdure.engine.turn import Turn
from perdure.errors import StepTimedOut

if TYPE_CHECKING:
    from perdure.engine.owner import Owner

logger = logging.getLogger("perdure.engine")
Stepped = Callable[[Turn, Operation, Any, BaseException | None], None]


class Attempt:
    """One run of a step's function, or of its probe.

    Args:
        owner: of the process.
        turn: that asked for the step.
        operation: the step.
        tasks: what runs for the process, by step.
        start: begins what may begin now.
        stepped: takes in an ordinary outcome.
        pump: lets the turn go on.
    """

    def __init__(
        self,
        owner: Owner,
        turn: Turn,
        operation: Operation,
        tasks: dict[str, asyncio.Future[Any]],
        *,
        start: Callable[[list[Operation]], None],
        stepped: Stepped,
        pump: Callable[[], None],
    ) -> None:
        assert operation.options is not None, "a plain step needs none of this"
        self._owner = owner
        self._turn = turn
        self._operation = operation
        self._options = operation.options
        self._tasks = tasks
        self._start = start
        self._stepped = stepped
        self._pump = pump
        self._alarm: Alarm | None = None
        self._due: Micros = 0
        self._is_late = False
        self._call: asyncio.Future[Any] | None = None

    def run(self, may_begin: Callable[[], bool]) -> None:
        """Begin it; on a thread, if it still `may_begin` then."""
        operation, owner = self._operation, self._owner
        function = self._options.probe if self._options.unknown else operation.function
        assert function is not None, "who has no probe is told at once that the outcome is unknown"
        assert operation.context is not None, "an asked-for step has a context"
        context = operation.context.copy()  # the thread of an earlier attempt may still be in the other one
        context.run(STEP_INFO.set, StepInfo(operation.attempt, *self._turn.id, operation.id))
        in_loop = runs_async(function)
        if in_loop:
            operation.thread = None
            self._call = owner.loop.create_task(_awaited(function, operation.arguments), context=context)
        else:
            operation.thread = owner.threads.submit(context.run, called, may_begin, function, operation.arguments)
            self._call = asyncio.wrap_future(operation.thread, loop=owner.loop)
            if self._options.abandon:
                operation.thread.add_done_callback(functools.partial(self._left_to_itself, self._call))
        self._tasks[operation.id] = self._call
        self._call.add_done_callback(self._ended)
        if self._options.timeout is not None and (in_loop or self._options.abandon):
            self._due = owner.clock.now() + self._options.timeout
            self._wait()

    # --- time --------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        # An alarm may ring inside of a task, of whoever moves the clock.
        self._alarm = self._owner.clock.call_at(self._due, functools.partial(self._owner.later, self._ring))

    def _ring(self) -> None:
        call = self._call
        if call is None or call.done() or not self._is_awaited:
            return
        if self._owner.clock.now() < self._due:
            self._wait()
            return
        thread, self._alarm = self._operation.thread, None
        self._is_late = thread is None or not thread.cancel()  # what had to wait for a thread that long has not begun
        call.cancel()
        if thread is not None:
            self._take(None, self._too_late())

    def _too_late(self) -> StepTimedOut:
        seconds = (self._options.timeout or 0) / SECOND
        return StepTimedOut(f"{self._turn.id}: step {self._operation.id!r}, attempt {self._operation.attempt}, took over {seconds:g} s")

    def _left_to_itself(self, call: asyncio.Future[Any], thread: Future[Any]) -> None:
        """Say, on that thread, how a function ended that nobody waited for."""
        if call.cancelled() and not thread.cancelled():
            error = thread.exception()
            end = "returned" if error is None else f"raised {type(error).__name__}"
            logger.warning("%s: step %r was left to itself, and %s: that does not count", self._turn.id, self._operation.id, end)

    # --- the end -----------------------------------------------------------------------------------------

    @property
    def _is_awaited(self) -> bool:
        return self._tasks.get(self._operation.id) is self._call

    def _ended(self, call: asyncio.Future[Any]) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if not self._is_awaited:
            if not call.cancelled():
                call.exception()  # looked at, so that asyncio does not report it
            return
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if self._is_late and isinstance(error, asyncio.CancelledError):
            error = self._too_late()
        self._take(None if error is not None else call.result(), error)

    def _take(self, result: Any, error: BaseException | None) -> None:
        turn, operation = self._turn, self._operation
        if turn.runs(operation) and self._options.unknown and not isinstance(error, NotBegun):
            self._answered(result, error)
        elif turn.runs(operation) and self._options.at_most_once and self._is_late and isinstance(error, StepTimedOut):
            self._lost(error)
        else:
            self._stepped(turn, operation, result, error)

    def _lost(self, error: StepTimedOut) -> None:
        """It was stopped in the middle: it may have happened."""
        del self._tasks[self._operation.id]
        self._owner.dispatcher.step_over()
        # While its thread goes on, no probe can say that it has not happened.
        if self._options.probe is None or self._operation.thread is not None:
            self._tell(step_failed(self._operation, outcome_unknown(self._turn, self._operation, "it did not end in time"), error))
            return
        self._options.unknown = True
        self._start([self._operation])

    def _answered(self, result: Any, error: BaseException | None) -> None:
        """The probe has said how the step ended, or that it has not happened, or could not say it."""
        operation, asked = self._operation, self._options.probes + 1
        if error is None and result is not NotDone and not isinstance(result, NotDone):
            self._stepped(self._turn, operation, result, None)
            return
        del self._tasks[operation.id]
        self._owner.dispatcher.step_over()
        if error is None:
            self._turn.begin_again(operation)
            self._pump()
        elif operation.retry is not None and operation.retry.allows(error, asked):
            due = self._owner.clock.now() + operation.retry.delay(asked, self._owner.random)
            self._tell(Input(operation.id, functools.partial(_probe_failed, encode_error(error), due)))
        else:
            self._tell(step_failed(operation, outcome_unknown(self._turn, operation, f"its probe failed: {error}"), error))

    def _tell(self, given: Input) -> None:
        self._turn.feed(given)
        self._pump()


def _probe_failed(error: bytes, due: Micros, turn: Turn, operation: Operation) -> Event:
    assert operation.options is not None, "a step with a probe has options"
    return StepAttemptFailed(turn.id.message, operation.id, operation.options.probes + 1, error, due, probe=True)


async def _awaited(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call it inside of the task: that it does not take these arguments is the outcome of the step, too."""
    return await function(*arguments)

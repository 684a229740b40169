"""The TurnLoop: a small event loop on which a turn's code runs, so that ordinary asyncio code replays the same.

It has a first-in-first-out ready queue and nothing else. Inputs are released to it one at a time, and all ready code
runs before the next, so a turn is a pure function of its inputs. It is driven from callbacks of the engine's loop, never
from inside a task: asyncio keeps one current task per thread.

Source: engine.md, "The TurnLoop".
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import types
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, NoReturn, Protocol

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.errors import NotInStep, UsageError
from perdure.names import shown

logger = logging.getLogger("perdure.engine")


def _codes_within(code: types.CodeType) -> set[int]:
    return {id(code)}.union(*(_codes_within(const) for const in code.co_consts if isinstance(const, types.CodeType)))


# `as_completed` makes its tasks by walking a set of coroutines, whose order is that of their addresses. By identity: the hash of
# code looks at all of it.
_AS_COMPLETED: Final = _codes_within(asyncio.as_completed.__code__)
_FRAMES_TO_CALLER: Final = 5


class TurnLeft(BaseException):  # code that catches Exception or CancelledError must not go on
    """The turn leaves memory: nothing that its code still does counts, and nothing is recorded."""


class TurnClock(Protocol):
    """What the loop needs of the turn that it runs."""

    now: Micros

    def call_at(self, due: Micros, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Make a durable timer."""
        ...


class _Stopped:
    # What stands in for the turn once it is over: the loop and the turn would keep one another in memory.
    def __init__(self, now: Micros) -> None:
        self.now = now

    def call_at(self, _due: Micros, _callback: Callable[[], None]) -> NoReturn:
        raise TurnLeft


class _Ready(asyncio.Handle):
    # asyncio's own asks the loop about its debug mode for each of them.
    __slots__ = ("arguments", "call", "inside")

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...], inside: contextvars.Context) -> None:
        self.call: Callable[..., Any] | None = call
        self.arguments = arguments
        self.inside = inside

    def cancel(self) -> None:
        self.call = None
        self.arguments = ()

    def cancelled(self) -> bool:
        return self.call is None

    def __repr__(self) -> str:
        return f"<a callback of a turn: {shown(self.call)}>"


class _TurnFuture(asyncio.Future[Any]):
    number: int

    def __hash__(self) -> int:
        return self.number


class _TurnTask(asyncio.Task[Any]):
    # Sets of tasks have to iterate alike on every replay: they hash by the order in which they were made.
    def __init__(self, coro: Any, *, loop: TurnLoop, number: int, name: str | None, context: contextvars.Context | None) -> None:
        self._number = number
        super().__init__(coro, loop=loop, name=name or f"turn-task-{number}", context=context)

    def __hash__(self) -> int:
        return self._number


class TurnLoop(asyncio.AbstractEventLoop):
    """The event loop of one turn. Its time is that of the last released input; its timers are durable."""

    def __init__(self, clock: TurnClock) -> None:
        self._clock = clock
        self._outer: asyncio.AbstractEventLoop | None = None
        self._hooks: Any = None
        self.driver = 0
        self.ready: deque[_Ready] = deque()
        self._made = 0
        self.tasks: dict[_TurnTask, None] = {}

    def drain(self) -> bool:
        """Run everything that is ready, and what that makes ready, until nothing is. Return whether that came to an end."""
        ready = self.ready
        if not ready:
            return True
        driver = self.driver
        if self._hooks is None:  # they are those of the engine's loop as long as it runs; asking asyncio costs a system call each time
            self._outer = asyncio._get_running_loop()
            self._hooks = sys.get_asyncgen_hooks()
        self.driver = threading.get_ident()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._close)
        try:
            for _ in range(limits.TURN_CALLBACKS_MAX):
                if not ready:
                    break
                handle = ready.popleft()
                call = handle.call
                if call is None:
                    continue
                try:
                    handle.inside.run(call, *handle.arguments)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001  # as asyncio does: a callback has nobody who could catch it
                    self.call_exception_handler({"message": f"a callback failed: {shown(call)}", "exception": error})
        finally:
            sys.set_asyncgen_hooks(*self._hooks)
            asyncio._set_running_loop(self._outer)
            self.driver = driver
        return not ready

    def cancel_tasks(self) -> bool:
        """Cancel every task and run what that makes ready. Return whether that came to an end."""
        for task in [*self.tasks]:
            task.cancel()
        return self.drain()

    def close_tasks(self) -> None:
        """Stop tasks that will not be cancelled."""
        for task in [*self.tasks]:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own name for "somebody knows"
            self.call_soon(task.get_coro().close)
        self.drain()

    def turn_is_over(self) -> None:
        """The turn is over: its time stands still, and there are no timers any more."""
        self._clock = _Stopped(self._clock.now)

    # --- what asyncio's own constructs use ---------------------------------------------------------

    def call_soon(  # type: ignore[override]  # asyncio itself passes what its own types do not allow
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback behind all that is ready."""
        handle = _Ready(callback, args, contextvars.copy_context() if context is None else context)
        self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # see call_soon
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Make a durable timer that is due `delay` seconds after the last released input."""
        return self._call_at(self._clock.now + round(min(delay, limits.SECONDS_MAX) * SECOND), callback, args, context)

    def call_at(  # type: ignore[override]  # see call_soon
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Make a durable timer that is due when the loop's `time()` is `when`."""
        return self._call_at(round(min(when, limits.SECONDS_MAX) * SECOND), callback, args, context)

    def _call_at(self, due: Micros, callback: Any, args: Any, context: contextvars.Context | None) -> asyncio.TimerHandle:
        def ring() -> None:
            self.call_soon(callback, *args, context=context)

        return self._clock.call_at(due, ring)

    def time(self) -> float:
        """Return the time of the last released input, in seconds since the epoch."""
        return self._clock.now / SECOND

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future whose place in a set is the same on every replay."""
        self._made += 1
        future = _TurnFuture(loop=self)
        future.number = self._made
        return future

    def create_task(self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None, **_options: Any) -> Any:
        """Return a task whose place in a set is the same on every replay."""
        self._refuse_as_completed(coro)
        self._made += 1
        task = _TurnTask(coro, loop=self, number=self._made, name=name, context=context)
        asyncio.tasks._unregister_task(task)  # asyncio keeps all tasks in one set: the first ones of all turns would collide in it
        self.tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _close(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Run the `finally` of a generator that the code has dropped here, where it may use verbs."""
        self.create_task(generator.aclose())

    def _forget(self, task: Any) -> None:
        self.tasks.pop(task, None)

    @staticmethod
    def _refuse_as_completed(coro: Any) -> None:
        frame = sys._getframe(2)
        for _ in range(_FRAMES_TO_CALLER):
            if id(frame.f_code) in _AS_COMPLETED:
                coro.close()
                raise UsageError("asyncio.as_completed takes coroutines in an order that no replay repeats; make tasks of them first")
            if frame.f_back is None:
                return
            frame = frame.f_back

    def get_debug(self) -> bool:
        """Return False: asyncio's debug mode reads clocks."""
        return False

    def get_task_factory(self) -> None:
        """Return None: tasks are made here."""

    def is_running(self) -> bool:
        """Return True: the loop has no life of its own."""
        return True

    def is_closed(self) -> bool:
        """Return False: the loop has nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody asked for."""
        if not isinstance(context.get("exception"), TurnLeft):
            logger.error("in a turn: %s", context.get("message"), exc_info=context.get("exception"))


def _refuse(*_args: Any, **_options: Any) -> NoReturn:
    raise NotInStep("a handler does no input or output of its own: put it into a step, `await self.step(function, ...)`")


# All else that a loop can do is done with the world outside, now and by whatever Python comes later.
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(TurnLoop):
        setattr(TurnLoop, _name, _refuse)

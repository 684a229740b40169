"""A turn: the handling of one message by one handler, without any input or output.

Inputs go in (what was recorded, then what happens), one at a time; what has to be committed comes out at each
quiescence. The engine commits it, and only then starts the steps that it asks for.

Source: engine.md, "The TurnLoop".
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable
from threading import get_ident
from typing import Any

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import (
    Bound,
    CancelRequested,
    Event,
    MessageTaken,
    ReplyArrived,
    Restarted,
    StepAttemptFailed,
    StepBegun,
    StepCompleted,
    TimerFired,
    encode_event,
)
from perdure.engine.addressing import TurnId
from perdure.engine.chance import Chance
from perdure.engine.effects import AskEffect, AttributeEffect, AwakeableEffect, CommandEffect, LogEffect, SendEffect, StopCommandEffect
from perdure.engine.loop import TurnLeft
from perdure.engine.operation import DurableTimer, Input, Kind, Operation, Produced, outcome_unknown, step_failed
from perdure.engine.releasing import resolve
from perdure.engine.turn_state import TurnState, anybody, nobody, nothing
from perdure.errors import DeadlockedTurn, NotAwaited, NotInTurn, PayloadInvalid, ReplyTooLate, TurnTooLong
from perdure.messages.mail import Mail
from perdure.replies import decode_reply

logger = logging.getLogger("perdure.engine")
_ASKED = (SendEffect, AskEffect, AwakeableEffect, CommandEffect, StopCommandEffect)


class Turn(TurnState):
    """One turn; its arguments are those of `TurnState`."""

    __slots__ = ()

    # --- the engine's side: inputs, and running to quiescence --------------------------------------

    def feed(self, given: Input) -> None:
        """Queue something that happened."""
        self._inputs.append(given)

    def cancel(self, reason: str) -> None:
        """Ask the code to stop, once: as soon as no plain function runs, whose outcome would be unknown."""
        if self.cancelled is None:
            self._cancel = reason

    def advance(self) -> Produced:
        """Release inputs, one at a time and in order, until the code can go no further, and return what has to be committed.

        Raises:
            NondeterministicTurn: the code does not do what was recorded.
            DeadlockedTurn: the handler waits for something that is not durable.
            TurnTooLong: the turn has too many events.
        """
        root = self._root
        assert root is not None, "a turn without code cannot advance"
        if self.loop.ready or self._untils:
            self._drain()
        while not root.done() and self._release_next():
            self._drain()
        if root.done():
            self._finish()
        elif not (self._operations or self._blocked):
            raise DeadlockedTurn(
                f"{self.id}: the handler waits for something that is not durable and that nothing in the turn will wake; "
                f"wait for steps, messages and timers only"
            )
        elif self.once and self._cancel is None:
            self._begin_once()
        return self.produced

    def _begin_once(self) -> None:
        """Record the starts of steps that run at most once: they begin when that is durable."""
        for operation in self._starts.values():
            options = operation.options
            if options is not None and options.at_most_once and options.begun != operation.attempt:
                options.begun = operation.attempt
                self.record(StepBegun(self.id.message, operation.id, operation.input, operation.attempt))

    def begin_again(self, operation: Operation) -> None:
        """The probe of a step says that it has not happened: it is begun once more, after the next commit."""
        assert operation.options is not None, "only a step with options has a probe"
        if self._blocked:  # its start would be recorded behind the answer about a key, and before what the code makes of that
            self._again.append(operation)
            return
        operation.options.unknown = False
        operation.attempt += 1
        self._starts[operation.id] = self.running.pop(operation.id)

    def _unknown(self) -> None:
        """Where the record ends: of a step that was begun and has no end in it, nobody knows how it ended."""
        if self.replay.active:
            return
        for operation in self._operations.values():
            options = operation.options
            if options is None or not options.at_most_once or options.begun != operation.attempt:
                continue
            options.unknown = True
            if options.probe is None:
                self._starts.pop(operation.id, None)
                self.feed(step_failed(operation, outcome_unknown(self, operation, "its engine stopped before its end was recorded")))
            elif operation.due is None:
                self._starts[operation.id] = operation

    def _drain(self) -> None:
        drained = self.loop.drain()
        while drained and self._untils and self._come_true():
            drained = self.loop.drain()
        if not drained:
            raise DeadlockedTurn(
                f"{self.id}: the handler polls for something that is not durable and that nothing in the turn will change; "
                f"wait for steps, messages and timers only"
            )

    def _come_true(self) -> bool:
        """Go on with every `until` whose predicate is true now."""
        any_true = False
        for future, predicate in list(self._untils.items()):
            try:
                true = predicate()
            except Exception as error:  # noqa: BLE001  # whatever the predicate raises is raised where it is waited for
                del self._untils[future]
                future.set_exception(error)
                any_true = True
                continue
            if true:
                del self._untils[future]
                future.set_result(None)
                any_true = True
        return any_true

    def take(self) -> Produced:
        """Hand over what has to be committed; its steps count as running from here on."""
        produced, self.produced = self.produced, Produced()
        self._blocked = self._blocked or bool(produced.binds)
        produced.starts = self.take_starts()
        return produced

    def take_starts(self) -> list[Operation]:
        """Hand over the steps to begin, when there is nothing to commit before."""
        if not self._starts or self._cancel is not None:  # what will be dropped is not begun
            return []
        starts, self._starts = self._starts, {}
        self.running |= starts
        return [*starts.values()]

    def bound(self, outcomes: Iterable[tuple[str, str, str]]) -> None:
        """Say how the committed requests for keys ended: (operation, key, owner or nothing). They were recorded with the commit."""
        self._blocked = False
        again, self._again = self._again, []
        for probed in again:
            self.begin_again(probed)
        for operation_id, key, owner in outcomes:
            self.events += 1
            operation = self._operations.get(operation_id)
            if operation is not None:
                self._answerable = None
                self._release(operation, Bound(self.id.message, operation_id, key, owner), None, None)
                self.loop.drain()
                while self._untils and self._come_true():
                    self.loop.drain()

    def leave(self) -> None:
        """Leave memory: cancel the turn's tasks. What they still ask for raises TurnLeft; nothing is recorded."""
        self.leaving, was_done = True, self.done
        self.replay.leave()
        self._inputs.clear()
        running, self.running = self.running, {}
        for operation in running.values():
            self.cancel_step(operation)
        for _ in range(limits.LEAVE_ROUNDS):
            if not (self.loop.tasks and self.loop.cancel_tasks()):
                break
        if self.loop.tasks:
            logger.warning("%s: its code catches every cancellation; it was stopped", self.id)
            self.loop.close_tasks()
        if self._root is not None and self._root.done() and not self._root.cancelled():
            self._root.exception()  # looked at, so that asyncio does not report it
        for operation in self._unawaited.values():
            if operation.call is not None:
                operation.call.close()
        # Nothing calls back any more: without these, only the collector of cycles could free a turn.
        if not was_done:
            self._root = None  # its cancellation has a traceback, which leads back here
        self.loop.turn_is_over()
        self.read_log = nothing
        self.cancel_step = nobody
        self.may_take = anybody

    # --- releasing inputs --------------------------------------------------------------------------

    def _release_next(self) -> bool:
        if self.replay.active:
            self.replay.compare(self)
            if self.once:
                self._unknown()
        self._answerable = None
        if self.replay.recorded:
            at, event = self.replay.recorded.popleft()
            self.now = max(self.now, at)
            self.events += 1
            self._replay(event)
            return True
        if self._blocked:
            return False
        while self._inputs:
            given = self._inputs.pop(0)
            operation = self._operations.get(given.operation_id)
            if operation is None:
                self._take_late(given)
            elif self._release_input(given, operation):
                return True
        if self._cancel is not None:
            return self._release_cancel(self._cancel)
        return (bool(self._replies) and self._take_reply()) or (bool(self.receives) and self._take_mail())

    def _release_input(self, given: Input, operation: Operation) -> bool:
        event = given.make(self, operation)
        if not isinstance(event, TimerFired):
            self.running.pop(operation.id, None)
        elif operation.due is None:
            return False  # it rang a second time before the first was taken in
        else:
            self.now = max(self.now, operation.due)  # the clock may have been set back
        self._tick()
        self.record(event)
        self._release(operation, event, given.value, given.cause)
        return True

    def _release_cancel(self, reason: str) -> bool:
        if any(operation.outlives_its_caller for operation in self.running.values()):
            return False
        self._tick()
        self.record(CancelRequested(self.id.message, reason))
        self._cancel_code(reason)
        return True

    def _cancel_code(self, reason: str) -> None:
        """Drop all that the code waits for, and raise CancelledError once wherever it waits."""
        self.cancelled, self._cancel = reason, None
        dropped = self._dropped = list(self._operations.values())
        for operation in dropped:
            self._settle(operation)
            self._stop(operation)
            if self.running.pop(operation.id, None) is not None:
                self.cancel_step(operation)
        assert self._root is not None, "only code can be cancelled"
        self._root.cancel()  # asyncio's own way down to groups and gathers
        self._drain()
        for operation in dropped:
            if operation.future is not None and not operation.future.done():
                operation.future.cancel()  # somebody whom the handler does not wait for

    def _take_late(self, given: Input) -> None:
        """A step that was called off has ended on its thread: nobody gets the outcome, but it has happened."""
        operation = None if self._lingering is None else self._lingering.pop(given.operation_id, None)
        if operation is not None:
            self._tick()
            self.record(given.make(self, operation))

    def _tick(self) -> None:
        now = self._clock()
        if now > self.now:  # noqa: PLR1730  # it may have been set back; `max` costs a call at each input
            self.now = now

    def record(self, event: Event) -> None:
        """Let the next commit record what happened now. Raises TurnTooLong."""
        self.events += 1
        if self.events > limits.TURN_EVENTS_MAX:
            raise TurnTooLong(f"{self.id}: more than {limits.TURN_EVENTS_MAX:,} events in one turn; spread the work over messages")
        if self.events == limits.TURN_EVENTS_WARN:
            logger.warning("%s: %d events in one turn; each replay repeats them all, spread the work over messages", self.id, self.events)
        self.produced.events.append((self.now, encode_event(event)))

    def _take_reply(self) -> bool:
        """Give the oldest reply to who waits for it; those that nobody waits for any more are dropped."""
        while self._replies:
            mail = self._replies.pop(0)
            self.produced.replies.append(mail)
            reply = decode_reply(mail.payload)
            operation = self._operations.get(reply.operation_id) if reply.turn_ref == self.id.message else None
            if operation is not None and operation.kind == "reply":
                self._tick()
                event = ReplyArrived(self.id.message, operation.id, operation.input, reply.outcome, reply.response)
                self.record(event)
                self._release(operation, event, None, None)
                return True
        return False

    def _take_mail(self) -> bool:
        """Give the oldest message that a `receive` asks for to the oldest such `receive`."""
        for mail in list(self._mail):
            operation, value = self._receiver_of(mail)
            if operation is not None:
                self._mail.remove(mail)
                self._tick()
                event = MessageTaken(self.id.message, operation.id, mail.ref, mail.kind, mail.payload)
                self.record(event)
                self.produced.taken.append(mail)
                self._release(operation, event, value, None)
                return True
        return False

    def _receiver_of(self, mail: Mail) -> tuple[Operation | None, Any]:
        for operation in self.receives:
            decode = operation.kinds.get(mail.kind)
            if decode is None or not self.may_take(operation):
                continue
            try:
                value = decode(mail.payload)
            except PayloadInvalid as error:
                self._mail.remove(mail)
                self.produced.undecodable.append((mail, str(error)))
                return None, None
            if operation.where is None:
                return operation, value
            if operation.where(value):
                return operation, None  # decoded again: the predicate may have kept or changed this one
        return None, None

    def _release(self, operation: Operation, event: Event, value: Any, cause: BaseException | None) -> None:
        if isinstance(event, StepAttemptFailed):
            if event.probe and operation.options is not None:
                operation.options.probes = event.attempt
            else:
                operation.attempt = event.attempt + 1
            operation.due = self.produced.arm[operation.id] = event.due
            self._starts.pop(operation.id, None)
            return
        if isinstance(event, TimerFired):
            self._disarm(operation)
            if operation.kind == "step":
                self._starts[operation.id] = operation
                return
        self._settle(operation)
        future = operation.future
        if future is None:  # a timer of asyncio's own
            assert operation.function is not None, "such a timer has something to ring"
            operation.function()
        elif not future.done():
            resolve(future, operation, event, value=value, cause=cause, by=self.module)
            if isinstance(event, MessageTaken):
                self._answerable = (future.result(), event.taken)

    def _settle(self, operation: Operation) -> None:
        """The operation is over: forget it, and its timer."""
        del self._operations[operation.id]
        self._starts.pop(operation.id, None)
        if operation.kind == "receive":
            self.receives.remove(operation)
        elif operation.kind == "bind" and (operation.id, operation.key) in self.produced.binds:
            self.produced.binds.remove((operation.id, operation.key))
        if operation.due is not None:
            self._disarm(operation)

    def _disarm(self, operation: Operation) -> None:
        operation.due = None
        if self.produced.arm.pop(operation.id, None) is None:
            self.produced.disarm.append(operation.id)

    def abandon(self, operation: Operation) -> None:
        """Nobody waits for it any more: a loser of `first`, a cancelled task, a timer called off."""
        if self._operations.get(operation.id) is not operation:
            return
        self._settle(operation)
        self._stop(operation)
        if self.replay.active:
            self.replay.call_off(operation)
        if self.running.pop(operation.id, None) is not None and self.cancel_step(operation):
            self._lingering = self._lingering or {}
            self._lingering[operation.id] = operation

    def _stop(self, operation: Operation) -> None:
        """Let a command be stopped for which nobody waits any more; leaving memory is no reason."""
        if isinstance(operation.effect, CommandEffect) and not self.leaving:
            self.effect(StopCommandEffect(operation.effect.command_id))

    # --- replay ------------------------------------------------------------------------------------------

    def _replay(self, event: Event) -> None:
        if isinstance(event, Restarted):
            self.replay.copy_ends()
            for asked in list(self._operations.values()):
                if asked.kind == "reply":
                    self.effect(asked.effect)
            return
        if isinstance(event, CancelRequested):
            self._cancel_code(event.reason)
            return
        operation = self.replay.check(self, event, self._operations)
        if isinstance(event, StepCompleted):
            self.steps += 1
        if operation is None:
            return
        if isinstance(event, StepBegun):
            assert operation.options is not None, "that was checked"
            operation.attempt = operation.options.begun = event.attempt
            self._starts.pop(operation.id, None)
            return
        try:
            self._release(operation, event, None, None)
        except PayloadInvalid as error:
            raise self.replay.unreadable(self, operation, error) from error

    def _finish(self) -> None:
        self.replay.finish(self)
        self._starts.clear()
        if self.running:
            for operation in [*self.running.values()]:
                self.abandon(operation)
        if self._lingering:
            while self._inputs:
                self._take_late(self._inputs.pop(0))
            self.outlived = bool(self._lingering)

    def forgotten(self) -> NotAwaited | None:
        """Return an error when the handler made a durable call and never awaited it."""
        names = []
        for operation in self._unawaited.values():
            call = operation.call
            if call is not None and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
                call.close()
                names.append(operation.id)
        if names:
            return NotAwaited(f"{self.id}: {', '.join(sorted(names))} was called but never awaited; write `await self.…`")
        return None

    # --- the code's side: what the verbs use ----------------------------------------------------------

    def operation(self, name: str, kind: Kind) -> Operation:
        """Return a new operation: its id is `name`, with `#2`, `#3` in the order of the calls."""
        self.check_open(name)
        id = name
        while id in self._names:  # a step may be named `x#2` by its caller
            self._names[name] += 1
            id = f"{name}#{self._names[name]}"
        self._names[id] = 1
        return Operation(id, kind)

    def check_open(self, verb: str) -> None:
        """Refuse a verb outside the handler. Raises NotInTurn, or TurnLeft when the turn leaves memory."""
        if self.loop.driver != get_ident():
            raise NotInTurn(f"{verb!r} was used outside its handler (in a step, a thread, or after the turn); use it in the handler itself")
        if self.leaving:
            raise TurnLeft

    def wait(self, operation: Operation) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that asks for the operation once it is awaited, and ends with its outcome."""
        operation.call = self._wait(operation)
        self._unawaited[operation.id] = operation
        return operation.call

    async def _wait(self, operation: Operation) -> Any:
        self.check_open(operation.id)
        del self._unawaited[operation.id]
        operation.call = None
        operation.future = self.loop.create_future()
        self._ask(operation)
        try:
            return await operation.future
        except asyncio.CancelledError:
            self.abandon(operation)
            raise

    def ask(self, operation: Operation) -> asyncio.Future[Any]:
        """Ask for the operation at once, and return what its outcome comes to."""
        operation.future = self.loop.create_future()
        self._ask(operation)
        return operation.future

    def _ask(self, operation: Operation) -> None:
        if operation.kind == "step":
            operation.context = contextvars.copy_context()
            self._starts[operation.id] = operation
        elif operation.kind == "receive":
            self.receives.append(operation)
        elif operation.kind == "bind":
            self.produced.binds.append((operation.id, operation.key))
        elif operation.kind == "reply":
            self.effect(operation.effect)
        self._operations[operation.id] = operation
        if operation.due is not None:
            self.produced.arm[operation.id] = operation.due

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a predicate is true: it is asked whenever the code can go no further."""
        self.check_open("until")
        future = self.loop.create_future()
        self._untils[future] = predicate
        try:
            await future
        finally:
            self._untils.pop(future, None)

    def answer(self, message: object, data: bytes) -> None:
        """Answer the message that was released last. Raises ReplyTooLate when it is another, or was answered."""
        if self._answerable is None or self._answerable[0] is not message:
            raise ReplyTooLate(
                f"{self.id}: this message cannot be answered here; call reply right after the `receive` that returned it, "
                f"before anything else is awaited, and once"
            )
        ref, self._answerable = self._answerable[1], None
        if any(mail.ref == ref for mail in self.produced.taken):  # else it was sealed with the commit that is replayed
            self.produced.answers[ref] = data

    def call_at(self, due: Micros, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Make a durable timer for asyncio's own constructs."""
        operation = self.operation("asyncio.timer", "timer")
        operation.due = due
        operation.function = callback
        self._ask(operation)
        return DurableTimer(self, operation, due)

    @property
    def origin(self) -> TurnId:
        """The turn that ids are derived from: this one, or the one whose doings it repeats."""
        copied = self.replay.copied
        return self.id if copied is None else TurnId(self.id.tenant, copied.origin, copied.origin_message)

    def chance(self) -> Chance:
        """Return what looks like chance in this turn."""
        origin = self.origin
        if self._chance is None or self._chance.of != origin:
            self._chance = Chance(origin)
        return self._chance

    def effect(self, effect: Any) -> None:
        """Commit this with the next commit; on replay, what was committed is not committed again."""
        self.effects += 1
        if self.effects <= self.replay.effects_done:
            return
        copied = self.replay.copied
        if copied is not None:
            # A message was sent by the turn that this one is a copy of, and what was asked for is asked for again where the copy ends, unless
            # the copy has the answer. Tags may be gone with its end, and are joined again by the same process. Attributes and entries of
            # logs went back to what that turn had found, and a copy begins there, too.
            again = copied.origin == self.id.process and not isinstance(effect, _ASKED)
            if not (again or isinstance(effect, AttributeEffect | LogEffect)):
                return
        self.produced.effects.append(effect)

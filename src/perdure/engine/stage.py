"""The code's side of one process in memory: its object, its open turn, and the steps that run.

Source: engine.md, "Ahead of the disk"; "Verbs of a turn".
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import Event
from perdure.core.ownership import Lease
from perdure.engine.addressing import TurnId
from perdure.engine.apart.remote import AnyHandler, AnyTurn, AnyType, RemoteTurn, RemoteType, opening_of
from perdure.engine.app import HandlerOf
from perdure.engine.attempts import Attempt
from perdure.engine.endings import attempt_failed, completed, raising
from perdure.engine.operation import Input, Operation, step_failed
from perdure.engine.outcomes import encode_error
from perdure.engine.process import Process
from perdure.engine.process_log import entries_of
from perdure.engine.steps import STEP_INFO, NotBegun, StepInfo, called
from perdure.engine.turn import Turn
from perdure.engine.window import Window
from perdure.errors import NondeterministicTurn, PayloadInvalid, PerdureError

if TYPE_CHECKING:
    from perdure.engine.owner import Owner


class Stage(ABC):
    """Where the code of one process runs: here, or in a child, which has a stage of its own."""

    owner: Owner
    tenant_id: str
    process_id: str
    ref: str
    lease: Lease
    type: AnyType
    turn: AnyTurn | None
    window: Window
    held: bool
    left: bool
    _handler: AnyHandler | None
    _process: Process | None
    _found: bytes | None
    _saved: bytes | None
    _tasks: dict[str, asyncio.Future[Any]]

    @abstractmethod
    def pump(self) -> None:
        """Run the turn to its next quiescence."""

    @abstractmethod
    def proceed(self) -> None:
        """Go on with the turn."""

    @abstractmethod
    def stuck(self, error: Exception) -> None:
        """The code does not fit its record."""

    @abstractmethod
    def unsure(self) -> None:
        """A step was not begun, for it was not sure any more that it may."""

    # --- the turn --------------------------------------------------------------------------------------

    def _enact(
        self,
        payload: bytes,
        attributes: frozenset[str],
        *,
        at: Micros,
        recorded: Iterable[tuple[Micros, Event]],
        effects_done: int,
        more: bool,
        timers: Mapping[str, Micros] | None,
    ) -> AnyTurn | None:
        """Return a turn that begins at the beginning; None when its code cannot take up its process, which is stuck then."""
        if isinstance(self.type, RemoteType):
            given = {"at": at, "recorded": recorded, "effects_done": effects_done, "more": more, "timers": timers}
            return self._enact_elsewhere(self.type, payload, sorted(attributes), given)
        assert isinstance(self._handler, HandlerOf), "what is here has a handler here"
        try:
            self._process = process = self.type.load(self._found)
        except PayloadInvalid as error:
            text = f"process {self.process_id}: its durable fields cannot be read any more: {error}; put the code back as it was"
            self.stuck(NondeterministicTurn(text))
            return None
        turn = Turn(
            TurnId(self.tenant_id, self.process_id, self.ref),
            now=at,
            recorded=list(recorded),
            effects_done=effects_done,
            changed=self._saved != self._found,
            fields=self._fields,
            saved=self._saved if self.type.durable else None,
            timers=timers,
            mail=self.window.letters,
            replies=self.window.replies,
            more=more,
            clock=self.owner.clock.now,
            request=self.type.app.request,
        )
        if attributes:
            turn.attributes_found = attributes
        turn.cancel_step = self._cancel_step
        turn.read_log = entries_of(self.owner.store.access.reader, self.tenant_id, self.process_id)
        turn.may_take = self.window.gives_to
        self.type.attach(process, turn)
        try:
            code = self._handler.open(process, payload)
        except PayloadInvalid as error:
            code = raising(error)
        turn.begin(code)
        return turn

    def _enact_elsewhere(self, made: RemoteType, payload: bytes, attributes: list[str], given: dict[str, Any]) -> RemoteTurn:
        assert self._handler is not None, "it was found before"
        opening = opening_of(
            TurnId(self.tenant_id, self.process_id, self.ref),
            made.name,
            kind=self._handler.kind,
            payload=payload,
            found=self._found,
            saved=self._saved,
            attributes=attributes,
            **given,
        )
        return RemoteTurn(
            made.home,
            self.owner,
            opening,
            window=self.window,
            tasks=self._tasks,
            start=self._start,
            pump=self.proceed,
            may_begin=self._may_begin,
            unsure=self.unsure,
        )

    def _fields(self) -> bytes:
        assert self._process is not None, "a turn has a process"
        assert not isinstance(self.type, RemoteType), "its turn is here"
        return self.type.save(self._process)

    # --- steps -----------------------------------------------------------------------------------------

    def _start(self, starts: list[Operation]) -> None:
        turn = self.turn
        if turn is None or self.held:
            return
        for operation in starts:
            if turn.running.get(operation.id) is operation and self.owner.dispatcher.admits_step(self, turn, operation):
                self._begin_step(turn, operation)

    def begin_late(self, turn: AnyTurn, operation: Operation) -> None:
        """Begin a step that had to wait for its slot, if somebody waits for it still."""
        if self.held or turn.running.get(operation.id) is not operation:
            self.owner.dispatcher.step_over()
        else:
            self._begin_step(turn, operation)

    def _begin_step(self, turn: AnyTurn, operation: Operation) -> None:
        owner = self.owner
        if not self._may_begin():
            self.unsure()
            return
        if isinstance(turn, RemoteTurn):
            self._tasks[operation.id] = turn.begin_step(operation)
            return
        if operation.options is not None:
            Attempt(owner, turn, operation, self._tasks, start=self._start, stepped=self._stepped, pump=self.proceed).run(self._may_begin)
            return
        context, known, function = operation.context, operation.known, operation.function
        assert not (context is None or known is None or function is None), "an asked-for step has both"  # noqa: PT018  # it is one thing
        context.run(STEP_INFO.set, StepInfo(operation.attempt, self.tenant_id, self.process_id, self.ref, operation.id))
        if known.is_async:
            self._tasks[operation.id] = owner.loop.create_task(self._step(turn, operation), context=context)
        else:
            operation.thread = owner.threads.submit(context.run, called, self._may_begin, function, operation.arguments)
            self._tasks[operation.id] = call = asyncio.wrap_future(operation.thread, loop=owner.loop)
            call.add_done_callback(functools.partial(self._returned, turn, operation))

    def _may_begin(self) -> bool:
        """Return whether an effect of this process may begin at this very moment; asked on any thread."""
        return self.lease.held and self.owner.ownership.safe()

    async def _step(self, turn: Turn, operation: Operation) -> None:
        """Run an async step. Its outcome is taken in by a callback of the loop: a turn is never driven from inside a task."""
        function = operation.function
        assert function is not None, "a step has a function"
        try:
            value = await function(*operation.arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever the step raised is its outcome, a cancellation of its own, too
            if self.owner.loop.is_closed():  # the program is over, and what it has left is swept up
                raise
            self.owner.later(self._stepped, turn, operation, None, error)
        else:
            self.owner.later(self._stepped, turn, operation, value, None)

    def _returned(self, turn: Turn, operation: Operation, call: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        self._stepped(turn, operation, None if error is not None else call.result(), error)

    def _stepped(self, turn: Turn, operation: Operation, result: Any, error: BaseException | None) -> None:
        if self.left or turn is not self.turn or not (turn.running.get(operation.id) is operation or turn.lingers(operation)):
            return
        del self._tasks[operation.id]
        self.owner.dispatcher.step_over()
        if isinstance(error, NotBegun):
            self.owner.later(self.unsure)
            return
        assert operation.known is not None, "a step has a function"
        if error is None:
            try:
                data, value = operation.known.output.record(result, what="step", name=operation.id, limit=limits.STEP_OUTPUT_MAX)
            except PerdureError as invalid:
                turn.feed(step_failed(operation, invalid))
            else:
                turn.feed(Input(operation.id, functools.partial(completed, data), value))
        elif operation.retry is not None and operation.retry.allows(error, operation.attempt) and turn.runs(operation):
            due = self.owner.clock.now() + operation.retry.delay(operation.attempt, self.owner.random)
            turn.feed(Input(operation.id, functools.partial(attempt_failed, encode_error(error), due)))
        else:
            turn.feed(step_failed(operation, error))
        self.proceed()

    def _cancel_step(self, operation: Operation) -> bool:
        """Stop a step that nobody waits for any more. Return whether its thread goes on, and its outcome counts."""
        if (task := self._tasks.pop(operation.id, None)) is None:
            self.owner.dispatcher.drop_step(self.tenant_id, operation)
            return False
        stays = isinstance(self.turn, Turn) and not self.turn.leaving
        if stays and operation.thread is not None and operation.outlives_its_caller and not operation.thread.cancel():
            self._tasks[operation.id] = task
            return True
        task.add_done_callback(self.owner.dispatcher.step_over)
        task.cancel()
        return False

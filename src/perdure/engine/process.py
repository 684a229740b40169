"""Processes as people write them: the base class with its verbs, and the decorator that names handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, Literal, TypeVar, TypeVarTuple, Unpack, overload
from uuid import UUID

import msgspec

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.engine.addressing import Address, checked_address
from perdure.engine.attributes import Attributes
from perdure.engine.effects import SendEffect, TagEffect, UnbindEffect, UntagEffect
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.engine.operation import StepOptions
from perdure.engine.retry import Retry
from perdure.engine.steps import NotDone, input_of
from perdure.engine.verbs import Verbs
from perdure.errors import CannotTimeOut, DefinitionError, UsageError
from perdure.identity import ProcessId, RegistryKey, Tag, checked_text, derived_id
from perdure.names import shown

T = TypeVar("T")
S = TypeVar("S", bound="Process")
M = TypeVar("M")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
Ts = TypeVarTuple("Ts")

OnError = Literal["fail_turn", "fail_process", "park"]
Handler = Callable[[S, M], Coroutine[Any, Any, R]]
Probe = Callable[[Unpack[Ts]], Coroutine[Any, Any, T | NotDone | type[NotDone]]] | Callable[[Unpack[Ts]], T | NotDone | type[NotDone]]
HANDLES: Final = "__perdure_on__"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Handles(msgspec.Struct, frozen=True):
    """What `@on` says of a handler."""

    message: type
    start: bool
    key: Callable[[Any], str] | None
    tag: Callable[[Any], str] | None
    on_error: OnError | None


def on(
    message: type[M],
    /,
    *,
    start: bool = False,
    key: Callable[[M], str] | None = None,
    tag: Callable[[M], str] | None = None,
    on_error: OnError | None = None,
) -> Callable[[Callable[[S, M], Coroutine[Any, Any, R]]], Callable[[S, M], Coroutine[Any, Any, R]]]:
    """Name the method that handles messages of a type. The method itself is returned unchanged.

    Args:
        message: a msgspec Struct or a dataclass.
        start: whether such a message starts a process when none holds its key.
        key: from a message to the registry key of its process.
        tag: from a message to the tag of the processes that get it.
        on_error: what an uncaught exception does; `fail_process` for start handlers, else `fail_turn`, unless given.

    Source: engine.md, "A process with messages".
    """
    checked_message_type(message)
    if key is not None and tag is not None:
        raise DefinitionError(f"@on({message.__name__}): a message goes to a key or to a tag, not to both")
    if start and tag is not None:
        raise DefinitionError(f"@on({message.__name__}): a tag names many processes; none can be started under it")

    def mark(handler: Callable[[S, M], Coroutine[Any, Any, R]]) -> Callable[[S, M], Coroutine[Any, Any, R]]:
        setattr(handler, HANDLES, Handles(message, start, key, tag, on_error))
        return handler

    return mark


class Process(Verbs, msgspec.Struct, kw_only=True):
    """The base of process classes, and what a function process gets as its first argument.

    Annotated attributes of a subclass are its durable fields; each has a default. Everything below is for handlers,
    and only there: a verb outside raises NotInTurn.
    """

    @property
    def id(self) -> ProcessId:
        """The id of this process."""
        return ProcessId(self._open().id.process)

    @property
    def tenant(self) -> str:
        """The tenant of this process."""
        return self._open().id.tenant

    @property
    def leaving(self) -> bool:
        """Whether the turn leaves memory: code in `finally` still runs, but nothing durable happens any more."""
        return self._open().leaving

    # --- steps -----------------------------------------------------------------------------------------

    @overload
    def step(
        self,
        fn: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | float | None = None,
        at_most_once: bool = False,
        probe: Probe[*Ts, T] | None = None,
        abandon: bool = False,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        fn: Callable[[Unpack[Ts]], T],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | float | None = None,
        at_most_once: bool = False,
        probe: Probe[*Ts, T] | None = None,
        abandon: bool = False,
    ) -> Coroutine[Any, Any, T]: ...
    def step(
        self,
        fn: Callable[[Unpack[Ts]], Any],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: timedelta | float | None = None,
        at_most_once: bool = False,
        probe: Callable[[Unpack[Ts]], Any] | None = None,
        abandon: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """Run `fn(*args)` once and record what it returns; on replay the record is returned.

        At least once: a crash between effect and record runs it again. `perdure.step_info()` inside gives a key that
        is the same each time. Async functions run on the engine's loop, plain ones on threads.

        With `at_most_once` the start is committed before the function runs. An attempt whose end is then not known (the
        engine stopped, or `timeout` stopped the function in the middle) is never run again: the code gets
        StepOutcomeUnknown, or `probe` finds out how it ended. An exception that the function raises is a known end,
        which `retry` may try again.

        A plain function cannot be stopped. When nobody waits for it any more, its turn does not end before its thread
        does, and the outcome is recorded; with `abandon` the thread is left to itself and its outcome dropped.

        Args:
            fn: the function; `functools.partial` for keyword arguments.
            *args: its positional arguments.
            name: of the step in the record; the function's own unless given.
            retry: how often to try again; once unless given.
            timeout: of each attempt, a timedelta or seconds; then an async function is cancelled, and the attempt has
                failed with StepTimedOut. Plain functions need `abandon` for it.
            at_most_once: never run it a second time unless it is known that the first has failed.
            probe: async or plain, called with the same arguments when an attempt's end is not known. What it returns
                is the step's outcome, except NotDone: then the step is begun again. When it raises, `retry` says
                whether it is asked again; at last the code gets StepOutcomeUnknown.
            abandon: of a plain function, do not wait for its thread.

        Returns:
            What was recorded, decoded by the function's return annotation.

        Raises:
            StepOutputInvalid: what it returned cannot be recorded; the effect has happened and is not repeated.
            StepOutcomeUnknown: it ran at most once, and nobody knows how it ended.
            StepTimedOut: the last attempt took too long.
            CannotTimeOut: `timeout` for a plain function without `abandon`.
            Exception: what the function raised, of the same class where it can be made again, else StepFailed.

        Source: engine.md, "Verbs of a turn".
        """
        if not callable(fn):
            raise UsageError(f"step takes a function and its arguments, found {shown(fn)}; write `self.step(function, argument)`")
        turn = self._open()
        function = turn.known(fn)
        options = None
        if timeout is not None or at_most_once or probe is not None or abandon:
            options = _step_options(function.is_async, timeout=timeout, at_most_once=at_most_once, probe=probe, abandon=abandon)
            turn.once = turn.once or at_most_once
        step_name = function.name if name is None else checked_text(name, what="step name", limit=limits.STEP_NAME_MAX)
        operation = turn.operation(step_name, "step")
        operation.function = fn
        operation.known = function
        operation.arguments = args
        operation.input = input_of(function.label, fn, args)
        operation.retry = retry
        if options is not None:
            operation.options = options
        return turn.wait(operation)

    # --- messages ----------------------------------------------------------------------------------------

    def send(self, message: object, /, to: Address, *, after: timedelta | float | None = None) -> None:
        """Send a message, committed with the next commit and accepted exactly once.

        It cannot fail later: one to a process that has ended becomes a dead letter.

        Args:
            message: a msgspec Struct or a dataclass.
            to: where it goes.
            after: how long, from now, until it is delivered, whatever becomes of this process meanwhile; at once unless given.

        Raises:
            PayloadUnencodable: the message has no JSON form.
            PayloadTooLarge: it is over 1 MiB.
            UsageError: `to` is no address.
        """
        turn = self._open()
        turn.check_open("send")
        kind = kind_of(checked_message_type(type(message)))
        due = None if after is None else turn.now + micros(after)
        turn.effect(SendEffect(self._derived("send"), checked_address(to), kind, encoded_message(message), due))

    def spawn(self, handler: Callable[[S, Unpack[Ts]], Coroutine[Any, Any, Any]], /, *args: *Ts, detached: bool = False) -> ProcessId:
        """Start another process with a message for `handler`, and return its id without waiting: a child, unless it is detached.

        When the handler has a key that another process holds, that process gets the message instead, and is nobody's child.

        Args:
            handler: a function process, or a start handler such as `Order.place`.
            *args: the function's arguments, or the message.
            detached: it is not this process's child: it goes on when this process is cancelled. What a process starts once it has
                heard of its cancellation is nobody's child either: it is there to clean up.
        """
        turn = self._open()
        turn.check_open("spawn")
        request = turn.request(handler, args)
        message_id = self._derived("spawn")
        address = Address.start(request.process_type, key=request.key, id=message_id)
        turn.effect(SendEffect(message_id, address, request.kind, request.payload, child=not (detached or turn.cancelled is not None)))
        return ProcessId(message_id)

    def _derived(self, verb: str) -> str:
        id = self._turn.origin
        return derived_id(id.tenant, id.process, id.message, f"{verb}#{self._turn.effects + 1}")

    @overload
    def receive(self, a: type[A], /, *, where: Callable[[A], bool] | None = None) -> Coroutine[Any, Any, A]: ...
    @overload
    def receive(self, a: type[A], /, *, timeout: timedelta, where: Callable[[A], bool] | None = None) -> Coroutine[Any, Any, A | None]: ...
    @overload
    def receive(self, a: type[A], b: type[B], /, *, where: Callable[[A | B], bool] | None = None) -> Coroutine[Any, Any, A | B]: ...
    @overload
    def receive(
        self, a: type[A], b: type[B], /, *, timeout: timedelta, where: Callable[[A | B], bool] | None = None
    ) -> Coroutine[Any, Any, A | B | None]: ...
    @overload
    def receive(
        self, a: type[A], b: type[B], c: type[C], /, *, where: Callable[[A | B | C], bool] | None = None
    ) -> Coroutine[Any, Any, A | B | C]: ...
    @overload
    def receive(
        self, a: type[A], b: type[B], c: type[C], /, *, timeout: timedelta, where: Callable[[A | B | C], bool] | None = None
    ) -> Coroutine[Any, Any, A | B | C | None]: ...
    @overload
    def receive(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /, *, where: Callable[[A | B | C | D], bool] | None = None
    ) -> Coroutine[Any, Any, A | B | C | D]: ...
    @overload
    def receive(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /, *, timeout: timedelta, where: Callable[[A | B | C | D], bool] | None = None
    ) -> Coroutine[Any, Any, A | B | C | D | None]: ...
    def receive(
        self, /, *kinds: type[Any], timeout: timedelta | None = None, where: Callable[[Any], bool] | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Wait for the next message of one of the kinds, those that came earlier and were not handled included.

        Args:
            *kinds: one to four message types.
            timeout: how long to wait; then the answer is None. Durable: it goes on while no engine runs.
            where: only messages for which this pure function is true.

        Returns:
            The message, or None after the timeout.
        """
        turn = self._open()
        if not kinds:
            raise UsageError("receive takes one to four message types")
        operation = turn.operation("receive", "receive")
        operation.kinds = {kind_of(checked_message_type(kind)): turn.decoder(kind) for kind in kinds}
        operation.where = where
        if timeout is not None:
            operation.due = turn.now + micros(timeout)
        return turn.wait(operation)

    # --- time --------------------------------------------------------------------------------------------

    def sleep(self, duration: timedelta | float, /) -> Coroutine[Any, Any, None]:
        """Wait, durably: a restart does not begin anew. `duration` is a timedelta or seconds."""
        turn = self._open()
        operation = turn.operation("sleep", "timer")
        operation.due = turn.now + micros(duration)
        return turn.wait(operation)

    @overload
    async def first(self, a: Coroutine[Any, Any, A], b: Coroutine[Any, Any, B], /) -> tuple[int, A | B]: ...
    @overload
    async def first(self, a: Coroutine[Any, Any, A], b: Coroutine[Any, Any, B], c: Coroutine[Any, Any, C], /) -> tuple[int, A | B | C]: ...
    @overload
    async def first(self, /, *calls: Coroutine[Any, Any, T]) -> tuple[int, T]: ...
    async def first(self, /, *calls: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
        """Wait for whichever ends first, and cancel the others; of two that end at once, the one named first.

        Returns:
            Its position, from 0, and its value. What it raised is raised.
        """
        self._open().check_open("first")
        if not calls:
            raise UsageError("first takes at least one call to wait for")
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        position = next(position for position, task in enumerate(tasks) if task.done())
        return position, tasks[position].result()

    def now(self) -> datetime:
        """Return the time of the turn, in UTC: when the last thing happened that it waited for. On replay it is the same."""
        turn = self._open()
        turn.check_open("now")
        return _EPOCH + timedelta(microseconds=turn.now)

    # --- chance, and changed code -------------------------------------------------------------------------

    def random(self) -> Random:
        """Return the turn's own random numbers: derived from tenant, process and message, and the same on every replay.

        Each call returns the same generator, which goes on where it was. Not for secrets.
        """
        turn = self._open()
        turn.check_open("random")
        return turn.chance().random

    def uuid(self) -> UUID:
        """Return a new id (version 5), derived from tenant, process, message and the number of the call: the same on every replay."""
        turn = self._open()
        turn.check_open("uuid")
        return turn.chance().uuid()

    def patched(self, name: str, /) -> bool:
        """Return whether this turn takes a changed way: `if self.patched("ask twice"): … else: …` around the old code.

        False in a turn that was here before and has left a record of it: it goes on the old way. True in every other,
        and recorded, so that it stays true. One name has one answer in a turn, however often and wherever it is asked.

        Args:
            name: of the change, 1..256 bytes. A later change, or another round of a loop, takes another name.

        Source: engine.md, "Verbs of a turn".
        """
        turn = self._open()
        turn.check_open("patched")
        return turn.replay.patched(turn, checked_text(name, what="patch name", limit=limits.PATCH_NAME_MAX))

    # --- addresses -----------------------------------------------------------------------------------------

    def bind(self, key: str, /) -> Coroutine[Any, Any, None]:
        """Make `key` name this process, and take over what was parked under it.

        Raises:
            KeyTaken: it names another process; `owner` says which.
        """
        turn = self._open()
        operation = turn.operation("bind", "bind")
        operation.key = RegistryKey(key)
        return turn.wait(operation)

    def unbind(self, key: str, /) -> None:
        """Let `key` name nothing, if it names this process."""
        self._open().check_open("unbind")
        self._turn.effect(UnbindEffect(RegistryKey(key)))

    def tag(self, tag: str, /) -> None:
        """Put this process under `tag`, and take what was kept there for whoever comes."""
        self._open().check_open("tag")
        self._turn.effect(TagEffect(Tag(tag)))

    def untag(self, tag: str, /) -> None:
        """Take this process from under `tag`."""
        self._open().check_open("untag")
        self._turn.effect(UntagEffect(Tag(tag)))

    @property
    def attributes(self) -> Attributes:
        """What this process is found by: `self.attributes["customer"] = "c-7"`."""
        return Attributes(self._open())

    # --- the end ---------------------------------------------------------------------------------------------

    def finish(self, result: T, /) -> T:
        """End the process with this turn: `return self.finish(result)`. Its addresses are released with the reply."""
        self._open().check_open("finish")
        self._turn.ending = True
        return result


def micros(duration: timedelta | float) -> Micros:
    """Return a duration, a timedelta or seconds, in microseconds. Raises UsageError for anything else."""
    if not isinstance(duration, timedelta | int | float) or isinstance(duration, bool):
        raise UsageError(f"a duration is a timedelta or a number of seconds, found {duration!r}")
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if not 0 <= seconds <= limits.SECONDS_MAX:  # NaN is refused, too
        raise UsageError(f"a duration is 0 to {limits.SECONDS_MAX:,} seconds, found {duration!r}")
    return duration // timedelta(microseconds=1) if isinstance(duration, timedelta) else round(duration * SECOND)


def _step_options(
    is_async: bool, *, timeout: timedelta | float | None, at_most_once: bool, probe: Callable[..., Any] | None, abandon: bool
) -> StepOptions:
    if timeout is not None and not (is_async or abandon):
        raise CannotTimeOut(
            "step: a plain function cannot be stopped after a `timeout`; make it async, or leave it to itself: `abandon=True`"
        )
    if abandon and is_async:
        raise UsageError("step: `abandon` is for plain functions, whose thread cannot be stopped; an async one is cancelled")
    if probe is not None and not at_most_once:
        raise UsageError("step: a `probe` is asked only about a step that runs `at_most_once=True`; without, the step is run again")
    if probe is not None and not callable(probe):
        raise UsageError(f"step: a probe is a function that takes the step's arguments, found {shown(probe)}")
    limit = None if timeout is None else micros(timeout)
    if limit == 0:
        raise UsageError("step: a timeout of 0 lets no attempt begin; give it more time, or none")
    return StepOptions(at_most_once=at_most_once, probe=probe, timeout=limit, abandon=abandon)

"""The verbs by which a turn asks others and waits for them: calls, asks, awakeables, and waiting for several at once.

Source: engine.md, "Verbs of a turn".
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, Unpack, overload

from perdure import limits
from perdure.codec import JSON
from perdure.engine.addressing import Address, Request, checked_address, checked_id
from perdure.engine.command_verbs import CommandVerbs
from perdure.engine.effects import AskEffect, AwakeableEffect
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.errors import AskedSelf, PayloadTooLarge, ReplyNotSingle, UsageError
from perdure.identity import derived_id

if TYPE_CHECKING:
    from perdure.engine.process import Process
    from perdure.engine.turn import Turn

T = TypeVar("T")
S = TypeVar("S", bound="Process")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
_INPUT_DIGEST_BYTES: Final = 8
_logger: Final = logging.getLogger("perdure.process")


class TurnLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of a turn: silent while the turn repeats what it did before."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(_logger, {"tenant_id": turn.id.tenant, "process_id": turn.id.process, "message_ref": turn.id.message})
        self._turn = turn

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's own name
        """Return whether a record of this level is written now."""
        return not self._turn.replay.active and super().isEnabledFor(level)

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """Give the record the names of tenant, process and message, and what the caller adds."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class Verbs(CommandVerbs):
    """See `Process`."""

    __slots__ = ()

    # --- asking -----------------------------------------------------------------------------------------

    def call(
        self, handler: Callable[[S, Unpack[Ts]], Coroutine[Any, Any, R]], /, *args: *Ts, id: str | None = None
    ) -> Coroutine[Any, Any, R]:
        """Run a handler of another process and wait, durably, for its sealed reply.

        A function, or a start handler, starts a child, unless the key of its message is held already: a cancellation of this
        process goes on to it, unless this process had heard of that before it called.

        Args:
            handler: a function process, `hello`, or a handler of a class, `Order.place`.
            *args: the function's arguments, or the message.
            id: of the message; another call with it, from anywhere, gets the same reply. Derived unless given.

        Returns:
            The reply, decoded by the handler's return annotation.

        Raises:
            Exception: what the handler raised; TurnFailed when it cannot be made again.
            AskedSelf: the key of the message is this process's own.
            MessageConflict: `id` was accepted with other content.
            PayloadInvalid: the sealed reply cannot be read as what the handler returns now.
            UsageError, UnknownProcessType, PayloadTooLarge: nothing was sent.
        """
        turn = self._open()
        turn.check_open("call")
        request = turn.request(handler, args)
        checked = None if id is None else checked_id(id)
        name = f"call {request.process_type}.{request.kind}" if request.key is not None else f"call {request.process_type}"
        return self._ask(turn, name, request, message_id=checked)

    @overload
    def ask(self, address: Address, message: object, /) -> Coroutine[Any, Any, Any]: ...
    @overload
    def ask(self, address: Address, message: object, /, *, result: type[T]) -> Coroutine[Any, Any, T]: ...
    def ask(self, address: Address, message: object, /, *, result: Any = Any) -> Coroutine[Any, Any, Any]:
        """Send a message and wait, durably, for its reply: that of the handler, or of the `reply` that answers it.

        Args:
            address: where it goes; one process, now or later.
            message: a msgspec Struct or a dataclass.
            result: what the reply is read as; plain data unless given.

        Raises:
            ReplyNotSingle: the address is a tag.
            AskedSelf: it is this process's own.
            ProcessNotFound, ProcessEnded, NoRoute: nobody can take the message; it is a dead letter.
            Exception: what the handler raised; TurnFailed when it cannot be made again.
            PayloadInvalid: the reply cannot be read as `result`.
        """
        turn = self._open()
        turn.check_open("ask")
        if checked_address(address).way == "tag":
            raise ReplyNotSingle("a message to a tag has many receivers; send it, or ask one process")
        if address.way == "process" and address.name == turn.id.process:
            raise AskedSelf("this process cannot answer before its turn ends, and the turn would wait for the answer; call the function")
        kind = kind_of(checked_message_type(type(message)))
        request = Request("", kind, encoded_message(message), None, decode=JSON.decoder(result))
        return self._ask(turn, f"ask {kind}", request, address=address)

    def _ask(
        self, turn: Turn, name: str, request: Request, *, message_id: str | None = None, address: Address | None = None
    ) -> Coroutine[Any, Any, Any]:
        operation = turn.operation(name, "reply")
        sent_as = message_id or derived_id(*turn.origin, operation.id, "ask")
        digest = hashlib.blake2b(request.payload, digest_size=_INPUT_DIGEST_BYTES).hexdigest()
        operation.input = f"{request.kind}({digest})" if address is None else f"{request.kind}({digest}) to {address}"
        operation.decode = request.decode
        operation.effect = AskEffect(
            message_id=sent_as,
            address=request.address(sent_as) if address is None else address,
            kind=request.kind,
            payload=request.payload,
            operation_id=operation.id,
            digest=b"" if message_id is None else request.digest(""),
            child=address is None and request.starts and turn.cancelled is None,
        )
        return turn.wait(operation)

    @overload
    def awakeable(self, /) -> tuple[str, Awaitable[Any]]: ...
    @overload
    def awakeable(self, result: type[T], /) -> tuple[str, Awaitable[T]]: ...
    def awakeable(self, result: Any = Any, /) -> tuple[str, Awaitable[Any]]:
        """Return a token, and what ends when somebody outside completes it: `engine.complete_awakeable(token, value)`.

        Give the token away in a step: it can be completed from then on, also before it is waited for and while no engine runs.

        Args:
            result: what the value is read as; plain data unless given.

        Raises, where it is waited for:
            AwakeableFailed: `engine.fail_awakeable` was called.
            PayloadInvalid: the value cannot be read as `result`.
        """
        turn = self._open()
        operation = turn.operation("awakeable", "reply")
        token = derived_id(*turn.origin, operation.id, "awakeable")
        operation.input, operation.decode = "awakeable", JSON.decoder(result)
        operation.effect = AwakeableEffect(token, operation.id)
        return token, turn.ask(operation)

    def reply(self, message: object, value: object, /) -> None:
        """Answer a message that `receive` has just returned, in the commit that takes it; without, its reply is None.

        Args:
            message: the very object that `receive` returned.
            value: the answer, JSON data.

        Raises:
            ReplyTooLate: something else was awaited since, or it was answered already.
            PayloadUnencodable, PayloadTooLarge: the value cannot be an answer.
        """
        turn = self._open()
        turn.check_open("reply")
        data = JSON.encode(value)
        if len(data) > limits.RESULT_MAX:
            raise PayloadTooLarge("a reply", size=len(data), limit=limits.RESULT_MAX)
        turn.answer(message, data)

    # --- waiting for several ----------------------------------------------------------------------------

    async def gather_limited(self, limit: int, /, *calls: Coroutine[Any, Any, T]) -> list[T]:
        """Wait for all calls, of which at most `limit` are under way at a time, and return their values in the order given.

        When one raises, its error is raised, those under way are cancelled, and the others do not begin.
        """
        self._open().check_open("gather_limited")
        if limit < 1:
            _close(calls)
            raise UsageError(f"gather_limited: the limit is 1 or more, found {limit}")
        waiting = enumerate(calls)
        values: dict[int, T] = {}

        async def work() -> None:
            for position, call in waiting:
                values[position] = await call

        workers = [asyncio.ensure_future(work()) for _ in range(min(limit, len(calls)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            _close(call for _, call in waiting)
        return [values[position] for position in range(len(calls))]

    async def as_completed(self, calls: Iterable[Coroutine[Any, Any, T]], /) -> AsyncGenerator[T, None]:
        """Yield the values of calls as they come, `async for value in self.as_completed(calls)`; of those ready at once, in the order given.

        What one raised is raised in its place. Leaving the loop cancels those that are left, at the latest with the turn.
        """
        self._open().check_open("as_completed")
        came = asyncio.Event()
        ended: deque[int] = deque()

        def end(position: int, _task: object) -> None:
            ended.append(position)
            came.set()

        tasks = [asyncio.ensure_future(call) for call in calls]
        for position, task in enumerate(tasks):
            task.add_done_callback(functools.partial(end, position))
        left = len(tasks)
        try:
            while left:
                await came.wait()
                came.clear()
                ready = sorted(ended)
                ended.clear()
                left -= len(ready)
                for position in ready:
                    yield tasks[position].result()
        finally:
            for task in tasks:
                task.cancel()

    async def until(self, predicate: Callable[[], bool], /) -> None:
        """Wait until a predicate is true: `await self.until(lambda: self.approvals >= 2)`.

        It is asked whenever the handler's tasks can go no further, after each message, step or timer that they took in. It
        has to be pure and to look at nothing but the process's fields and the handler's own variables. What it raises is
        raised here. When nothing that is waited for could make it true, the turn is stuck (`deadlocked-turn`).
        """
        turn = self._open()
        turn.check_open("until")
        if not predicate():
            await turn.until(predicate)

    # --- the log for people -----------------------------------------------------------------------------

    @property
    def log(self) -> TurnLog:
        """A logger, `perdure.process`, whose records name the process, and which is silent while a turn is replayed."""
        return TurnLog(self._open())


def _close(calls: Iterable[Coroutine[Any, Any, Any]]) -> None:
    for call in calls:
        call.close()

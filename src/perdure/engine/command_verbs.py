"""The verbs by which a turn gives work to workers elsewhere.

Source: engine.md, "Verbs of a turn"; commands.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar, overload

from perdure import limits
from perdure.blob import Blob, response_decoder
from perdure.codec import JSON
from perdure.commands.arguments import body_row, checked_name, checked_priority, checked_retry, checked_span, checked_target
from perdure.commands.contract import DEFAULT_RETRY, CommandRetry
from perdure.commands.registry import PREFIX
from perdure.engine.effects import CommandEffect
from perdure.engine.operation import Operation
from perdure.engine.turn_slot import TurnSlot
from perdure.errors import UsageError
from perdure.identity import derived_id
from perdure.replies import COMMANDS

T = TypeVar("T")
_INPUT_DIGEST_BYTES: Final = 8


class CommandVerbs(TurnSlot):
    """See `Process`."""

    __slots__ = ()

    @overload
    def command(
        self,
        deployment: str,
        name: str,
        params: object = None,
        /,
        *,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    @overload
    def command(
        self,
        deployment: str,
        name: str,
        params: object = None,
        /,
        *,
        result: type[T],
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: timedelta | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    def command(
        self,
        deployment: str,
        name: str,
        params: object = None,
        /,
        *,
        result: Any = Any,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: timedelta | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Give work to a worker elsewhere and wait, durably, for its result.

        Who waits no more, because the process is cancelled or something else came first, lets the command be cancelled, too.

        Args:
            deployment: which workers it is for.
            name: what is to be done.
            params: for the worker; JSON data, a Struct or a dataclass, at most 1 MiB, or a `Blob`.
            result: what the worker's result is read as; plain data unless given.
            target: which of the deployment's workers.
            deadline: after which it expires; never unless given.
            retry: how often and when a failed attempt is followed by another.
            priority: the lowest is given out first.
            delay: it is not given out before.

        Raises:
            CommandFailed: the worker could not do it; `error_code` and `details` are what it said.
            CommandExpired: the deadline passed.
            CommandCancelled: somebody asked for it not to be done.
            PayloadInvalid: the result cannot be read as `result`.
            InvalidIdentifier, PayloadTooLarge, PayloadUnencodable, UsageError: nothing was sent.
        """
        turn = self._open()
        operation = self._commanded(deployment, name, params, target=target, deadline=deadline, retry=retry, priority=priority, delay=delay)
        operation.decode = response_decoder(result)
        return turn.wait(operation)

    @overload
    def command_async(
        self,
        deployment: str,
        name: str,
        params: object = None,
        /,
        *,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: timedelta | None = None,
    ) -> tuple[str, Awaitable[Any]]: ...
    @overload
    def command_async(
        self,
        deployment: str,
        name: str,
        params: object = None,
        /,
        *,
        result: type[T],
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: timedelta | None = None,
    ) -> tuple[str, Awaitable[T]]: ...
    def command_async(
        self,
        deployment: str,
        name: str,
        params: object = None,
        /,
        *,
        result: Any = Any,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry = DEFAULT_RETRY,
        priority: int = 0,
        delay: timedelta | None = None,
    ) -> tuple[str, Awaitable[Any]]:
        """Give work to a worker elsewhere at once, and return the command's id and what ends with its result.

        It is sent with the next commit, waited for or not; one for which nobody waits goes on when the turn is over.
        Arguments and errors are those of `command`.
        """
        turn = self._open()
        operation = self._commanded(deployment, name, params, target=target, deadline=deadline, retry=retry, priority=priority, delay=delay)
        operation.decode = response_decoder(result)
        return operation.effect.command_id, turn.ask(operation)

    def _commanded(
        self,
        deployment: str,
        name: str,
        params: object,
        *,
        target: str | None,
        deadline: timedelta | None,
        retry: CommandRetry,
        priority: int,
        delay: timedelta | None,
    ) -> Operation:
        turn = self._open()
        checked_name(deployment, what="deployment")
        checked_name(name, what="name of a command")
        checked_priority(priority)
        data = params if isinstance(params, Blob) else JSON.encode(params)
        body = body_row(data, what="params of a command", limit=limits.COMMAND_PARAMS_MAX)
        operation = turn.operation(f"{COMMANDS}{name}", "reply")
        digest = hashlib.blake2b(body.data or body.sha256.encode(), digest_size=_INPUT_DIGEST_BYTES).hexdigest()
        operation.input = f"{name}({digest}) for {deployment}" + ("" if target is None else f" at {target}")
        operation.effect = CommandEffect(
            command_id=PREFIX + derived_id(*turn.origin, operation.id, "command"),
            deployment_id=deployment,
            target=checked_target(target),
            name=name,
            params=body,
            retry=checked_retry(retry),
            priority=priority,
            delay=0 if delay is None else _span(delay, what="delay", most=limits.COMMAND_DELAY_MAX_US),
            deadline=None if deadline is None else turn.now + _span(deadline, what="deadline", most=limits.DURATION_MAX),
            operation_id=operation.id,
        )
        return operation


def _span(duration: timedelta, *, what: str, most: int) -> int:
    if not isinstance(duration, timedelta):
        raise UsageError(f"{what}: expected a timedelta, found {duration!r:.{limits.REPR_MAX}}")
    return checked_span(duration // timedelta(microseconds=1), what=what, least=0, most=most)

"""The handlers of a worker: what they take and return, found out when they are registered."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.errors import DefinitionError
from perdure.protocol.payloads import Payload, reader_of
from perdure.worker.context import CommandContext
from perdure.worker.threads import Threads

_UNANNOTATED: Final = inspect.Parameter.empty
_TAKEN: Final = 2  # context and params


class CommandHandler(msgspec.Struct, frozen=True):
    """One function that does commands of one name."""

    name: str
    function: Callable[..., Any]
    decode: Callable[[Payload], Any]
    takes_params: bool
    is_async: bool

    async def run(self, context: CommandContext, params: Any, threads: Threads) -> Any:
        """Do the work and return its result. A plain function runs on a thread, which nobody can stop."""
        arguments = (context, params) if self.takes_params else (context,)
        if self.is_async:
            return await self.function(*arguments)
        return await threads.run(self.function, arguments)


def handler_of(name: str, function: Callable[..., Any]) -> CommandHandler:
    """Return a function as a handler. Raises DefinitionError when it does not take (context) or (context, params)."""
    try:
        signature, hints = inspect.signature(function), typing.get_type_hints(function)
    except (TypeError, ValueError, NameError) as error:
        raise DefinitionError(f"command {name!r}: the types of {function!r} cannot be read: {error}") from error
    parameters = list(signature.parameters.values())
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"command {name!r}: expected a function that returns its result, found the generator {function!r}")
    plain = all(one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD} for one in parameters)
    if not plain or not 1 <= len(parameters) <= _TAKEN:
        raise DefinitionError(f"command {name!r}: expected a function of (context) or (context, params), found {function!r} {signature}")
    kind = hints.get(parameters[1].name, Any) if len(parameters) == _TAKEN else Any
    kind = Any if kind is object else kind  # whoever writes `object` takes anything
    return CommandHandler(name, function, reader_of(kind), len(parameters) == _TAKEN, inspect.iscoroutinefunction(function))

"""What a step may know of itself, and what it was called with."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from perdure.errors import NotInTurn
from perdure.identity import derived_id, encode_identifier

_INPUT_DIGEST_BYTES: Final = 8
_encode: Final = msgspec.json.Encoder(enc_hook=encode_identifier, order="deterministic").encode


class StepInfo(msgspec.Struct, frozen=True, gc=False):
    """Which attempt of which step runs.

    `idempotency_key` is the same for every attempt, also after a crash: give it to the outside system, so that it can
    recognise a repetition. Source: engine.md, "Verbs of a turn".
    """

    attempt: int
    tenant_id: str
    process_id: str
    message_ref: str
    step_id: str

    @property
    def idempotency_key(self) -> str:
        """`pd-` and 32 hex digits, derived from tenant, process, message and step."""
        return derived_id(self.tenant_id, self.process_id, self.message_ref, self.step_id)


STEP_INFO: Final[ContextVar[StepInfo]] = ContextVar("perdure_step_info")


def step_info() -> StepInfo:
    """Return what the running step may know of itself. Raises NotInTurn outside a step."""
    info = STEP_INFO.get(None)
    if info is None:
        raise NotInTurn("step_info() is for the inside of a step; no step runs here")
    return info


class NotDone:
    """What a probe answers when the step has not happened: `return perdure.NotDone()`, or `perdure.NotDone` itself."""

    __slots__ = ()


class NotBegun(Exception):
    """A function had to wait for a thread, and meanwhile the right to run it was over."""


def called(may_begin: Callable[[], bool], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a plain function on its thread, if it still may begin."""
    if not may_begin():
        raise NotBegun
    try:
        return function(*arguments)
    except StopIteration as error:  # no future can hold one: whoever waits for it would wait for ever
        raise RuntimeError(f"the step raised StopIteration({error.value!r})") from error


def runs_async(function: Callable[..., Any]) -> bool:
    """Return whether calling the function makes a coroutine."""
    function = plain_function(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # an object's own call


def plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a partial calls in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def name_of(function: Callable[..., Any]) -> str:
    """Return the name that a step of this function has unless it is given one."""
    function = plain_function(function)
    return getattr(function, "__name__", None) or type(function).__name__


def input_of(label: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Return what identifies a call in the record: the function's label, and a digest of its arguments.

    Arguments without a form of their own (an open connection, say) are not compared.
    """
    if isinstance(function, functools.partial):
        arguments = (*function.args, *arguments, function.keywords)
    try:
        digest = hashlib.blake2b(_encode(arguments), digest_size=_INPUT_DIGEST_BYTES).hexdigest()
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError):
        return label
    return f"{label}({digest})"

"""What is known of a function that runs as a step, found out once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

from perdure.codec import JSON
from perdure.engine.outcomes import UNANNOTATED, Decoder, Output, return_type
from perdure.engine.steps import name_of, plain_function, runs_async
from perdure.errors import UsageError
from perdure.names import public_name, public_text

_REMEMBERED: Final = 4096


class StepFunction:
    """One function.

    Args:
        function: what is called in the end, without its partials.
        decoder: makes what reads a type back.

    Raises:
        UsageError: its declared type cannot be read back.
    """

    __slots__ = ("is_async", "label", "name", "output")

    def __init__(self, function: Callable[..., Any], decoder: Decoder = JSON.decoder) -> None:
        self.name = name_of(function)
        self.label: str = getattr(function, "__qualname__", None) or self.name
        self.is_async = runs_async(function)
        kind = return_type(function)
        try:
            self.output = Output(kind, decoder)
        except (TypeError, NameError) as error:
            declared = "what it returns" if kind is UNANNOTATED else public_name(str(kind))
            raise UsageError(
                f"{self.name} returns {declared}, which cannot be read back: {public_text(str(error))}; declare another type"
            ) from error


def known(function: Callable[..., Any]) -> StepFunction:
    """Return what is known of `function`. Raises UsageError when its declared type cannot be read back."""
    return StepFunction(plain_function(function))


class StepFunctions:
    """What is known of the functions that one process type has called, remembered for as long as there is the type.

    One memory for all would keep a version of a package whose functions are in it.

    Args:
        decoder: makes what reads their outputs back.
    """

    __slots__ = ("_made", "_remembered")

    def __init__(self, decoder: Decoder = JSON.decoder) -> None:
        self._made = functools.partial(StepFunction, decoder=decoder)
        self._remembered = functools.lru_cache(maxsize=_REMEMBERED)(self._made)

    def known(self, function: Callable[..., Any]) -> StepFunction:
        """Return what is known of `function`. Raises UsageError when its declared type cannot be read back."""
        if type(function) is FunctionType:
            return self._remembered(function)
        plain = plain_function(function)
        try:
            return self._remembered(plain)
        except TypeError:  # what cannot be hashed cannot be remembered
            return self._made(plain)

"""What is known of a function that runs as a step, found out once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

from perdure.engine.outcomes import UNANNOTATED, Output, return_type
from perdure.engine.steps import name_of, plain_function, runs_async
from perdure.errors import UsageError
from perdure.names import public_name, public_text

_REMEMBERED: Final = 4096


class StepFunction:
    """One function.

    Args:
        function: what is called in the end, without its partials.

    Raises:
        UsageError: its declared type cannot be read back.
    """

    __slots__ = ("is_async", "label", "name", "output")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = name_of(function)
        self.label: str = getattr(function, "__qualname__", None) or self.name
        self.is_async = runs_async(function)
        kind = return_type(function)
        try:
            self.output = Output(kind)
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
    """

    __slots__ = ("_remembered",)

    def __init__(self) -> None:
        self._remembered = functools.lru_cache(maxsize=_REMEMBERED)(StepFunction)

    def known(self, function: Callable[..., Any]) -> StepFunction:
        """Return what is known of `function`. Raises UsageError when its declared type cannot be read back."""
        if type(function) is FunctionType:
            return self._remembered(function)
        plain = plain_function(function)
        try:
            return self._remembered(plain)
        except TypeError:  # what cannot be hashed cannot be remembered
            return StepFunction(plain)

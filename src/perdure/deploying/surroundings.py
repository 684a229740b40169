"""What all code of one interpreter shares, and what an import has changed of it.

Source: packages-detail.md, A7, rule 5.
"""

from __future__ import annotations

import builtins
import decimal
import locale
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from operator import is_not, ne
from typing import Any, Final, NamedTuple

from perdure.names import public_text

# `builtins` is apart: there, names that are new count, too.
_WATCHED: Final[Mapping[str, Callable[[], Any]]] = {
    "sys.path": lambda: list(sys.path),
    "sys.getrecursionlimit()": sys.getrecursionlimit,
    "warnings.filters": lambda: list(warnings.filters),
    "the root logger": lambda: (logging.root.level, list(logging.root.handlers), logging.root.disabled),
    "decimal.getcontext()": lambda: _rules(decimal.getcontext()),
    "decimal.DefaultContext": lambda: _rules(decimal.DefaultContext),
    "the locale": lambda: locale.setlocale(locale.LC_ALL),
    "signal handlers": lambda: {number: signal.getsignal(number) for number in signal.valid_signals()},
    "socket.getdefaulttimeout()": socket.getdefaulttimeout,
    "the working directory": os.getcwd,
}


class Surroundings(NamedTuple):
    """What is shared, as it was at one moment."""

    watched: Mapping[str, Any]
    environment: Mapping[str, str]
    threads: frozenset[threading.Thread]
    builtins: Mapping[str, Any]
    modules: Mapping[str, Mapping[str, Any]]


def taken() -> Surroundings:
    """Return what is shared, as it is now."""
    return Surroundings(
        watched={name: look() for name, look in _WATCHED.items()},
        environment=dict(os.environ),
        threads=frozenset(threading.enumerate()),
        builtins=dict(vars(builtins)),
        modules={name: _callables(module) for name, module in list(sys.modules.items()) if name != "builtins"},
    )


def changes(before: Surroundings) -> list[str]:
    """Return what is other than before, in words; of the environment no value, which may be a secret."""
    now = taken()
    return [
        *(name for name, value in before.watched.items() if now.watched[name] != value),
        *(f"os.environ[{name!r}]" for name in _differing(before.environment, now.environment, ne)),
        *(public_text(f"the thread {thread.name!r}") for thread in sorted(now.threads - before.threads, key=lambda one: one.name)),
        *(f"builtins.{name}" for name in _differing(before.builtins, now.builtins, is_not)),
        *_replaced(before, now),
    ]


def _rules(context: decimal.Context) -> tuple[Any, ...]:
    """Return what a context says; its flags only tell what has been calculated."""
    traps = sorted(signal.__name__ for signal, trapped in context.traps.items() if trapped)
    return context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, traps


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], differ: Callable[[Any, Any], bool]) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if differ(before.get(name, _NONE), now.get(name, _NONE)))


def _replaced(before: Surroundings, now: Surroundings) -> Iterator[str]:
    """Yield the functions and classes of modules that were there before and are others now. What is new may be a module of theirs."""
    for name, functions in sorted(before.modules.items()):
        after = now.modules.get(name, {})
        yield from (f"{name}.{one}" for one, value in sorted(functions.items()) if after.get(one) is not value)


def _callables(module: Any) -> dict[str, Any]:
    found = getattr(module, "__dict__", {})
    return {name: value for name, value in list(found.items()) if callable(value)}


_NONE: Final = object()

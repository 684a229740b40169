"""How a version is let go: its modules leave `sys.modules`, and caches of the interpreter and of libraries what they hold of it.

What is collected by itself, and what a version's own code keeps alive for ever, a thread that runs on or a handler that it has
put somewhere, is in the source below. So whether a version is gone is found out afterwards, and never waited for.

Source: packages-detail.md, A5.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
import logging
import sys
import typing
import weakref
from collections.abc import Iterable, Iterator
from operator import or_
from types import ModuleType
from typing import Any, Final

import msgspec

from perdure.names import tag_of
from perdure.packages.finding import VERSIONS, Version

_UNIONS: Final = 64  # of tagged structs, whose classes msgspec keeps: the latest that decoders were made for


class Remains:
    """What is left of a version that was let go, seen without keeping it."""

    __slots__ = ("_left", "content_hash")

    def __init__(self, content_hash: str, things: Iterable[Any]) -> None:
        self.content_hash: Final = content_hash
        self._left = [weakref.ref(thing) for thing in things if type(thing).__weakrefoffset__]

    @property
    def alive(self) -> bool:
        """Whether one of its modules, classes or functions is still there: in use, or not collected yet."""
        self._left = [thing for thing in self._left if thing() is not None]
        return bool(self._left)


def withdraw(version: Version) -> Remains:
    """Take a version out of the interpreter: from now on its modules are not found."""
    del VERSIONS[version.tag]
    modules = {name: module for name, module in list(sys.modules.items()) if tag_of(name) == version.tag}
    remains = Remains(version.content_hash, [*_marks(version, modules.values()), *modules.values()])
    for name in modules:
        sys.modules.pop(name, None)
    _forget(version)
    return remains


def _marks(version: Version, modules: Iterable[Any]) -> Iterator[Any]:
    """Yield what lives exactly as long as code of the version does.

    A module may go while its functions stay: these keep its dictionary, and the version's builtins. A class may stay alone.
    """
    yield version.builtins["__import__"]
    for module in modules:
        for thing in list(vars(module).values()) if issubclass(type(module), ModuleType) else ():
            # By `type`, not `isinstance`: a proxy may stand there, and would be asked for what it stands for.
            if issubclass(type(thing), type) and tag_of(str(thing.__module__)) == version.tag:
                yield thing


def _forget(version: Version) -> None:
    """Clear caches of what a version has left in them; where a cache is a library's own affair, as far as it is there."""
    for clear in getattr(typing, "_cleanups", ()):
        clear()  # `typing.Optional[A]` keeps A
    _push_out_unions()
    marks = (f"@{version.tag}", f"<package {version.tag}>")
    loggers: dict[str, Any] = logging.Logger.manager.loggerDict
    for cache in (linecache.cache, getattr(inspect, "modulesbyfile", {}), getattr(inspect, "_filesbymodname", {}), loggers):
        for key in [key for key in list(cache) if any(mark in key for mark in marks)]:
            cache.pop(key, None)


def _push_out_unions() -> None:
    """Let msgspec forget unions that it has made decoders for. It offers no way to ask for that, and keeps the latest only."""
    for union in _unions():
        msgspec.json.Decoder(union)


@functools.cache
def _unions() -> tuple[Any, ...]:
    """Return as many unions as are kept. In the same order each time: the first pushes out the next, which is made again then."""
    parts: list[Any] = [msgspec.defstruct(f"Part{number}", [], tag=number) for number in range(12)]  # of which there are 66 pairs
    return tuple(functools.reduce(or_, pair) for pair in itertools.islice(itertools.combinations(parts, 2), _UNIONS))

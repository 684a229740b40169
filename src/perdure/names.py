"""How modules of packages are called, inside of an interpreter and outside of it.

Each loaded version of a package has its modules under names of its own: `shop.models` is `shop@f8523e370290f8ba.models` in
`sys.modules`, with the first digits of the content hash for a tag. Outside nobody knows the tag: what is stored, logged as a
name or compared are public names, so that equal code has equal names, whichever version it belongs to, and as local code too.

Source: packages.md, "Loading"; packages-detail.md, A1 and A7.
"""

from __future__ import annotations

import builtins
import re
import sys
from types import ModuleType
from typing import Any, Final

TAG_DIGITS: Final = 16
_HEX: Final = f"[0-9a-f]{{{TAG_DIGITS}}}"
_TAGGED: Final = re.compile(rf"(?<=\w)@{_HEX}(?!\w)")
_TOP: Final = re.compile(rf"(\w+)@({_HEX})")
_IN_TEXT: Final = re.compile(rf"(\w+)@{_HEX}(?!\w)")


def private_name(name: str, tag: str) -> str:
    """Return what module `name` of the version with this tag is called in `sys.modules`."""
    top, dot, rest = name.partition(".")
    return f"{top}@{tag}{dot}{rest}"


def public_name(text: str) -> str:
    """Return a name without the tags of versions: `shop@f8523e370290f8ba.errors` is `shop.errors`.

    Args:
        text: a module's or a class's name, or a type as text, such as `list[shop@f8523e370290f8ba.models.Order]`.
    """
    return _TAGGED.sub("", text) if "@" in text else text


def public_text(text: str) -> str:
    """Return prose without the tags of versions that are loaded here.

    In prose, `memory@0000000080000000` may be anything: only what is the name of a loaded module is one.
    """
    return _IN_TEXT.sub(_untagged, text) if "@" in text else text


def storable(text: str) -> str:
    """Return text that may stand in a column of text: a lone surrogate has no place in any, a NUL character none on PostgreSQL."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def shown(thing: object) -> str:
    """Return the `repr` of a thing, with public names."""
    return public_text(repr(thing))


def tag_of(name: str) -> str | None:
    """Return the tag of a module's name, None for one that belongs to no package."""
    found = _TOP.fullmatch(name.partition(".")[0]) if "@" in name else None
    return None if found is None else found[2]


def imported(name: str, *, by: str) -> ModuleType:
    """Import a module as an import statement in the module `by` does, and return it.

    Args:
        name: the public name. Of the code that is `by`'s own package, the version is `by`'s.
        by: a module's name in `sys.modules`; one that is not there imports as local code does.

    Raises:
        ImportError: there is none.
        Exception: whatever its code raises.
    """
    # What an import statement calls is looked up in the builtins of its module, which is where a package has an `__import__` of its own.
    found: Any = getattr(sys.modules.get(by), "__builtins__", builtins)
    importer = found["__import__"] if isinstance(found, dict) else found.__import__
    module: ModuleType = importer(name, None, None, ("__name__",))  # with a list of names the module itself is returned, not its top
    return module


def _untagged(found: re.Match[str]) -> str:
    return found[1] if found[0] in sys.modules else found[0]

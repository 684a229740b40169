"""What an interpreter that has tried a package tells the one that has started it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from perdure.engine.refusals import Failed
from perdure.packages.manifest import ManifestProcess

__all__ = ["SIZE_BYTES", "Failed", "Report", "Tried", "Warned"]


class Warned(msgspec.Struct, frozen=True, order=True):
    """Something that a package had better not do, but may.

    Attributes:
        code: which kind, kebab-case; see docs/packages.md.
        text: what, and what to do instead.
    """

    code: str
    text: str


class Tried(msgspec.Struct, frozen=True, kw_only=True, tag="tried"):
    """A package that can be imported, and is what its manifest says.

    Attributes:
        found: the versions of Python and of the distributions that it requires, by name.
        processes: all process types that its code defines.
        schemas: the documents that these refer to, by hash.
        warnings: in order.
    """

    found: Mapping[str, str]
    processes: tuple[ManifestProcess, ...]
    schemas: Mapping[str, bytes]
    warnings: tuple[Warned, ...] = ()


Report = Tried | Failed
SIZE_BYTES: Final = 4  # in front of a report: its length

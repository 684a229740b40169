"""Errors of packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from perdure.errors.roots import PerdureError

# --- packages: loading a version -----------------------------------------------------------------------


class Unmet(NamedTuple):
    """One thing that a version needs and this node has not: a distribution or Python, the range, the version found (None: none)."""

    distribution: str
    expected: str
    found: str | None


class PackageRequirementUnmet(PerdureError):
    """This node has not what the version needs; nothing of its code ran. Install it and restart the node, or use another node.

    Attributes:
        unmet: all that is missing or out of range; at least one.
    """

    code = "package-requirement-unmet"

    def __init__(self, package: str, unmet: Sequence[Unmet]) -> None:
        lacking = "; ".join(
            f"{one.distribution}: expected {one.expected or 'any version'}, found {'none' if one.found is None else one.found}"
            for one in unmet
        )
        super().__init__(f"package {package}: {lacking}; install what it needs and restart this node, or leave it to another one")
        self.unmet = tuple(unmet)


class PackageImportFailed(PerdureError):
    """Code of the version raised while it was imported; nothing of it stays. Correct it, and deploy what comes of that.

    Attributes:
        module: whose import raised, by its public name.
        error: class and text of what it raised.
        traceback: of it, at most `limits.PACKAGE_TRACEBACK_MAX` characters.
    """

    code = "package-import-failed"

    def __init__(self, package: str, *, module: str, error: str, traceback: str = "") -> None:
        text = f"package {package}: the import of {module} failed: {error}; correct it, and deploy the package anew"
        super().__init__(f"{text}\n{traceback}" if traceback else text)
        self.module = module
        self.error = error
        self.traceback = traceback


class PackageEntryMissing(PerdureError):
    """The version has no such object, although it names it as one of its own. Build it anew, from code that has it."""

    code = "package-entry-missing"

    def __init__(self, package: str, entry: str) -> None:
        super().__init__(f"package {package}: it names {entry}, and has no such object; expected MODULE:NAME of its own, build it anew")
        self.entry = entry


class PackageUnloaded(PerdureError, ImportError):
    """Code of a version was asked for that this process has not loaded, or has evicted; who uses a version has to hold a pin."""

    code = "package-unloaded"

    def __init__(self, name: str, tag: str) -> None:
        super().__init__(f"{name} of package {tag}: that version is not loaded in this process")
        self.name = name

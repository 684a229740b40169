"""Whether this node has what a version needs, before any of its code runs: Python, and distributions.

Source: packages.md, "Archive" and "Loading"; PEP 440, PEP 508.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion

from perdure.errors import PackageRequirementUnmet, Unmet

PYTHON: Final = ".".join(map(str, sys.version_info[:3]))


def check_requirements(package: str, *, python: str, requires: Sequence[str]) -> dict[str, str]:
    """Return the versions found of what a version needs: of Python, and of each distribution by its name as required.

    A pre-release that is installed counts: somebody has put it there. Requirements whose marker does not hold here are left out.

    Args:
        package: what errors call it.
        python: the range of Python's versions (PEP 440); empty for any.
        requires: distributions, with ranges, extras and markers (PEP 508).

    Raises:
        PackageRequirementUnmet: with all that is missing or out of range, or cannot be read.

    Source: packages.md, "Loading".
    """
    found: dict[str, str] = {}
    unmet: list[Unmet] = []
    for name, expected, version in _looked_up(python, requires):
        if version is not None and _meets(version, expected):
            found[name] = version
        else:
            unmet.append(Unmet(name, expected, version))
    if unmet:
        raise PackageRequirementUnmet(package, unmet)
    return found


def _looked_up(python: str, requires: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Yield the name, the range and the version found of each requirement, and of those that its extras bring."""
    yield "Python", python, PYTHON
    waiting = list(requires)
    seen = set(waiting)
    while waiting:
        text = waiting.pop(0)
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            yield text, "a requirement as PEP 508 has it", None
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        yield wanted.name, str(wanted.specifier), _version_of(wanted.name)
        more = [one for extra in wanted.extras for one in _of_extra(wanted.name, extra) if one not in seen]
        seen.update(more)
        waiting += more


def _version_of(name: str) -> str | None:
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return next(iter(about.get_all("Version") or ()), None)


def _of_extra(name: str, extra: str) -> Iterator[str]:
    """Yield what a distribution needs for one of its extras alone."""
    try:
        needs = importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for text in needs:
        one = Requirement(text)
        if one.marker is not None and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""}):
            one.marker = None
            yield str(one)


def _meets(version: str, expected: str) -> bool:
    try:
        return SpecifierSet(expected).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False

"""Ranges of versions, as packages write them. Imported when the first is looked at: `packaging` takes longer than all of a package."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from perdure import limits


def read_range(text: str) -> SpecifierSet:
    """Return a range of PEP 440. Raises ValueError."""
    _check_size(text)
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError(f"{text!a}: expected a range of versions such as >=3.11,<4") from None


def read_requirement(text: str) -> Requirement:
    """Return a requirement of PEP 508 that is met by a range of versions, not by a URL. Raises ValueError."""
    _check_size(text)
    try:
        found = Requirement(text)
    except InvalidRequirement:
        raise ValueError(f"{text!a}: expected a requirement such as msgspec>=0.21,<1") from None
    if found.url is not None:
        raise ValueError(f"{text!a}: expected a range of versions, found a URL, which no installed version can be held against")
    return found


def normal_range(text: str) -> str:
    """Return the range as it is written into a manifest: without white space, the lowest version first. Raises ValueError."""
    return _written(read_range(text))


def normal_requirement(text: str) -> str:
    """Return the requirement as it is written into a manifest: its name in small letters with `-`, its range as above. Raises ValueError."""
    found = read_requirement(text)
    extras = f"[{','.join(sorted({canonicalize_name(extra) for extra in found.extras}))}]" if found.extras else ""
    marker = f"; {found.marker}" if found.marker else ""
    return f"{canonicalize_name(found.name)}{extras}{_written(found.specifier)}{marker}"


def _written(specifiers: Iterable[Specifier]) -> str:
    return ",".join(map(str, sorted(specifiers, key=_rank)))


def _rank(specifier: Specifier) -> tuple[Version, str, str]:
    try:
        version = Version(specifier.version.removesuffix(".*"))
    except InvalidVersion:  # what stands behind `===` is any text
        version = Version("0")
    return version, specifier.operator, specifier.version


def _check_size(text: str) -> None:
    if len(text) > limits.PACKAGE_RANGE_MAX:
        raise ValueError(f"{text[:100]!a}…: {len(text):,} characters, the limit is {limits.PACKAGE_RANGE_MAX:,}")

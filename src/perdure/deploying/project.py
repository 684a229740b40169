"""What `pyproject.toml` says of the package that is to be built of a folder.

Source: packages.md, "Archive"; packages-detail.md, B.1.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from packaging.utils import canonicalize_name

from perdure.errors import PackageBuildRefused
from perdure.packages.manifest import Isolation

FILE_NAME: Final = "pyproject.toml"
SECTION: Final = "tool.perdure.package"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What is built.

    Attributes:
        name: of the package.
        entries: the modules that are imported, by public names; the process types of their apps are those of the package.
        include: patterns of the files that are taken; empty when nothing was said.
        isolation: where its code runs.
        python: range of Python's versions.
        requires: the distributions that it needs.
    """

    name: str
    entries: tuple[str, ...]
    include: tuple[str, ...]
    isolation: Isolation
    python: str
    requires: tuple[str, ...]


class _Section(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    entries: tuple[str, ...]
    name: str | None = None
    include: tuple[str, ...] | None = None
    isolation: Isolation = "shared"
    python: str | None = None
    requires: tuple[str, ...] | None = None


def read_project(folder: Path) -> Project:
    """Return what the `pyproject.toml` of a folder says.

    What `[tool.perdure.package]` does not say is taken of `[project]`: the name, `requires-python`, and `dependencies`.

    Raises:
        PackageBuildRefused: there is none, it has no such section, a key of the section is unknown or wrong, or one is missing.
    """
    tree = _read(folder / FILE_NAME)
    section = _section(tree)
    project = tree.get("project")
    known: dict[str, Any] = project if isinstance(project, dict) else {}
    if not section.entries:
        raise _refused("entries", 'name the modules that have the apps, such as ["shop.flows"]')
    if section.include is not None and not section.include:
        raise _refused("include", "it takes no file; leave it out, or write a pattern")
    name = section.name or canonicalize_name(str(_taken(known, "name", "name")))
    return Project(
        name=name,
        entries=tuple(dict.fromkeys(section.entries)),
        include=section.include or (),
        isolation=section.isolation,
        python=str(_taken(known, "requires-python", "python")) if section.python is None else section.python,
        requires=_dependencies(known) if section.requires is None else section.requires,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackageBuildRefused(f"{path}: there is none; write one with a section [{SECTION}], or name another folder") from None
    except OSError as error:
        raise PackageBuildRefused(f"{path}: {error.strerror}; make it readable") from error
    except ValueError as error:
        raise PackageBuildRefused(f"{path}: it is no TOML: {error}") from error


def _section(tree: dict[str, Any]) -> _Section:
    found: Any = tree
    for part in SECTION.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if found is None:
        raise PackageBuildRefused(f'{FILE_NAME}: it has no section [{SECTION}]; write one, with entries = ["shop.flows"]')
    try:
        return msgspec.convert(found, _Section)
    except msgspec.ValidationError as error:
        known = ", ".join(_Section.__struct_fields__)
        raise PackageBuildRefused(f"{FILE_NAME}: [{SECTION}]: {error}; its keys are {known}") from error


def _taken(project: dict[str, Any], key: str, own: str) -> object:
    if key not in project:
        raise _refused(own, f"it is missing, and [project] has no {key!r} that is written out; write one of them")
    return project[key]


def _dependencies(project: dict[str, Any]) -> tuple[str, ...]:
    """Return the dependencies of the project; none when it says that there are none, or nothing."""
    if "dependencies" in (project.get("dynamic") or ()):
        raise _refused("requires", "[project] has dynamic dependencies, which are not written out; write here what the package needs")
    found = project.get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise PackageBuildRefused(f"{FILE_NAME}: [project]: dependencies: expected a list of requirements such as msgspec>=0.21,<1")
    return tuple(found)


def _refused(key: str, text: str) -> PackageBuildRefused:
    return PackageBuildRefused(f"{FILE_NAME}: [{SECTION}]: {key}: {text}")

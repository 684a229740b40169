"""Which files of a folder are those of its package, and their bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from perdure import limits
from perdure.deploying.project import FILE_NAME, SECTION, Project
from perdure.engine.packaged import LOCK
from perdure.errors import PackageBuildRefused, PackageTooLarge

_SOURCE: Final = "src"
_WILD: Final = frozenset("*?[")
_LEFT_FOLDERS: Final = (".*", "__pycache__", "*.egg-info", "*.dist-info", "test", "tests")
_LEFT_FILES: Final = (".*", "*.pyc", "test_*.py", "*_test.py", "conftest.py")

Parts = tuple[str, ...]


def source_of(folder: Path) -> Path:
    """Return the folder that the paths of a project's package are below: its `src`, or itself where it has none."""
    source = folder / _SOURCE
    if source.is_symlink():
        raise _linked(source)
    return source if source.is_dir() else folder


def read_files(folder: Path, project: Project) -> dict[str, bytes]:
    """Return the files of a package by their paths.

    Without `include`, everything below `src/` is taken; where there is no `src/`, the folders and modules at the top that the
    entries name. Tests, caches and whatever begins with a dot are left out, but for files that `include` names without a wildcard.

    Raises:
        PackageBuildRefused: a link or something else that is no file is among them, one cannot be read, or a pattern takes none.
        PackageTooLarge: they are too many, or too large together.
    """
    source = source_of(folder)
    patterns = [_checked(text) for text in project.include] or _default(source != folder, project.entries)
    chosen = dict(_chosen(source, (), patterns))
    if project.include:
        _check_used(project.include, patterns, chosen)
    if project.isolation == "process" and (LOCK,) not in chosen:
        chosen[(LOCK,)] = _lock(folder)
    _check_sizes(chosen)
    return {"/".join(parts): _read(path) for parts, path in chosen.items()}


def _default(has_source: bool, entries: Sequence[str]) -> list[Parts]:
    if has_source:
        return [("**",)]
    tops = dict.fromkeys(entry.partition(".")[0] for entry in entries)
    return [pattern for top in tops for pattern in ((top, "**"), (f"{top}.py",))]


def _checked(text: str) -> Parts:
    parts = tuple(text.split("/"))
    if not {"", ".", ".."}.isdisjoint(parts) or "\\" in text:
        raise PackageBuildRefused(
            f"{FILE_NAME}: [{SECTION}]: include: {text!r}: expected a pattern such as shop/**/*.py, below {_SOURCE}/ if there is one"
        )
    return parts


def _check_used(texts: Sequence[str], patterns: Sequence[Parts], chosen: dict[Parts, Path]) -> None:
    for text, pattern in zip(texts, patterns, strict=True):
        if not any(_matches(parts, pattern) for parts in chosen):
            raise PackageBuildRefused(f"{FILE_NAME}: [{SECTION}]: include: {text!r} takes no file; correct it, or leave it out")


def _lock(folder: Path) -> Path:
    path = folder / LOCK
    if not path.is_file() or path.is_symlink():
        raise PackageBuildRefused(f'{path}: there is no such file, and isolation = "process" needs it: the distributions with their hashes')
    return path


# --- going through the folders -----------------------------------------------------------------------------------


def _chosen(folder: Path, above: Parts, patterns: Sequence[Parts]) -> Iterator[tuple[Parts, Path]]:
    """Yield the files to take, in order of their names; links are refused where something could be taken."""
    for entry in sorted(_listed(folder), key=lambda entry: entry.name):
        parts, path = (*above, _utf8(entry.name)), Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if any(_reaches(parts, pattern) for pattern in _applicable(parts, patterns, _LEFT_FOLDERS)):
                yield from _chosen(path, parts, _applicable(parts, patterns, _LEFT_FOLDERS))
        elif entry.is_symlink():
            if any(_matches(parts, one) or _reaches(parts, one) for one in _applicable(parts, patterns, (*_LEFT_FOLDERS, *_LEFT_FILES))):
                raise _linked(path)
        elif any(_matches(parts, pattern) for pattern in _applicable(parts, patterns, _LEFT_FILES)):
            if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                raise PackageBuildRefused(f"{path}: it is no file; take it away, or leave it out with `include`")
            yield parts, path


def _utf8(name: str) -> str:
    """Return a file's name as UTF-8, whatever the locale takes it for; what is none stays as lone surrogates, which no package may have."""
    return os.fsencode(name).decode(errors="surrogateescape")


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise PackageBuildRefused(f"{folder}: {error.strerror}; make it readable, or leave it out with `include`") from error


def _applicable(parts: Parts, patterns: Sequence[Parts], left: Sequence[str]) -> Sequence[Parts]:
    """Return the patterns that count here: where files are left out, those that name theirs without a wildcard."""
    if not any(fnmatchcase(parts[-1], name) for name in left):
        return patterns
    return [pattern for pattern in patterns if not any(_WILD.intersection(part) for part in pattern)]


def _matches(parts: Parts, pattern: Parts) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _reaches(parts: Parts, pattern: Parts) -> bool:
    """Return whether a path below this folder may match."""
    if not parts:
        return bool(pattern)
    if not pattern:
        return False
    return pattern[0] == "**" or (fnmatchcase(parts[0], pattern[0]) and _reaches(parts[1:], pattern[1:]))


# --- reading -----------------------------------------------------------------------------------------------------


def _check_sizes(chosen: dict[Parts, Path]) -> None:
    """Refuse what would be too large before any of it is in memory."""
    if len(chosen) > limits.PACKAGE_FILES_MAX:
        raise PackageTooLarge("files", found=len(chosen), limit=limits.PACKAGE_FILES_MAX)
    size = sum(path.lstat().st_size for path in chosen.values())
    if size > limits.PACKAGE_ARCHIVE_MAX:
        raise PackageTooLarge("bytes of its files", found=size, limit=limits.PACKAGE_ARCHIVE_MAX)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageBuildRefused(f"{path}: {error.strerror}; make it readable, or leave it out with `include`") from error


def _linked(path: Path) -> PackageBuildRefused:
    return PackageBuildRefused(
        f"{path}: it is a link, which another machine may not have; put a copy there, or leave it out with `include`"
    )

"""The project's own files: what a clone would hold, without asking git for it."""

from __future__ import annotations

import ast
import fnmatch
import functools
import os
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Module(NamedTuple):
    """A Python file, parsed."""

    path: str
    text: str
    tree: ast.Module

    @property
    def area(self) -> str:
        """The folder at the top: `src`, `tests`, `examples` or `benchmarks`."""
        return self.path.partition("/")[0]


def parsed(path: str, text: str) -> Module:
    return Module(path, text, ast.parse(text, path))


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every Python file."""
    return tuple(parsed(path, text) for path, text in texts() if path.endswith(".py"))


@functools.cache
def texts() -> tuple[tuple[str, str], ...]:
    """Every file that is text, as (path, text)."""
    found = []
    for path in paths():
        data = (ROOT / path).read_bytes()
        if b"\0" not in data:
            found.append((path, data.decode(errors="replace")))
    return tuple(found)


@functools.cache
def paths() -> tuple[str, ...]:
    """Every file that `.gitignore` does not name, relative to the project's folder."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = sorted(name for name in folders if name != ".git" and not _ignored(here / name, folder=True))
        found += [(here / name).as_posix() for name in sorted(names) if name != ".git" and not _ignored(here / name, folder=False)]
    return tuple(found)


def _ignored(path: Path, *, folder: bool) -> bool:
    return any(
        fnmatch.fnmatchcase(path.as_posix() if "/" in pattern.rstrip("/") else path.name, pattern.strip("/"))
        for pattern in _patterns()
        if folder or not pattern.endswith("/")
    )


@functools.cache
def _patterns() -> tuple[str, ...]:
    lines = (ROOT / ".gitignore").read_text().splitlines()
    patterns = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    assert not any(pattern.startswith("!") or "**" in pattern for pattern in patterns), "only the plain patterns of git are understood here"
    return patterns

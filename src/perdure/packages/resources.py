"""Files of a version as `importlib.resources` reads them, out of memory.

Source: packages-detail.md, A6 and A7.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable, TraversableResources
from typing import Any


class Files:
    """The files of one version.

    Args:
        root: what stands before their paths where people see them; it is no folder on any disk.
        files: their bytes by path, with `/` between its parts.
    """

    def __init__(self, root: str, files: Mapping[str, bytes]) -> None:
        self._root = root
        self._files = dict(files)
        self._folders = {""}.union(*(_above(path) for path in self._files))

    def is_file(self, path: str) -> bool:
        """Return whether there is a file of this path."""
        return path in self._files

    def is_folder(self, path: str) -> bool:
        """Return whether there are files below this path."""
        return path in self._folders

    def shown(self, path: str) -> str:
        """Return a path as people see it: in tracebacks, and as `__file__`."""
        return f"{self._root}/{path}"

    def read(self, path: str) -> bytes:
        """Return the bytes of a file. Raises FileNotFoundError, IsADirectoryError."""
        found = self._files.get(path)
        if found is None:
            number = errno.EISDIR if self.is_folder(path) else errno.ENOENT
            raise OSError(number, os.strerror(number), self.shown(path))
        return found

    def read_shown(self, path: str) -> bytes:
        """Return the bytes of a file that is named as people see it. Raises FileNotFoundError, IsADirectoryError."""
        return self.read(path.replace(os.sep, "/").removeprefix(f"{self._root}/"))

    def below(self, path: str) -> list[str]:
        """Return the paths of the files and folders right below a folder, in order."""
        found = {one for one in (*self._files, *self._folders) if one and posixpath.dirname(one) == path}
        return sorted(found)


def _above(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


class Resource(Traversable):
    """A file or a folder of a version, there or not; what `importlib.resources.files(__package__)` returns."""

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return posixpath.basename(self._path)

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self._files.is_file(self._path)

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return self._files.is_folder(self._path)

    def iterdir(self) -> Iterator[Traversable]:
        """Yield what is in a folder."""
        if not self.is_dir():
            number = errno.ENOTDIR if self.is_file() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(self))
        yield from (Resource(self._files, path) for path in self._files.below(self._path))

    def joinpath(self, *descendants: Any) -> Traversable:
        """Return what has this path below it."""
        path = posixpath.normpath(posixpath.join(self._path, *map(os.fspath, descendants)))
        return Resource(self._files, "" if path == "." else path)

    def __truediv__(self, child: Any) -> Traversable:
        return self.joinpath(child)

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Open a file for reading, as text or (`rb`) as bytes."""
        if mode not in {"r", "rt", "rb"}:
            raise ValueError(f"{self}: files of a package are read-only, found mode {mode!r}")
        raw = io.BytesIO(self.read_bytes())
        return raw if "b" in mode else io.TextIOWrapper(raw, *args, **kwargs)

    def read_bytes(self) -> bytes:
        """Return the bytes of a file."""
        return self._files.read(self._path)

    def read_text(self, encoding: str | None = None) -> str:
        """Return the text of a file."""
        with self.open(encoding=encoding) as file:
            text: str = file.read()
        return text

    def __str__(self) -> str:
        return self._files.shown(self._path)

    def __repr__(self) -> str:
        return f"Resource({str(self)!r})"


class Reader(TraversableResources):
    """What `importlib.resources` asks the loader of a module for."""

    def __init__(self, folder: Resource) -> None:
        self._folder = folder

    def files(self) -> Traversable:
        """Return the folder that the module is in."""
        return self._folder

"""Archives and keys as files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from perdure import limits
from perdure.deploying.building import Built
from perdure.errors import PackageTooLarge, UsageError

BUILT_WITH: Final = ".built.json"  # behind the stem of an archive's name

_SEED: Final = 32  # bytes of a private key
_HEX: Final = re.compile(rb"[0-9a-f]{64}\r?\n?")


def read_package(path: Path) -> bytes:
    """Return the bytes of an archive. Raises UsageError and PackageTooLarge; whether it is a package, `unpack` finds out."""
    try:
        with path.open("rb") as stream:
            found = stream.read(limits.PACKAGE_ARCHIVE_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name an archive that `perdure package build` has written") from error
    if len(found) > limits.PACKAGE_ARCHIVE_MAX:
        raise PackageTooLarge(f"{path}: bytes", found=path.stat().st_size, limit=limits.PACKAGE_ARCHIVE_MAX)
    return found


def write_package(built: Built, folder: Path) -> Path:
    """Write the archive of a package into a folder, and what it was built with beside it. Return the archive's path.

    Raises:
        UsageError: the folder cannot be made, or written to.
    """
    path = folder / built.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, built.archive)
        replace_file(_beside(path), json.dumps(built.built_with, indent=2, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name another folder") from error
    return path


def read_built_with(path: Path) -> dict[str, Any] | None:
    """Return what an archive was built with, as its build has left it beside it; None when nothing that can be read lies there."""
    try:
        found = json.loads(_beside(path).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def replace_file(path: Path, data: bytes) -> None:
    """Write a file: whoever reads it meanwhile, or after a crash, has all of what was there before, or all of this. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_seed(path: Path) -> bytes:
    """Return the private key in a file: 32 bytes, or 64 hex digits. No error shows any of it.

    Raises:
        UsageError: it cannot be read, holds no key, or others may read it.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            found = stream.read(1_024)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a file with a private key") from error
    if os.name == "posix" and mode & 0o077:
        raise UsageError(f"{path}: others may read this private key; chmod 600 {path}, and consider making a new one")
    if _HEX.fullmatch(found):
        return bytes.fromhex(found.decode())
    if len(found) != _SEED:
        raise UsageError(f"{path}: expected a private Ed25519 key, {_SEED} bytes or {2 * _SEED} hex digits, found neither")
    return found


def write_seed(path: Path, seed: bytes) -> None:
    """Write a private key to a new file that nobody else may read. Raises UsageError: there is one, or it cannot be written."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w") as stream:
            stream.write(f"{seed.hex()}\n")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; name a file that is not there yet, in a folder that can be written to") from error


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix('.zip')}{BUILT_WITH}")

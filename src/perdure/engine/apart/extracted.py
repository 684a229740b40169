"""A version in an interpreter of its own: its files in a folder, its modules under their public names, ordinary imports.

Source: packages-detail.md, A6.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from perdure import limits
from perdure.engine.app import ProcessType
from perdure.errors import DefinitionError, PackageEntryMissing, PackageImportFailed, PerdureError
from perdure.names import storable
from perdure.packages.loading import PackageCode, interrupts
from perdure.packages.paths import is_reserved
from perdure.packages.requirements import check_requirements


def extract(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a package below a folder that is empty; their paths were checked."""
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


class Extracted:
    """A version that is imported; what it tells is what `Loaded` tells.

    Args:
        code: the version; of its files only the names at the top are used.
        folder: where they are.
        found: the versions of Python and of distributions that were found for it.
    """

    def __init__(self, code: PackageCode, folder: Path, found: Mapping[str, str]) -> None:
        self.name: Final = code.name
        self.content_hash: Final = code.content_hash
        self.found: Final = dict(found)
        self.derived: Final[dict[str, Any]] = {}
        self._label = code.label
        self._folder = folder
        self._tops = frozenset(code.top_levels)

    def object(self, entry: str) -> Any:
        """Return an object of the version by its name, `shop.flows:Order`. Raises PackageEntryMissing."""
        found = self.find(entry)
        if found is None:
            raise PackageEntryMissing(self._label, entry)
        return found

    def find(self, entry: str) -> Any:
        """Return an object by its name; None when there is none."""
        module, _, name = entry.partition(":")
        found: Any = importlib.import_module(module) if self._has(module) else None
        for part in name.split("."):
            found = getattr(found, part, None)
        return found

    def modules(self) -> list[ModuleType]:
        """Return the modules of the version that are imported now, in order of their names."""
        return [sys.modules[name] for name in sorted(sys.modules) if name.partition(".")[0] in self._tops]

    def _has(self, module: str) -> bool:
        place = self._folder.joinpath(*module.split("."))
        return module.partition(".")[0] in self._tops and (place.is_dir() or place.with_suffix(".py").is_file())


def import_extracted(code: PackageCode, folder: Path) -> Extracted:
    """Import a version from where its files are. This interpreter is its own from here on.

    Raises:
        PackageRequirementUnmet: the environment has not what it needs; none of its code ran.
        PackageImportFailed: its code raised.
        PackageEntryMissing: it lacks one of its `entries`.
    """
    found = check_requirements(code.label, python=code.python, requires=code.requires)
    for name in code.top_levels:
        if is_reserved(name):
            raise PackageImportFailed(code.label, module=name, error="a name at the top is none of the standard library, and not `perdure`")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    made = Extracted(code, folder, found)
    for entry in code.entries:
        try:
            missing = made.find(entry) is None
        except BaseException as error:  # also SystemExit and the like
            if interrupts(error):
                raise
            raise _import_failed(code, folder, entry, error) from None
        if missing:
            raise PackageEntryMissing(code.label, entry)
    return made


def check_flows(types: Iterable[ProcessType]) -> None:
    """Refuse flow control that the engine's transactions would have to ask a child about. Raises DefinitionError."""
    for made in types:
        if made.flow is not None and not made.flow.is_fixed:
            raise DefinitionError(
                f"{made.name}: key= or priority= of its flow is a function, which the engine's transactions would have to call; "
                f"give a number, or build the package with isolation: shared"
            )


def _import_failed(code: PackageCode, folder: Path, entry: str, error: BaseException) -> PerdureError:
    told = traceback.TracebackException.from_exception(error)
    told.stack[:] = [frame for frame in told.stack if frame.filename != __file__ and "importlib" not in frame.filename]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    module = entry.partition(":")[0]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith(f"{folder}/") and frame.f_code.co_name == "<module>":
            module = frame.f_globals.get("__name__", module)

    def without_folder(text: str) -> str:
        return storable(text.replace(f"{folder}/", f"<package {code.content_hash[:16]}>/"))

    said = without_folder(f"{name}: {told}" if str(told) else name)
    text = without_folder("".join(told.format()))
    return PackageImportFailed(
        code.label, module=module, error=said[: limits.PACKAGE_ERROR_MAX], traceback=text[-limits.PACKAGE_TRACEBACK_MAX :]
    )

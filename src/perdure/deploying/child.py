"""What runs in an interpreter of its own to try a package: `python -P -m perdure.deploying.child SECONDS ARCHIVE [MODULE …]`.

It imports the package as an engine does, with these modules besides, and writes its report to standard output. What the
package prints goes to standard error. It ends without asking anybody: a package may have left threads behind. After some
SECONDS it ends in any case, for whoever has started it may have been killed.

Source: packages-detail.md, A7 and A8.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from perdure import limits
from perdure.deploying import surroundings
from perdure.deploying.reading import Sources, read_sources
from perdure.deploying.report import SIZE_BYTES, Failed, Report, Tried, Warned
from perdure.engine.apart.extracted import Extracted, check_flows, extract, import_extracted
from perdure.engine.packaged import apps_in, code_of, defined_by, lock_of, looked_at_in_vain, types_of
from perdure.errors import PackageImportsByText, PerdureError
from perdure.packages.archive import Package, unpack
from perdure.packages.finding import install
from perdure.packages.loading import Loaded, PackageCode, load


def main() -> None:
    """Try the package, report, and end."""
    seconds, archive, *modules = sys.argv[1:]
    signal.alarm(int(seconds))  # the system ends it then
    answer = os.dup(1)  # which no program that the package starts gets
    os.dup2(2, 1)
    sys.argv[1:] = []
    write, end = os.write, os._exit  # as they are before the package can replace them
    status = 1
    try:
        told = msgspec.json.encode(_tried(Path(archive).read_bytes(), modules, Path(archive).parent / "code"))
        rest = memoryview(len(told).to_bytes(SIZE_BYTES) + told)
        while rest:
            rest = rest[write(answer, rest) :]
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        end(status)  # without waiting for threads


def _tried(archive: bytes, modules: Sequence[str], folder: Path) -> Report:
    package = unpack(archive)
    code = code_of(package)
    code = msgspec.structs.replace(code, entries=(*code.entries, *(f"{module}:__name__" for module in modules)))
    try:
        return _imported(package, code) if lock_of(package) is None else _imported_apart(package, code, folder)
    except PerdureError as error:
        return Failed.by(error)


def _imported(package: Package, code: PackageCode) -> Tried:
    required = frozenset(canonicalize_name(Requirement(text).name) for text in code.requires)
    sources = read_sources(code.files, code.top_levels, distributions=required)
    if sources.by_text:
        raise PackageImportsByText(code.label, [str(place) for place in sources.by_text])
    install()  # what an engine changes itself is not the package's doing
    before = surroundings.taken()
    loaded = load(code)
    changed = surroundings.changes(before)
    return _described(package, loaded, (*_of_surroundings(changed), *_of_sources(sources), *_of_imports(sources, required)))


def _imported_apart(package: Package, code: PackageCode, folder: Path) -> Tried:
    """Import a package that has this interpreter for itself: it may change what it likes, and find itself by its name."""
    required = frozenset(canonicalize_name(Requirement(text).name) for text in code.requires)
    extract(package.files, folder)
    loaded = import_extracted(code, folder)
    return _described(package, loaded, tuple(_of_imports(read_sources(code.files, code.top_levels, distributions=required), required)))


def _described(package: Package, loaded: Loaded | Extracted, warnings: tuple[Warned, ...]) -> Tried:
    types = types_of(loaded, package.manifest)
    if isinstance(loaded, Extracted):
        check_flows(types.values())
    try:
        defined = defined_by(apps_in(loaded.modules()))
    except PerdureError:
        raise
    except Exception as error:  # types that its manifest does not name may raise anything, too
        raise looked_at_in_vain(loaded, error) from error
    return Tried(
        found=loaded.found,
        processes=defined.processes,
        schemas=dict(defined.schemas),
        warnings=warnings,
    )


# --- warnings ---------------------------------------------------------------------------------------------------


def _of_surroundings(changed: Sequence[str]) -> Iterator[Warned]:
    for name in changed[: limits.PACKAGE_WARNINGS_MAX]:
        yield Warned(
            "package-changes-surroundings",
            f"importing it changes {name}, which all versions and the engine share; do it where the engine is started, or in a step",
        )


def _of_sources(sources: Sources) -> Iterator[Warned]:
    for place in sources.by_file[: limits.PACKAGE_WARNINGS_MAX]:
        yield Warned("package-uses-file", f"{place}: it is no path on a disk; read files with importlib.resources.files(__package__)")
    for place in sources.unreadable[: limits.PACKAGE_WARNINGS_MAX]:
        yield Warned("package-file-unreadable", f"{place}; correct it, or leave the file out")


def _of_imports(sources: Sources, required: frozenset[str]) -> Iterator[Warned]:
    """Yield what the package's own code imports without saying that it needs it. What others import is their own affair."""
    foreign = {name: place for name, place in sources.imported.items() if name not in sys.stdlib_module_names}
    owners: Mapping[str, Sequence[str]] = importlib.metadata.packages_distributions() if foreign else {}
    for name, place in sorted(foreign.items())[: limits.PACKAGE_WARNINGS_MAX]:
        found = ["perdure"] if name == "perdure" else sorted(set(owners.get(name, ())))
        if any(canonicalize_name(one) in required for one in found):
            continue
        if found:
            text = f"{place}: {name} is of {' or '.join(found)}, which `requires` does not name; add it, with the range that the code works with"
            yield Warned("package-requirement-undeclared", text)
        elif name in sys.modules or importlib.util.find_spec(name) is not None:
            text = f"{place}: {name} is neither in the package nor of a distribution; take it in, or require what it is of"
            yield Warned("package-requirement-undeclared", text)


if __name__ == "__main__":
    main()

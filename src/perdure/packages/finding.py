"""How the modules of loaded versions are found: each under private names, none under a public one.

Three things make it work. A module of a version has a name that no import statement can write. Its builtins are a copy of the
interpreter's own with another `__import__`, which the functions that it defines keep: so its `import` statements find its own
version, whoever runs them and on whichever thread. And a finder stands first on `sys.meta_path` for the private names, one last
for the public names that code of a package has asked for as text.

Source: packages.md, "Loading"; packages-detail.md, A1, A6, A8.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

from perdure.errors import PackageUnloaded
from perdure.names import TAG_DIGITS, private_name, public_name, tag_of
from perdure.packages.resources import Files, Reader, Resource

VERSIONS: Final[dict[str, Version]] = {}
"""The versions that are loaded in this process, by tag: module names are the process's, not an engine's."""

_ASKING: Final = "_find_and_load"  # the function of `importlib._bootstrap` behind each import; a probe by `find_spec` does without it
_BETWEEN: Final = frozenset({"_frozen_importlib", "_frozen_importlib_external", "functools", "importlib", "pkgutil", "zipimport"})


class Version(InspectLoader):
    """The code of one version, which loads its modules out of memory.

    Args:
        content_hash: 64 hex digits, of which the first are the tag.
        top_levels: names of its modules and packages at the top.
        files: the bytes of its files by path.
    """

    def __init__(self, content_hash: str, top_levels: Sequence[str], files: Mapping[str, bytes]) -> None:
        self.content_hash: Final = content_hash
        self.tag: Final = content_hash[:TAG_DIGITS]
        self.top_levels: Final = frozenset(top_levels)
        self.files: Final = Files(f"<package {self.tag}>", files)
        self.builtins: Final = _builtins({name: private_name(name, self.tag) for name in top_levels})

    # --- names and places ---------------------------------------------------------------------------------

    def holds(self, name: str) -> bool:
        """Return whether there is a module of this public name."""
        return name.partition(".")[0] in self.top_levels and self._place(name) is not None

    def module(self, name: str) -> ModuleType:
        """Import the module of this public name, and return it. Raises ImportError, and whatever its code raises."""
        found: ModuleType = self.builtins["__import__"](name, None, None, ("__name__",))
        return found

    def spec(self, fullname: str) -> ModuleSpec:
        """Return how the module of a private name is loaded. Raises ModuleNotFoundError."""
        name = self._public(fullname)
        if not self.holds(name):
            # None would send the interpreter on to the folders of `sys.path` and, for a module in a package, to what lies below the
            # working directory. Its own handling of `from … import name` compares the name: it is the private one.
            raise ModuleNotFoundError(f"No module named {name!r} in package {self.tag}", name=fullname)
        path, is_package = self._found(fullname)
        spec = ModuleSpec(fullname, self, origin=None if path is None else self.files.shown(path), is_package=is_package)
        spec.has_location = path is not None  # it becomes `__file__`
        if is_package:
            spec.submodule_search_locations = [self.files.shown(name.replace(".", "/"))]
        return spec

    def _public(self, fullname: str) -> str:
        top, dot, rest = fullname.partition(".")
        return f"{public_name(top)}{dot}{rest}"

    def _place(self, name: str) -> tuple[str | None, bool] | None:
        """Return the file of a module, None for a folder without one, and whether it is a package; None when there is no such module."""
        path = name.replace(".", "/")
        if "/" in name:
            return None
        if self.files.is_file(f"{path}/__init__.py"):
            return f"{path}/__init__.py", True
        if self.files.is_file(f"{path}.py"):
            return f"{path}.py", False
        return (None, True) if self.files.is_folder(path) else None

    def _found(self, fullname: str) -> tuple[str | None, bool]:
        found = self._place(self._public(fullname))
        if found is None:
            raise ImportError(f"no module {fullname!r} in package {self.tag}", name=fullname)
        return found

    # --- what the interpreter asks a loader for -----------------------------------------------------------

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of a module."""
        if VERSIONS.get(self.tag) is not self:  # evicted while a thread that holds no pin was about to import
            raise PackageUnloaded(self._public(module.__name__), self.tag)
        code = self.get_code(module.__name__)
        vars(module)["__builtins__"] = self.builtins  # before its code runs: functions take their builtins from here when they are made
        exec(code, vars(module))  # noqa: S102  # to import is to run

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled code of a module."""
        path, _ = self._found(fullname)
        source = b"" if path is None else self.files.read(path)
        code: CodeType = compile(source, self.get_filename(fullname), "exec", dont_inherit=True)
        return code

    def get_source(self, fullname: str) -> str:
        """Return the text of a module, for tracebacks and `inspect`."""
        path, _ = self._found(fullname)
        return "" if path is None else importlib.util.decode_source(self.files.read(path))

    def get_filename(self, fullname: str) -> str:
        """Return what stands for the file of a module in tracebacks."""
        path, _ = self._found(fullname)
        return self.files.shown(self._public(fullname).replace(".", "/") if path is None else path)

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a file, whose path begins as `__file__` does; for `pkgutil.get_data(__package__, …)`."""
        return self.files.read_shown(path)

    def is_package(self, fullname: str) -> bool:
        """Return whether a module is a package."""
        return self._found(fullname)[1]

    def get_resource_reader(self, fullname: str) -> Reader:
        """Return what reads the files beside a module."""
        path = self._public(fullname).replace(".", "/")
        return Reader(Resource(self.files, path if self.is_package(fullname) else path.rpartition("/")[0]))


def _builtins(names: Mapping[str, str]) -> dict[str, Any]:
    """Return builtins whose imports of these names are imports of private ones.

    It is a copy, and an exact dict: the interpreter looks up builtins in a subclass 6 to 10 times slower.
    """

    def __import__(name: str, *given: Any, **named: Any) -> Any:  # noqa: N807  # the name under which the interpreter looks for it
        level = given[3] if len(given) > 3 else named.get("level", 0)  # noqa: PLR2004  # behind globals, locals and the list of names
        if not level:
            top, dot, rest = name.partition(".")
            if top in names:
                name = names[top] + dot + rest
        return builtins.__import__(name, *given, **named)  # looked up late: others may have hooked it

    return {**vars(builtins), "__import__": __import__}


class PrivateFinder:
    """First on `sys.meta_path`: whatever comes first there would look for private names on the disk."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002  # the protocol's
        """Return the spec of a private name; None only for a name that is none.

        Raises:
            ModuleNotFoundError: the version has no such module.
            PackageUnloaded: the version is not loaded.
        """
        tag = tag_of(fullname)
        if tag is None:
            return None
        version = VERSIONS.get(tag)
        if version is None:
            raise PackageUnloaded(public_name(fullname), tag)
        return version.spec(fullname)


class AdvisingFinder:
    """Last on `sys.meta_path`: it finds nothing, and says why code of a package cannot be found under its public name."""

    def find_spec(self, fullname: str, path: object = None, target: Any = None) -> ModuleSpec | None:
        """Return None, or what finders say that were added behind this one.

        Raises:
            ModuleNotFoundError: it is a name of a loaded version.
        """
        owners = [version for version in list(VERSIONS.values()) if fullname in version.top_levels] if path is None else []
        if not owners:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if (found := finder.find_spec(fullname, None, target)) is not None:
                return found
        wanted, owner = _asked(sys._getframe(1), fullname, owners)  # noqa: SLF001  # who asks is nowhere else to be seen
        if owner is None:
            return None
        relative = "." + wanted.partition(".")[2]
        raise ModuleNotFoundError(
            f"No module named {wanted!r}. It is code of package {owner.tag}, which has no public name: inside the package write "
            f"import {wanted}, or importlib.import_module({relative!r}, __package__), never its name as text",
            name=fullname,
        )


def _asked(frame: FrameType, top: str, owners: Sequence[Version]) -> tuple[str, Version | None]:
    """Return the whole name that is asked for, and the version whose code it is; None for a probe that is no package's own.

    A library that asks with `importlib.util.find_spec` whether there is a module is right to do so, and is told that there is none.
    """
    wanted, asker, importing = top, None, False
    for caller in _callers(frame):
        module = str(caller.f_globals.get("__name__"))
        if asker is None and module != __name__ and module.partition(".")[0] not in _BETWEEN:
            asker = module
        if asker is None and caller.f_code.co_name == _ASKING:
            wanted, importing = caller.f_locals.get("name", top), True
        if (owner := _owner(module, owners)) is not None and (importing or module == asker):
            return wanted, owner
    return wanted, owners[0] if importing else None


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _owner(module: str, owners: Sequence[Version]) -> Version | None:
    tag = tag_of(module)
    return next((version for version in owners if version.tag == tag), None)


_FIRST: Final = PrivateFinder()
_LAST: Final = AdvisingFinder()


def install() -> None:
    """Put the finders onto `sys.meta_path`, the first one before any that was put there since.

    Nothing is taken away: another thread that imports goes over the list at this moment, and would pass over a finder.
    """
    if not sys.meta_path or sys.meta_path[0] is not _FIRST:
        sys.meta_path.insert(0, _FIRST)
    if _LAST not in sys.meta_path:
        sys.meta_path.append(_LAST)

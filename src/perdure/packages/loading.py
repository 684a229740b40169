"""Many versions of the same modules side by side in one interpreter: from files to a version whose code can be used.

Source: packages.md, "Loading"; packages-detail.md, A1 to A8.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.errors import PackageEntryMissing, PackageImportFailed, PerdureError
from perdure.identity import ContentHash
from perdure.names import TAG_DIGITS, private_name, public_name, storable, tag_of
from perdure.packages.finding import VERSIONS, Version, install
from perdure.packages.paths import is_reserved
from perdure.packages.requirements import check_requirements
from perdure.packages.unloading import Remains, withdraw


class PackageCode(msgspec.Struct, frozen=True, kw_only=True):
    """The code of one version, verified, and what it says of itself.

    Attributes:
        name: of the package.
        content_hash: its identity, 64 lower-case hex digits; whoever made this has verified that it is that of `files`.
        files: the bytes of its files by path, such as `shop/models.py`, without `src/`.
        top_levels: the names at the top that are its own, such as `shop`.
        entries: objects that it has to have, `shop.flows:Order`; their modules are imported when it is loaded.
        python: the range of Python's versions (PEP 440); empty for any.
        requires: the distributions that it needs (PEP 508).
    """

    name: str
    content_hash: str
    files: Mapping[str, bytes]
    top_levels: tuple[str, ...]
    entries: tuple[str, ...] = ()
    python: str = ""
    requires: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What errors and logs call the version."""
        return f"{self.name} {self.content_hash[:TAG_DIGITS]}"


class Loaded:
    """A version that is loaded. Its code may be used while it is pinned; see `Catalog`.

    Attributes:
        name: of the package.
        content_hash: of the version.
        found: the versions of Python and of distributions that were found for it.
        derived: what others have made of its types, by names of theirs. It goes when the version goes, where a cache of the
            whole process that is keyed by a class would keep the class.
    """

    def __init__(self, code: PackageCode, version: Version, found: Mapping[str, str]) -> None:
        self.name: Final = code.name
        self.content_hash: Final = code.content_hash
        self.found: Final = dict(found)
        self.derived: Final[dict[str, Any]] = {}
        self._label = code.label
        self._version = version

    def module(self, name: str) -> ModuleType:
        """Return the module of this public name, imported now if it was not before.

        Raises:
            ModuleNotFoundError: the version has no such module.
            PackageUnloaded: the version was evicted.
            Exception: whatever its code raises.
        """
        self._version.spec(private_name(name, self._version.tag))
        return self._version.module(name)

    def object(self, entry: str) -> Any:
        """Return an object of the version by its public name, `shop.flows:Order`. Raises PackageEntryMissing, PackageUnloaded."""
        found = _entry(self._version, entry)
        if found is None:
            raise PackageEntryMissing(self._label, entry)
        return found

    def modules(self) -> list[ModuleType]:
        """Return the modules that are imported now, in order of their names."""
        names = sorted(name for name in list(sys.modules) if tag_of(name) == self._version.tag)
        return [sys.modules[name] for name in names]

    def __repr__(self) -> str:
        return f"<package {self._label}>"


class _Held:
    """One version in this process, however many engines use it."""

    def __init__(self) -> None:
        self.holders = 0
        self.importing = threading.Lock()
        self.loaded: Loaded | None = None


_held: Final[dict[str, _Held]] = {}
_guard: Final = threading.Lock()


def load(code: PackageCode) -> Loaded:
    """Import a version, once in this process, and return it: `unload` has to follow, once for each call.

    It blocks: call it on a thread of its own, where no event loop runs. Before any code of the version runs, Python and the
    distributions that it needs are looked at.

    Raises:
        PackageRequirementUnmet: this node has not what the version needs; none of its code ran.
        PackageImportFailed: its code raised; nothing of it stays, and it may be tried again.
        PackageEntryMissing: it lacks one of its `entries`; as above.
        InvalidIdentifier: the hash is none.

    Source: packages.md, "Loading".
    """
    ContentHash(code.content_hash)
    found = check_requirements(code.label, python=code.python, requires=code.requires)
    with _guard:
        held = _held.setdefault(code.content_hash, _Held())
        held.holders += 1
    try:
        with held.importing:
            made = held.loaded or _imported(code, found)
            if isinstance(made, Loaded):
                held.loaded = made
    except BaseException:
        _let_go(code.content_hash)
        raise
    if not isinstance(made, Loaded):
        _let_go(code.content_hash)
        raise made
    return made


def unload(loaded: Loaded) -> Remains | None:
    """Give back what `load` returned. Return what is left of the version when nobody else in this process uses it.

    From then on none of its modules is found: imports that its code still makes raise PackageUnloaded.
    """
    return _let_go(loaded.content_hash)


def _let_go(content_hash: str) -> Remains | None:
    with _guard:  # until it is gone: who loads it meanwhile begins anew
        held = _held[content_hash]
        held.holders -= 1
        if held.holders:
            return None
        del _held[content_hash]
        return None if held.loaded is None else withdraw(held.loaded._version)  # noqa: SLF001  # of this very module


def _imported(code: PackageCode, found: Mapping[str, str]) -> Loaded | PerdureError:
    """Return the version, or why it cannot be had; then nothing of it is left.

    An error is returned, not raised: in its traceback it would keep the frames of the code that failed, and with them the code.
    """
    for name in code.top_levels:
        if is_reserved(name) or not name.isidentifier():
            rule = "a name at the top is an identifier, none of the standard library, and not `perdure`"
            return PackageImportFailed(code.label, module=name, error=rule)
    version = Version(code.content_hash, code.top_levels, code.files)
    other = VERSIONS.setdefault(version.tag, version)
    if other is not version:
        text = f"{TAG_DIGITS} digits are all that tells versions apart, and package {other.content_hash} has the same; it has to go first"
        return PackageImportFailed(code.label, module=code.name, error=text)
    install()
    failure = _failure(code, version)
    if failure is not None:
        withdraw(version)
        return failure
    return Loaded(code, version, found)


def _failure(code: PackageCode, version: Version) -> PerdureError | None:
    """Import what the entries are in, and return what is wrong with it."""
    for entry in code.entries:
        try:
            if _entry(version, entry) is None:
                return PackageEntryMissing(code.label, entry)
        except BaseException as error:  # also SystemExit and the like: code that is imported does not end an engine
            if interrupts(error):
                withdraw(version)
                raise
            return _import_failed(code, version, entry, error)
    return None


def interrupts(error: BaseException) -> bool:
    """Return whether somebody interrupts the program: signals come to the main thread, and elsewhere it is code that has raised this."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def _entry(version: Version, entry: str) -> Any:
    """Return an object by its public name; None when there is none."""
    module, _, name = entry.partition(":")
    found: Any = version.module(module) if version.holds(module) else None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _import_failed(code: PackageCode, version: Version, entry: str, error: BaseException) -> PackageImportFailed:
    told = traceback.TracebackException.from_exception(error)
    _leave_out_ours(told)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said = _public(f"{name}: {told}" if str(told) else name, version)
    text = _public("".join(told.format()), version)
    module = _innermost(error) or entry.partition(":")[0]
    return PackageImportFailed(
        code.label, module=module, error=said[: limits.PACKAGE_ERROR_MAX], traceback=text[-limits.PACKAGE_TRACEBACK_MAX :]
    )


def _public(text: str, version: Version) -> str:
    """Return text that may stand in a column: of public names, without lone surrogates and NUL characters."""
    return storable(text.replace(f"@{version.tag}", ""))


def _leave_out_ours(told: traceback.TracebackException) -> None:
    """Leave the code of the package in a traceback, and what it called."""
    told.stack[:] = [frame for frame in told.stack if frame.filename not in _OURS and not frame.filename.startswith("<frozen importlib")]
    for other in (told.__cause__, told.__context__):
        if other is not None:
            _leave_out_ours(other)


def _innermost(error: BaseException) -> str:
    """Return the public name of the module whose code was being run, or compiled, when the error came."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is Version.exec_module.__code__:
            found = public_name(frame.f_locals["module"].__name__)
    return found


_OURS: Final = frozenset({_entry.__code__.co_filename, Version.exec_module.__code__.co_filename})

"""Paths in a package: each means one file, the same on every system, and at most one module."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Collection, Iterator
from typing import Final

from perdure import limits
from perdure.errors import PackageModuleAmbiguous, PackageNameReserved, PackageNativeCode, PackagePathDuplicate, PackagePathInvalid

_FORBIDDEN: Final = re.compile(r'[\\:*?"<>|\x00-\x1f\x7f-\x9f]')
# What Windows takes for a device, whatever is behind the first dot.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_NATIVE: Final = re.compile(r".*\.(?:so(?:\.[0-9]+)*|pyd|dll|dylib|pyc)", re.IGNORECASE)
_CACHE: Final = "__pycache__"
_PACKAGE: Final = "/__init__.py"
_FILE: Final = -1

# A name is refused on each Python or on none: a package goes to nodes with others. These have come or gone since 3.11.
# fmt: off
_STANDARD_ELSEWHERE: Final = frozenset({
    "aifc", "annotationlib", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "compression", "crypt", "distutils", "imghdr", "imp",
    "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib",
})
# fmt: on
# The interpreter runs or replaces these by itself.
_INTERPRETER: Final = frozenset({"__main__", "sitecustomize", "usercustomize"})
_RESERVED: Final = sys.stdlib_module_names | _STANDARD_ELSEWHERE | _INTERPRETER | {"perdure"}


def check_paths(paths: Collection[str]) -> None:
    """Check the paths of one package, below `src/`, one by one and together.

    Raises:
        PackagePathInvalid: one is not of the form; then nothing else was looked at. The others follow in this order:
        PackagePathDuplicate: two are one when case does not count, or one is a file and a folder.
        PackageModuleAmbiguous: `a.py` and `a/__init__.py`.
        PackageNativeCode: compiled code, or a folder of it.
        PackageNameReserved: a name at the top is one of the standard library's, of the interpreter's or of Perdure's.

    Source: packages-detail.md, B.3.
    """
    for path in paths:
        _check_form(path)
    _check_distinct(paths)
    _check_modules(paths)
    for path in paths:
        if _NATIVE.fullmatch(path) or _CACHE in path.casefold().split("/"):
            raise PackageNativeCode(path, "compiled code; require a distribution that holds it")
    for path in paths:
        top = _top_level(path)
        if is_reserved(top):
            raise PackageNameReserved(path, f"{top} is a name of the standard library, the interpreter or Perdure; choose another one")


def is_reserved(name: str) -> bool:
    """Return whether a name at the top is not a package's to have: the standard library's, the interpreter's or Perdure's."""
    return name in _RESERVED


def module_of(path: str) -> str | None:
    """Return the dotted name of the module that `path` is; None when no `import` statement names it.

    Source: packages-detail.md, A1 and B.3.
    """
    if not path.endswith(".py"):
        return None
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) if parts and all(map(_is_importable, parts)) else None


def top_level_names(paths: Collection[str]) -> tuple[str, ...]:
    """Return the names that a package's own `import` statements begin with, in order: its folders and modules at the top."""
    return tuple(sorted({top for path in paths if _is_importable(top := _top_level(path))}))


def _is_importable(name: str) -> bool:
    # The compiler reads names in this form, so that a file of another spelling is never found.
    return name.isidentifier() and unicodedata.normalize("NFKC", name) == name


def _top_level(path: str) -> str:
    """Return the folder or module at the top that `path` is in; empty for a file at the top that is none."""
    first, slash, _ = path.partition("/")
    if slash:
        return first
    return first.removesuffix(".py") if first.endswith(".py") and path != "__init__.py" else ""


def _check_form(path: str) -> None:
    if defect := next(_defects(path), None):
        raise PackagePathInvalid(path, f"{defect}; rename the file")


def _defects(path: str) -> Iterator[str]:
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        yield "a lone surrogate, which is no text"
        return
    parts = path.split("/")
    if size > limits.PACKAGE_PATH_MAX:
        yield f"{size:,} bytes, the limit is {limits.PACKAGE_PATH_MAX}"
    if len(parts) > limits.PACKAGE_DEPTH_MAX:
        yield f"{len(parts)} parts, the limit is {limits.PACKAGE_DEPTH_MAX}"
    if not {"", ".", ".."}.isdisjoint(parts):
        yield "an empty part, or one that is . or .."
    if found := _FORBIDDEN.search(path):
        yield f"the character {found[0]!a}, which not every system takes"
    if any(part.endswith((".", " ")) for part in parts):
        yield "a part that ends with a dot or a space, which Windows drops"
    if any(map(_DEVICE.fullmatch, parts)):
        yield "a part that is a device on Windows"
    if unicodedata.normalize("NFC", path) != path:
        yield "not in Unicode's form NFC, which some systems change it to"


def _check_distinct(paths: Collection[str]) -> None:
    """Refuse paths that are one file, or a file and a folder, where case and composition do not count."""
    # Keys are a folder's number and a part in it: whole prefixes would be a hundred times the paths.
    known: dict[tuple[int, str], tuple[int, str]] = {}
    for path in paths:
        *folders, name = path.split("/")
        number = 0
        for part in folders:
            number, spelled = known.setdefault((number, _folded(part)), (len(known) + 1, part))
            if number == _FILE or spelled != part:
                raise PackagePathDuplicate(path, f"{spelled!a} is there, too, as a file or in another case; rename one of them")
        key = (number, _folded(name))
        if key in known:
            raise PackagePathDuplicate(path, f"{known[key][1]!a} is there, too, as a folder, in another case, or again; rename one of them")
        known[key] = (_FILE, name)


def _folded(part: str) -> str:
    """Return what is equal for two spellings that differ in case or composition only (Unicode, D145)."""
    return part if part.isascii() and part.islower() else unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold())


def _check_modules(paths: Collection[str]) -> None:
    known = frozenset(paths)
    for path in paths:
        if path.endswith(_PACKAGE) and (module := path.removesuffix(_PACKAGE) + ".py") in known:
            raise PackageModuleAmbiguous(path, f"{module[: limits.REPR_MAX]!a} is a module of the same name; rename one of them")

"""What is to be seen in the sources of a package without running them: names as text, uses of `__file__`, what is imported.

Source: packages-detail.md, A7 and A8.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from packaging.utils import canonicalize_name

from perdure import limits

# Which functions take the name of a module or of a distribution as text, and how many of their first parameters do.
_MODULES: Final = {
    "importlib.import_module": 2,
    "importlib.util.find_spec": 2,
    "importlib.util.resolve_name": 2,
    "pkgutil.find_loader": 1,
    "pkgutil.get_data": 1,
    "pkgutil.get_loader": 1,
    "pkgutil.resolve_name": 1,
    "runpy.run_module": 1,
    "sys.modules.get": 1,
    "sys.modules.pop": 1,
    "jinja2.PackageLoader": 1,
    "jinja2.loaders.PackageLoader": 1,
    **{
        f"{module}.{name}": 1
        for module in ("importlib.resources", "importlib_resources")
        for name in ("contents", "files", "is_resource", "open_binary", "open_text", "path", "read_binary", "read_text")
    },
    **{f"pkg_resources.resource_{name}": 1 for name in ("exists", "filename", "isdir", "listdir", "stream", "string")},
}
_DISTRIBUTIONS: Final = {
    "pkg_resources.get_distribution": 1,
    **{
        f"{module}.{name}": 1
        for module in ("importlib.metadata", "importlib_metadata")
        for name in ("distribution", "files", "metadata", "requires", "version")
    },
}
_TABLE: Final = "sys.modules"
_KEYWORDS: Final = frozenset({"anchor", "distribution_name", "fullname", "mod_name", "name", "package", "package_name"})


class Place(NamedTuple):
    """A line of a package's source: path below `src/`, number, and what stands there."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class Sources(NamedTuple):
    """What was seen.

    Attributes:
        by_text: where a name of the package's own is given to a function as text.
        by_file: where `__file__` is read.
        imported: the foreign names at the top that its import statements begin with, each with its first place.
        unreadable: files that are no Python, with the reason.
    """

    by_text: tuple[Place, ...]
    by_file: tuple[Place, ...]
    imported: Mapping[str, Place]
    unreadable: tuple[Place, ...]


def read_sources(files: Mapping[str, bytes], top_levels: Collection[str], *, distributions: Collection[str] = ()) -> Sources:
    """Look through the modules of a package. Nothing of it is run.

    Args:
        files: bytes by path.
        top_levels: the names at the top that are its own.
        distributions: canonical names of what it requires. Where one is called like a name of its own, its metadata may be asked for.
    """
    by_text: list[Place] = []
    by_file: list[Place] = []
    unreadable: list[Place] = []
    imported: dict[str, Place] = {}
    for path in sorted(path for path in files if path.endswith(".py")):
        try:
            tree = ast.parse(files[path], path)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: it is nested too deeply
            unreadable.append(Place(path, getattr(error, "lineno", None) or 1, f"{type(error).__name__}: {str(error)[: limits.REPR_MAX]}"))
            continue
        aliases = _aliases(tree)
        for node in _run_time(tree):
            if _names_by_text(node, aliases, top_levels, distributions):
                by_text.append(_place(path, node))
            elif isinstance(node, ast.Name) and node.id == "__file__" and isinstance(node.ctx, ast.Load):
                by_file.append(_place(path, node))
            for name in _roots(node):
                if name not in top_levels:
                    imported.setdefault(name, _place(path, node))
    return Sources(tuple(sorted(by_text)), tuple(sorted(by_file)), imported, tuple(unreadable))


def _run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node but those that only a type checker sees. Without recursion: sources may be nested deeply."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Return what names mean that import statements bind, wherever in the module they stand."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({one.asname or _root(one.name): one.name if one.asname else _root(one.name) for one in node.names})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.update({one.asname or one.name: f"{node.module}.{one.name}" for one in node.names})
    return found


def _meant(node: ast.AST, aliases: Mapping[str, str]) -> str:
    """Return the whole name of what an expression stands for; empty when it is no plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in aliases:
        return ""
    return ".".join([aliases[node.id], *reversed(parts)])


def _names_by_text(node: ast.AST, aliases: Mapping[str, str], top_levels: Collection[str], distributions: Collection[str]) -> bool:
    match node:
        case ast.Call(func=function):
            called = _meant(function, aliases)
            if called in _MODULES:
                return any(_own_module(one, top_levels) for one in _given(node, _MODULES[called]))
            if called in _DISTRIBUTIONS:
                return any(_own_distribution(one, top_levels, distributions) for one in _given(node, _DISTRIBUTIONS[called]))
            return False
        case ast.Subscript(value=table, slice=key):
            return _meant(table, aliases) == _TABLE and _own_module(key, top_levels)
        case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[table]):
            return _meant(table, aliases) == _TABLE and _own_module(key, top_levels)
        case _:
            return False


def _given(call: ast.Call, count: int) -> list[ast.expr]:
    return [*call.args[:count], *(keyword.value for keyword in call.keywords if keyword.arg in _KEYWORDS)]


def _own_module(node: ast.expr, top_levels: Collection[str]) -> bool:
    text, whole = _begin(node)
    top, dot, _ = text.partition(".")
    return top.partition(":")[0] in top_levels and (whole or bool(dot))


def _own_distribution(node: ast.expr, top_levels: Collection[str], distributions: Collection[str]) -> bool:
    text, whole = _begin(node)
    name = canonicalize_name(text)
    return whole and name in {canonicalize_name(top) for top in top_levels} and name not in distributions


def _begin(node: ast.expr) -> tuple[str, bool]:
    """Return what a text begins with, as far as it can be read, and whether that is all of it."""
    match node:
        case ast.Constant(value=str(text)):
            return text, True
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *others]):
            return text, not others
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Add() | ast.Mod()):
            return text, False
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return text, False
        case _:
            return "", False


def _roots(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [_root(one.name) for one in names]
        case ast.ImportFrom(module=str(module), level=0):
            return [_root(module)]
        case _:
            return []


def _root(name: str) -> str:
    return name.partition(".")[0]


def _place(path: str, node: ast.AST) -> Place:
    text = ast.unparse(node) if isinstance(node, (ast.expr, ast.stmt)) else ""
    return Place(path, getattr(node, "lineno", 1), text[: limits.REPR_MAX])

"""What the tidy test looks for in one file. Each rule yields its findings as `path:line: what`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.gate.tree import Module

Functions = (ast.FunctionDef, ast.AsyncFunctionDef)

FILE_LINES = {"tests": 399, "src": 600, "examples": 600, "benchmarks": 600}
FUNCTION_LINES = 70
POSITIONAL_PARAMETERS = 4
EMPTY_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"})

_LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
_NOQA = re.compile(r"noqa(?::\s*[A-Z0-9, ]+)?|type: ignore(\[[^]]*\])?")
_SQL_OR_SHELL_COMMENT = re.compile(r"(?:--|#).*\b(?:TODO|FIXME|XXX|HACK)\b")
_REGISTRY = re.compile(
    r"\b(pypi\.org|pythonhosted\.org|npmjs\.(org|com)|docker\.io|ghcr\.io|quay\.io|crates\.io|proxy\.golang\.org|anaconda\.org)\b"
)
_MACHINE_PATH = re.compile(r"(?<![\w.*~)>-])/(work|home|root|Users|opt|tmp)/\w|\b[A-Z]:\\Users\\")


def file_too_long(module: Module) -> Iterator[str]:
    lines, limit = len(module.text.splitlines()), FILE_LINES[module.area]
    if lines > limit:
        yield f"{module.path}:{lines}: a file of {lines} lines, the end is {limit}; split it"


def function_too_long(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, Functions) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{module.path}:{node.lineno}: {node.name} has {lines} lines, the end is {FUNCTION_LINES}"


def too_many_positional(module: Module) -> Iterator[str]:
    if module.area != "src":
        return
    for owner in ast.walk(module.tree):
        for node in ast.iter_child_nodes(owner):
            if isinstance(node, Functions):
                bound = isinstance(owner, ast.ClassDef) and not _decorated(node, "staticmethod")
                count = len(node.args.posonlyargs) + len(node.args.args) - bound
                if count > POSITIONAL_PARAMETERS:
                    yield f"{module.path}:{node.lineno}: {node.name} takes {count} positional parameters, the end is {POSITIONAL_PARAMETERS}"


def empty_name(module: Module) -> Iterator[str]:
    for part in PurePosixPath(module.path).with_suffix("").parts:
        if part.strip("_") in EMPTY_NAMES:
            yield f"{module.path}:1: {part!r} says nothing about what is inside"


def left_for_later(module: Module) -> Iterator[str]:
    for line, comment in _comments(module).items():
        if _LATER.search(comment):
            yield f"{module.path}:{line}: {comment}"


def left_for_later_in_text(path: str, text: str) -> Iterator[str]:
    """The same, in SQL, shell, make and configuration."""
    for number, line in enumerate(text.splitlines(), 1):
        if _SQL_OR_SHELL_COMMENT.search(line):
            yield f"{path}:{number}: {line.strip()}"


def swallowed(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and all(
            isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in node.body
        ):
            yield f"{module.path}:{node.lineno}: swallows an exception; say what happens then, or use contextlib.suppress beside the reason"


def caught_without_reason(module: Module) -> Iterator[str]:
    """Catching everything is for the few edges that pass it on or stop; each says why it is one, on its line or right below."""
    comments = _comments(module)
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler) or not _catches_all(node.type) or _raises(node):
            continue
        said = " ".join(comments.get(line, "") for line in range(node.lineno, node.body[0].lineno))
        if len(_NOQA.sub("", said).strip("# ").split()) < 3:  # a word is no reason
            yield f"{module.path}:{node.lineno}: catches every exception; write `# noqa: BLE001  # why this is an edge`"


def without_docstring(module: Module) -> Iterator[str]:
    if module.area != "src":
        return
    if ast.get_docstring(module.tree) is None and module.text.strip():
        yield f"{module.path}:1: a module without docstring"
    yield from _without_docstring(module.path, module.tree)


def _without_docstring(path: str, owner: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in owner.body:
        if not isinstance(node, (*Functions, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not any(_decorated(node, name) for name in ("overload", "override", "setter")):
            yield f"{path}:{node.lineno}: {node.name} is public and has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _without_docstring(path, node)


def waits_skips_or_mocks(module: Module) -> Iterator[str]:
    """Tests are deterministic, run everywhere, and use the real thing."""
    if module.area != "tests":
        return
    for node, name in named(module.tree):
        if name in {"time.sleep", "anyio.sleep_forever", "unittest.skip", "unittest.mock"} or name.startswith("unittest.mock."):
            yield f"{module.path}:{node.lineno}: {name}"
        elif re.fullmatch(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)", name):
            yield f"{module.path}:{node.lineno}: {name}; a test holds on every machine"


def registry_host(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _REGISTRY.search(line):
            yield f"{path}:{number}: names the registry host {found[0]}"


def machine_path(path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _MACHINE_PATH.search(line):
            yield f"{path}:{number}: a path of one machine: {found[0]}…"


def named(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.alias, str]]:
    """Yield every use of an imported name with its full dotted name, whatever it was imported as."""
    full = _imported(tree)
    inner: set[int] = set()
    for node in ast.walk(tree):  # from the outside in: of `a.b.c`, only the whole is yielded
        if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner and (name := _dotted(node, full, inner)):
            yield node, name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias, f"{node.module}.{alias.name}") for alias in node.names)


def _imported(tree: ast.AST) -> dict[str, str]:
    full = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return full


def _dotted(node: ast.expr, full: dict[str, str], inner: set[int]) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        inner.add(id(node.value))
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in full:
        return ".".join([full[node.id], *reversed(parts)])
    return None


def _comments(module: Module) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _decorated(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, name: str) -> bool:
    return any(ast.unparse(decorator).split("(")[0].rpartition(".")[2] == name for decorator in node.decorator_list)


def _catches_all(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(_catches_all(item) for item in kind.elts)
    return kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"})


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for statement in handler.body for node in ast.walk(statement))

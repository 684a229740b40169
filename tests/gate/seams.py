"""What the tidy test looks for in the package: clocks, randomness and the names of backends, where they do not belong."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.gate.rules import named
from tests.gate.tree import Module

_CLOCKS = frozenset(
    f"time.{name}{unit}"
    for name in ("time", "monotonic", "perf_counter", "clock_gettime", "process_time", "thread_time")
    for unit in ("", "_ns")
) | {
    "time.localtime",
    "time.gmtime",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
_RANDOM = frozenset({"os.urandom", "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"})
_BACKEND = re.compile(r"^(sqlite|postgres|asyncpg|apsw)|:memory:", re.IGNORECASE)


def reads_clock_or_random(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of each reading of time or randomness. A generator with a seed of ours is neither."""
    seeded = {id(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call) and node.args}
    for node, name in named(module.tree):
        if isinstance(node, ast.alias) or (name == "random.Random" and id(node) in seeded):
            continue
        if name in _CLOCKS or name in _RANDOM or name.startswith(("random.", "secrets.")):
            yield node.lineno, name


def branches_on_backend(module: Module) -> Iterator[str]:
    """Only a backend knows which one it is; what differs between them is behind `core.backend`."""
    for node in ast.walk(module.tree):
        for condition in _conditions(node):
            for part in ast.walk(condition):
                if name := _backend_named(part):
                    yield f"{module.path}:{condition.lineno}: branches on the backend {name!r}"


def _conditions(node: ast.AST) -> list[ast.expr | ast.pattern]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            return [test]
        case ast.comprehension(ifs=ifs):
            return list(ifs)
        case ast.match_case(pattern=pattern):
            return [pattern]
        case _:
            return []


def _backend_named(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)) | ast.Name(id=text) | ast.Attribute(attr=text):
            return text if _BACKEND.search(text) else None
        case _:
            return None

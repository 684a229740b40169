"""Random graphs of named types: as Python classes, and as hashes by a second, naive algorithm."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

_COUNT = itertools.count()

WRAPPERS = ("{}", "list[{}]", "dict[str, {}]", "{} | None", "tuple[{}, int]", "list[{} | None]")
_SCALARS = ("int", "str", "bool", "float")


@dataclass
class Part:
    """The type of a field: a scalar, or one or two nodes of the graph, inside a wrapper."""

    targets: tuple[int, ...] = ()
    scalar: str = "int"
    wrapper: str = "{}"

    def annotation(self) -> str:
        inner = " | ".join(f"N{target}" for target in self.targets) or self.scalar
        return self.wrapper.format(inner)

    def expression(self) -> Any:
        alternatives: list[Any] = [{"ref": target} for target in sorted(self.targets)] or [self.scalar]
        if "None" in self.wrapper:
            alternatives.insert(0, "none")
        inner: Any = alternatives[0] if len(alternatives) == 1 else {"union": alternatives}
        if "list" in self.wrapper:
            return {"list": inner}
        if "dict" in self.wrapper:
            return {"dict": ["str", inner]}
        return {"tuple": [inner, "int"]} if "tuple" in self.wrapper else inner


@dataclass
class Node:
    """A struct, whose tag is its number, so that any two may be alternatives."""

    parts: list[Part] = field(default_factory=list)
    extra: int = 0

    def targets(self) -> list[int]:
        return [target for part in self.parts for target in sorted(part.targets)]


def graphs(most: int = 7) -> st.SearchStrategy[list[Node]]:
    def of_size(count: int) -> st.SearchStrategy[list[Node]]:
        targets = st.lists(st.integers(0, count - 1), max_size=2, unique=True).map(tuple)
        part = st.builds(Part, targets, st.sampled_from(_SCALARS), st.sampled_from(WRAPPERS))
        return st.lists(st.builds(Node, st.lists(part, max_size=3)), min_size=count, max_size=count)

    return st.integers(1, most).flatmap(of_size)


@contextmanager
def classes_of(nodes: Sequence[Node], order: Sequence[int] | None = None) -> Iterator[list[Any]]:
    """Define the nodes in a module of their own, in any order, and forget the module afterwards."""
    module = types.ModuleType(f"graph_{next(_COUNT)}")
    lines = ["from __future__ import annotations", "import msgspec"]
    for number in order or range(len(nodes)):
        node = nodes[number]
        lines.append(f"class N{number}(msgspec.Struct, tag={number}):")
        lines += [f"    f{place}: {part.annotation()}" for place, part in enumerate(node.parts)]
        lines += [f"    extra: int = {node.extra}"]
    sys.modules[module.__name__] = module
    try:
        exec("\n".join(lines), module.__dict__)
        yield [getattr(module, f"N{number}") for number in range(len(nodes))]
    finally:
        del sys.modules[module.__name__]


def reaches(nodes: Sequence[Node]) -> list[set[int]]:
    """Return what each node reaches in one step or more, by repeating until nothing is added."""
    found = [set(node.targets()) for node in nodes]
    while True:
        more = [targets.union(*(found[target] for target in targets)) for targets in found]
        if more == found:
            return found
        found = more


def naive_hashes(nodes: Sequence[Node]) -> list[str]:
    """Return the hash of each node's own document, from the words of the specification and nothing else."""
    reach = reaches(nodes)
    known: dict[int, str] = {}

    def hash_of(member: int) -> str:
        if member in known:
            return known[member]
        component = {other for other in reach[member] if member in reach[other]} | {member}
        order = [member]
        for key in order:
            order.extend(other for other in nodes[key].targets() if other in component and other not in order)
        definitions = [_definition(number, nodes[number], order, hash_of) for number in order]
        document = json.dumps({"schema": 1, "defs": definitions}, sort_keys=True, separators=(",", ":"))
        known[member] = hashlib.sha256(document.encode()).hexdigest()[:32]
        return known[member]

    return [hash_of(number) for number in range(len(nodes))]


def _definition(number: int, node: Node, order: list[int], hash_of: Any) -> Any:
    def placed(tree: Any) -> Any:
        if isinstance(tree, dict):
            if "ref" in tree:
                return {"ref": order.index(tree["ref"]) if tree["ref"] in order else hash_of(tree["ref"])}
            return {key: placed(part) for key, part in tree.items()}
        return [placed(part) for part in tree] if isinstance(tree, list) else tree

    fields = [{"name": f"f{place}", "type": placed(part.expression())} for place, part in enumerate(node.parts)]
    fields.append({"name": "extra", "type": "int", "default": node.extra})
    return {"struct": f"N{number}", "tag": ["type", number], "fields": fields}

"""From definitions to documents: recursive groups, the order of a document's members, and hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from perdure import limits
from perdure.errors import SchemaUnsupported
from perdure.schemas.canonical import hash_of, text_of
from perdure.schemas.expressions import TypeGraph
from perdure.schemas.registry import SchemaRegistry, TypeRef

# In canonical text this can only be a reference: a quote inside of text is written as \", and no value has such a key.
_NUMBER: Final = re.compile(r'\{"ref":(\d+)\}')


def schema_of(type: Any) -> tuple[TypeRef, SchemaRegistry]:
    """Return the name of a type's schema, and every document that it reaches, its own included.

    It depends on nothing but the data that the type allows: not on modules, the order of definition, or the type that
    one starts from. It takes 0.3 to 0.6 ms: call it once per type, not per value.

    Args:
        type: what `msgspec` encodes and decodes, such as a Struct, a dataclass, `list[Order]` or `Order | None`.

    Raises:
        SchemaUnsupported: the type, or a part of it, has no schema; the text has the path to that part.

    Source: schemas.md, "Canonical form, version 1".
    """
    try:
        graph = TypeGraph(type)
        definitions = [Definition(text) for text in graph.texts()]
        root = Definition(text_of(graph.root, depth=limits.SCHEMA_DEPTH_MAX - 2))
    except RecursionError:
        raise SchemaUnsupported("", f"{_shown(type)} is nested too deeply") from None
    except ValueError as error:
        raise SchemaUnsupported("", f"{_shown(type)}: {error}") from error
    hashes, documents = _documents_of(definitions, root.targets)
    if isinstance(graph.root, dict) and "ref" in graph.root:
        name = hashes[graph.root["ref"]]
    else:
        document = document_of(root.written({number: f'"{hashes[number]}"' for number in root.targets}))
        name = hash_of(document)
        documents[name] = document
    for document in documents.values():
        if len(document) > limits.SCHEMA_DOCUMENT_MAX:
            size = f"a document of {len(document):,} bytes, the limit is {limits.SCHEMA_DOCUMENT_MAX:,}; split the type"
            raise SchemaUnsupported("", f"{_shown(type)}: {size}")
    return TypeRef(name), SchemaRegistry(documents)


def document_of(definitions: str) -> bytes:
    """Return the document of definitions that are canonical text, with commas between them."""
    return f'{{"defs":[{definitions}],"schema":1}}'.encode()


class Definition:
    """The canonical text of a definition, with places for its references by number; groups are written many times over."""

    __slots__ = ("_template", "targets")

    def __init__(self, text: str) -> None:
        self._template = _NUMBER.sub('{"ref":%s}', text.replace("%", "%%"))
        self.targets = [int(number) for number in _NUMBER.findall(text)]  # from left to right

    def written(self, names: Mapping[int, str]) -> str:
        """Return the text with `names` for what each reference holds."""
        return self._template % tuple(map(names.__getitem__, self.targets))


def document_from(member: int, definitions: Sequence[Definition], hashes: Mapping[int, str]) -> tuple[bytes, list[int]]:
    """Return the document of one definition, and the numbers of its members in the document's order.

    Args:
        member: the definition to begin with.
        definitions: all of them; they refer to one another by number.
        hashes: of the definitions outside of the member's recursive group.

    Source: schemas.md, "References".
    """
    names = {number: f'"{name}"' for number, name in hashes.items()} | {member: "0"}
    order = [member]
    for number in order:
        for target in definitions[number].targets:
            if target not in names:
                names[target] = str(len(order))
                order.append(target)
    return document_of(",".join(definitions[number].written(names) for number in order)), order


def components(edges: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the strongly connected components of a graph, referred-to first.

    Args:
        edges: for each node, the nodes that it refers to.
    """
    found: list[list[int]] = []
    met: dict[int, int] = {}  # node -> when it was met
    lowest: dict[int, int] = {}  # node whose component is still open -> the earliest open node that it is known to reach
    path: list[tuple[int, Iterator[int]]] = []

    def enter(node: int) -> None:
        met[node] = lowest[node] = len(met)
        path.append((node, iter(edges[node])))

    for root in range(len(edges)):
        if root not in met:
            enter(root)
        while path:
            node, targets = path[-1]
            target = next((target for target in targets if target not in met or target in lowest), None)
            if target is None:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == met[node]:
                    group = [other for other in lowest if met[other] >= met[node]]
                    found.append(group)
                    for other in group:
                        del lowest[other]
            elif target not in met:
                enter(target)
            else:
                lowest[node] = min(lowest[node], met[target])
    return found


def _documents_of(definitions: Sequence[Definition], root: Sequence[int]) -> tuple[dict[int, str], dict[str, bytes]]:
    """Return the hashes, by number, and the documents of those definitions that the root or another group refers to."""
    edges = [definition.targets for definition in definitions]
    groups = components(edges)
    home = {number: place for place, group in enumerate(groups) for number in group}
    wanted = {*root, *(target for source, targets in enumerate(edges) for target in targets if home[target] != home[source])}
    hashes: dict[int, str] = {}
    documents: dict[str, bytes] = {}
    for group in groups:
        made = {number: document_from(number, definitions, hashes)[0] for number in group if number in wanted}
        for number, document in made.items():
            hashes[number] = hash_of(document)
            documents[hashes[number]] = document
    return hashes, documents


def _shown(type: Any) -> str:
    return f"{type!r:.{limits.REPR_MAX}}"

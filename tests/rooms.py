"""What the rooms declare."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Iterator
from typing import Any

import perdure
from perdure.core.table import Index, Table


def _declared(name: str) -> Iterator[Any]:
    for room in pkgutil.iter_modules(perdure.__path__, "perdure."):
        if room.ispkg and importlib.util.find_spec(f"{room.name}.tables"):
            yield from getattr(importlib.import_module(f"{room.name}.tables"), name)


TABLES: list[Table[Any]] = list(_declared("TABLES"))
INDEXES: list[Index[Any]] = list(_declared("INDEXES"))
EVERY_STORES = frozenset({"store", "migration", "writer", "counter"})
"""Tables that belong to no room."""
EVERY_STORES_INDEXES = frozenset({"counter_of_node"})

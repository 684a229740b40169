"""Rows for every table of a store: some with all that can be empty empty, and some with nothing empty."""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from perdure import VirtualClock, open_store
from perdure.core.table import Key, Table
from perdure.core.view import View
from perdure.tables import TABLES

EACH: Final = 12
LONG: Final = 40_000
FITTING: Final[dict[str, Any]] = {
    "catch_up": "all",
    "codec": "zlib",
    "content_hash": "c" * 64,
    "overlap": "skip",
    "package_hash": "a" * 64,
    "policy": "volatile",
    "previous": "d" * 64,
    "root_type": "r" * 32,
    "stage": "key",
}
"""What the databases check of columns that a type does not tell."""
OF_TABLE: Final[dict[tuple[str, str], Any]] = {
    ("aging", "what"): "turns",
    ("command", "holder"): 0,
    ("command", "lease_expires_at"): None,
    ("command", "model"): "pull",
    ("command", "ready"): 0,
    ("command_key", "digest"): b"d" * 32,
    ("message", "status"): "done",
    ("operation", "lease_expires_at"): None,
    ("operation", "outcome"): "ok",
    ("operation", "response"): b"\x00answer",
    ("operation", "state"): "sealed",
    ("package", "sha256"): "e" * 64,
    ("process", "status"): "ended",
    ("process_attribute", "kind"): "int",
    ("token", "secret_hash"): b"h" * 32,
    ("registry_event", "actor"): "caller",
    ("registry_event", "what"): "bind",
    ("schedule", "status"): "active",
    ("turn", "outcome"): "ok",
    ("turn", "state"): "finished",
}
NUMBERED: Final = frozenset({"tick", "seq", "stream_no", "priority", "shard"})
NUMBERED_KEYS: Final = NUMBERED | {"available_at", "due_at", "number"}


class FillAll:
    """Insert rows of all tables, and count them."""

    def reads(self) -> Iterator[Key[Any]]:
        for table in TABLES:
            if table.kind != "log":
                yield from (table.key(*made(table, n)[0]) for n in range(EACH))

    def decide(self, view: View) -> int:
        for table in TABLES:
            for n in range(EACH):
                key, row = made(table, n)
                if table.kind != "log":
                    assert view.get(table.key(*key)) is None
                view.insert(table.key(*key), row)
            view.count(f"rows of {table.name}", EACH)
        return view.tick()


def made(table: Table[Any], n: int) -> tuple[tuple[Any, ...], msgspec.Struct]:
    """Return key and row number `n` of a table; every third has nothing in it that need not be."""
    hints = typing.get_type_hints(table.row)
    key = tuple(_key_part(column, n) for column in table.key_columns)
    values = {field: _value(table.name, field, hints[field], n) for field in table.row.__struct_fields__}
    if table.name == "registry_key" and values["process_id"] is None:
        values |= {"process_type": "", "tick": 0}
    if table.name == "command":
        values["state"] = "PENDING" if values["completed_at"] is None else "SUCCEEDED"
    if table.name == "command_body" and values["data"] is not None:
        values["sha256"] = ""
    if table.name == "blob":
        values["refs"] = int(values["removed_at"] is None)
    return key, table.row(**values)


def _key_part(column: str, n: int) -> Any:
    if column in NUMBERED_KEYS:
        return n * 10**15 + 1
    if column == "part":
        return "params"
    if column in {"sha256", "content_hash"}:
        return f"{n:064}"
    if column == "kind":
        return "tenant"
    return "h" * 30 + f"{n:02}" if column == "hash" else f"{column} ß 😀 {n}"


def _value(table: str, field: str, hint: Any, n: int) -> Any:
    kinds = set(typing.get_args(hint)) or {hint}
    if (table, field) in OF_TABLE:
        return OF_TABLE[table, field]
    if type(None) in kinds and n % 3 == 0:
        return None
    if field in FITTING:
        return FITTING[field]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return next(iter(kind)).value
    if bytes in kinds:
        return bytes(range(32)) if field.endswith("digest") else b"\x00\xff" * (LONG if n % 5 == 0 else n + 1)
    if int in kinds:
        return n * 10**15 + 1 if field in NUMBERED else 1
    return f"{field}\n{n}"


async def fill(url: str) -> int:
    """Fill a store and return the greatest tick in it."""
    async with open_store(url, clock=VirtualClock()) as store:
        [tick] = await store.commit(FillAll())
    return int(tick)

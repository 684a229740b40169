"""Tenants, processes and a way to damage rows, for the tests of contract 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.errors import RejectedError
from perdure.identity import ContentHash, ProcessId, ProcessIdentity, RegistryKey, TenantId

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
ORDER = RegistryKey("order:17")
OLD, NEW = ContentHash("0" * 64), ContentHash("f" * 64)


def process(
    process_id: str, *, tenant_id: TenantId = ACME, process_type: str = "order", package_hash: ContentHash | None = None
) -> ProcessIdentity:
    return ProcessIdentity(tenant_id=tenant_id, process_id=ProcessId(process_id), process_type=process_type, package_hash=package_hash)


P1, P2, P3 = process("p1"), process("p2"), process("p3", package_hash=OLD)


class Damage(msgspec.Struct, frozen=True):
    """Change rows without any record, as a bug or a person with a database client would."""

    rows: dict[Key[Any], Any]
    counts: dict[str, int] = {}

    def reads(self) -> Iterable[Read]:
        return self.rows

    def decide(self, view: View) -> None:
        for key, row in self.rows.items():
            before = view.get(key)
            if row is None:
                view.delete(key)
            elif before is None:
                view.insert(key, row)
            else:
                view.update(key, row)
        for counter, delta in self.counts.items():
            view.count(counter, delta)


class Do(msgspec.Struct, frozen=True):
    """A transaction of another room: some decisions, then perhaps a refusal."""

    decide_it: Callable[[View], Any]
    refuse: bool = False

    def reads(self) -> Iterable[Read]:
        return ()

    def decide(self, view: View) -> Any:
        result = self.decide_it(view)
        if self.refuse:
            raise RejectedError("no")
        return result

"""Contract 4, DurableStore against dictionaries: random histories, with restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from perdure.clock import VirtualClock
from perdure.errors import HistoryCompacted, PerdureError, SequenceConflict, ValueConflict
from perdure.store import Store, open_store

T = TypeVar("T")
TENANTS = st.sampled_from(["default", "other"])
NAMES = st.sampled_from(["a", "ab", "ab:1", "b"])
PAYLOADS = st.binary(max_size=3)
OFF = st.sampled_from([0, 0, 0, 0, -1, 1])
VALUES = st.sampled_from([None, 0, 1, 2])


class StreamsMachine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model, and compares what they answer."""

    url = "sqlite:///:memory:"
    reopens = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.entries: dict[tuple[str, str], list[bytes]] = {}
        self.first: dict[tuple[str, str], int] = {}
        self.values: dict[tuple[str, str], int] = {}
        self.store: Store

    def run(self, call: Coroutine[Any, Any, T]) -> T | type[PerdureError]:
        async def attempt() -> T | type[PerdureError]:
            try:
                return await call
            except PerdureError as error:
                return type(error)

        return self.runner.run(attempt())

    async def _open(self) -> None:
        self.store = await open_store(self.url.format(Path(self.folder.name) / "store.db"), clock=VirtualClock())
        self.streams = self.store.streams

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(tenant=TENANTS, name=NAMES, payloads=st.lists(PAYLOADS, min_size=1, max_size=4), off=OFF)
    def append(self, tenant: str, name: str, payloads: list[bytes], off: int) -> None:
        entries = self.entries.get((tenant, name), [])
        at = max(0, len(entries) + off)
        call = (
            self.streams.append(name, payloads[0], at, tenant_id=tenant)
            if len(payloads) == 1
            else self.streams.append_batch(name, payloads, at, tenant_id=tenant)
        )

        if at == len(entries):
            assert self.run(call) == at
            self.entries[tenant, name] = entries + payloads
        else:
            assert self.run(call) is SequenceConflict

    @rule(tenant=TENANTS, name=NAMES, before=st.integers(0, 8))
    def truncate(self, tenant: str, name: str, before: int) -> None:
        entries = self.entries.get((tenant, name), [])
        found = self.run(self.streams.truncate(name, before, tenant_id=tenant))

        if before > len(entries):
            assert found is SequenceConflict
        else:
            assert found is None
            self.first[tenant, name] = max(before, self.first.get((tenant, name), 0))

    @rule(tenant=TENANTS, key=NAMES, old=VALUES, new=VALUES)
    def cas(self, tenant: str, key: str, old: int | None, new: int | None) -> None:
        found = self.run(self.streams.cas(key, old, new, tenant_id=tenant))

        if self.values.get((tenant, key)) != old:
            assert found is ValueConflict
        else:
            assert found is None
            self.values.pop((tenant, key), None)
            if new is not None:
                self.values[tenant, key] = new

    @rule()
    def reopen(self) -> None:
        if self.reopens:
            self.runner.run(self.store.close())
            self.runner.run(self._open())

    @rule(tenant=TENANTS, name=NAMES, offset=st.integers(0, 9), limit=st.integers(0, 4))
    def read(self, tenant: str, name: str, offset: int, limit: int) -> None:
        entries = self.entries.get((tenant, name), [])
        page = self.run(self.streams.read_from(name, offset, limit, tenant_id=tenant))
        one = self.run(self.streams.read_at(name, offset, tenant_id=tenant))

        if offset < self.first.get((tenant, name), 0):
            assert page is one is HistoryCompacted
        else:
            assert isinstance(page, list)
            assert [(entry.seq, entry.payload) for entry in page] == list(enumerate(entries))[offset : offset + limit]
            assert one is None or one.payload == entries[offset]  # type: ignore[union-attr]
            assert (one is None) == (offset >= len(entries))

    @invariant()
    def same(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.compare())

    async def compare(self) -> None:
        for tenant in ("default", "other"):
            names = sorted(name for of, name in self.entries if of == tenant)
            for prefix in ("", "a", "ab", "ab:"):
                assert await self.streams.list_streams(prefix, tenant_id=tenant) == [name for name in names if name.startswith(prefix)]
            for key in ("a", "ab", "ab:1", "b"):
                assert await self.streams.read_value(key, tenant_id=tenant) == self.values.get((tenant, key))


class FileMachine(StreamsMachine):
    """The same on a file, with restarts."""

    url = "sqlite:///{}"
    reopens = True


COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
TestInMemory = StreamsMachine.TestCase
TestInMemory.settings = settings(max_examples=25, stateful_step_count=40, **COMMON)
TestInFile = FileMachine.TestCase
TestInFile.settings = settings(max_examples=6, stateful_step_count=40, **COMMON)

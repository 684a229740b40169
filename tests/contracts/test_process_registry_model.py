"""Contract 1 against a model of dictionaries, over random histories.

The model is written from the contract: who has which key, and who is under which tag, in order.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from perdure.clock import SECOND, VirtualClock
from perdure.core.table import Scan
from perdure.identity import ProcessId, ProcessIdentity, RegistryKey, TenantId
from perdure.routing.registry import Registry
from perdure.routing.tables import CORRELATIONS, KEYS
from perdure.store import Store, open_store
from tests.contracts.registry import ACME, GLOBEX, NEW, OLD, Damage

T = TypeVar("T")
tenants = st.sampled_from([ACME, GLOBEX])
keys = st.sampled_from([RegistryKey(text) for text in ("a", "a/b", "ab", "é")])
tags = st.sampled_from(["a", "a/b", "t%"])
ids = st.sampled_from([ProcessId(text) for text in ("p1", "p2", "p3")])
hashes = st.sampled_from([None, OLD, NEW])


class Model:
    def __init__(self) -> None:
        self.owner: dict[tuple[TenantId, RegistryKey], ProcessIdentity] = {}
        self.members: dict[tuple[TenantId, str], dict[ProcessId, ProcessIdentity]] = {}

    def release(self, tenant_id: TenantId, process_id: ProcessId) -> int:
        held = [place for place, who in self.owner.items() if place[0] == tenant_id and who.process_id == process_id]
        for place in held:
            del self.owner[place]
        left = [under.pop(process_id) for (of, _), under in self.members.items() if of == tenant_id and process_id in under]
        return len(held) + len(left)


class RegistryMachine(RuleBasedStateMachine):
    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.url = "sqlite:///:memory:" if self.kind == "memory" else f"sqlite:///{self.folder / 'store.db'}"
        self.clock = VirtualClock()
        self.model = Model()

    @initialize()
    def begin(self) -> None:
        self.store: Store = self.run(self._open())

    async def _open(self) -> Store:
        store = await open_store(self.url, clock=self.clock)
        self.registry = Registry(store.access)
        return store

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def identity(self, tenant_id: TenantId, process_id: ProcessId, package_hash: Any) -> ProcessIdentity:
        return ProcessIdentity(tenant_id=tenant_id, process_id=process_id, process_type="order", package_hash=package_hash)

    @rule(tenant_id=tenants, key=keys, process_id=ids, package_hash=hashes)
    def register(self, tenant_id: TenantId, key: RegistryKey, process_id: ProcessId, package_hash: Any) -> None:
        identity = self.identity(tenant_id, process_id, package_hash)
        self.run(self.registry.register(tenant_id, key, identity))
        self.model.owner[tenant_id, key] = identity

    @rule(tenant_id=tenants, key=keys, process_id=ids, package_hash=hashes)
    def register_if_absent(self, tenant_id: TenantId, key: RegistryKey, process_id: ProcessId, package_hash: Any) -> None:
        identity = self.identity(tenant_id, process_id, package_hash)
        owner = self.model.owner.get((tenant_id, key))
        if owner is None or owner.process_id == process_id:
            self.model.owner[tenant_id, key] = identity

        assert self.run(self.registry.register_if_absent(tenant_id, key, identity)) == self.model.owner[tenant_id, key]

    @rule(tenant_id=tenants, key=keys, expected=ids, process_id=ids, package_hash=hashes)
    def replace(self, tenant_id: TenantId, key: RegistryKey, expected: ProcessId, process_id: ProcessId, package_hash: Any) -> None:
        identity = self.identity(tenant_id, process_id, package_hash)
        owner = self.model.owner.get((tenant_id, key))
        done = owner is not None and owner.process_id == expected
        if done:
            self.model.owner[tenant_id, key] = identity

        assert self.run(self.registry.replace(tenant_id, key, expected, identity)) == done

    @rule(tenant_id=tenants, key=keys)
    def remove(self, tenant_id: TenantId, key: RegistryKey) -> None:
        self.run(self.registry.remove(tenant_id, key))
        self.model.owner.pop((tenant_id, key), None)

    @rule(tenant_id=tenants, key=keys, process_id=ids)
    def remove_if(self, tenant_id: TenantId, key: RegistryKey, process_id: ProcessId) -> None:
        owner = self.model.owner.get((tenant_id, key))
        done = owner is not None and owner.process_id == process_id
        if done:
            del self.model.owner[tenant_id, key]

        assert self.run(self.registry.remove_if(tenant_id, key, process_id)) == done

    @rule(tenant_id=tenants, tag=tags, process_id=ids, package_hash=hashes)
    def register_correlated(self, tenant_id: TenantId, tag: str, process_id: ProcessId, package_hash: Any) -> None:
        identity = self.identity(tenant_id, process_id, package_hash)
        self.run(self.registry.register_correlated(tenant_id, tag, process_id, identity))
        self.model.members.setdefault((tenant_id, tag), {})[process_id] = identity

    @rule(tenant_id=tenants, tag=tags, process_id=ids)
    def remove_correlated(self, tenant_id: TenantId, tag: str, process_id: ProcessId) -> None:
        self.run(self.registry.remove_correlated(tenant_id, tag, process_id))
        self.model.members.get((tenant_id, tag), {}).pop(process_id, None)

    @rule(tenant_id=tenants, process_id=ids)
    def release(self, tenant_id: TenantId, process_id: ProcessId) -> None:
        assert self.run(self.registry.release(tenant_id, process_id)) == self.model.release(tenant_id, process_id)

    @rule(duration=st.integers(-2 * SECOND, 2 * SECOND))
    def time_goes_or_is_set_back(self, duration: int) -> None:
        self.clock.advance(duration)

    @rule()
    def reopen(self) -> None:
        if self.kind == "file":
            self.run(self.store.close())
            self.store = self.run(self._open())

    @rule(tenant_id=tenants, lost=st.sets(st.integers(0, 10)))
    def lose_rows_and_rebuild(self, tenant_id: TenantId, lost: set[int]) -> None:
        before = self.rows(tenant_id)
        gone = [key for number, key in enumerate(before) if number in lost]
        self.run(self.store.commit(Damage(dict.fromkeys(gone))))

        assert self.run(self.registry.rebuild(tenant_id)) == len(gone)
        assert self.rows(tenant_id) == before

    def rows(self, tenant_id: TenantId) -> dict[Any, Any]:
        scan = self.store.access.reader.scan
        found: dict[Any, Any] = dict(self.run(scan(Scan(KEYS, (tenant_id,), 100))))
        return found | dict(self.run(scan(Scan(CORRELATIONS, (tenant_id,), 100))))

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        self.run(self._compare())

    async def _compare(self) -> None:
        registry, model = self.registry, self.model
        assert await registry.len() == len(model.owner)
        assert await registry.is_empty() == (not model.owner)
        for tenant_id in (ACME, GLOBEX):
            for text in ("a", "a/b", "ab", "é"):
                key = RegistryKey(text)
                assert await registry.lookup(tenant_id, key) == model.owner.get((tenant_id, key))
            for tag in ("a", "a/b", "t%"):
                assert await registry.lookup_correlated(tenant_id, tag) == list(model.members.get((tenant_id, tag), {}).values())
            for name in ("p1", "p2", "p3"):
                process_id = ProcessId(name)
                held = sorted(key for (of, key), who in model.owner.items() if of == tenant_id and who.process_id == process_id)
                under = sorted(tag for (of, tag), who in model.members.items() if of == tenant_id and process_id in who)
                assert await registry.keys_of(tenant_id, process_id) == held
                assert await registry.tags_of(tenant_id, process_id) == under
            assert await registry.verify(tenant_id) == []

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)


class FileMachine(RegistryMachine):
    kind = "file"


_machine: Callable[[type[RegistryMachine]], Any] = lambda machine: machine.TestCase  # noqa: E731
TestInMemory = _machine(RegistryMachine)
TestInMemory.settings = settings(deadline=None, max_examples=20, stateful_step_count=25)
TestInFile = _machine(FileMachine)
TestInFile.settings = settings(deadline=None, max_examples=6, stateful_step_count=25)

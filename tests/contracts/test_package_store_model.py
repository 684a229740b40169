"""Contract 5 against a model: random histories of puts, routes, starts and removals, with restarts in between."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from perdure.clock import VirtualClock
from perdure.conversations.tables import ProcessStatus
from perdure.errors import (
    PackageMissing,
    PackagePinned,
    PackageRouted,
    PerdureError,
    ProcessTypeRetired,
    RouteConflict,
    RouteMissing,
    RouteRefused,
)
from perdure.packages.contract import Action, PackageRecord, PackageRouteRecord
from perdure.packages.routes import choose
from perdure.store import open_store
from tests.contracts.packages import AT, Become, Hash, Route, Start, check, hash_of
from tests.stores import store_url

T = TypeVar("T")
HASHES = sorted(hash_of(n) for n in range(3))
TYPES = ["invoice", "order"]
TENANTS = ["acme", "other"]
ARCHIVES = [b"a" * 100, bytes(range(256)), b"1"]
OVER = {ProcessStatus.ENDED, ProcessStatus.REMOVED}
DAY_US = 86_400 * 1_000_000
hashes, types = st.sampled_from(HASHES), st.sampled_from(TYPES)


class PackageMachine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model, and compares what they answer."""

    url = "sqlite:///:memory:"
    reopens = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = VirtualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.archives: dict[str, bytes] = {}
        self.used: dict[str, int] = {}
        self.listed: dict[tuple[str, str], datetime] = {}
        self.routes: dict[str, Route] = {}
        self.log: dict[str, list[tuple[str, Hash, Hash]]] = {name: [] for name in TYPES}
        self.processes: dict[str, tuple[Hash, str]] = {}
        self.statuses: dict[str, ProcessStatus] = {}

    def run(self, step: Awaitable[T]) -> T | type[PerdureError]:
        async def attempt() -> T | type[PerdureError]:
            try:
                return await step
            except PerdureError as error:
                return type(error)

        return self.runner.run(attempt())

    async def _open(self) -> None:
        self.store = await open_store(self.url.format(Path(self.folder.name) / "store.db"), clock=self.clock)
        self.packages = self.store.packages

    @initialize()
    def open(self) -> None:
        self.runner.run(self._open())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    # --- what the seed has -----------------------------------------------------------------------------

    @rule(
        name=hashes,
        workflow_type=types,
        archive=st.sampled_from(ARCHIVES),
        after=st.integers(0, 3),
        routes=st.one_of(st.none(), st.lists(types, max_size=3)),
    )
    def put(self, name: str, workflow_type: str, archive: bytes, after: int, routes: list[str] | None) -> None:
        when = AT + timedelta(microseconds=after)
        record = PackageRecord(workflow_type=workflow_type, content_hash=name, archive=archive, deployed_at=when)
        if routes is None:
            assert self.run(self.packages.put_package(record)) is None
        else:
            assert self.run(self.packages.put_package_with_routes(record, routes)) is None
        self.archives[name], self.listed[workflow_type, name], self.used[name] = archive, when, self.clock.now()
        pointed = [workflow_type] if routes is None else list(dict.fromkeys(routes))
        for each in pointed:
            self.point(each, name, Action.DEPLOYED)
        if workflow_type not in pointed:
            self.log[workflow_type].append((Action.STORED, name, None))

    @rule(name=hashes, workflow_type=types)
    def delete(self, name: str, workflow_type: str) -> None:
        assert self.run(self.packages.delete_package(workflow_type, name)) is None
        if self.listed.pop((workflow_type, name), None) is not None:
            self.log[workflow_type].append((Action.DELETED, name, None))
            if not self.types_of(name):
                del self.archives[name]

    @rule(name=hashes, workflow_type=types, expected=st.sampled_from(["any", "none", "right", *HASHES]))
    def put_route(self, name: str, workflow_type: str, expected: str) -> None:
        found = self.default(workflow_type)
        wanted = {"none": None, "right": found}.get(expected, expected)

        step = self.packages.put_package_route(workflow_type, name, expected=msgspec.UNSET if expected == "any" else wanted)

        if expected != "any" and wanted != found:
            assert self.run(step) is RouteConflict
            return
        assert self.run(step) is None
        self.point(workflow_type, name, Action.ROUTED)

    # --- routes -------------------------------------------------------------------------------------------

    @rule(name=hashes, workflow_type=types)
    def set_default(self, name: str, workflow_type: str) -> None:
        route = self.routes.get(workflow_type)
        changed = route is None or route.default != name or bool(route.weights)

        found = self.run(self.packages.set_route(workflow_type, name))

        assert found is (changed if name in self.archives else PackageMissing)
        if name in self.archives:
            self.point(workflow_type, name, Action.ROUTED)

    @rule(name=st.one_of(st.none(), hashes), workflow_type=types, tenant=st.sampled_from(TENANTS))
    def set_tenant(self, name: Hash, workflow_type: str, tenant: str) -> None:
        before = self.routes.get(workflow_type, Route()).tenants.get(tenant)

        found = self.run(self.packages.set_route(workflow_type, name, tenant=tenant))

        if name is not None and name not in self.archives:
            assert found is PackageMissing
            return
        assert found is (before != name)
        self.use(name)
        if before == name:
            return
        self.use(before)
        tenants = self.routes.setdefault(workflow_type, Route()).tenants
        if name is None:
            del tenants[tenant]
        else:
            tenants[tenant] = name
        self.log[workflow_type].append((Action.TENANT_ROUTED if name else Action.TENANT_UNROUTED, name, before))

    @rule(name=hashes, workflow_type=types, weight=st.sampled_from([0, 1, 4_000, 6_000, 10_000]))
    def set_weight(self, name: str, workflow_type: str, weight: int) -> None:
        weights = self.routes.get(workflow_type, Route()).weights
        expected: Any = True
        if weight == weights.get(name, 0):
            expected = False
        elif weight and name not in self.archives:
            expected = PackageMissing
        elif weight and self.default(workflow_type) is None:
            expected = RouteMissing
        elif weight + sum(share for each, share in weights.items() if each != name) > 10_000:
            expected = RouteRefused

        assert self.run(self.packages.set_route(workflow_type, name, weight=weight)) is expected
        if expected is True:
            self.use(name)
            if weight:
                weights[name] = weight
            else:
                del weights[name]
            self.log[workflow_type].append((Action.WEIGHTED, name, None))

    @rule(workflow_type=types)
    def rollback(self, workflow_type: str) -> None:
        route = self.routes.get(workflow_type, Route())
        before = route.led[-1:] if route.retired else route.led[-2:-1]

        found = self.run(self.packages.rollback(workflow_type))

        if not before or before[0] not in self.archives:
            assert found is (PackageMissing if before else RouteMissing)
            return
        assert found == before[0]
        self.point(workflow_type, before[0], Action.ROLLED_BACK)

    @rule(workflow_type=types)
    def retire(self, workflow_type: str) -> None:
        route = self.routes.get(workflow_type, Route())
        rules = route.rules()

        found = self.run(self.packages.retire(workflow_type))

        assert found is (True if rules else False if route.retired else RouteMissing)
        if rules:
            self.log[workflow_type].append((Action.RETIRED, None, route.default))
            for one in rules:
                self.use(one.content_hash)
            route.retired, route.tenants, route.weights = True, {}, {}

    # --- processes ------------------------------------------------------------------------------------------

    @rule(workflow_type=types, tenant=st.sampled_from(TENANTS), status=st.sampled_from(ProcessStatus))
    def start(self, workflow_type: str, tenant: str, status: ProcessStatus) -> None:
        process_id, route = f"p{len(self.processes)}", self.routes.get(workflow_type, Route())
        expected: Any = choose(route.rules(), workflow_type=workflow_type, key=process_id, tenant=tenant)
        if expected is None and route.retired:
            expected = ProcessTypeRetired
        elif expected is not None and expected not in self.archives:
            expected = PackageMissing

        found = self.run(self.store.commit(Start(process_id, None, status, tenant, workflow_type)))

        assert found == ((expected,) if expected is None or isinstance(expected, str) else expected)
        if expected is None or isinstance(expected, str):
            self.processes[process_id] = (expected, tenant)
            self.statuses[process_id] = status

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), status=st.sampled_from(ProcessStatus))
    def become(self, data: st.DataObject, status: ProcessStatus) -> None:
        going = [name for name in self.processes if self.statuses[name] not in OVER]
        if going:
            name = data.draw(st.sampled_from(going))
            self.run(self.store.commit(Become(name, status, self.processes[name][1])))
            self.statuses[name] = status

    # --- removals ---------------------------------------------------------------------------------------------

    @rule(name=hashes)
    def unload(self, name: str) -> None:
        expected = self.refusal(name)
        listed = tuple(self.types_of(name))

        found: Any = self.run(self.packages.unload(name))

        if expected is not None:
            assert found is expected
            return
        assert (found.content_hash, found.workflow_types, found.size) == (name, listed, len(self.archives[name]))
        self.forget(name, Action.UNLOADED)

    @rule(keep_last=st.integers(0, 2), older_than=st.sampled_from([0, DAY_US, 2 * DAY_US]))
    def collect(self, keep_last: int, older_than: int) -> None:
        last: set[str] = set()
        for workflow_type in TYPES:
            known = sorted((when, name) for (each, name), when in self.listed.items() if each == workflow_type)
            last.update(name for _, name in known[max(0, len(known) - keep_last) :])
        old = {name for name in self.archives if self.used[name] <= self.clock.now() - older_than}
        expected = {name for name in old - last if self.refusal(name) is None}

        found: Any = self.run(self.packages.collect(keep_last=keep_last, older_than=timedelta(microseconds=older_than)))

        assert {one.content_hash for one in found} == expected
        for one in found:
            self.forget(one.content_hash, Action.COLLECTED)

    @rule()
    def sweep(self) -> None:
        self.run(self.packages.sweep(self.clock.now()))

    @rule()
    def wait(self) -> None:
        self.clock.advance(DAY_US)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self._open())

    # --- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def what_is_stored_is_the_models(self) -> None:
        rows = sorted((when, workflow_type, name) for (workflow_type, name), when in self.listed.items())
        records = [
            PackageRecord(workflow_type=workflow_type, content_hash=name, archive=self.archives[name], deployed_at=when)
            for when, workflow_type, name in rows
        ]
        assert self.run(self.packages.list_packages()) == records
        infos: Any = self.run(self.packages.list_package_info())
        assert [(one.workflow_type, one.content_hash, one.deployed_at, one.size, one.routed) for one in infos] == [
            (workflow_type, name, when, len(self.archives[name]), self.default(workflow_type) == name)
            for (workflow_type, name), when in sorted(self.listed.items())
        ]
        for name in HASHES:
            found: Any = self.run(self.packages.get_package(name))
            assert (found if name not in self.archives else found.archive) == self.archives.get(name, PackageMissing)
        self.runner.run(check(self.store))

    @invariant()
    def routes_are_the_models(self) -> None:
        defaults = [(each, self.default(each)) for each in TYPES]
        assert self.run(self.packages.list_package_routes()) == [
            PackageRouteRecord(workflow_type=each, content_hash=name) for each, name in defaults if name
        ]
        for each in TYPES:
            route = self.routes.get(each, Route())
            assert self.run(self.packages.route_of(each)) == route.rules()
            assert self.run(self.packages.route_of(each, tenant="acme")) == route.rules("acme")
            log: Any = self.run(self.packages.deployments(each, limit=1_000))
            assert [(one.action, one.content_hash, one.previous_hash) for one in reversed(log)] == self.log[each]

    @invariant()
    def pins_are_the_models(self) -> None:
        for name in HASHES:
            pins: Any = self.run(self.packages.pins(name))
            assert sorted(one.process_id for one in pins.holders) == sorted(self.holders(name))
            assert pins.total == len(self.holders(name))

    # --- inside ----------------------------------------------------------------------------------------------------

    def default(self, workflow_type: str) -> Hash:
        return self.routes.get(workflow_type, Route()).default

    def types_of(self, name: str) -> list[str]:
        return sorted(workflow_type for workflow_type, each in self.listed if each == name)

    def holders(self, name: str) -> list[str]:
        return [each for each, (found, _) in self.processes.items() if found == name and self.statuses[each] not in OVER]

    def use(self, name: Hash) -> None:
        if name in self.archives:
            self.used[name] = self.clock.now()

    def point(self, workflow_type: str, name: str, action: Action) -> None:
        route = self.routes.setdefault(workflow_type, Route())
        before = route.default
        self.log[workflow_type].append((action, name, before))
        if before != name or route.weights:
            for each in (name, before, *route.weights):
                self.use(each)
        route.point(name)

    def refusal(self, name: str) -> type[PerdureError] | None:
        if name not in self.archives:
            return PackageMissing
        if any(one.content_hash == name for route in self.routes.values() for one in route.rules()):
            return PackageRouted
        return PackagePinned if self.holders(name) else None

    def forget(self, name: str, action: Action) -> None:
        for workflow_type in self.types_of(name):
            self.log[workflow_type].append((action, name, None))
            del self.listed[workflow_type, name]
        del self.archives[name]


class FileMachine(PackageMachine):
    """The same on a file, with restarts."""

    url = "sqlite:///{}"
    reopens = True


COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
TestInMemory = PackageMachine.TestCase
TestInMemory.settings = settings(max_examples=30, stateful_step_count=40, **COMMON)
TestInFile = FileMachine.TestCase
TestInFile.settings = settings(max_examples=6, stateful_step_count=40, **COMMON)


def test_on_a_server(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    class ServerMachine(PackageMachine):
        """The same on a server, each history in a database of its own."""

        reopens = True

        @initialize()
        def open(self) -> None:
            self.url = store_url(request, "postgres", tmp_path)
            super().open()

    run_state_machine_as_test(ServerMachine, settings=settings(max_examples=3, stateful_step_count=25, **COMMON))

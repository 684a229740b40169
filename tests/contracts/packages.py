"""Packages for the tests of contract 5, processes that need them, and what has to be true of a whole store of them."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from perdure import limits
from perdure.conversations.tables import PROCESS, ProcessStatus
from perdure.conversations.writes import new_process
from perdure.core.table import Read, Scan
from perdure.core.view import View
from perdure.packages.arguments import instant_of
from perdure.packages.contract import PackageRecord, RouteRule
from perdure.packages.packing import unpack
from perdure.packages.routes import By, default_of, route_for
from perdure.packages.tables import LEFT, PACKAGE, PART, PARTS, ROUTE, ROUTES, RULES, TABLES, TYPE, TYPES, UPLOAD, UPLOADS
from perdure.packages.writes import Put, Staged, hold
from perdure.store import Store
from perdure.uploads import AddPart, PartRow

Hash = str | None
Reopen = Callable[[], Awaitable[Store]]
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR_US = 3_600 * 1_000_000
replace = msgspec.structs.replace


def hash_of(name: object) -> str:
    """Return a package hash that is the same for the same name."""
    return hashlib.sha256(str(name).encode()).hexdigest()


V1, V2, V3 = (hash_of(f"version {n}") for n in (1, 2, 3))


def noise(size: int, *, seed: int = 1) -> bytes:
    """Return bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)


def record(
    content_hash: str = V1, workflow_type: str = "order", *, archive: bytes | None = None, after: timedelta = DAY * 0
) -> PackageRecord:
    """Return something to put; `after`: so long after all that is put without it."""
    data = f"archive of {content_hash}".encode() if archive is None else archive
    return PackageRecord(workflow_type=workflow_type, content_hash=content_hash, archive=data, deployed_at=AT + after)


async def put(store: Store, *records: PackageRecord) -> None:
    for each in records:
        await store.packages.put_package(each)


async def versions(store: Store, count: int, workflow_type: str = "order") -> list[str]:
    """Put so many versions of a type, a day apart, and return their hashes."""
    names = [hash_of(f"{workflow_type} {n}") for n in range(count)]
    for n, name in enumerate(names):
        await put(store, record(name, workflow_type, after=n * DAY))
    return names


async def many(store: Store, count: int, workflow_type: str = "order") -> None:
    """Put so many versions of a type, a day apart, a few hundred in each commit."""

    def written(n: int) -> tuple[Any, ...]:
        one = record(hash_of(n), workflow_type, after=n * DAY)
        staged = Staged(upload_id=f"upload {n}", parts=1, stored=len(one.archive), codec="none")
        put = Put(
            content_hash=one.content_hash,
            types=(workflow_type,),
            routes=(workflow_type,),
            deployed_at=instant_of(one.deployed_at),
            sha256=hashlib.sha256(one.archive).hexdigest(),
            size=len(one.archive),
            staged=staged,
            by=By("somebody"),
        )
        return AddPart(of=UPLOADS, key=staged.key, number=0, data=one.archive), put

    await asyncio.gather(*(store.commit(*written(n)) for n in range(count)))


async def names(store: Store, workflow_type: str | None = None) -> list[str]:
    """Return the hashes that are listed, in their order."""
    return [info.content_hash for info in await store.packages.list_package_info(workflow_type=workflow_type, limit=limits.PAGE_MAX)]


async def default(store: Store, workflow_type: str = "order") -> str | None:
    routes = {route.workflow_type: route.content_hash for route in await store.packages.list_package_routes()}
    return routes.get(workflow_type)


async def actions(store: Store, workflow_type: str = "order") -> list[tuple[str, str | None, str | None]]:
    """Return what the log says, oldest first."""
    found = await store.packages.deployments(workflow_type, limit=limits.PAGE_MAX)
    return [(str(one.action), one.content_hash, one.previous_hash) for one in reversed(found)]


async def rows(store: Store) -> dict[str, int]:
    """Return how many rows of each table there are, if any."""
    counted = {table.name: await store.access.reader.count(table) for table in TABLES}
    return {name: count for name, count in counted.items() if count}


async def swept(store: Store) -> dict[str, int]:
    """Sweep what is left over by now, and return the rows."""
    await store.packages.sweep(store.access.clock.now())
    return await rows(store)


# --- processes ---------------------------------------------------------------------------------------------------


class Start(msgspec.Struct, frozen=True):
    """Start a process: as an engine does, it reads the route if no version is named, and holds the package."""

    process_id: str
    content_hash: str | None = None
    status: str = ProcessStatus.RUNNABLE
    tenant_id: str = "acme"
    process_type: str = "order"

    def reads(self) -> Iterable[Read]:
        yield PROCESS.key(self.tenant_id, self.process_id)
        yield ROUTE.key(self.process_type)

    def decide(self, view: View) -> str | None:
        found = self.content_hash
        if found is None:
            found = route_for(view, self.process_type, key=self.process_id, tenant=self.tenant_id)
        if found is not None:
            hold(view, found)
        key = PROCESS.key(self.tenant_id, self.process_id)
        assert view.get(key) is None
        row = new_process(view, self.tenant_id, self.process_id, process_type=self.process_type, status=self.status, package_hash=found)
        over = view.now if self.status in {ProcessStatus.ENDED, ProcessStatus.FAILED, ProcessStatus.REMOVED} else None
        view.insert(key, replace(row, over_at=over))
        return found


class Become(msgspec.Struct, frozen=True):
    """Let a process have another status."""

    process_id: str
    status: str
    tenant_id: str = "acme"

    def reads(self) -> Iterable[Read]:
        yield PROCESS.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> None:
        key = PROCESS.key(self.tenant_id, self.process_id)
        row = view.get(key)
        assert row is not None
        over = view.now if self.status in {ProcessStatus.ENDED, ProcessStatus.FAILED, ProcessStatus.REMOVED} else None
        view.update(key, replace(row, status=self.status, over_at=over))


async def start(store: Store, process_id: str, content_hash: str | None = None, **changes: Any) -> str | None:
    [found] = await store.commit(Start(process_id, content_hash, **changes))
    return found  # type: ignore[no-any-return]


class Damage(msgspec.Struct, frozen=True):
    """Remove the last part of a package, or put another in its place."""

    content_hash: str
    data: bytes | None = None

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        row = view.get(PACKAGE.key(self.content_hash))
        assert row is not None
        key = PART.key(row.upload_id, row.parts - 1)
        if self.data is None:
            view.scan(Scan(PARTS, (row.upload_id,), 100))
            view.delete(key)
        else:
            view.insert(key, PartRow(self.data))


# --- a model of routes ---------------------------------------------------------------------------------------------


class Route(msgspec.Struct):
    """What the model knows of a type: where its route led, oldest first, without the same twice in a row."""

    led: list[str] = []
    retired: bool = False
    tenants: dict[str, str] = {}
    weights: dict[str, int] = {}

    @property
    def default(self) -> Hash:
        return self.led[-1] if self.led and not self.retired else None

    def rules(self, tenant: str | None = None) -> list[RouteRule]:
        own = [RouteRule(content_hash=name, tenant=each) for each, name in sorted(self.tenants.items()) if tenant in (None, each)]
        weights = [RouteRule(content_hash=name, weight=weight) for name, weight in self.weights.items()]
        return [*own, *weights, *([RouteRule(content_hash=self.default)] if self.default else [])]

    def point(self, name: str) -> None:
        self.led += [name] * (self.led[-1:] != [name])
        self.retired, self.weights = False, {}


# --- what always holds ----------------------------------------------------------------------------------------------


async def check(store: Store) -> None:
    """What is counted is there, each archive is whole, and no part belongs to nobody."""
    reader, parts = store.access.reader, 0
    listed = await reader.scan(Scan(TYPES, (), limits.LIST_ROWS_MAX))
    for name in {str(key.parts[1]) for key, _ in listed}:
        row = await reader.get(PACKAGE.key(name))
        assert row is not None, f"{name} is listed, and stored"
        assert row.types == sum(key.parts[1] == name for key, _ in listed)
        found = [part.data for _, part in await reader.scan(Scan(PARTS, (row.upload_id,), limits.LIST_ROWS_MAX))]
        assert len(found) == row.parts
        assert sum(map(len, found)) == row.stored <= row.size
        assert all(0 < len(data) <= limits.PACKAGE_PART for data in found)
        archive = await unpack(row.codec, found, row.size)
        assert archive is not None
        assert hashlib.sha256(archive).hexdigest() == row.sha256
        assert await reader.get(UPLOAD.key(row.upload_id)) is None, "it is no upload any more"
        parts += row.parts
    assert await reader.count(PACKAGE) == len({key.parts[1] for key, _ in listed})
    for upload in await reader.scan(Scan(LEFT, (), limits.LIST_ROWS_MAX)):
        parts += len(await reader.scan(Scan(PARTS, upload[0].parts, limits.LIST_ROWS_MAX)))
    assert await reader.count(PART) == parts, "each part is an archive's or an upload's"
    assert await reader.count(TYPE) == len(listed)
    for key, route in await reader.scan(Scan(ROUTES, (), limits.LIST_ROWS_MAX)):
        kinds = [rule.parts[1] for rule, _ in await reader.scan(Scan(RULES, key.parts, limits.LIST_ROWS_MAX))]
        assert (route.tenants, route.weights) == (kinds.count("tenant"), kinds.count("weight"))
        assert route.previous != route.content_hash or route.previous is None
        assert not route.weights or default_of(route) is not None

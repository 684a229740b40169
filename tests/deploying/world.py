"""A store in which the shop has done something: orders that wait, are done, and have mail; a parcel; what is parked and delayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure import Address, App, Engine
from perdure.clock import VirtualClock
from perdure.conversations.tables import PROCESS
from perdure.core.table import Key
from perdure.core.view import View
from perdure.engine import inspection
from perdure.engine.packaged import code_of
from perdure.identity import DEFAULT_TENANT, RegistryKey
from perdure.packages.archive import unpack
from perdure.packages.contract import PackageRecord
from perdure.packages.loading import load, unload
from perdure.store import Store
from perdure.tables import TABLES
from tests.deploying import marks
from tests.deploying.versions import FLOWS, archive_of
from tests.engine.orders import eventually, reaches


class Pin(msgspec.Struct, frozen=True):
    """Let a process be on a package, as one that was started on it is."""

    process_id: str
    content_hash: str

    def reads(self) -> Iterator[Key[Any]]:
        yield PROCESS.key("default", self.process_id)

    def decide(self, view: View) -> None:
        row = view.get(PROCESS.key("default", self.process_id))
        assert row is not None
        view.update(PROCESS.key("default", self.process_id), msgspec.structs.replace(row, package_hash=self.content_hash))


@contextmanager
def flows_of(archive: bytes) -> Iterator[Any]:
    """Load a package, and give its module."""
    loaded = load(code_of(unpack(archive)))
    try:
        yield loaded.module("shop.flows")
    finally:
        unload(loaded)


async def lived(store: Store, clock: VirtualClock) -> str:
    """Let the shop work, put its first version into the store, route to it, and return its hash."""
    archive = archive_of(FLOWS)
    with flows_of(archive) as flows:
        app: App = flows.app
        async with Engine(store, app) as engine:
            for number in ("1", "2"):
                await engine.deliver(flows.Place(number, 30, flows.Size.SMALL), id=f"p{number}")
            [one, two] = [await found(store, f"order:{number}") for number in ("1", "2")]
            for process_id in (one, two):
                await reaches(engine, process_id, "waiting")
            await engine.deliver(flows.Approve("ann"), id="a2", to=Address.key("order:2"))
            await reaches(engine, two, "idle")
            await engine.deliver(flows.Note("thanks"), id="n2", to=Address.key("order:2"), wait=True)
            await engine.deliver(flows.Note("soon?"), id="n1", to=Address.key("order:1"))
            await engine.deliver(flows.Note("early"), id="n9", to=Address.key("order:9"))
            marks.ran.clear()
            await engine.deliver_encoded("pick()", b'["1"]', id="k1", to=Address.start("pick", id="pick-1"))
            await reaches(engine, "pick-1", "waiting")
            clock.advance(61_000_000)

            async def labelled() -> bool:
                return "label" in marks.ran

            await eventually(labelled)
            await reaches(engine, "pick-1", "waiting")
    identity = unpack(archive).identity
    await store.packages.deploy(record_of(archive, "Order"), ["pick"])
    marks.ran.clear()
    return identity


async def found(store: Store, key: str) -> str:
    """Return the process under a key."""
    identity = await store.processes.lookup(DEFAULT_TENANT, RegistryKey(key))
    assert identity is not None
    return str(identity.process_id)


def record_of(archive: bytes, workflow_type: str) -> PackageRecord:
    """Return what is put into a store of an archive."""
    return PackageRecord(
        workflow_type=workflow_type, content_hash=unpack(archive).identity, archive=archive, deployed_at=datetime(2024, 1, 1, tzinfo=UTC)
    )


async def dump(store: Store) -> dict[str, list[Any]]:
    """Return every row of a store, as it is stored."""
    rows: dict[str, list[Any]] = {}
    async with store._database.exporting(TABLES, alone=False) as export:
        for table in TABLES:
            found = rows[table.name] = []
            while page := await export.rows(table, found[-1][: len(table.key_columns)] if found else None):
                found.extend(page)
    return rows


async def ids(store: Store) -> list[str]:
    """Return the ids of the processes."""
    return [one.process_id for one in await inspection.processes(store)]

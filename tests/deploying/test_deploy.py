"""A deploy: all of it or nothing, by whom it is trusted, and again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

import perdure
from perdure import limits
from perdure.errors import (
    InvalidContentHash,
    InvalidIdentifier,
    PackageArchiveMalformed,
    PackageIdentityMismatch,
    PackageImportFailed,
    PackageImportsByText,
    PackageTooLarge,
    PackageUntrusted,
    PackageWithoutTypes,
    PerdureError,
    StoreBusy,
    StoreCorrupt,
    UsageError,
)
from perdure.packages.contract import PackageRecord, RouteRule
from perdure.packages.manifest import ManifestProcess
from perdure.packages.tables import PACKAGE
from perdure.store import Store
from tests.contracts.packages import AT, Damage, check
from tests.deploying.samples import FLOWS, archived
from tests.deploying.shops import NOTHING, Seen, forged, identity, importable, key, seen, shop, signed, signers, without_types
from tests.engine.works import works
from tests.packages.built import archive_of

V1, V2 = shop(1), shop(2)
BOTH = {"Order": identity(V1), "Refund": identity(V1)}


async def deploy(store: Store, archive: bytes, **more: Any) -> Any:
    """Deploy without a trial: what is tried here is what comes after it."""
    return await perdure.deploy(store, archive, load=False, **more)


# --- what is stored ---------------------------------------------------------------------------------------------------------


async def test_archive_schemas_routes_and_log_are_there_at_once(store: Store) -> None:
    done = await deploy(store, V1, actor="ann", built_with={"commit": "c0ffee"})

    assert (done.name, done.content_hash, done.types) == ("shop", identity(V1), ("Order", "Refund"))
    assert (done.freshly_stored, done.route_changed, done.routes_changed) == (True, True, ("Order", "Refund"))
    assert await seen(store) == Seen(archives=1, schemas=1, routes=BOTH, logged=2)
    assert (await store.packages.get_package(identity(V1))).archive == V1
    [entry] = await store.packages.deployments("Refund")
    assert (entry.actor, entry.built_with, entry.action) == ("ann", {"commit": "c0ffee"}, "deployed")


async def test_a_deploy_again_stores_nothing_and_points_the_routes_again(store: Store) -> None:
    await deploy(store, V1)
    again = await deploy(store, V1)
    await deploy(store, V2)
    back = await deploy(store, V1)

    assert (again.freshly_stored, again.route_changed) == (False, False)
    assert (back.freshly_stored, back.routes_changed) == (False, ("Order", "Refund"))
    assert await seen(store) == Seen(archives=2, schemas=1, routes=BOTH, logged=8)


async def test_only_the_routes_that_are_named_are_pointed_at_it(store: Store) -> None:
    await deploy(store, V1, routes=())
    stored = await seen(store)
    one = await deploy(store, V1, routes=["Refund", "Refund"])

    assert (stored.archives, stored.routes, stored.logged) == (1, {}, 2)
    assert one.routes_changed == ("Refund",)
    assert await store.packages.route_of("Refund") == [RouteRule(content_hash=identity(V1))]
    assert await store.packages.route_of("Order") == []
    assert {info.workflow_type for info in await store.packages.list_package_info()} == {"Order", "Refund"}


# --- the trial ------------------------------------------------------------------------------------------------------------------


async def test_a_package_is_imported_apart_before_it_is_accepted(store: Store) -> None:
    archive = await importable(FLOWS + "import os\nos.environ['SHOP'] = 'open'\n")

    done = await perdure.deploy(store, archive)

    assert done.types == ("Order", "hello")
    assert ["environ" in warning.text for warning in done.warnings] == [True]


@pytest.mark.parametrize(
    ("flows", "error"),
    [
        ("raise ValueError('no')\n", PackageImportFailed),
        ("import importlib\nimportlib.import_module('shop.flows')\n", PackageImportsByText),
    ],
)
async def test_a_package_that_cannot_be_imported_leaves_nothing(store: Store, flows: str, error: type[PerdureError]) -> None:
    order = ManifestProcess(type="Order", object="shop.flows:Order", fields=None, messages=())

    with pytest.raises(error, match="shop"):
        await perdure.deploy(store, archived(flows, processes=[order]))

    assert await seen(store) == NOTHING


# --- refusals -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "more", "error", "says"),
    [
        (b"", {}, PackageArchiveMalformed, "no ZIP file"),
        (V1[:-1], {}, PackageArchiveMalformed, "end record"),
        (bytes(limits.PACKAGE_ARCHIVE_MAX + 1), {}, PackageTooLarge, "67,108,865"),
        (V1, {"content_hash": identity(V2)}, PackageIdentityMismatch, identity(V2)),
        (V1, {"content_hash": "x"}, InvalidContentHash, "64"),
        (V1, {"trust": perdure.TrustPolicy([key(1)])}, PackageUntrusted, key(1)),
        (signed(V1, 2), {"trust": perdure.TrustPolicy([key(1)])}, PackageUntrusted, key(2)),
        (forged(V1, 1), {"trust": perdure.TrustPolicy([key(1)], required=False)}, PackageUntrusted, key(1)),
        (without_types(), {}, PackageWithoutTypes, "defines no process type"),
        (without_types(), {"routes": ()}, PackageWithoutTypes, "defines no process type"),
        (V1, {"routes": ["Order", "Invoice"]}, UsageError, "'Invoice' is no process type of package shop; it has 'Order', 'Refund'"),
        (V1, {"routes": "Order"}, UsageError, "a list of process types"),
        (V1, {"actor": ""}, InvalidIdentifier, "actor"),
        (V1, {"built_with": []}, UsageError, "built_with"),
        ("text", {}, UsageError, "expected bytes"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    store: Store, archive: Any, more: dict[str, Any], error: type[PerdureError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await deploy(store, archive, **more)

    assert await seen(store) == NOTHING
    await check(store)


async def test_nothing_of_a_package_is_run_before_it_is_trusted(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    order = ManifestProcess(type="Order", object="shop.flows:Order", fields=None, messages=())
    archive = archived(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n", processes=[order])

    with pytest.raises(PackageUntrusted):
        await perdure.deploy(store, archive, trust=perdure.TrustPolicy([key(1)]))
    untrusted = mark.exists()
    with pytest.raises(PerdureError):
        await perdure.deploy(store, signed(archive, 1), trust=perdure.TrustPolicy([key(1)]))

    assert (untrusted, mark.exists()) == (False, True)


# --- signatures -----------------------------------------------------------------------------------------------------------------


async def test_a_signature_is_added_to_those_that_are_stored(store: Store) -> None:
    await deploy(store, signed(V1, 1))
    more = await deploy(store, signed(V1, 2))
    none = await deploy(store, V1)

    assert not more.freshly_stored
    assert set(more.signed_by) == set(none.signed_by) == {key(1), key(2)} == await signers(store, V1)
    assert more.content_hash == identity(V1)


async def test_a_wrong_signature_takes_the_place_of_no_right_one(store: Store) -> None:
    await deploy(store, forged(V1, 1))
    await deploy(store, signed(V1, 1))
    await deploy(store, forged(V1, 1))

    stored = (await store.packages.get_package(identity(V1))).archive
    assert stored == signed(V1, 1)


@pytest.mark.parametrize("first", [None, signed(V1, 9)])
async def test_deployers_at_once_lose_no_signature(store: Store, first: bytes | None) -> None:
    if first is not None:
        await deploy(store, first)

    done = await asyncio.gather(*(deploy(store, signed(V1, number)) for number in range(1, 5)))

    assert await signers(store, V1) == {key(number) for number in (1, 2, 3, 4, *([9] if first else []))}
    assert sum(one.freshly_stored for one in done) == (first is None)
    await check(store)


async def test_who_is_overtaken_again_and_again_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, get_package = 0, store.packages.get_package

    async def overtaken(content_hash: str) -> Any:
        nonlocal reads
        reads += 1
        found = await get_package(content_hash)
        other = signed(V1, 10 + reads)
        await store.packages.put_package(PackageRecord(workflow_type="Order", content_hash=content_hash, archive=other, deployed_at=AT))
        return found

    await deploy(store, V1)
    monkeypatch.setattr(store.packages, "get_package", overtaken)

    with pytest.raises(StoreBusy, match="again and again"):
        await deploy(store, signed(V1, 1))
    assert reads == limits.PACKAGE_DEPLOY_TRIES


async def test_what_else_is_stored_under_its_name_is_replaced(store: Store) -> None:
    name = identity(V1)
    await store.packages.put_package(PackageRecord(workflow_type="Order", content_hash=name, archive=b"no package", deployed_at=AT))

    await deploy(store, signed(V1, 1))

    assert (await store.packages.get_package(name)).archive == signed(V1, 1)


@pytest.mark.parametrize("again", [V1, signed(V1, 1)])
async def test_a_damaged_archive_comes_back(store: Store, again: bytes) -> None:
    await deploy(store, V1)
    await store.commit(Damage(identity(V1)))
    with pytest.raises(StoreCorrupt):
        await store.packages.get_package(identity(V1))

    await deploy(store, again)

    assert (await store.packages.get_package(identity(V1))).archive == again


async def test_a_package_with_an_interpreter_of_its_own_needs_nothing_of_a_node_but_its_python(store: Store) -> None:
    package = works(apart=True, requires=["nowhere==1"])
    await deploy(store, archive_of(package))
    row = await store.access.reader.get(PACKAGE.key(package.identity))
    assert row is not None
    assert msgspec.json.decode(row.needs or b"") == {"python": ">=3.11", "requires": []}

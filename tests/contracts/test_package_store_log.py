"""Contract 5: the deployment log, what a deploy tells, and what is refused at the door. Source: contracts.md, 5; packages.md, "Deploy"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from perdure import Store, VirtualClock, limits
from perdure.core.table import Scan
from perdure.core.view import View
from perdure.errors import (
    ArchiveSizeRefused,
    InvalidContentHash,
    InvalidIdentifier,
    PayloadTooLarge,
    PayloadUnencodable,
    PerdureError,
    RejectedError,
    UsageError,
)
from perdure.operations.tables import SCHEMA, SchemaRow
from perdure.packages.contract import Action, Deployed, Deployment, PackagePlace
from perdure.packages.tables import DEPLOYMENTS
from tests.contracts.packages import AT, DAY, V1, V2, Reopen, actions, default, hash_of, put, record, replace, rows, swept

# --- the log ------------------------------------------------------------------------------------------------------------


async def test_the_log_tells_what_was_done_by_whom_when_and_what_was_before(store: Store, reopen: Reopen, clock: VirtualClock) -> None:
    built_with = {"python": "3.11.7", "distributions": [["msgspec", "0.21.1"]], "commit": None}
    await store.packages.put_package(record(V1), actor="ann", built_with=built_with)
    clock.advance(1_000_000)
    await store.packages.put_package(record(V2), actor="bob")
    await store.packages.set_route("order", V1, weight=250, actor="eve")
    await store.packages.set_route("order", V1, tenant="acme", actor="eve")
    await store.packages.rollback("order", "joe")
    store = await reopen()

    found = await store.packages.deployments("order")

    assert [one.tick for one in found] == sorted((one.tick for one in found), reverse=True)
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock.now())
    told: list[dict[str, Any]] = [
        {"action": Action.ROLLED_BACK, "content_hash": V1, "actor": "joe", "previous_hash": V2},
        {"action": Action.TENANT_ROUTED, "content_hash": V1, "actor": "eve", "tenant": "acme"},
        {"action": Action.WEIGHTED, "content_hash": V1, "actor": "eve", "weight": 250},
        {"action": Action.DEPLOYED, "content_hash": V2, "actor": "bob", "previous_hash": V1},
        {"action": Action.DEPLOYED, "content_hash": V1, "actor": "ann", "built_with": built_with, "at": now - timedelta(seconds=1)},
    ]
    nothing = {"workflow_type": "order", "previous_hash": None, "tenant": None, "weight": None, "built_with": None, "at": now}
    assert [replace(one, tick=0) for one in found] == [Deployment(**{**nothing, "tick": 0, **one}) for one in told]


async def test_every_change_is_told_and_nothing_else(store: Store) -> None:
    packages = store.packages
    await put(store, record(V1), record(V2))
    await packages.put_package_with_routes(record(V1, "invoice"), [])
    await packages.retire("order")
    await packages.retire("order")
    await packages.delete_package("order", V1)
    await packages.delete_package("order", V1)
    await packages.unload(V2)
    await packages.collect(keep_last=0, older_than=timedelta(0))

    assert await actions(store) == [
        (Action.DEPLOYED, V1, None),
        (Action.DEPLOYED, V2, V1),
        (Action.RETIRED, None, V2),
        (Action.DELETED, V1, None),
        (Action.UNLOADED, V2, None),
    ]
    assert await actions(store, "invoice") == [(Action.STORED, V1, None), (Action.COLLECTED, V1, None)]
    assert await actions(store, "nothing") == []


async def test_nobody_is_unknown(store: Store) -> None:
    await put(store, record())
    [told] = await store.packages.deployments("order")
    assert (told.actor, told.built_with) == ("unknown", None)


async def test_the_log_comes_in_pages(store: Store) -> None:
    for n in range(7):
        await store.packages.put_package_route("order", hash_of(n))
    every = await store.packages.deployments("order")
    assert [one.content_hash for one in every] == [hash_of(n) for n in reversed(range(7))]

    paged = await store.packages.deployments("order", limit=3)
    while page := await store.packages.deployments("order", after=paged[-1].tick, limit=3):
        paged += page
    assert paged == every


# --- deploy ------------------------------------------------------------------------------------------------------------------


async def test_a_deploy_says_what_it_has_changed(store: Store) -> None:
    deploy = store.packages.deploy

    assert await deploy(record(V1), ["invoice"]) == Deployed(freshly_stored=True, routes_changed=("order", "invoice"))
    assert await deploy(record(V1), ["invoice"]) == Deployed(freshly_stored=False, routes_changed=())
    assert await deploy(record(V2), routes=[]) == Deployed(freshly_stored=True, routes_changed=())
    again = await deploy(record(V2), routes=["order", "invoice"])
    assert again == Deployed(freshly_stored=False, routes_changed=("order", "invoice"))
    assert again.route_changed
    await store.packages.set_route("order", V1, weight=1)
    assert (await deploy(record(V2))).routes_changed == ("order",), "its weights went"
    assert await deploy(record(V2, archive=b"signed by one more")) == Deployed(freshly_stored=True, routes_changed=())


async def test_a_deploy_lists_its_package_for_all_its_types(store: Store) -> None:
    await store.packages.deploy(record(V1), ["invoice", "order", "refund"], routes=["refund", "else"])

    assert [(one.workflow_type, one.routed) for one in await store.packages.list_package_info()] == [
        ("invoice", False),
        ("order", False),
        ("refund", True),
    ]
    assert [await default(store, each) for each in ("order", "refund", "else")] == [None, V1, V1]
    assert (await store.packages.get_package(V1)).workflow_types == ("invoice", "order", "refund")


class PutSchema(msgspec.Struct, frozen=True):
    refuses: bool = False

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        if self.refuses:
            raise RejectedError("not this schema")
        key = SCHEMA.key("a" * 32)
        if view.get(key) is None:
            view.insert(key, SchemaRow(b"{}"))


async def test_what_is_deployed_with_it_is_written_with_it_or_not_at_all(store: Store) -> None:
    with pytest.raises(RejectedError, match="not this schema"):
        await store.packages.deploy(record(V1), also=[PutSchema(refuses=True)])
    assert await swept(store) == {}

    await store.packages.deploy(record(V1), also=[PutSchema()])
    assert await store.access.reader.count(SCHEMA) == 1
    with pytest.raises(RejectedError, match="not this schema"):
        await store.packages.deploy(record(V1, after=DAY), also=[PutSchema(refuses=True)])
    assert await store.packages.list_packages() == [record(V1)]


# --- the door ---------------------------------------------------------------------------------------------------------------------

WRONG_HASHES: list[Any] = ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, " " + "a" * 63, "a" * 63 + "\n", "\uff41" * 64, None, 7, b"a" * 64]
WRONG_TYPES: list[Any] = ["", "a\0b", "a\nb", "\x7f", "\ud800", "é" * 129, None, 7]
Call = Callable[[Store, Any], Awaitable[object]]
HASHED: list[Call] = [
    lambda store, name: store.packages.put_package(record(name, archive=b"1")),
    lambda store, name: store.packages.delete_package("order", name),
    lambda store, name: store.packages.put_package_route("order", name),
    lambda store, name: store.packages.get_package(name),
    lambda store, name: store.packages.set_route("order", "none" if name is None else name, tenant="acme"),
    lambda store, name: store.packages.list_package_info(after=PackagePlace("order", 0, name)),
    lambda store, name: store.packages.pins(name),
    lambda store, name: store.packages.unload(name),
]
TYPED: list[Call] = [
    lambda store, name: store.packages.put_package(record(V1, name)),
    lambda store, name: store.packages.put_package_with_routes(record(V1), [name]),
    lambda store, name: store.packages.deploy(record(V1), [name]),
    lambda store, name: store.packages.delete_package(name, V1),
    lambda store, name: store.packages.put_package_route(name, V1),
    lambda store, name: store.packages.set_route(name, V1),
    lambda store, name: store.packages.route_of(name),
    lambda store, name: store.packages.deployments(name),
    lambda store, name: store.packages.rollback(name),
    lambda store, name: store.packages.retire(name),
    lambda store, name: store.packages.list_package_info(after=PackagePlace(name, 0, V1)),
]


@pytest.mark.parametrize("call", HASHED)
async def test_a_hash_is_64_lower_case_hex_digits(store: Store, call: Call) -> None:
    for wrong in WRONG_HASHES:
        with pytest.raises(InvalidContentHash) as refused:
            await call(store, wrong)
        assert refused.value.code == "invalid-content-hash"
    assert await rows(store) == {}


@pytest.mark.parametrize("call", TYPED)
async def test_a_type_follows_the_rule_of_registry_keys(store: Store, call: Call) -> None:
    for wrong in WRONG_TYPES:
        with pytest.raises(InvalidIdentifier):
            await call(store, wrong)
    assert await rows(store) == {}


async def test_an_archive_has_a_byte_and_not_too_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACKAGE_ARCHIVE_MAX", 10)
    for size in (0, 11):
        with pytest.raises(ArchiveSizeRefused, match=f"expected 1 to 10 bytes, found {size}") as refused:
            await put(store, record(archive=bytes(size)))
        assert (refused.value.size, refused.value.limit, refused.value.code) == (size, 10, "archive-size-refused")
    assert await rows(store) == {}
    await put(store, record(archive=bytes(10)))
    assert limits.PACKAGE_ARCHIVE_MAX + 1 == 11


REFUSED: list[tuple[str, type[PerdureError], Callable[[Store], Awaitable[object]]]] = [
    ("naive", UsageError, lambda s: s.packages.put_package(replace(record(), deployed_at=AT.replace(tzinfo=None)))),
    ("no time", UsageError, lambda s: s.packages.put_package(replace(record(), deployed_at=0))),
    ("text", UsageError, lambda s: s.packages.put_package(replace(record(), archive="text"))),
    ("bytearray", UsageError, lambda s: s.packages.put_package(replace(record(), archive=bytearray(1)))),
    ("no record", UsageError, lambda s: s.packages.put_package(("order", V1))),  # type: ignore[arg-type]
    ("one text", UsageError, lambda s: s.packages.put_package_with_routes(record(), "order")),
    ("many types", UsageError, lambda s: s.packages.put_package_with_routes(record(), [f"t{n}" for n in range(1_001)])),
    ("no actor", InvalidIdentifier, lambda s: s.packages.put_package(record(), actor="")),
    ("long actor", InvalidIdentifier, lambda s: s.packages.rollback("order", "a" * 257)),
    ("odd actor", InvalidIdentifier, lambda s: s.packages.retire("order", "a\nb")),
    ("list", UsageError, lambda s: s.packages.put_package(record(), built_with=[1])),  # type: ignore[arg-type]
    ("object", PayloadUnencodable, lambda s: s.packages.put_package(record(), built_with={"a": object()})),
    ("surrogate", PayloadUnencodable, lambda s: s.packages.put_package(record(), built_with={"a": "\ud800"})),
    ("large", PayloadTooLarge, lambda s: s.packages.put_package(record(), built_with={"a": "b" * 64 * 1024})),
    (
        "large for each type",
        PayloadTooLarge,
        lambda s: s.packages.put_package_with_routes(record(), [f"t{n}" for n in range(70)], built_with={"a": "b" * 63_000}),
    ),
    ("both", UsageError, lambda s: s.packages.set_route("order", V1, tenant="a", weight=1)),
    ("no hash", UsageError, lambda s: s.packages.set_route("order", None)),
    ("tenant", InvalidIdentifier, lambda s: s.packages.set_route("order", V1, tenant="no tenant")),
    ("tenant to see", InvalidIdentifier, lambda s: s.packages.route_of("order", tenant="")),
    ("below", UsageError, lambda s: s.packages.set_route("order", V1, weight=-1)),
    ("above", UsageError, lambda s: s.packages.set_route("order", V1, weight=10_001)),
    ("share", UsageError, lambda s: s.packages.set_route("order", V1, weight=0.5)),  # type: ignore[arg-type]
    ("expected number", InvalidContentHash, lambda s: s.packages.put_package_route("order", V1, expected=7)),  # type: ignore[arg-type]
    ("expected", InvalidContentHash, lambda s: s.packages.put_package_route("order", V1, expected="no hash")),
    ("page", UsageError, lambda s: s.packages.list_package_info(limit=0)),
    ("pages", UsageError, lambda s: s.packages.list_package_info(limit=1_001)),
    ("log page", UsageError, lambda s: s.packages.deployments("order", limit=0)),
    ("log place", UsageError, lambda s: s.packages.deployments("order", after=-1)),
    ("keep", UsageError, lambda s: s.packages.collect(keep_last=-1, older_than=DAY)),
    ("age", UsageError, lambda s: s.packages.collect(older_than=-DAY)),
    ("number of days", UsageError, lambda s: s.packages.collect(older_than=30)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("error", "call"), [(error, call) for _, error, call in REFUSED], ids=[name for name, _, _ in REFUSED])
async def test_what_breaks_a_rule_is_refused_before_anything_is_written(
    store: Store, error: type[PerdureError], call: Callable[[Store], Awaitable[object]]
) -> None:
    with pytest.raises(error):
        await call(store)
    assert await rows(store) == {}


@pytest.mark.parametrize("cursor", ["", "!", "e30", "WzFd", "bnVsbA"])
def test_a_cursor_is_one_that_was_given(cursor: str) -> None:
    place = PackagePlace("Grüße", -1, V1)
    assert PackagePlace.named_by(place.cursor) == place
    with pytest.raises(UsageError, match="expected the `next` of the page before"):
        PackagePlace.named_by(cursor)


async def test_the_log_is_never_changed(store: Store) -> None:
    await put(store, record())
    [(key, row)] = await store.access.reader.scan(Scan(DEPLOYMENTS, ("order",), 10))

    class Forge:
        def reads(self) -> tuple[()]:
            return ()

        def decide(self, view: View) -> None:
            view.scan(Scan(DEPLOYMENTS, ("order",), 10))
            view.update(key, replace(row, actor="nobody"))

    with pytest.raises(AssertionError, match="never changed"):
        await store.commit(Forge())

"""Packages through a client: what the server says, and its own errors."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from datetime import timedelta

import pytest

import perdure
from perdure import errors, limits
from perdure.client.connection import _error_of
from perdure.errors import (
    PackageAmbiguous,
    PackageArchiveMalformed,
    PackageMissing,
    PackagePinned,
    PackageRouted,
    PackageTooLarge,
    PayloadTooLarge,
    PayloadUnencodable,
    PerdureError,
    RouteMissing,
)
from perdure.protocol.packages import RuleView
from perdure.server.problems import encode, problem_of
from tests.client.shop import shop_elsewhere
from tests.contracts.packages import Start, record
from tests.deploying.shops import identity, key, shop, signed
from tests.worker.hub import Hub
from tests.worker.proxy import Proxy

V1, V2 = shop(1), signed(shop(2), 1)
ONE, TWO = identity(V1), identity(V2)


async def test_versions_are_deployed_routed_and_rolled_back(client: perdure.Client) -> None:
    first = await client.deploy(V1, load=False)
    second = await client.deploy(V2, load=False, routes=[], content_hash=TWO)
    third = await client.deploy(V2, load=False, routes=["Order", "Refund"])
    weighted = await client.set_route("Order", ONE[:8], weight=500)
    own = await client.set_route("Order", ONE, tenant="acme")
    route = await client.route("Order", tenant="acme")
    away = await client.set_route("Order", None, tenant="acme")
    back = await client.rollback("Order")
    retired = await client.retire("Order")
    log = await client.deployments("Order", limit=3)
    rest = await client.deployments("Order", after=log.next)

    assert (first.freshly_stored, second.route_changed, third.routes_changed) == (True, False, ("Order", "Refund"))
    assert second.signed_by == (key(1),)
    assert [one.changed for one in (weighted, own, away, back, retired)] == [True] * 5
    assert route.rules == [
        RuleView(content_hash=ONE, tenant="acme"),
        RuleView(content_hash=ONE, weight=500),
        RuleView(content_hash=TWO),
    ]
    assert back.content_hash == ONE
    assert [one.action for one in log.entries] == ["retired", "rolled-back", "tenant-unrouted"]
    assert len(rest.entries) == 5


async def test_what_is_there_is_looked_at_and_fetched(client: perdure.Client, hub: Hub) -> None:
    await client.deploy(V1, load=False)
    await client.deploy(V2, load=False, routes=["Order"])
    await hub.store.commit(Start("p", ONE))

    page = await client.versions("Order", processes=True, limit=1)
    rest = await client.versions("Order", after=page.next)
    package = await client.package(TWO[:8])
    pins = await client.pins(ONE)
    archive = b"".join([chunk async for chunk in client.download_package(TWO)])

    assert {one.content_hash: one.share for one in (*page.versions, *rest.versions)} == {ONE: 0, TWO: 10_000}
    assert (package.content_hash, package.name, package.signed_by) == (TWO, "shop", (key(1),))
    assert (pins.counts, [one.process_id for one in pins.holders]) == ({"runnable": 1}, ["p"])
    assert archive == V2


async def test_what_nobody_needs_goes(client: perdure.Client, hub: Hub) -> None:
    await client.deploy(V1, load=False)
    hub.clock.advance(1)
    await client.deploy(V2, load=False)

    kept = await client.collect()
    told = await client.collect(keep_last=1, older_than=timedelta(0), dry_run=True)
    gone = await client.unload(ONE)

    assert (kept.packages, told.packages) == ([], [gone])


async def test_what_it_was_built_with_is_told(client: perdure.Client) -> None:
    await client.deploy(V1, load=False, built_with={"name": "Größe"})

    assert (await client.deployments("Order")).entries[0].built_with == {"name": "Größe"}
    with pytest.raises(PayloadTooLarge):
        await client.deploy(V1, load=False, built_with={"a": "x" * limits.HTTP_BUILT_WITH_MAX})
    with pytest.raises(PayloadUnencodable):
        await client.deploy(V1, load=False, built_with={"a": object()})


async def test_a_refusal_is_the_servers_own_error(client: perdure.Client, hub: Hub) -> None:
    await client.deploy(V1, load=False)
    await client.deploy(V2, load=False, routes=["Order"])
    await client.retire("Refund")
    await hub.store.commit(Start("p", ONE))
    for name in ("ab" * 4 + "0" * 56, "ab" * 4 + "f" * 56):
        await hub.store.packages.put_package(record(name))

    with pytest.raises(PackageArchiveMalformed, match="end record"):
        await client.deploy(V1[:-1])
    with pytest.raises(PackageRouted, match="'Order'"):
        await client.unload(TWO)
    with pytest.raises(PackagePinned, match="1 process needs it") as pinned:
        await client.unload(ONE)
    with pytest.raises(PackageMissing, match="00000000"):
        await client.package("00000000")
    with pytest.raises(PackageAmbiguous, match="ab0000"):
        await client.pins("ab" * 4)
    with pytest.raises(RouteMissing):
        await client.rollback("Invoice")
    assert (pinned.value.counts, pinned.value.holders) == ({}, ()), "they stand in the text only"


def _of_packages() -> Iterator[type[PerdureError]]:
    for kind in vars(errors.packages).values():
        if (
            inspect.isclass(kind)
            and issubclass(kind, PerdureError)
            and not issubclass(kind, ImportError)
            and kind.__module__ == errors.packages.__name__
        ):
            yield kind


@pytest.mark.parametrize("kind", list(_of_packages()), ids=lambda kind: kind.code)
def test_every_error_of_packages_comes_out_of_its_problem(kind: type[PerdureError]) -> None:
    said = kind.__new__(kind)
    said.args = ("the text",)

    found = _error_of(encode(problem_of(said)), 409, "GET /")

    assert type(found) is kind
    assert (str(found), found.code) == (problem_of(said).detail, kind.code)


def test_too_large_an_archive_is_one_of_packages() -> None:
    said = PackageTooLarge("body", found=2, limit=1)

    found = _error_of(encode(problem_of(said)), 413, "POST /v1/packages")

    assert isinstance(found, PackageTooLarge)
    assert (str(found), found.limit) == (str(said), 0)


# --- on its way --------------------------------------------------------------------------------------------------------------


async def test_how_far_an_upload_is_is_told(client: perdure.Client) -> None:
    seen: list[int] = []

    await client.deploy(V1, load=False, progress=seen.append)

    assert (seen[-1], seen) == (len(V1), sorted(seen))


async def test_a_deploy_whose_answer_is_lost_is_done_once(through: perdure.Client, hub: Hub, proxy: Proxy) -> None:
    proxy.loses = lambda _: len(proxy.asked) == 1

    deploying = asyncio.ensure_future(through.deploy(V1, load=False))
    await hub.pass_time(deploying.done)

    assert len(proxy.asked) == 2
    assert (await deploying).freshly_stored, "it is the answer that was lost"
    assert len(await hub.store.packages.deployments("Order")) == 1


def test_a_program_without_a_loop_waits() -> None:
    with shop_elsewhere() as url, perdure.SyncClient(url) as client:
        sent: list[int] = []
        client.deploy(V1, load=False, progress=sent.append)
        client.deploy(V2, load=False)

        assert sent[-1] == len(V1)
        assert len(client.versions("Order").versions) == 2
        assert client.package(ONE[:8]).content_hash == client.pins(ONE[:8]).content_hash == ONE
        assert b"".join(client.download_package(ONE)) == V1
        assert client.set_route("Order", ONE, weight=1).changed
        assert len(client.route("Order").rules) == 2
        assert client.rollback("Order").content_hash == ONE
        assert client.retire("Order").changed
        assert client.deployments("Order").entries[0].action == "retired"
        assert client.rollback("Refund").content_hash == ONE
        assert client.unload(TWO).content_hash == TWO
        assert client.collect().packages == []

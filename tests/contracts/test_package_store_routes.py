"""Contract 5: on which version a new process starts. Source: packages.md, "Routes"; research on packages, appendix A, "Route"."""

from __future__ import annotations

import pytest

from perdure import Store, limits
from perdure.errors import PackageMissing, ProcessTypeRetired, RouteConflict, RouteMissing, RouteRefused
from perdure.packages.contract import Action, RouteRule
from tests.contracts.packages import DAY, V1, V2, V3, Reopen, actions, check, default, hash_of, put, record, start

NOT_STORED = hash_of("never put")


def rule(content_hash: str, tenant: str | None = None, weight: int | None = None) -> RouteRule:
    return RouteRule(content_hash=content_hash, tenant=tenant, weight=weight)


@pytest.fixture
async def two(store: Store) -> Store:
    """Two versions of a type, the second of them routed."""
    await put(store, record(V1), record(V2, after=DAY))
    return store


# --- the default -------------------------------------------------------------------------------------------------------


async def test_a_route_is_set_whether_or_not_there_was_one(two: Store) -> None:
    for name in (V1, V1, NOT_STORED, V2):
        await two.packages.put_package_route("order", name)
        assert await default(two) == name
    assert [entry for entry in await actions(two) if entry[0] == Action.ROUTED] == [
        (Action.ROUTED, V1, V2),
        (Action.ROUTED, V1, V1),
        (Action.ROUTED, NOT_STORED, V1),
        (Action.ROUTED, V2, NOT_STORED),
    ]


@pytest.mark.parametrize("expected", [None, V1, V3])
async def test_a_route_that_is_not_as_expected_stays(two: Store, expected: str | None) -> None:
    with pytest.raises(RouteConflict, match="look at it again") as conflict:
        await two.packages.put_package_route("order", V3, expected=expected)

    assert (conflict.value.expected, conflict.value.found, conflict.value.code) == (expected, V2, "route-conflict")
    assert await default(two) == V2
    assert len(await actions(two)) == 2


async def test_a_route_that_is_as_expected_is_changed(two: Store) -> None:
    await two.packages.put_package_route("order", V1, expected=V2)
    assert await default(two) == V1
    await two.packages.put_package_route("invoice", V1, expected=None)
    assert await default(two, "invoice") == V1
    await two.packages.retire("order")
    await two.packages.put_package_route("order", V2, expected=None)
    assert await default(two) == V2, "a retired type has no route"


async def test_our_own_way_to_set_it_needs_a_version_that_is_stored(two: Store) -> None:
    assert await two.packages.set_route("order", V1)
    assert not await two.packages.set_route("order", V1)
    with pytest.raises(PackageMissing):
        await two.packages.set_route("order", V3)
    assert await default(two) == V1


# --- rules beside it ------------------------------------------------------------------------------------------------------


async def test_the_rules_are_told_in_the_order_in_which_they_are_looked_at(two: Store, reopen: Reopen) -> None:
    await put(two, record(V3, after=2 * DAY), record(V2, after=DAY))
    for name, changes in ((V1, {"weight": 100}), (V3, {"weight": 500}), (V3, {"tenant": "b"}), (V1, {"tenant": "a"})):
        assert await two.packages.set_route("order", name, **changes)
    assert await two.packages.set_route("order", V1, weight=1_000)
    assert V3 < V1, "the weights are in the order of their making, not of their hashes"

    store = await reopen()
    tenants, weights = [rule(V1, "a"), rule(V3, "b")], [rule(V1, weight=1_000), rule(V3, weight=500)]
    assert await store.packages.route_of("order") == [*tenants, *weights, rule(V2)]
    assert await store.packages.route_of("order", tenant="b") == [tenants[1], *weights, rule(V2)]
    assert await store.packages.route_of("order", tenant="c") == [*weights, rule(V2)]
    assert await store.packages.route_of("invoice") == []
    assert await default(store) == V2, "the seed's methods see the default alone"
    await check(store)


@pytest.mark.parametrize("way", ["put_package", "put_package_route", "set_route", "rollback"])
async def test_whoever_sets_the_default_drops_the_weights_and_leaves_the_tenants(two: Store, way: str) -> None:
    await two.packages.set_route("order", V1, weight=2_000)
    await two.packages.set_route("order", V1, tenant="acme")
    match way:
        case "put_package":
            await put(two, record(V2))  # also when the default stays what it is
        case "rollback":
            await two.packages.rollback("order")
        case _:
            await getattr(two.packages, way)("order", V2)

    assert await two.packages.route_of("order") == [rule(V1, "acme"), rule(V1 if way == "rollback" else V2)]
    await check(two)


async def test_a_rule_is_taken_away(two: Store) -> None:
    await two.packages.set_route("order", V1, weight=2_000)
    await two.packages.set_route("order", V1, tenant="acme")

    assert await two.packages.set_route("order", V1, weight=0)
    assert await two.packages.set_route("order", None, tenant="acme")
    assert not await two.packages.set_route("order", V1, weight=0)
    assert not await two.packages.set_route("order", None, tenant="acme")
    assert not await two.packages.set_route("other", None, tenant="acme")

    assert await two.packages.route_of("order") == [rule(V2)]
    assert (await actions(two))[2:] == [
        (Action.WEIGHTED, V1, None),
        (Action.TENANT_ROUTED, V1, None),
        (Action.WEIGHTED, V1, None),
        (Action.TENANT_UNROUTED, None, V1),
    ]
    assert await actions(two, "other") == []
    await check(two)


async def test_a_rule_that_is_as_it_was_is_no_news(two: Store) -> None:
    for changes in ({"weight": 5}, {"tenant": "acme"}):
        assert await two.packages.set_route("order", V1, **changes)
        assert not await two.packages.set_route("order", V1, **changes)
    assert len(await actions(two)) == 4


async def test_rules_lead_to_what_is_stored(two: Store) -> None:
    for changes in ({"weight": 1}, {"tenant": "acme"}):
        with pytest.raises(PackageMissing):
            await two.packages.set_route("order", V3, **changes)
    assert await two.packages.route_of("order") == [rule(V2)]


async def test_weights_are_shares_of_one_whole_beside_a_default(two: Store) -> None:
    with pytest.raises(RouteMissing, match="beside a default"):
        await two.packages.set_route("invoice", V1, weight=1)
    await two.packages.set_route("order", V1, weight=9_999)
    with pytest.raises(RouteRefused, match="2 weights of 10,001 basis points"):
        await two.packages.set_route("order", V2, weight=2)
    assert await two.packages.set_route("order", V2, weight=1)
    assert await two.packages.set_route("order", V1, weight=1)
    assert await two.packages.route_of("order") == [rule(V1, weight=1), rule(V2, weight=1), rule(V2)]


async def test_so_many_weights_and_tenants_and_no_more(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROUTE_TENANTS_MAX", 3)
    monkeypatch.setattr(limits, "ROUTE_WEIGHTS_MAX", 1)
    for tenant in ("a", "b", "c", "c"):
        await two.packages.set_route("order", V1 if tenant == "c" else V2, tenant=tenant)
    with pytest.raises(RouteRefused, match="3 tenants have a rule"):
        await two.packages.set_route("order", V1, tenant="d")
    await two.packages.set_route("order", V2, tenant="c")
    await two.packages.set_route("order", V1, weight=1)
    with pytest.raises(RouteRefused, match="at most 1,"):
        await two.packages.set_route("order", V2, weight=1)
    await two.packages.set_route("order", V1, weight=2)
    await check(two)


async def test_a_type_may_be_for_one_tenant_alone(two: Store) -> None:
    await two.packages.set_route("secret", V1, tenant="acme")

    assert await start(two, "1", process_type="secret", tenant_id="acme") == V1
    assert await start(two, "1", process_type="secret", tenant_id="other") is None, "for others there is no such route"
    assert await default(two, "secret") is None


# --- starts ---------------------------------------------------------------------------------------------------------------


async def test_a_process_starts_where_its_rule_leads(two: Store) -> None:
    await put(two, record(V3), record(V2))
    await two.packages.set_route("order", V3, tenant="big")
    await two.packages.set_route("order", V1, weight=5_000)

    started = [await start(two, f"p{n}") for n in range(100)]

    assert 30 < started.count(V1) < 70
    assert started.count(V2) == 100 - started.count(V1)
    assert await start(two, "p0", tenant_id="big") == V3


async def test_who_starts_after_a_change_follows_it(two: Store) -> None:
    for n, name in enumerate([V1, V2, V3]):
        await put(two, record(name))
        assert await start(two, f"p{n}") == name


async def test_what_a_route_leads_to_has_to_be_there_when_a_process_starts(two: Store) -> None:
    await two.packages.put_package_route("order", V3)
    with pytest.raises(PackageMissing):
        await start(two, "1")


# --- rollback ---------------------------------------------------------------------------------------------------------------


async def test_a_rollback_leads_to_the_version_before_and_a_second_one_back(two: Store, reopen: Reopen) -> None:
    assert await two.packages.rollback("order", "ann") == V1
    store = await reopen()
    assert await default(store) == V1
    assert await store.packages.rollback("order") == V2
    assert (await actions(store))[2:] == [(Action.ROLLED_BACK, V1, V2), (Action.ROLLED_BACK, V2, V1)]
    await check(store)


async def test_the_version_before_is_the_last_other_one(two: Store) -> None:
    await put(two, record(V2))
    await two.packages.put_package_route("order", V2)

    assert await two.packages.rollback("order") == V1, "it was deployed three times"


async def test_a_rollback_of_a_retired_type_leads_to_where_it_led(two: Store) -> None:
    await two.packages.retire("order")
    assert await two.packages.rollback("order") == V2
    assert await two.packages.rollback("order") == V1


async def test_a_deploy_after_a_retirement_can_be_rolled_back_to_what_was_before_it(two: Store) -> None:
    await two.packages.retire("order")
    await put(two, record(V3))
    assert await two.packages.rollback("order") == V2
    await two.packages.retire("order")
    await put(two, record(V2))
    assert await two.packages.rollback("order") == V3


async def test_there_has_to_be_something_before(two: Store) -> None:
    await put(two, record(V3, "first"))
    await two.packages.set_route("tenants", V3, tenant="acme")
    for name in ("first", "tenants", "nothing"):
        with pytest.raises(RouteMissing, match="nothing else before"):
            await two.packages.rollback(name)
    assert await default(two, "first") == V3


async def test_a_rollback_to_what_is_gone_changes_nothing(two: Store) -> None:
    await two.packages.delete_package("order", V1)
    with pytest.raises(PackageMissing, match="which the rollback of 'order' needs"):
        await two.packages.rollback("order")
    assert await default(two) == V2


# --- retire -------------------------------------------------------------------------------------------------------------------


async def test_of_a_retired_type_none_is_started_and_a_put_or_a_route_brings_it_back(two: Store, reopen: Reopen) -> None:
    await two.packages.set_route("order", V1, tenant="acme")
    await two.packages.set_route("order", V1, weight=10)
    assert await start(two, "runs") == V1

    assert await two.packages.retire("order", "ann")

    store = await reopen()
    assert not await store.packages.retire("order")
    assert await store.packages.route_of("order") == []
    assert await default(store) is None
    with pytest.raises(ProcessTypeRetired, match="'order' was retired") as retired:
        await start(store, "another")
    assert retired.value.code == "process-type-retired"
    assert (await store.packages.pins(V1)).total == 1, "those that run go on"
    await check(store)
    await store.packages.put_package_route("order", V1)
    assert await start(store, "by a route") == V1
    await store.packages.retire("order")
    await put(store, record(V2))
    assert await start(store, "by a put") == V2


async def test_a_tenant_may_keep_a_type_that_is_retired_for_all_others(two: Store) -> None:
    await two.packages.retire("order")
    await two.packages.set_route("order", V1, tenant="acme")

    assert await start(two, "1", tenant_id="acme") == V1
    with pytest.raises(ProcessTypeRetired):
        await start(two, "1", tenant_id="other")
    assert await two.packages.retire("order")
    with pytest.raises(ProcessTypeRetired):
        await start(two, "2", tenant_id="acme")


async def test_what_has_no_route_cannot_be_retired(two: Store) -> None:
    with pytest.raises(RouteMissing, match="has no route"):
        await two.packages.retire("nothing")
    await two.packages.set_route("secret", V1, tenant="acme")
    await two.packages.set_route("secret", None, tenant="acme")
    with pytest.raises(RouteMissing, match="has no route"):
        await two.packages.retire("secret")


async def test_many_rules_go_in_one_retirement(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_PAGE", 7)
    for n in range(20):
        await two.packages.set_route("order", V1, tenant=f"t{n}")

    assert await two.packages.retire("order")
    assert await two.packages.route_of("order") == []
    await check(two)

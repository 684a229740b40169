"""Packages over HTTP: deploying, routes, what is there, and what goes."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.contracts.packages import Start
from tests.deploying.shops import identity, importable, key, seen, shop, signed, signers
from tests.server.conftest import Served
from tests.server.packaging import PATH, Deployer

V1, V2 = shop(1), shop(2)
ONE, TWO = identity(V1), identity(V2)
ORDER = "/v1/process-types/Order"


@pytest.fixture
async def ci(served: Served) -> Deployer:
    return await Deployer.of(served)


# --- deploying ----------------------------------------------------------------------------------------------------------------


async def test_a_package_is_tried_stored_and_routed(ci: Deployer) -> None:
    archive = await importable()

    said = await ci.deploy(archive, "")

    assert (said.status, said.json["types"], said.json["route_changed"]) == (200, ["Order", "hello"], True)
    assert said.json["content_hash"] == identity(archive)
    [entry] = (await ci.get(f"{ORDER}/deployments"))["entries"]
    assert (entry["actor"], entry["action"], entry["content_hash"]) == ("token ci", "deployed", identity(archive))


async def test_what_it_was_built_with_goes_into_the_log(ci: Deployer) -> None:
    said = await ci.deploy(V1, headers={"Built-With": '{"commit": "c0ffee"}'})

    [entry] = (await ci.get(f"{ORDER}/deployments"))["entries"]
    assert (said.status, entry["built_with"]) == (200, {"commit": "c0ffee"})


async def test_the_query_says_which_package_it_is_and_which_routes_lead_to_it(ci: Deployer) -> None:
    none = await ci.deploy(V1, f"no_load=true&no_route=true&content_hash={ONE}")
    one = await ci.deploy(V1, "no_load=true&route=Refund")

    assert (none.status, none.json["freshly_stored"], none.json["route_changed"]) == (200, True, False)
    assert (one.status, one.json["freshly_stored"], one.json["routes_changed"]) == (200, False, ["Refund"])
    assert (await ci.get(f"{ORDER}/route"))["rules"] == []


async def test_the_same_deploy_with_the_same_key_is_done_once(ci: Deployer) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await ci.deploy(V1, headers=headers)
    await ci.deploy(V2)

    again = await ci.deploy(V1, headers=headers)
    other = await ci.deploy(V2, headers=headers)

    assert (again.status, again.body) == (200, first.body)
    assert (await ci.get(f"{ORDER}/route"))["rules"][0]["content_hash"] == TWO, "it was not deployed again"
    assert (other.status, other.code) == (422, "idempotency-key-reused")


async def test_the_key_of_a_deploy_is_none_of_a_tenants(ci: Deployer) -> None:
    headers = {"Idempotency-Key": "one"}
    everything = await ci.served.new_token("deploy", "deliver", tenant="*", name="both")
    both = Deployer(ci.served, everything)

    message = {"id": "m", "kind": "Place", "payload": {"order": "7", "amount": 3}}
    sent = await both.ask("POST", "/v1/tenants/default/messages", json=message, headers=headers)
    deployed = await both.deploy(V1, headers=headers)

    assert (sent.status, deployed.status) == (202, 200)


async def test_the_same_deploy_without_a_key_changes_nothing(ci: Deployer) -> None:
    await ci.deploy(V1)
    again = await ci.deploy(V1)

    assert (again.status, again.json["freshly_stored"], again.json["route_changed"]) == (200, False, False)
    assert (await seen(ci.served.store)).archives == 1


async def test_deployers_at_once_lose_no_signature(ci: Deployer) -> None:
    said = await asyncio.gather(*(ci.deploy(signed(V1, number)) for number in (1, 2)))

    assert [one.status for one in said] == [200, 200]
    assert await signers(ci.served.store, V1) == {key(1), key(2)}
    found = await seen(ci.served.store)
    assert (found.archives, found.routes, found.logged) == (1, dict.fromkeys(("Order", "Refund"), ONE), 4)


# --- what is there --------------------------------------------------------------------------------------------------------------


async def test_versions_are_listed_page_by_page_with_what_runs_on_them(ci: Deployer) -> None:
    await ci.deploy(V1)
    await ci.deploy(V2)
    await ci.served.store.commit(Start("p", ONE))

    page = await ci.get(f"{PATH}?type=Order&processes=true&limit=1")
    rest = await ci.get(f"{PATH}?type=Order&limit=1&after={page['next']}")
    everything = await ci.get(PATH)

    [first], [second] = page["versions"], rest["versions"]
    assert {one["content_hash"]: one["share"] for one in (first, second)} == {ONE: 0, TWO: 10_000}
    assert first["processes"] == ({"runnable": 1} if first["content_hash"] == ONE else {})
    assert second["processes"] is None
    assert [one["workflow_type"] for one in everything["versions"]] == ["Order", "Order", "Refund", "Refund"]


async def test_one_package_is_shown_by_the_beginning_of_its_hash(ci: Deployer) -> None:
    await ci.deploy(signed(V1, 1))
    await ci.served.store.commit(Start("p", ONE))

    found = await ci.get(f"{PATH}/{ONE[:8]}")
    pins = await ci.get(f"{PATH}/{ONE[:8]}/pins")

    assert (found["content_hash"], found["name"], found["python"], found["isolation"]) == (ONE, "shop", ">=3.11", "shared")
    assert found["signed_by"] == [key(1)]
    assert [(one["workflow_type"], one["share"], one["processes"]) for one in found["versions"]] == [
        ("Order", 10_000, {"runnable": 1}),
        ("Refund", 10_000, {"runnable": 1}),
    ]
    assert (pins["counts"], [one["process_id"] for one in pins["holders"]]) == ({"runnable": 1}, ["p"])


async def test_an_archive_is_downloaded_as_it_was_deployed(ci: Deployer) -> None:
    await ci.deploy(V1)

    said = await ci.ask("GET", f"{PATH}/{ONE}/archive")

    assert (said.status, said.body, said.headers["Content-Type"]) == (200, V1, "application/zip")
    assert said.headers["ETag"] == f'"{hashlib.sha256(V1).hexdigest()}"'
    assert said.headers["Content-Disposition"] == "attachment"


# --- routes ---------------------------------------------------------------------------------------------------------------------


async def test_rules_are_set_and_taken_away(ci: Deployer) -> None:
    await ci.deploy(V1)
    await ci.deploy(V2)

    weighted = await ci.ask("PUT", f"{ORDER}/route", json={"content_hash": ONE[:8], "weight": 500})
    again = await ci.ask("PUT", f"{ORDER}/route", json={"content_hash": ONE, "weight": 500})
    tenant = await ci.ask("PUT", f"{ORDER}/route", json={"content_hash": ONE, "tenant": "acme"})
    rules = (await ci.get(f"{ORDER}/route"))["rules"]
    shares = {one["content_hash"]: (one["share"], one["tenants"]) for one in (await ci.get(f"{PATH}?type=Order"))["versions"]}
    away = await ci.ask("PUT", f"{ORDER}/route", json={"content_hash": None, "tenant": "acme"})

    assert [said.json["changed"] for said in (weighted, again, tenant, away)] == [True, False, True, True]
    assert rules == [
        {"content_hash": ONE, "tenant": "acme", "weight": None},
        {"content_hash": ONE, "tenant": None, "weight": 500},
        {"content_hash": TWO, "tenant": None, "weight": None},
    ]
    assert shares == {ONE: (500, 1), TWO: (9_500, 0)}
    assert len((await ci.get(f"{ORDER}/route?tenant=other"))["rules"]) == 2


async def test_a_type_is_rolled_back_and_retired(ci: Deployer) -> None:
    await ci.deploy(V1)
    await ci.deploy(V2)

    back = await ci.ask("POST", f"{ORDER}/rollback")
    retired = await ci.ask("POST", f"{ORDER}/retire")
    again = await ci.ask("POST", f"{ORDER}/retire")

    assert back.json == {"workflow_type": "Order", "content_hash": ONE, "changed": True}
    assert (retired.json["changed"], again.json["changed"]) == (True, False)
    assert (await ci.get(f"{ORDER}/route"))["rules"] == []
    log = await ci.get(f"{ORDER}/deployments?limit=2")
    assert [one["action"] for one in log["entries"]] == ["retired", "rolled-back"]
    assert [one["action"] for one in (await ci.get(f"{ORDER}/deployments?after={log['next']}"))["entries"]] == ["deployed", "deployed"]


async def test_a_type_has_any_name(ci: Deployer) -> None:
    name, path = "shop/Größe%", "/v1/process-types/shop%2FGr%C3%B6%C3%9Fe%25"
    await ci.deploy(shop(3, name))

    found = await ci.get(f"{path}/route")

    assert (found["workflow_type"], len(found["rules"])) == (name, 1)
    assert (await ci.ask("POST", f"{path}/retire")).status == 200


# --- what goes --------------------------------------------------------------------------------------------------------------------


async def test_what_nobody_needs_is_unloaded(ci: Deployer) -> None:
    await ci.deploy(V1, "no_load=true&no_route=true")

    gone = await ci.ask("POST", f"{PATH}/{ONE[:8]}/unload")
    missing = await ci.ask("POST", f"{PATH}/{ONE[:8]}/unload")

    assert gone.json == {"content_hash": ONE, "types": ["Order", "Refund"], "size": len(V1)}
    assert (missing.status, missing.code) == (404, "package-missing")


async def test_what_is_old_is_collected_after_it_was_told(ci: Deployer, served: Served) -> None:
    for archive in (V1, V2):
        await ci.deploy(archive)
        served.clock.advance(31 * 86_400_000_000)

    default = await ci.ask("POST", f"{PATH}/collect")
    told = await ci.ask("POST", f"{PATH}/collect", json={"keep_last": 1, "dry_run": True})
    gone = await ci.ask("POST", f"{PATH}/collect", json={"keep_last": 1})
    after = await ci.ask("POST", f"{PATH}/collect", json={"keep_last": 1, "dry_run": True})

    assert default.json == {"packages": [], "dry_run": False}
    assert told.json == {"packages": [{"content_hash": ONE, "types": ["Order", "Refund"], "size": len(V1)}], "dry_run": True}
    assert gone.json["packages"] == told.json["packages"]
    assert after.json["packages"] == []

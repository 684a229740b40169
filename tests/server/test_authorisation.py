"""Who may do what: every route by every capability and tenant, made from the table of routes."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from perdure import limits
from perdure.errors import ConfigInvalid
from perdure.server import serving
from perdure.server.doorkeeper import network_of
from perdure.server.route import Route
from perdure.server.table import ROUTES
from perdure.tokens.contract import CAPABILITIES, WORK
from tests.server.conftest import Said, Served, Serving

GRANTS = [f"{one}=d/t" if one == WORK else one for one in CAPABILITIES]
TENANTS = ("acme", "other", "*")


async def ask(served: Served, route: Route, *, token: str | None, tenant: str = "acme", thing: str = "absent") -> Said:
    path = (
        route.path.replace("{tenant}", tenant)
        .replace("{id}", thing)
        .replace("{name}", "summary")
        .replace("{deployment}", "d")
        .replace("{source}", "stripe")
        .replace("{hash}", "0" * 64)
        .replace("{type}", "absent")
    )
    path += "?token=1" if "token" in route.query.__struct_fields__ else ""
    if route.takes is None:
        return await served.ask(route.method, path, token=token)
    example = {**route.takes_example, "target": "t"} if "{deployment}" in route.path else route.takes_example
    data = msgspec.json.encode(example)
    return await served.ask(route.method, path, token=token, data=data, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_a_route_is_for_its_capability_and_tenant_and_for_nobody_else(local: Served, route: Route) -> None:
    for grant, tenant in itertools.product(GRANTS, TENANTS):
        token = await local.new_token(grant, tenant=tenant)

        said = await ask(local, route, token=token)

        if route.signed:
            assert (said.status, said.code) == (401, "webhook-header-missing"), "a token proves nothing here"
        elif route.capability is None:
            assert said.status == 200
        elif route.of_tenant and tenant == "other":
            assert said.status == 404, (grant, tenant)
        elif grant.partition("=")[0] != route.capability:
            assert (said.status, said.code) == (403, "not-allowed"), (grant, tenant)
            assert said.headers["WWW-Authenticate"] == 'Bearer realm="perdure", error="insufficient_scope"'
        elif not route.of_tenant and tenant != "*":
            assert said.status == 403, (grant, tenant)
        else:
            assert said.status not in (401, 403, 500), (grant, tenant)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_without_a_token_only_what_is_open_is_had(local: Served, route: Route) -> None:
    said = await ask(local, route, token=None)

    if route.signed:
        assert (said.status, said.code) == (401, "webhook-header-missing")
        assert said.headers["WWW-Authenticate"] == 'Signature realm="perdure"'
    elif route.capability is None:
        assert said.status == 200
    else:
        assert (said.status, said.code) == (401, "token-missing")
        assert said.headers["WWW-Authenticate"] == 'Bearer realm="perdure"'


def test_what_is_open_is_listed_here() -> None:
    open_to_all = {route.path for route in ROUTES if route.capability is None and not route.signed}
    assert open_to_all == {"/health/live", "/health/ready", "/openapi.json", "/docs"}
    assert {route.path for route in ROUTES if route.signed} == {"/v1/tenants/{tenant}/webhooks/{source}"}


@pytest.mark.parametrize("route", [one for one in ROUTES if "{id}" in one.path], ids=lambda route: route.name)
async def test_another_tenants_thing_looks_like_one_that_is_not_there(local: Served, route: Route) -> None:
    everything = await local.new_token(*GRANTS, tenant="*")
    await local.ask(
        "POST", "/v1/tenants/other/messages?wait_ms=30000", token=everything, json={"id": "thing", "kind": "greet()", "payload": ["x"]}
    )

    here = await local.new_token(*GRANTS, tenant="acme")

    foreign = await ask(local, route, token=here, tenant="other", thing="thing")
    absent = await ask(local, route, token=here, tenant="other", thing="absent")
    own = await ask(local, route, token=here, tenant="acme", thing="thing")

    assert foreign.status == 404
    assert (foreign.body, dict(foreign.headers, Date="")) == (absent.body, dict(absent.headers, Date=""))
    assert foreign.body == own.body


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic abc",
        "pdt_x",
        "Bearer pdt_" + "0" * 32 + "_" + "0" * 64,
        "Bearer {token}x",
        "Bearer {token} x",
    ],
)
async def test_what_is_no_token_is_refused(local: Served, authorization: str) -> None:
    headers = {"Authorization": authorization.format(token=local.token)}

    said = await local.ask("GET", "/v1/tenants/acme/processes", token=None, headers=headers)

    assert (said.status, said.code) == (401, "token-invalid")
    assert said.headers["WWW-Authenticate"] == 'Bearer realm="perdure", error="invalid_token"'


async def test_a_token_with_another_secret_is_refused(local: Served) -> None:
    id, _, secret = local.token.rpartition("_")
    wrong = f"{id}_{'0' if secret[0] != '0' else '1'}{secret[1:]}"

    assert (await local.ask("GET", "/v1/tenants/acme/processes", token=wrong)).status == 401


async def test_a_token_that_expires_is_valid_until_then(local: Served) -> None:
    token = await local.new_token("read", lasting=1_000_000)

    local.clock.advance(999_999)
    before = await local.ask("GET", "/v1/tenants/acme/processes", token=token)
    local.clock.advance(1)
    after = await local.ask("GET", "/v1/tenants/acme/processes", token=token)

    assert (before.status, after.status) == (200, 401)


async def test_a_token_is_replaced_without_a_gap(local: Served) -> None:
    old = await local.new_token("read", name="client")
    new = await local.new_token("read", name="client")
    both = [(await local.ask("GET", "/v1/tenants/acme/processes", token=one)).status for one in (old, new)]

    await local.store.tokens.revoke(old.split("_")[1])
    after = [(await local.ask("GET", "/v1/tenants/acme/processes", token=one)).status for one in (old, new)]

    assert (both, after) == ([200, 200], [401, 200])


async def test_too_many_invalid_tokens_from_an_address_are_refused_for_a_while(local: Served) -> None:
    path = "/v1/tenants/acme/processes"
    fresh = await local.new_token("read")
    assert (await local.ask("GET", path)).status == 200
    tried = [(await local.ask("GET", path, token="x")).status for _ in range(limits.HTTP_ATTEMPTS_MAX + 1)]

    refused = await local.ask("GET", path, token=fresh)
    known = await local.ask("GET", path)
    no_token = await local.ask("GET", path, token=None)
    local.clock.advance(limits.HTTP_ATTEMPTS_US)
    later = await local.ask("GET", path, token=fresh)

    assert tried == [401] * limits.HTTP_ATTEMPTS_MAX + [429]
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "too-many-attempts", "60")
    assert (known.status, no_token.status, later.status) == (200, 401, 200)


def test_an_address_that_a_customer_changes_at_will_is_counted_as_one() -> None:
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9")
    assert network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")
    assert network_of("10.0.0.1") != network_of("10.0.0.2")
    assert network_of("somewhere") == "somewhere"


async def test_with_dev_no_token_is_asked_for(serving_with: Serving) -> None:
    async with serving_with(dev=True) as served:
        said = await served.ask("GET", "/v1/tenants/any/processes", token=None)
        metrics = await served.ask("GET", "/metrics", token=None)

    assert (said.status, metrics.status) == (200, 200)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
async def test_with_dev_only_loopback_is_served(local: Served, host: str) -> None:
    with pytest.raises(ConfigInvalid, match="only loopback"):
        async with serving(local.engine, dev=True, host=host):
            raise AssertionError("it is served")


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:99", 200), ("http://127.0.0.1", 200), ("http://[::1]:9", 200), ("https://evil.example", 422), ("null", 422)],
)
async def test_with_dev_another_sites_page_is_refused_also_without_a_body(serving_with: Serving, origin: str, status: int) -> None:
    async with serving_with(dev=True) as served:
        assert (await served.ask("POST", "/v1/packages/collect", token=None, headers={"Origin": origin})).status == status


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:99", 200), ("127.0.0.1", 200), ("[::1]:99", 200), ("evil.example", 422), ("", 422)]
)
async def test_with_dev_a_browser_that_was_led_here_is_refused(serving_with: Serving, host: str, status: int) -> None:
    async with serving_with(dev=True) as served:
        assert (await served.ask("GET", "/v1/tenants/any/processes", token=None, headers={"Host": host})).status == status

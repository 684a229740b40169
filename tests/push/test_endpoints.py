"""Where commands are sent: what is kept of an endpoint, and which commands are for it."""

from __future__ import annotations

from typing import Any

import pytest
import standardwebhooks

from perdure import limits
from perdure.clock import SECOND, datetime_of
from perdure.commands.contract import DeploymentModel
from perdure.commands.push_contract import PushPlace
from perdure.commands.push_writes import AddSecret, PutEndpoint
from perdure.commands.tables import PUSH_ENDPOINT
from perdure.errors import PerdureError, PushEndpointNotFound
from tests.contracts.commands import CANCELLED, PENDING, SUCCEEDED, check, lease
from tests.push.desk import HOUR, SECRET, Desk, commands_at, pushed, pushing
from tests.push.test_outcomes import DONE
from tests.sending.site import Site

PULL, PUSH = DeploymentModel
URL = "https://hooks.example/in"
OTHER = "whsec_" + "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI="


async def model(desk: Desk, **options: Any) -> DeploymentModel:
    return (await desk.status(await desk.send(**options))).deployment_model


async def test_a_command_is_for_the_endpoint_of_its_target_or_else_of_its_deployment(desk: Desk) -> None:
    async with Site(DONE) as all_of_it, Site(DONE) as arm:
        assert await model(desk, target="leg") == PULL
        await desk.store.push.put("site", all_of_it.url())
        await desk.store.push.put("site", arm.url(), target="arm")
        await desk.store.push.put("elsewhere", arm.url())
        await desk.store.push.put("site", arm.url(), tenant_id="other")
        ids = [await desk.send(target=target) for target in (None, "leg", "arm")]
        assert [(await desk.status(one)).deployment_model for one in ids] == [PUSH] * 3
        assert await lease(desk.store.commands, target="arm") == []
        await check(desk.store)
        async with pushing(desk.store):
            for one in ids:
                await desk.comes_to(one, "created", "leased", "sent", "succeeded")

    assert sorted(str(command.target) for command in commands_at(all_of_it)) == ["None", "leg"]
    assert [command.target for command in commands_at(arm)] == ["arm"]
    [left] = await lease(desk.store.commands, target="leg")
    assert left.attempt == 1, "what was there before is for workers"


async def test_a_deployment_without_enabled_endpoint_is_for_workers(desk: Desk) -> None:
    await desk.store.push.put("site", URL)
    await desk.store.push.put("site", URL, target="arm")
    assert await desk.store.push.enable("site", enabled=False)
    assert not await desk.store.push.enable("site", enabled=False)
    assert (await model(desk), await model(desk, target="leg"), await model(desk, target="arm")) == (PULL, PULL, PUSH)
    assert await desk.store.push.enable("site", target="arm", enabled=False)
    assert await desk.store.push.enable("site")

    assert (await model(desk), await model(desk, target="arm")) == (PUSH, PUSH)


async def test_commands_wait_while_their_endpoint_is_disabled_or_removed(desk: Desk) -> None:
    async with Site(DONE) as site:
        await desk.store.push.put("site", site.url())
        first, second = await desk.send(), await desk.send()
        await desk.store.push.enable("site", enabled=False)
        async with pushing(desk.store):
            await desk.rests()
            assert await desk.store.push.remove("site")
            assert not await desk.store.push.remove("site")
            await desk.rests()
            assert site.requests == []
            assert await desk.store.commands.cancel(second) == CANCELLED
            again = await desk.store.commands.redrive(second)
            assert (await desk.status(again)).deployment_model == PULL
            await desk.store.push.put("site", site.url())

            assert (await desk.comes_to(first, "created", "leased", "sent", "succeeded")).state == SUCCEEDED
            assert (await desk.status(again)).state == PENDING
            assert len(site.requests) == 1
            await check(desk.store)


async def test_each_secret_signs_while_they_are_rotated(desk: Desk) -> None:
    """Section 5.9: the key that signs could not be replaced."""
    async with Site(DONE) as site:
        first = await desk.store.push.put("site", site.url())
        assert first is not None
        assert await desk.store.push.put("site", site.url("/new")) is None, "it keeps its secret"
        second = await desk.store.push.rotate("site")
        assert (await desk.store.push.get("site")).secrets == 2
        third = await desk.store.push.rotate("site")
        assert (await desk.store.push.get("site")).secrets == 2, "older ones are dropped"
        async with pushing(desk.store):
            await desk.comes_to(await desk.send(), "created", "leased", "sent", "succeeded")
            await desk.store.push.put("site", site.url(), secrets=[OTHER])
            await desk.comes_to(await desk.send(), "created", "leased", "sent", "succeeded")

    def signs(request: bytes, secret: str) -> bool:
        headers, body, _ = pushed(request)
        at = datetime_of(int(headers["webhook-timestamp"]) * SECOND)
        return standardwebhooks.Webhook(secret).sign(headers["webhook-id"], at, body.decode()) in headers["webhook-signature"].split(" ")

    assert [signs(site.requests[0], secret) for secret in (first, second, third, OTHER)] == [False, True, True, False]
    assert [signs(site.requests[1], secret) for secret in (third, OTHER)] == [False, True]


async def test_an_endpoint_is_shown_without_its_secrets_and_its_query(desk: Desk) -> None:
    """D2: nor is what writes it."""
    await desk.store.push.put("site", URL + "?key=sesame", target="arm", secrets=[SECRET], timeout=SECOND, result_within=HOUR)
    found = await desk.store.push.get("site", target="arm")

    assert (found.deployment_id, found.target, found.url, found.secrets) == ("site", "arm", URL, 1)
    assert (found.timeout, found.result_within, found.enabled) == (SECOND, HOUR, True)
    assert found.created_at == found.updated_at == desk.clock.now()
    key = PUSH_ENDPOINT.key("default", "site", "arm")
    row = await desk.store.access.reader.get(key)
    assert row is not None
    assert row.secrets == SECRET
    put = PutEndpoint(key=key, url=URL + "?key=sesame", secrets=SECRET, made=SECRET, timeout=SECOND, result_within=HOUR, enabled=None)
    for shown in (repr(found), repr(row), f"{row}", repr(put), repr(AddSecret(key=key, made=SECRET))):
        assert "sesame" not in shown
        assert SECRET not in shown


async def test_a_change_keeps_what_it_does_not_name_and_closes_the_breaker(desk: Desk) -> None:
    made = await desk.store.push.put("site", URL)
    created = desk.clock.now()
    await desk.store.push.enable("site", enabled=False)
    desk.clock.advance(SECOND)
    await desk.store.push.put("site", URL + "/new", timeout=2 * SECOND)
    found = await desk.store.push.get("site")

    assert (found.url, found.timeout, found.enabled) == (URL + "/new", 2 * SECOND, False)
    assert (found.created_at, found.updated_at) == (created, desk.clock.now())
    row = await desk.store.access.reader.get(PUSH_ENDPOINT.key("default", "site", ""))
    assert row is not None
    assert row.secrets == made


async def test_a_page_of_endpoints_is_in_the_order_of_their_names(desk: Desk) -> None:
    places = [("a", None), ("a", "x"), ("a", "y"), ("b", None)]
    for deployment, target in reversed(places):
        await desk.store.push.put(deployment, URL, target=target)
    await desk.store.push.put("a", URL, tenant_id="other")
    first = await desk.store.push.list_endpoints(limit=3)
    rest = await desk.store.push.list_endpoints(limit=3, after=PushPlace(first[-1].deployment_id, first[-1].target))

    assert [(one.deployment_id, one.target) for one in first + rest] == places
    assert len(rest) == 1


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("target-refused", {"url": "ftp://hooks.example/"}),
        ("target-refused", {"url": "https://user:sesame@hooks.example/"}),
        ("target-refused", {"url": ""}),
        ("invalid-identifier", {"deployment_id": ""}),
        ("invalid-identifier", {"target": ""}),
        ("invalid-identifier", {"tenant_id": ""}),
        ("webhook-secret-invalid", {"secrets": []}),
        ("webhook-secret-invalid", {"secrets": ["whsec_c2VzYW1l"]}),
        ("webhook-secret-invalid", {"secrets": [SECRET] * 9}),
        ("webhook-secret-invalid", {"secrets": [f"{SECRET} {SECRET}"]}),
        ("usage", {"timeout": limits.PUSH_TIMEOUT_MIN_US - 1}),
        ("usage", {"timeout": 1.0}),
        ("usage", {"timeout": 301 * SECOND}),
        ("usage", {"timeout": 60 * SECOND, "result_within": 60 * SECOND}),
        ("usage", {"result_within": limits.COMMAND_LEASE_MAX_US + 1}),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_nothing_is_written(lone: Desk, code: str, wrong: dict[str, Any]) -> None:
    given = {"deployment_id": "site", "url": URL, **wrong}
    with pytest.raises(PerdureError) as refused:
        await lone.store.push.put(given.pop("deployment_id"), given.pop("url"), **given)

    assert refused.value.code == code
    assert "sesame" not in str(refused.value)
    assert await lone.store.access.reader.count(PUSH_ENDPOINT) == 0


async def test_what_is_not_there_is_told(lone: Desk) -> None:
    await lone.store.push.put("site", URL, target="arm")
    for call in (lone.store.push.get, lone.store.push.rotate, lone.store.push.enable):
        with pytest.raises(PushEndpointNotFound, match="site"):
            await call("site")

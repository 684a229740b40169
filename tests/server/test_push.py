"""The routes of endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.commands.tables import PUSH_ENDPOINT
from tests.push.desk import SECRET
from tests.server.conftest import Served

PATH = "/v1/tenants/acme/push"
URL = "https://hooks.example/in"


@pytest.fixture
async def token(local: Served) -> str:
    return await local.new_token("admin", tenant="acme")


async def put(local: Served, token: str, deployment: str = "site", **body: Any) -> Any:
    return await local.ask("PUT", f"{PATH}/{deployment}", token=token, json={"url": URL + "?key=sesame", "secrets": [SECRET], **body})


async def test_an_endpoint_is_set_shown_and_removed_and_its_secrets_are_never_answered(local: Served, token: str) -> None:
    made = await put(local, token, target="arm", timeout_ms=5_000, enabled=False)
    shown = await local.ask("GET", f"{PATH}/site?target=arm", token=token)

    assert (made.status, shown.status) == (200, 200)
    assert made.json == shown.json
    assert (made.json["url"], made.json["secrets"], made.json["timeout_ms"], made.json["enabled"]) == (URL, 1, 5_000, False)
    row = await local.engine.store.access.reader.get(PUSH_ENDPOINT.key("acme", "site", "arm"))
    assert row is not None
    assert row.url == URL + "?key=sesame"
    for said in (made, shown):
        assert SECRET.removeprefix("whsec_") not in said.body.decode()
        assert "sesame" not in said.body.decode()
    assert (await local.ask("GET", f"{PATH}/site", token=token)).code == "push-endpoint-not-found"
    assert (await local.ask("DELETE", f"{PATH}/site?target=arm", token=token)).json == {"removed": True}
    assert (await local.ask("DELETE", f"{PATH}/site?target=arm", token=token)).code == "push-endpoint-not-found"


async def test_a_change_without_secrets_keeps_them_and_a_new_endpoint_needs_some(local: Served, token: str) -> None:
    assert ((await put(local, token, secrets=None)).status, (await put(local, token)).status) == (404, 200)
    again = await put(local, token, secrets=None, url=URL)

    assert (again.status, again.json["secrets"]) == (200, 1)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("target-refused", {"url": "ftp://hooks.example/"}),
        ("request-invalid", {"secrets": ["whsec_c2VzYW1l"]}),
        ("usage", {"timeout_ms": 2_000, "result_within_ms": 2_000}),
        ("request-invalid", {"timeout_ms": 0}),
        ("request-invalid", {"secret": SECRET}),
    ],
)
async def test_what_cannot_be_meant_is_refused(local: Served, token: str, code: str, body: dict[str, Any]) -> None:
    said = await put(local, token, **body)

    assert (said.status, said.code) == (422, code)
    assert await local.engine.store.push.list_endpoints(tenant_id="acme") == []


async def test_pages_lead_from_one_to_the_next(local: Served, token: str) -> None:
    for deployment, target in (("b", None), ("a/ä", "x:y"), ("a/ä", None)):
        await local.engine.store.push.put(deployment, URL, target=target, tenant_id="acme")
    found, after = [], ""
    for _ in range(4):
        said = await local.ask("GET", f"{PATH}?limit=1{after}", token=token)
        found += [(one["deployment"], one["target"]) for one in said.json["endpoints"]]
        after = f"&after={said.json['next']}"

    assert found == [("a/ä", None), ("a/ä", "x:y"), ("b", None)]
    assert said.json == {"endpoints": [], "next": None}
    assert (await local.ask("GET", f"{PATH}?after=x", token=token)).code == "request-invalid"

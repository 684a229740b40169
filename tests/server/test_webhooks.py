"""Webhooks over HTTP: what is signed becomes a message once, and nobody else is heard."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import standardwebhooks

from perdure import limits
from perdure.codec import JSON
from perdure.messages.tables import MESSAGE, MessageRow
from perdure.server.openapi import document
from perdure.webhooks.schemes import VERIFIERS
from tests.server.conftest import Said, Served, Serving
from tests.server.shop import SECRET

SECOND = 1_000_000
OTHER = "whsec_" + "T3RoZXJTZWNyZXQtT3RoZXJTZWNyZXQh"
PAID = {"id": "evt_1", "type": "charge.succeeded", "data": {"object": {"amount": 300, "metadata": {"order": "7"}}}}
ORDER = {"type": "placed", "data": {"order": "7", "amount": 3}}
PLACE = {"order": "7", "amount": 3}


def path_of(source: str, tenant: str = "acme") -> str:
    return f"/v1/tenants/{tenant}/webhooks/{source}"


def digest(text: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def stripe(served: Served, body: bytes, *secrets: str, later: int = 0) -> dict[str, str]:
    """Return the headers of Stripe; `later` are seconds."""
    at = served.clock.now() // SECOND + later
    signed = ",".join(f"v1={digest(f'{at}.'.encode() + body, secret)}" for secret in secrets or (SECRET,))
    return {"Stripe-Signature": f"t={at},{signed}"}


def standard(served: Served, body: bytes, secret: str = SECRET, *, later: int = 0, id: str = "msg_1") -> dict[str, str]:
    """Return the headers that the library of Standard Webhooks makes; `later` are seconds."""
    at = datetime.fromtimestamp(served.clock.now() // SECOND + later, tz=UTC)
    signature = standardwebhooks.Webhook(secret).sign(id, at, body.decode())
    return {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def github(served: Served, body: bytes, secret: str = SECRET, *, id: str = "d-1") -> dict[str, str]:
    del served
    return {
        "X-Hub-Signature-256": f"sha256={digest(body, secret)}",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": id,
        "Content-Type": "application/json",
    }


SIGNING: dict[str, tuple[Any, dict[str, Any], str]] = {
    "stripe": (stripe, PAID, "evt_1"),
    "standard": (standard, ORDER, "msg_1"),
    "github": (github, PLACE, "d-1"),
}


async def send(served: Served, source: str, content: object, headers: dict[str, str] | None = None, *, tenant: str = "acme") -> Said:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    signed = SIGNING[source][0](served, body) if headers is None else headers
    return await served.ask("POST", path_of(source, tenant), token=None, data=io.BytesIO(body), headers=signed)


async def kept(served: Served, source: str, id: str) -> MessageRow | None:
    return await served.store.access.reader.get(MESSAGE.key("acme", source, id))


@pytest.mark.parametrize("source", SIGNING)
async def test_a_webhook_is_accepted_once_and_becomes_the_message_that_the_app_says(served: Served, source: str) -> None:
    _, content, id = SIGNING[source]

    first, again = await send(served, source, content), await send(served, source, content)
    state = await served.ask("GET", f"/v1/tenants/acme/messages/{id}?source={source}&wait_ms=30000")

    assert (first.status, again.status) == (202, 202)
    assert (first.json["message_id"], first.json["source"], first.json["duplicate"]) == (id, source, False)
    assert not first.json["ignored"]
    assert (again.json["duplicate"], again.json["process_id"]) == (True, first.json["process_id"])
    assert state.json["reply"]["outcome"] == "ok"
    assert served.shop.placed == ["7"]


async def test_what_the_app_has_no_use_for_is_told_to_have_arrived(local: Served) -> None:
    said = await send(local, "stripe", {"id": "evt_2", "type": "customer.created"})

    assert (said.status, said.json["ignored"], said.json["message_id"], said.json["kind"]) == (200, True, "evt_2", "customer.created")
    assert await kept(local, "stripe", "evt_2") is None


@pytest.mark.parametrize("sign", [stripe, standard])
@pytest.mark.parametrize(("later", "code"), [(-301, "webhook-too-old"), (301, "webhook-too-new"), (-299, ""), (299, "")])
async def test_what_was_signed_outside_of_the_tolerance_is_refused(local: Served, sign: Any, later: int, code: str) -> None:
    source = "stripe" if sign is stripe else "standard"
    body = json.dumps(SIGNING[source][1]).encode()

    said = await send(local, source, body, sign(local, body, later=later))

    assert (said.status, said.code if code else "") == (401 if code else 202, code)


async def test_a_request_that_was_taken_is_too_old_after_a_while(local: Served) -> None:
    body = json.dumps(PAID).encode()
    headers = stripe(local, body)

    first = await send(local, "stripe", body, headers)
    local.clock.advance(limits.WEBHOOK_TOLERANCE_US + SECOND)
    repeated = await send(local, "stripe", body, headers)

    assert (first.status, repeated.status, repeated.code) == (202, 401, "webhook-too-old")


@pytest.mark.parametrize("source", SIGNING)
async def test_a_request_that_proves_nothing_is_refused_whatever_token_it_has(local: Served, source: str) -> None:
    sign, content, id = SIGNING[source]
    body = json.dumps(content).encode()
    token = await local.new_token("deliver", "admin", tenant="*")
    name = {"stripe": "Stripe-Signature", "standard": "webhook-signature", "github": "X-Hub-Signature-256"}[source]
    good = sign(local, body)

    async def refused(headers: dict[str, str], data: bytes = body) -> tuple[int, str]:
        said = await local.ask("POST", path_of(source), token=token, data=data, headers=headers)
        assert said.headers["WWW-Authenticate"] == 'Signature realm="perdure"'
        return said.status, said.code

    assert await refused({}) == (401, "webhook-header-missing")
    assert await refused({**good, name: "x"}) == (401, "webhook-malformed")
    assert await refused(sign(local, body, OTHER)) == (401, "webhook-signature-wrong")
    assert await refused(good, body + b" ") == (401, "webhook-signature-wrong")
    assert await kept(local, source, id) is None


async def test_a_header_of_the_signature_that_is_given_twice_is_refused(local: Served) -> None:
    body = json.dumps(PAID).encode()
    name, value = next(iter(stripe(local, body).items()))

    async with local.session.post(local.server.url + path_of("stripe"), data=body, headers=[(name, value), (name, value)]) as answered:
        said = await answered.json()

    assert (answered.status, said["code"]) == (401, "webhook-malformed")


@pytest.mark.parametrize("source", SIGNING)
async def test_while_secrets_are_rotated_each_of_them_counts(local: Served, source: str) -> None:
    sign, content, _ = SIGNING[source]
    body = json.dumps(content).encode()

    local.shop.secrets = [OTHER, SECRET]
    during = [(await send(local, source, body, sign(local, body, secret))).status for secret in (SECRET, OTHER)]
    local.shop.secrets = [OTHER]
    after = [(await send(local, source, body, sign(local, body, secret))).status for secret in (SECRET, OTHER)]

    assert (during, after) == ([202, 202], [401, 202])


async def test_a_signature_by_each_of_two_secrets_is_taken_by_who_knows_one(local: Served) -> None:
    body = json.dumps(PAID).encode()

    assert (await send(local, "stripe", body, stripe(local, body, OTHER, SECRET))).status == 202


async def test_an_unknown_source_is_not_found(local: Served) -> None:
    said = await local.ask("POST", path_of("nobody"), token=None, data=b"{}")

    assert (said.status, said.code) == (404, "source-not-found")


async def test_a_secret_of_ours_that_is_not_set_is_a_failure_of_the_server(local: Served, caplog: pytest.LogCaptureFixture) -> None:
    said = await local.ask("POST", path_of("unset"), token=None, data=b"{}", headers=github(local, b"{}"))

    assert (said.status, said.code) == (500, "webhook-secret-invalid")
    assert "NO_SUCH_SECRET" not in said.json["detail"]
    assert "NO_SUCH_SECRET_IS_SET" in caplog.text, "who runs the server hears why"


@pytest.mark.parametrize(
    ("source", "content", "code"),
    [
        ("stripe", b"no JSON", "payload-invalid"),
        ("stripe", b"\xff\x00", "payload-invalid"),
        ("stripe", b"", "payload-invalid"),
        ("stripe", {"id": "evt_1", "type": "charge.succeeded"}, "webhook-unmapped"),
        ("stripe", {**PAID, "id": ""}, "webhook-unmapped"),
        ("stripe", {**PAID, "id": "pd-1"}, "usage"),
        ("github", {"order": 7, "amount": 3}, "payload-invalid"),
    ],
)
async def test_what_is_signed_and_is_no_message_is_refused_and_not_kept(local: Served, source: str, content: object, code: str) -> None:
    said = await send(local, source, content)

    assert (said.status, said.code) == (422, code)
    assert await kept(local, source, SIGNING[source][2]) is None


async def test_a_body_over_the_limit_is_refused_before_it_is_read(local: Served) -> None:
    said = await send(local, "stripe", b"x" * (limits.HTTP_BODY_MAX + 1))

    assert (said.status, said.code) == (413, "payload-too-large")


async def test_a_body_up_to_the_limit_is_taken_for_a_message_that_is_smaller(local: Served) -> None:
    content = json.dumps(PAID)[:-1] + ', "more": "'
    body = (content + "x" * (limits.HTTP_BODY_MAX - len(content) - 2) + '"}').encode()

    assert len(body) == limits.HTTP_BODY_MAX > limits.MESSAGE_MAX
    assert (await send(local, "stripe", body)).status == 202


async def test_a_thousand_duplicates_at_once_are_one_message(served: Served) -> None:
    body = json.dumps(PAID).encode()
    headers = stripe(served, body)

    said = await asyncio.gather(*(send(served, "stripe", body, headers) for _ in range(1_000)))
    await served.ask("GET", "/v1/tenants/acme/messages/evt_1?source=stripe&wait_ms=30000")

    assert {one.status for one in said} == {202}
    assert sorted(one.json["duplicate"] for one in said) == [False, *[True] * 999]
    assert len({one.json["process_id"] for one in said}) == 1
    assert served.shop.placed == ["7"]


async def test_the_same_id_of_another_content_is_a_conflict(local: Served) -> None:
    await send(local, "github", PLACE)

    said = await send(local, "github", {**PLACE, "amount": 4})

    assert (said.status, said.code) == (409, "message-conflict")


async def test_tenants_and_sources_are_apart(local: Served) -> None:
    said = [await send(local, "stripe", PAID), await send(local, "stripe", PAID, tenant="other")]
    said += [await send(local, "github", PLACE, github(local, json.dumps(PLACE).encode(), id="evt_1"))]

    assert [one.json["duplicate"] for one in said] == [False, False, False]
    assert len({one.json["process_id"] for one in said[:2]}) == 2


async def test_it_goes_where_its_source_says_and_waits_there_as_long(local: Served) -> None:
    rows = []
    for order in ("7", "8"):
        body = json.dumps({"order": order}).encode()
        await send(local, "later", body, standard(local, body, id=order))
        rows.append(await kept(local, "later", order))

    assert [row and row.expires_at for row in rows] == [local.clock.now() + 3_600 * SECOND, None]
    assert (await local.ask("GET", "/v1/tenants/acme/messages/7?source=later")).json["address"] == "key nobody"


async def test_the_trace_context_is_kept_and_nothing_else_that_nobody_signed(local: Served) -> None:
    body = json.dumps(PAID).encode()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await send(local, "stripe", body, {**stripe(local, body), "traceparent": parent, "X-Other": "other"})
    row = await kept(local, "stripe", "evt_1")

    assert row is not None
    assert row.headers is not None
    assert JSON.decoder(dict[str, str])(row.headers) == {"traceparent": parent}


async def test_an_address_that_proves_nothing_too_often_is_heard_only_by_sources_that_it_has_proved(local: Served) -> None:
    body = json.dumps(PAID).encode()
    wrong = stripe(local, body, OTHER)
    await send(local, "stripe", PAID)
    tried = [(await send(local, "standard", b"{}", {})).status for _ in range(limits.HTTP_ATTEMPTS_MAX + 1)]

    unknown = await send(local, "github", PLACE)
    known = await send(local, "stripe", PAID)
    known_wrong = await send(local, "stripe", body, wrong)
    token = await local.ask("GET", "/v1/tenants/acme/processes", token=await local.new_token("read"))
    local.clock.advance(limits.HTTP_ATTEMPTS_US)
    later = await send(local, "github", PLACE)
    metrics = (await local.ask("GET", "/metrics", token=await local.new_token("read", tenant="*"))).body.decode()

    assert tried == [401] * limits.HTTP_ATTEMPTS_MAX + [429]
    assert (unknown.status, unknown.code, unknown.headers["Retry-After"]) == (429, "too-many-attempts", "60")
    assert (known.status, known_wrong.status, later.status) == (202, 401, 202)
    assert token.status == 200, "tokens are counted apart"
    assert f'perdure_http_refused_tokens_total{{code="webhook-header-missing"}} {limits.HTTP_ATTEMPTS_MAX}' in metrics


async def test_an_idempotency_key_keeps_nothing_of_who_is_not_known(local: Served) -> None:
    body = json.dumps(PAID).encode()
    key = {"Idempotency-Key": '"k"'}

    unsigned = await send(local, "stripe", body, key)
    first = await send(local, "stripe", body, {**stripe(local, body), **key})
    again = await send(local, "stripe", body, {**stripe(local, body), **key})

    assert (unsigned.status, first.status, again.status) == (401, 202, 202)
    assert (first.json["duplicate"], again.json["duplicate"]) == (False, True), "the id of the webhook is its key"


async def test_neither_secrets_nor_payloads_are_logged(local: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        said = [await send(local, "stripe", PAID), await send(local, "stripe", {**PAID, "data": {"object": "sesame"}})]
        said += [await send(local, "stripe", b'"sesame"', {}), await send(local, "github", {"order": "sesame"})]
        said += [await send(local, "stripe", b"sesame")]

    assert [one.status for one in said] == [202, 422, 401, 422, 422]
    for secret in ("sesame", SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in caplog.text
        assert not [one for one in said if secret in one.body.decode()]


async def test_with_dev_a_signature_is_asked_for_all_the_same(serving_with: Serving) -> None:
    async with serving_with(dev=True) as served:
        unsigned, signed = await send(served, "stripe", b"{}", {}), await send(served, "stripe", PAID)

    assert (unsigned.status, signed.status) == (401, 202)


async def test_a_body_in_pieces_is_verified_as_a_whole(local: Served) -> None:
    body = json.dumps(PAID).encode()

    async def pieces() -> Any:
        for piece in (body[:10], body[10:]):
            yield piece

    async with local.session.post(local.server.url + path_of("stripe"), data=pieces(), headers=stripe(local, body)) as answered:
        assert isinstance(answered, aiohttp.ClientResponse)
        assert answered.status == 202


def test_the_document_says_that_the_signature_is_the_proof() -> None:
    described = document()
    operation = described["paths"]["/v1/tenants/{tenant}/webhooks/{source}"]["post"]
    schemes = described["components"]["securitySchemes"]

    assert len(operation["security"]) == len(VERIFIERS)
    for [name] in operation["security"]:
        assert schemes[name]["type"] == "apiKey"
    assert operation["requestBody"]["content"]["*/*"]["schema"]["maxLength"] == limits.HTTP_BODY_MAX
    assert {"200", "202", "401", "404", "413", "422", "429"} <= set(operation["responses"])
    assert "Idempotency-Key" not in {one["name"] for one in operation["parameters"]}

"""Webhooks over HTTP: the signature is the proof, and a webhook that comes again is the same message."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from perdure import Store, limits
from tests.server.conftest import Said, Served, served_on
from tests.server.shop import Place

GITHUB_SECRET = "a-secret-of-github"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "whsec_" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
STRIPE = "whsec_stripe"
PATH = "/v1/tenants/acme/webhooks"


def declare(served: Served) -> None:
    app = served.shop.app
    app.webhook(
        "github",
        scheme="github",
        secret=GITHUB_SECRET,
        message=lambda event: Place(event.data["order"], event.data["amount"]) if event.kind == "order" else None,
    )
    app.webhook("hooks", scheme="standard", secret=[STANDARD, OLD], kind="Place")
    app.webhook("stripe", scheme="stripe", secret=STRIPE, message=lambda event: Place(event.data["order"], event.data["amount"]))


@pytest.fixture
async def hooked(store: Store) -> AsyncIterator[Served]:
    async with served_on(store) as served:
        declare(served)
        yield served


async def from_github(served: Served, data: Any, *, id: str = "d1", kind: str = "order", secret: str = GITHUB_SECRET) -> Said:
    body = json.dumps(data).encode()
    sent = io.BytesIO(body)
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": id, "X-GitHub-Event": kind, "Content-Type": "application/json"}
    return await served.ask("POST", f"{PATH}/github", token=None, data=sent, headers=headers)


def standard(served: Served, data: Any, *, id: str = "m1", secret: str = STANDARD, late: float = 0.0) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(data)
    at = datetime.fromtimestamp(served.clock.now() / 1e6 - late, UTC)
    signature = Webhook(secret).sign(id, at, body)
    headers = {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
    return body.encode(), {**headers, "Content-Type": "application/json"}


ORDER = {"order": "7", "amount": 12}


async def test_a_webhook_becomes_a_message_once(hooked: Served) -> None:
    first, again = await from_github(hooked, ORDER), await from_github(hooked, ORDER)

    assert (first.status, again.status) == (202, 202)
    assert (first.json["duplicate"], again.json["duplicate"], first.json["message_id"]) == (False, True, "d1")
    await hooked.engine.deliver(Place("8", 1), id="other", tenant="acme", wait=True)
    assert sorted(hooked.shop.placed) == ["7", "8"]


async def test_what_the_app_has_no_use_for_is_told_to_have_arrived(hooked: Served) -> None:
    said = await from_github(hooked, ORDER, kind="ping")

    assert (said.status, said.json["ignored"], said.json["kind"]) == (200, True, "ping")
    assert hooked.shop.placed == []


@pytest.mark.parametrize("secret", [STANDARD, OLD])
async def test_a_peers_library_signs_with_any_of_the_secrets(hooked: Served, secret: str) -> None:
    body, headers = standard(hooked, ORDER, secret=secret)

    said = await hooked.ask("POST", f"{PATH}/hooks", token=None, data=body, headers=headers)

    assert (said.status, said.json["kind"], said.json["source"]) == (202, "Place", "hooks")


async def test_stripe_signs_the_time_with_the_body(hooked: Served) -> None:
    body, at = json.dumps({**ORDER, "id": "evt_1"}).encode(), hooked.clock.now() // 1_000_000
    signature = hmac.new(STRIPE.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={at},v1={signature}", "Content-Type": "application/json"}

    said = await hooked.ask("POST", f"{PATH}/stripe", token=None, data=body, headers=headers)

    assert (said.status, said.json["message_id"]) == (202, "evt_1")


async def test_what_is_not_signed_rightly_is_refused_and_nothing_is_written(hooked: Served) -> None:
    late = standard(hooked, ORDER, late=301)
    forged = (late[0].replace(b"12", b"99"), standard(hooked, ORDER)[1])
    refused = [
        await from_github(hooked, ORDER, secret="another"),
        *[await hooked.ask("POST", f"{PATH}/hooks", token=None, data=body, headers=headers) for body, headers in (late, forged)],
        await hooked.ask("POST", f"{PATH}/hooks", token=None, data=b"{}"),
    ]

    codes = ["webhook-signature-wrong", "webhook-too-old", "webhook-signature-wrong", "webhook-header-missing"]
    assert [(one.status, one.code) for one in refused] == [(401, code) for code in codes]
    assert hooked.shop.placed == []
    assert (await hooked.ask("POST", f"{PATH}/nobody", token=None, data=b"{}")).status == 404
    assert (await from_github(hooked, {"amount": 1})).code == "webhook-unmapped"


async def test_too_many_wrong_signatures_from_an_address_are_heard_no_more_for_a_while(hooked: Served) -> None:
    for _ in range(limits.HTTP_ATTEMPTS_MAX):
        assert (await from_github(hooked, ORDER, secret="another")).status == 401

    refused = await from_github(hooked, ORDER)
    hooked.clock.advance(limits.HTTP_ATTEMPTS_US)
    heard = await from_github(hooked, ORDER)

    assert (refused.status, refused.code, heard.status) == (429, "too-many-attempts", 202)


async def test_a_body_over_the_limit_is_refused_before_all_of_it_has_come(hooked: Served) -> None:
    said = await from_github(hooked, {"text": "x" * (limits.HTTP_BODY_MAX + 1)})

    assert (said.status, said.code) == (413, "payload-too-large")


async def test_a_thousand_of_the_same_are_one_message(hooked: Served) -> None:
    said = await asyncio.gather(*(from_github(hooked, ORDER) for _ in range(1_000)))

    assert {one.status for one in said} == {202}
    assert sum(not one.json["duplicate"] for one in said) == 1
    await hooked.engine.deliver(Place("8", 1), id="other", tenant="acme", wait=True)
    assert sorted(hooked.shop.placed) == ["7", "8"]

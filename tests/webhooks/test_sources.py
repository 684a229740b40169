"""Sources that an app declares: from a signed request to a message."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from examples.github_bot.events import Event, delivery_id, routed
from examples.github_bot.recording import WEBHOOKS, read
from perdure import Address, WebhookEvent, limits
from perdure.engine.sources import Ignored, Incoming, Source
from perdure.errors import (
    DefinitionError,
    InvalidIdentifier,
    PayloadInvalid,
    PayloadTooLarge,
    PerdureError,
    SourceNotFound,
    UsageError,
    WebhookHeaderMissing,
    WebhookSecretInvalid,
    WebhookSignatureWrong,
    WebhookUnmapped,
)
from perdure.headers import Headers
from perdure.webhooks.schemes import sign_standard
from perdure.webhooks.secrets import Secrets

NOW = 1_700_000_000_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Paid(msgspec.Struct):
    order: str
    amount: int = 0


def github(body: bytes, *, event: str = "push", delivery: str = "d-1", secret: str = SECRET, **others: str) -> Headers:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Event": event, "X-GitHub-Delivery": delivery}
    return Headers({"Content-Type": "application/json", **given, **others})


def standard(body: bytes, id: str = "msg_1") -> Headers:
    return Headers(sign_standard(Secrets(SECRET), body, id=id, now=NOW))


def source(**rules: Any) -> Source:
    return perdure.App("a").webhook("shop", **{"scheme": "standard", "secret": SECRET, **rules})


def read_by(found: Source, content: object, id: str = "msg_1") -> Incoming | Ignored:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return found.read(standard(body, id), body, now=NOW)


def test_every_recorded_webhook_of_github_becomes_the_message_that_the_bot_takes() -> None:
    app = perdure.App("bot")

    def message(event: WebhookEvent) -> Event:
        return routed(event.kind, event.data).event

    app.webhook("github", scheme="github", secret=SECRET, message=message, id=lambda event: delivery_id(event.kind, event.data))
    hooks = read(WEBHOOKS)

    for number, hook in enumerate(hooks):
        body = json.dumps(hook.payload).encode()
        incoming = app.source("github").read(github(body, event=hook.name, delivery=f"d-{number}"), body, now=NOW)
        expected = routed(hook.name, hook.payload).event
        assert isinstance(incoming, Incoming)
        assert (incoming.id, incoming.source, incoming.to) == (expected.delivery, "github", None)
        assert incoming.kind == type(expected).__struct_config__.tag
        assert msgspec.json.decode(incoming.payload, type=type(expected)) == expected
    assert len(hooks) > 100


def test_the_body_itself_may_be_the_message() -> None:
    app = perdure.App("shop")
    app.webhook("shop", scheme="standard", secret=SECRET, kind="Paid")
    body = b'{"order": "o-1", "more": true}'

    incoming = app.sources["shop"].read(standard(body), body, now=NOW)

    assert incoming == Incoming(kind="Paid", id="msg_1", to=None, payload=body, source="shop")


def test_the_rules_see_the_event_and_may_give_id_and_address() -> None:
    found = source(
        kind=lambda event: event.kind,
        id=lambda event: f"{event.data['order']}/{event.id}",
        to=lambda event: Address.tag(event.headers["X-Tag"]),
    )
    body = b'{"type": "order.paid", "order": "o-1"}'
    headers = Headers({**standard(body), "x-tag": "t"})

    assert found.read(headers, body, now=NOW) == Incoming(
        kind="order.paid", id="o-1/msg_1", to=Address.tag("t"), payload=body, source="shop"
    )
    assert read_by(source(message=lambda event: Paid(event.data), to=Address.key("k")), "o-2") == Incoming(
        kind="Paid", id="msg_1", to=Address.key("k"), payload=b'{"order":"o-2","amount":0}', source="shop"
    )


def test_a_source_says_how_long_its_messages_may_wait() -> None:
    day = timedelta(days=1)

    def lasting(**rules: Any) -> timedelta | None:
        found = read_by(source(kind="k", **rules), {"days": 3})
        assert isinstance(found, Incoming)
        return found.lasting

    assert lasting() is None
    assert lasting(lasting=day) == day
    assert lasting(lasting=lambda event: event.data["days"] * day) == 3 * day
    assert lasting(lasting=lambda _: None) is None


def test_the_id_of_a_stripe_event_is_in_its_body() -> None:
    app = perdure.App("a")
    stripe = app.webhook("stripe", scheme="stripe", secret="s", kind=lambda event: event.kind)
    body = b'{"id": "evt_1", "type": "charge.succeeded"}'
    seconds = NOW // 1_000_000
    signature = hmac.new(b"s", f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()

    incoming = stripe.read(Headers({"stripe-signature": f"t={seconds},v1={signature}"}), body, now=NOW)

    assert isinstance(incoming, Incoming)
    assert (incoming.kind, incoming.id) == ("charge.succeeded", "evt_1")


@pytest.mark.parametrize("rules", [{"message": lambda _: None}, {"kind": lambda _: None}])
def test_an_event_without_a_message_is_ignored(rules: dict[str, Any]) -> None:
    assert read_by(source(**rules), {"type": "ping"}) == Ignored("shop", "msg_1", "ping")


def test_nothing_of_a_request_is_looked_at_before_its_signature() -> None:
    seen: list[WebhookEvent] = []
    found = source(message=seen.append)

    with pytest.raises(WebhookSignatureWrong):
        found.read(standard(b"{}"), b"not JSON", now=NOW)
    with pytest.raises(WebhookHeaderMissing):
        found.read(Headers(), b"{}", now=NOW)

    assert seen == []


def test_an_unknown_source_and_a_missing_secret_are_told() -> None:
    app = perdure.App("a")
    app.webhook("shop", scheme="standard", secret_env="NO_SUCH_SECRET_IS_SET", kind="k")

    with pytest.raises(SourceNotFound):
        app.source("other")
    with pytest.raises(WebhookSecretInvalid, match=r"webhook source 'shop': environment variable NO_SUCH_SECRET_IS_SET"):
        app.source("shop").read(standard(b"{}"), b"{}", now=NOW)


def test_a_body_that_is_no_json_is_refused() -> None:
    for body in (b"", b"\xff", b"{", b"[" * 100_000):
        with pytest.raises(PayloadInvalid, match="not JSON"):
            read_by(source(kind="k"), body)


def test_a_form_of_github_is_refused_with_advice() -> None:
    found = source(scheme="github", kind="k")

    with pytest.raises(WebhookUnmapped, match="application/json"):
        found.read(
            github(b"payload=%7B%7D", **{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}), b"payload=%7B%7D", now=NOW
        )


def test_a_rule_that_fails_is_named_and_what_was_sent_is_not() -> None:
    for name in ("message", "kind", "id", "to", "lasting"):
        others = {} if name in {"message", "kind"} else {"kind": "k"}
        with pytest.raises(WebhookUnmapped, match=rf"{name}= raised KeyError on webhook 'msg_1'") as caught:
            read_by(source(**others, **{name: lambda event: {}[event.data]}), "sesame")
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ({"kind": "k", "id": lambda _: ""}, WebhookUnmapped),
        ({"kind": "k", "id": lambda _: "a\n"}, InvalidIdentifier),
        ({"kind": "k", "id": lambda _: "pd-1"}, UsageError),
        ({"kind": "k", "id": lambda _: 7}, InvalidIdentifier),
        ({"kind": "k", "to": lambda _: "o-1"}, UsageError),
        ({"kind": "k", "lasting": lambda _: 3}, WebhookUnmapped),
        ({"kind": lambda _: ""}, InvalidIdentifier),
        ({"kind": lambda _: 7}, InvalidIdentifier),
        ({"kind": lambda _: "pd-later"}, WebhookUnmapped),
        ({"message": lambda _: {}}, DefinitionError),
    ],
)
def test_what_a_rule_returns_is_checked(rules: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        read_by(source(**rules), {})


def test_a_message_over_the_limit_is_refused() -> None:
    for rules in ({"kind": "k"}, {"message": lambda event: Paid(event.data)}):
        with pytest.raises(PayloadTooLarge):
            read_by(source(**rules), "a" * limits.MESSAGE_MAX)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("", {}),
        ("a/b", {}),
        ("..", {}),
        ("a" * 65, {}),
        ("a", {"scheme": "none"}),
        ("a", {"message": lambda _: None}),
        ("a", {"kind": None}),
        ("a", {"kind": 7}),
        ("a", {"id": "x"}),
        ("a", {"to": "x"}),
        ("a", {"lasting": 3}),
        ("taken", {}),
    ],
)
def test_a_source_that_cannot_work_is_refused_when_it_is_declared(name: str, given: dict[str, Any]) -> None:
    app = perdure.App("a")
    app.webhook("taken", scheme="github", secret="s", kind="k")

    with pytest.raises(DefinitionError):
        app.webhook(name, **{"scheme": "github", "secret": "s", "kind": "k", **given})
    assert list(app.sources) == ["taken"]


def test_neither_secrets_nor_what_was_sent_are_shown() -> None:
    shown: list[str] = []

    def message(event: WebhookEvent) -> Paid:
        shown.append(repr(event))
        return Paid(event.data)

    found = source(message=message)
    shown += [repr(read_by(found, "sesame")), repr(found)]

    assert not [text for text in shown if "sesame" in text or SECRET in text]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(content=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(), event=st.text(), delivery=st.text())
def test_a_verified_request_is_a_message_or_a_typed_error_whatever_it_says(content: bytes, event: str, delivery: str) -> None:
    found = source(scheme="github", message=lambda event: routed(event.kind, event.data).event)

    try:
        incoming = found.read(github(content, event=event, delivery=delivery), content, now=NOW)
    except PerdureError:
        return
    assert isinstance(incoming, Incoming)

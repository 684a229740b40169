"""Standard Webhooks, with the library of the specification as the other side."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import (
    UsageError,
    WebhookHeaderMissing,
    WebhookMalformed,
    WebhookSecretInvalid,
    WebhookSignatureWrong,
    WebhookTooNew,
    WebhookTooOld,
)
from perdure.headers import Headers
from perdure.webhooks.schemes import sign_standard, verify_standard
from perdure.webhooks.secrets import Secrets, new_secret

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
BODY = '{"name": "ü €"}'.encode()
SECRETS = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=100)


def signed(secret: str = SECRET, *, body: bytes = BODY, at: int = NOW) -> dict[str, str]:
    return sign_standard(Secrets(secret), body, id="msg_1", now=at)


def verify(headers: dict[str, str] | list[tuple[str, str]], *secrets: str, now: int = NOW, body: bytes = BODY) -> None:
    verify_standard(Headers(headers), body, Secrets(secrets or (SECRET,)), now=now)


def test_the_example_of_the_specification_has_its_signature() -> None:
    headers = sign_standard(
        Secrets(SECRET), b'{"test": 2432232314}', id="msg_p5jXN8AQM9LWM0D4loKWxJek", now=1_614_265_330 * SECOND + 999_999
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(secret=SECRETS, body=st.text().map(json.dumps), id=IDS)
def test_the_library_verifies_what_we_sign(secret: str, body: str, id: str) -> None:
    now = int(datetime.now(UTC).timestamp()) * SECOND  # the library looks at the clock

    headers = sign_standard(Secrets(secret), body.encode(), id=id, now=now)

    assert standardwebhooks.Webhook(secret).verify(body, headers) == json.loads(body)


@given(secret=SECRETS, body=st.text(st.characters(exclude_categories=["Cs"])), id=IDS, seconds=st.integers(0, 4_000_000_000))
def test_we_verify_what_the_library_signs(secret: str, body: str, id: str, seconds: int) -> None:
    headers = {
        "Webhook-Id": id,
        "Webhook-Timestamp": str(seconds),
        "Webhook-Signature": standardwebhooks.Webhook(secret).sign(id, datetime.fromtimestamp(seconds, UTC), body),
    }

    proof = verify_standard(Headers(headers), body.encode(), Secrets(secret), now=seconds * SECOND)

    assert (proof.id, proof.sent_at, proof.signed) == (id, seconds * SECOND, True)


@given(old=SECRETS, new=SECRETS, body=st.binary())
def test_while_secrets_are_rotated_each_side_may_be_first(old: str, new: str, body: bytes) -> None:
    both = sign_standard(Secrets([new, old]), body, id="m", now=NOW)

    assert len(both["webhook-signature"].split(" ")) == 2
    for known in (old, new):
        verify_standard(Headers(both), body, Secrets(known), now=NOW)
        one = sign_standard(Secrets(known), body, id="m", now=NOW)
        verify_standard(Headers(one), body, Secrets([old, new]), now=NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_header_is_named(name: str, value: str | None) -> None:
    headers = {key: found for key, found in {**signed(), name: value}.items() if found is not None}

    with pytest.raises(WebhookHeaderMissing) as caught:
        verify(headers)

    assert (caught.value.header, caught.value.code) == (name, "webhook-header-missing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "a b"),
        ("webhook-id", "ü"),
        ("webhook-id", "a" * 513),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "1.5"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "9" * 16),
        ("webhook-timestamp", "१७"),
        ("webhook-signature", "v1"),
        ("webhook-signature", "v1a,AAAA"),
        ("webhook-signature", "v2,AAAA v3,AAAA"),
        ("webhook-signature", " ".join(["v1,AAAA"] * 17)),
        ("webhook-signature", "v1," + "A" * limits.WEBHOOK_HEADER_MAX),
    ],
)
def test_a_malformed_header_is_named(name: str, value: str) -> None:
    with pytest.raises(WebhookMalformed) as caught:
        verify({**signed(), name: value})

    assert (caught.value.header, caught.value.code) == (name, "webhook-malformed")


@pytest.mark.parametrize(
    ("name", "value"), [("Webhook-Id", "msg_2"), ("Webhook-Timestamp", "1700000000"), ("Webhook-Signature", "v1,AAAA")]
)
def test_a_header_that_is_given_twice_is_malformed(name: str, value: str) -> None:
    with pytest.raises(WebhookMalformed, match="it once"):
        verify([(name, value), *signed().items()])


def test_five_minutes_are_tolerated_in_both_directions() -> None:
    for apart in (-300 * SECOND, 300 * SECOND):
        verify(signed(), now=NOW + apart)
    with pytest.raises(WebhookTooOld) as old:
        verify(signed(), now=NOW + 300 * SECOND + 1)
    with pytest.raises(WebhookTooNew) as new:
        verify(signed(), now=NOW - 300 * SECOND - 1)

    assert (old.value.code, new.value.code) == ("webhook-too-old", "webhook-too-new")


@pytest.mark.parametrize(
    "headers",
    [
        signed(OTHER),
        {**signed(), "webhook-id": "msg_2"},
        {**signed(), "webhook-timestamp": str(NOW // SECOND + 1)},
        {**signed(), "webhook-signature": "v1,"},
        {**signed(), "webhook-signature": "v1,not Base64 v1,ÄÖ=="},
        {**signed(), "webhook-signature": signed()["webhook-signature"][:-1]},
    ],
)
def test_a_signature_of_something_else_is_wrong(headers: dict[str, str]) -> None:
    with pytest.raises(WebhookSignatureWrong) as caught:
        verify(headers)

    assert caught.value.code == "webhook-signature-wrong"


def test_a_changed_body_is_found() -> None:
    with pytest.raises(WebhookSignatureWrong):
        verify(signed(), body=BODY + b" ")


def test_signatures_of_other_versions_beside_ours_are_let_pass() -> None:
    headers = signed()

    verify({**headers, "webhook-signature": f"v1a,abc v2 junk {headers['webhook-signature']}"})


@pytest.mark.parametrize("id", ["", "a b", "a\n", "ü", "a" * 513])
def test_nothing_is_signed_under_an_id_that_is_no_header(id: str) -> None:
    with pytest.raises(UsageError):
        sign_standard(Secrets(SECRET), b"", id=id, now=NOW)


@pytest.mark.parametrize(
    "secret",
    [
        "whsec_###",
        "whsec_A",
        "",
        "whsec_",
        "ü",
        "whsec_" + base64.b64encode(b"s" * 23).decode(),
        "whsec_" + base64.b64encode(b"s" * 65).decode(),
        (),
        [SECRET] * 9,
    ],
)
def test_a_wrong_secret_is_our_error_and_is_not_shown(secret: str) -> None:
    with pytest.raises(WebhookSecretInvalid) as caught:
        Secrets(secret).decoded()

    assert not secret or str(secret) not in str(caught.value)


def test_a_new_secret_signs() -> None:
    made = new_secret(bytes)

    assert made == "whsec_" + "A" * 43 + "="
    verify(signed(made), made)


def test_a_secret_may_be_without_prefix_and_padding_as_in_the_library() -> None:
    verify(signed(OTHER), OTHER.removeprefix("whsec_").rstrip("="))


def test_secrets_come_from_the_environment_or_a_function_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [SECRET]
    from_function, from_environment = Secrets(lambda: known), Secrets(env="HOOK_SECRET", what="source 'a'")

    assert from_function.texts() == (SECRET,)
    known.append(OTHER)
    assert from_function.texts() == (SECRET, OTHER)
    with pytest.raises(WebhookSecretInvalid, match=r"source 'a': environment variable HOOK_SECRET has 0 secrets"):
        from_environment.texts()
    monkeypatch.setenv("HOOK_SECRET", f" {SECRET}  {OTHER} ")
    assert from_environment.texts() == (SECRET, OTHER)


def test_secrets_have_one_origin_and_are_not_shown() -> None:
    for origin in ({}, {"given": "a", "env": "B"}):
        with pytest.raises(WebhookSecretInvalid):
            Secrets(**origin)

    assert SECRET not in repr(Secrets(SECRET))
    assert repr(Secrets(env="HOOK_SECRET")) == "Secrets(env='HOOK_SECRET')"

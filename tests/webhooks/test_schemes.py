"""GitHub's and Stripe's signatures, and that no request brings anything but an answer or a typed refusal."""

from __future__ import annotations

import hashlib
import hmac
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import (
    WebhookHeaderMissing,
    WebhookMalformed,
    WebhookRefused,
    WebhookSignatureWrong,
    WebhookTooNew,
    WebhookTooOld,
)
from perdure.headers import Headers
from perdure.webhooks.schemes import VERIFIERS, Proof, Scheme, verify_github, verify_stripe
from perdure.webhooks.secrets import Secrets

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
SECRET = "whsec_" + "c2VjcmV0" * 5
BODY = b'{"id": "evt_1"}'


def digest(text: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def github(signature: str | None, *secrets: str, body: bytes = BODY) -> Proof:
    headers = {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "push"}
    if signature is not None:
        headers["X-Hub-Signature-256"] = signature
    return verify_github(Headers(headers), body, Secrets(secrets or SECRET), now=NOW)


def stripe(signature: str | None, *secrets: str, now: int = NOW, body: bytes = BODY) -> Proof:
    return verify_stripe(Headers({} if signature is None else {"Stripe-Signature": signature}), body, Secrets(secrets or SECRET), now=now)


def of_stripe(secret: str = SECRET, *, seconds: int = NOW // SECOND) -> str:
    return digest(f"{seconds}.".encode() + BODY, secret)


def test_the_example_in_githubs_documents_is_verified() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    proof = github(signature, "It's a Secret to Everybody", body=b"Hello, World!")

    assert proof == Proof(id="d-1", kind="push", sent_at=None, signed=False)


def test_githubs_secret_may_be_any_of_several() -> None:
    assert github("sha256=" + digest(BODY, "old"), "new", "old").id == "d-1"


@pytest.mark.parametrize("signature", [digest(BODY), "sha1=" + digest(BODY), "sha256=", "sha256=" + "g" * 64, "sha256=" + "a" * 65])
def test_a_malformed_signature_of_github_is_refused(signature: str) -> None:
    with pytest.raises(WebhookMalformed):
        github(signature)


def test_a_wrong_or_missing_signature_of_github_is_refused() -> None:
    with pytest.raises(WebhookSignatureWrong):
        github("sha256=" + digest(BODY, "other"))
    with pytest.raises(WebhookSignatureWrong):
        github("sha256=" + digest(BODY), body=BODY + b" ")
    with pytest.raises(WebhookHeaderMissing):
        github(None)


def test_stripes_signature_covers_the_time_and_the_body() -> None:
    at = NOW // SECOND

    assert stripe(f"t={at},v1={of_stripe()},v0=6ffbb59b").sent_at == NOW
    with pytest.raises(WebhookSignatureWrong):
        stripe(f"t={at},v1={of_stripe()}", body=BODY + b" ")
    with pytest.raises(WebhookSignatureWrong):
        stripe(f"t={at + 1},v1={of_stripe()}")


def test_stripe_signs_with_each_secret_while_they_are_rotated() -> None:
    at = NOW // SECOND
    both = f"t={at},v1={of_stripe('new')},v1={of_stripe('old')}"

    assert stripe(both, "old") == stripe(both, "new") == stripe(f"t={at}, v1={of_stripe('old')}", "new", "old")


def test_a_scheme_of_stripes_that_is_no_v1_counts_for_nothing() -> None:
    with pytest.raises(WebhookMalformed):
        stripe(f"t={NOW // SECOND},v0={of_stripe()}")
    with pytest.raises(WebhookSignatureWrong):
        stripe(f"t={NOW // SECOND},v1=abc,v0={of_stripe()}")


def test_five_minutes_are_tolerated_by_stripe_too() -> None:
    signature = f"t={NOW // SECOND},v1={of_stripe()}"

    stripe(signature, now=NOW + 300 * SECOND)
    with pytest.raises(WebhookTooOld):
        stripe(signature, now=NOW + 300 * SECOND + 1)
    with pytest.raises(WebhookTooNew):
        stripe(signature, now=NOW - 300 * SECOND - 1)


@pytest.mark.parametrize(
    "signature",
    [
        "v1=aa",
        "t=1",
        "t=soon,v1=aa",
        "t=1,t=2,v1=aa",
        "t=1;v1=aa",
        "junk",
        "t=1,v1=aa,",
        f"t=1,{','.join(['v1=aa'] * 17)}",
    ],
)
def test_a_malformed_signature_of_stripe_is_refused(signature: str) -> None:
    with pytest.raises(WebhookMalformed):
        stripe(signature)


def test_a_missing_signature_of_stripe_is_named() -> None:
    with pytest.raises(WebhookHeaderMissing) as caught:
        stripe(None)

    assert caught.value.header == "stripe-signature"


NAMES = st.sampled_from(
    ["webhook-id", "webhook-timestamp", "webhook-signature", "x-hub-signature-256", "stripe-signature", "Stripe-Signature"]
)
PIECES = st.sampled_from(["v1,", "v1=", "t=", "sha256=", ",", " ", "=", "1700000000", "A" * 44, "a" * 64, "é", "\x00", "\ud800"])
VALUES = st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join)


@pytest.mark.parametrize("scheme", sorted(VERIFIERS))
@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=8), body=st.binary(max_size=100), now=st.integers(0, 2**62))
def test_whatever_comes_is_refused_by_a_typed_error(scheme: str, headers: list[tuple[str, str]], body: bytes, now: int) -> None:
    with pytest.raises(WebhookRefused):
        VERIFIERS[cast("Scheme", scheme)](Headers(headers), body, Secrets(SECRET), now=now)

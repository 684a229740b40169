"""How each kind of source signs, and how its signature is verified.

Verifying is total: whatever the headers and the body are, the answer is a `Proof` or one of the errors of `WebhookRefused`.
Signatures are compared in constant time, and each secret is tried with each signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from perdure import limits
from perdure.clock import SECOND, Micros
from perdure.errors import (
    UsageError,
    WebhookHeaderMissing,
    WebhookMalformed,
    WebhookSignatureWrong,
    WebhookTooNew,
    WebhookTooOld,
)
from perdure.headers import Headers
from perdure.webhooks.secrets import Secrets

Scheme = Literal["standard", "github", "stripe"]

_SECONDS: Final = re.compile(r"[0-9]{1,15}")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_STRIPE_PART: Final = re.compile(r"([a-z][a-z0-9]*)=([\x21-\x2b\x2d-\x7e]*)")
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")


class Proof(msgspec.Struct, frozen=True):
    """What a verified request says of itself.

    `id` and `kind` are empty where the scheme has no header for them, `sent_at` is None where nothing says when it was signed.
    What is `signed` cannot be changed by who repeats the request: of GitHub's headers, nothing is.
    """

    id: str = ""
    kind: str = ""
    sent_at: Micros | None = None
    signed: bool = True


class Verifier(Protocol):
    """How requests of one kind of source are verified."""

    def __call__(self, headers: Headers, body: bytes, secrets: Secrets, *, now: Micros) -> Proof:
        """Return what the request says of itself. Raises WebhookRefused, and WebhookSecretInvalid when ours are wrong."""
        ...


# --- Standard Webhooks -----------------------------------------------------------------------------------


def sign_standard(secrets: Secrets, body: bytes, *, id: str, now: Micros) -> dict[str, str]:
    """Return the three headers of Standard Webhooks for a body.

    Args:
        secrets: of the receiver; with several, one signature by each, so that it can go from one to the other.
        body: what is sent, byte for byte.
        id: the message's, the same at each try.
        now: microseconds since the epoch.

    Raises:
        UsageError: the id cannot be a header.
        WebhookSecretInvalid: a secret is not of its form.

    Source: Standard Webhooks 1.0, "Signature scheme".
    """
    if not _VISIBLE.fullmatch(id) or len(id) > limits.MESSAGE_ID_MAX:
        raise UsageError(f"webhook id {id[: limits.REPR_MAX]!a}: expected 1 to {limits.MESSAGE_ID_MAX} visible ASCII characters")
    seconds = str(now // SECOND)
    signatures = (base64.b64encode(_standard(key, id, seconds, body)).decode() for key in secrets.decoded())
    return {
        "webhook-id": id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def verify_standard(headers: Headers, body: bytes, secrets: Secrets, *, now: Micros) -> Proof:
    """Verify `webhook-id`, `webhook-timestamp` and `webhook-signature`; see `Verifier`."""
    keys = secrets.decoded()
    id = _header(headers, "webhook-id")
    if not _VISIBLE.fullmatch(id) or len(id) > limits.MESSAGE_ID_MAX:
        raise WebhookMalformed("webhook-id", f"1 to {limits.MESSAGE_ID_MAX} visible ASCII characters")
    seconds = _header(headers, "webhook-timestamp")
    if not _SECONDS.fullmatch(seconds):
        raise WebhookMalformed("webhook-timestamp", "whole seconds since the epoch")
    entries = _header(headers, "webhook-signature").split(" ")
    if len(entries) > limits.WEBHOOK_SIGNATURES_MAX:
        raise WebhookMalformed("webhook-signature", f"at most {limits.WEBHOOK_SIGNATURES_MAX} signatures")
    given = [_base64(entry.removeprefix("v1,")) for entry in entries if entry.startswith("v1,")]
    if not given:
        raise WebhookMalformed("webhook-signature", "`v1,` and Base64, several with spaces between them")
    sent_at = _in_time(seconds, now=now)
    _compare((_standard(key, id, seconds, body) for key in keys), given)
    return Proof(id=id, sent_at=sent_at)


def _standard(key: bytes, id: str, seconds: str, body: bytes) -> bytes:
    return hmac.digest(key, f"{id}.{seconds}.".encode() + body, hashlib.sha256)


def _base64(text: str) -> bytes:
    """Return the bytes of a signature; none of any signature when it is no Base64 text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


# --- GitHub ------------------------------------------------------------------------------------------------


def verify_github(headers: Headers, body: bytes, secrets: Secrets, *, now: Micros) -> Proof:  # noqa: ARG001  # nothing says when it was signed
    """Verify `X-Hub-Signature-256`; see `Verifier`. Neither a time nor the delivery's id is signed.

    Source: GitHub, "Validating webhook deliveries".
    """
    keys = secrets.raw()
    given = _header(headers, "x-hub-signature-256")
    if not given.startswith("sha256=") or not _HEX.fullmatch(given.removeprefix("sha256=")):
        raise WebhookMalformed("x-hub-signature-256", "`sha256=` and 64 hex digits")
    _compare((hmac.digest(key, body, hashlib.sha256) for key in keys), [bytes.fromhex(given.removeprefix("sha256="))])
    id, kind = headers.get("x-github-delivery", ""), headers.get("x-github-event", "")
    return Proof(id=id, kind=kind, signed=False)


# --- Stripe ------------------------------------------------------------------------------------------------


def verify_stripe(headers: Headers, body: bytes, secrets: Secrets, *, now: Micros) -> Proof:
    """Verify `Stripe-Signature`: `t=…`, and one `v1=…` for each secret; see `Verifier`. The secret is used as its text.

    Source: Stripe, "Verify webhook signatures manually".
    """
    name = "stripe-signature"
    keys = secrets.raw()
    parts = [_STRIPE_PART.fullmatch(part.strip(" ")) for part in _header(headers, name).split(",")]
    pairs = [(found[1], found[2]) for found in parts if found is not None]
    times = [value for key, value in pairs if key == "t"]
    if len(pairs) != len(parts) or len(times) != 1 or not _SECONDS.fullmatch(times[0]):
        raise WebhookMalformed(name, "`t=` with seconds since the epoch, and `v1=` with a signature, separated by commas")
    given = [bytes.fromhex(value) if _HEX.fullmatch(value) else b"" for key, value in pairs if key == "v1"]
    if not 1 <= len(given) <= limits.WEBHOOK_SIGNATURES_MAX:
        raise WebhookMalformed(name, f"1 to {limits.WEBHOOK_SIGNATURES_MAX} signatures `v1=`")
    sent_at = _in_time(times[0], now=now)
    _compare((hmac.digest(key, times[0].encode() + b"." + body, hashlib.sha256) for key in keys), given)
    return Proof(sent_at=sent_at)


VERIFIERS: Final[dict[Scheme, Verifier]] = {"standard": verify_standard, "github": verify_github, "stripe": verify_stripe}


# --- what they share ---------------------------------------------------------------------------------------


def _header(headers: Headers, name: str) -> str:
    value = headers.get(name)
    if value is None or not value.strip():
        raise WebhookHeaderMissing(name)
    if headers.times(name) != 1:
        raise WebhookMalformed(name, "it once")
    if len(value) > limits.WEBHOOK_HEADER_MAX:
        raise WebhookMalformed(name, f"at most {limits.WEBHOOK_HEADER_MAX:,} characters")
    return value


def _in_time(seconds: str, *, now: Micros) -> Micros:
    sent_at = int(seconds) * SECOND
    tolerated = limits.WEBHOOK_TOLERANCE_US // SECOND
    if sent_at < now - limits.WEBHOOK_TOLERANCE_US:
        raise WebhookTooOld(f"signed {(now - sent_at) // SECOND:,} s ago, {tolerated} s are tolerated; send it again with a new signature")
    if sent_at > now + limits.WEBHOOK_TOLERANCE_US:
        raise WebhookTooNew(f"signed {(sent_at - now) // SECOND:,} s in the future, {tolerated} s are tolerated; set the clocks")
    return sent_at


def _compare(expected: Iterable[bytes], given: Sequence[bytes]) -> None:
    # All pairs are compared, so that the time says nothing of which secret fits.
    found = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(found):
        raise WebhookSignatureWrong("no signature is one of this body by a secret of this source; compare the secrets on both sides")

"""Errors of webhooks, CloudEvents, and what is sent to others."""

from __future__ import annotations

from perdure.errors.roots import NotFoundError, PerdureError, RejectedError, UsageError

# --- webhooks and CloudEvents -----------------------------------------------------------------------


class WebhookRefused(RejectedError):
    """A request does not prove that it comes from its source; it was not looked at further."""

    code = "webhook-refused"


class WebhookHeaderMissing(WebhookRefused):
    """A header of the signature is missing; the text names it."""

    code = "webhook-header-missing"

    def __init__(self, header: str) -> None:
        super().__init__(f"header {header!r} is missing; the sender has to sign what it sends")
        self.header = header


class WebhookMalformed(WebhookRefused):
    """A header of the signature is not of its form; the text names it."""

    code = "webhook-malformed"

    def __init__(self, header: str, expected: str) -> None:
        super().__init__(f"header {header!r}: expected {expected}")
        self.header = header


class WebhookTooOld(WebhookRefused):
    """The request was signed longer ago than is tolerated: it is a repetition of an old one, or a clock is wrong."""

    code = "webhook-too-old"


class WebhookTooNew(WebhookRefused):
    """The request was signed further in the future than is tolerated; one of the two clocks is wrong."""

    code = "webhook-too-new"


class WebhookSignatureWrong(WebhookRefused):
    """No signature is one of the body by a secret of this source; compare the secrets on both sides."""

    code = "webhook-signature-wrong"


class WebhookSecretInvalid(UsageError):
    """A secret of a source is not set or not of its form; nothing can be verified until it is."""

    code = "webhook-secret-invalid"


class WebhookUnmapped(PerdureError):
    """A verified webhook cannot be made a message by the source's rules; the text says by which."""

    code = "webhook-unmapped"


class SourceNotFound(NotFoundError):
    """The app has no webhook source of this name."""

    code = "source-not-found"


class CloudEventInvalid(UsageError):
    """A CloudEvent breaks the rules of one of its attributes, which `attribute` names."""

    code = "cloud-event-invalid"

    def __init__(self, attribute: str, reason: str) -> None:
        super().__init__(f"CloudEvent attribute {attribute!r}: {reason}")
        self.attribute = attribute
        self.reason = reason


class CloudEventBatched(UsageError):
    """Several CloudEvents came in one request; send each in a request of its own."""

    code = "cloud-event-batched"


# --- sending ---------------------------------------------------------------------------------------


class TargetRefused(UsageError):
    """Nothing is sent to this URL or address; the text says which rule forbids it."""

    code = "target-refused"

"""Sources of webhooks: from a request that somebody signed to a message, by rules that the app declares."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.engine.addressing import Address, checked_address, checked_id
from perdure.engine.kinds import checked_message_type, encoded_message, kind_of
from perdure.errors import DefinitionError, PayloadTooLarge, PerdureError, WebhookUnmapped
from perdure.headers import Headers
from perdure.identity import RESERVED_ID_PREFIX, checked_text
from perdure.webhooks.schemes import VERIFIERS, Scheme
from perdure.webhooks.secrets import Secrets

T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_decode: Final = JSON.decoder(Any, what="JSON, which is what a webhook has to be")


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A verified webhook, as the rules of its source see it.

    Attributes:
        id: what the scheme names it: `webhook-id`, `X-GitHub-Delivery`, the `id` of a Stripe event; empty when there is none.
        kind: what the scheme says it is: `X-GitHub-Event`, else `type` in the body; empty when nothing says it.
        data: the body, decoded.
        headers: by name, in lower case. Only those that the scheme signs are certain.
        sent_at: when it was signed, microseconds since the epoch; None for GitHub, which does not say it.
        body: as it came.
    """

    id: str
    kind: str
    data: Any
    headers: Headers
    sent_at: Micros | None
    body: bytes

    def __repr__(self) -> str:
        return f"WebhookEvent(id={self.id!r}, kind={self.kind!r})"  # what it says belongs into no log


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """The message that a webhook is. `to` is None when the handlers of its kind say where it goes, `lasting` when it may wait for ever."""

    kind: str
    id: str
    to: Address | None
    payload: bytes
    source: str
    lasting: timedelta | None = None

    def __repr__(self) -> str:
        return f"Incoming(kind={self.kind!r}, id={self.id!r}, to={self.to!r}, source={self.source!r})"


class Ignored(msgspec.Struct, frozen=True):
    """A verified webhook that the app has no use for. Its sender is told that it has arrived."""

    source: str
    id: str
    kind: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends webhooks, how they are signed, and what messages they are. Made by `App.webhook`."""

    name: str
    scheme: Scheme
    secrets: Secrets
    message: Callable[[WebhookEvent], object] | None = None
    kind: str | Callable[[WebhookEvent], str | None] | None = None
    id: Callable[[WebhookEvent], str] | None = None
    to: Address | Callable[[WebhookEvent], Address | None] | None = None
    lasting: timedelta | Callable[[WebhookEvent], timedelta | None] | None = None

    def checked(self) -> Source:
        """Return the source if it can work. Raises DefinitionError."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or len(self.name) > limits.SOURCE_NAME_MAX:
            raise DefinitionError(
                f"webhook source {self.name!r}: a name is 1 to {limits.SOURCE_NAME_MAX} of A-Z a-z 0-9 . _ -, and begins with no point"
            )
        if self.scheme not in VERIFIERS:
            raise DefinitionError(f"webhook source {self.name!r}: scheme= is one of {sorted(VERIFIERS)}, found {self.scheme!r}")
        if (self.message is None) == (self.kind is None):
            raise DefinitionError(f"webhook source {self.name!r}: give message=, which makes the message, or kind=, when the body is one")
        rules = (self.message, self.id, None if isinstance(self.kind, str) else self.kind)
        if not all(rule is None or callable(rule) for rule in rules):
            raise DefinitionError(f"webhook source {self.name!r}: message=, id= and kind= are functions of the event; kind= may be text")
        if not (self.to is None or callable(self.to) or isinstance(self.to, Address)):
            raise DefinitionError(f"webhook source {self.name!r}: to= is an address or a function of the event, found {self.to!r}")
        if not (self.lasting is None or callable(self.lasting) or isinstance(self.lasting, timedelta)):
            raise DefinitionError(
                f"webhook source {self.name!r}: lasting= is a timedelta or a function of the event, found {self.lasting!r}"
            )
        return self

    def read(self, headers: Headers, body: bytes, *, now: Micros) -> Incoming | Ignored:
        """Return the message that a request is. Nothing of the body is looked at before its signature is verified.

        Args:
            headers: of the request.
            body: byte for byte as it came.
            now: microseconds since the epoch.

        Returns:
            The message; or Ignored when the rules of the source return None for it.

        Raises:
            WebhookRefused: the signature is missing, not of its form, too old, too new or wrong; the class says which.
            WebhookSecretInvalid: a secret of ours is not set or not of its form.
            PayloadInvalid: the body is no JSON.
            WebhookUnmapped: a rule failed on it, or it has no id.
            InvalidIdentifier, UsageError, PayloadUnencodable, PayloadTooLarge: what a rule returned is no id, address or message.
        """
        proof = VERIFIERS[self.scheme](headers, body, self.secrets, now=now)
        if headers.media_type() == "application/x-www-form-urlencoded":
            raise WebhookUnmapped(f"webhook source {self.name}: the body is a form; choose `application/json` where the webhook is set up")
        data = _decode(body)
        event = WebhookEvent(
            id=proof.id or (_member(data, "id") if self.scheme == "stripe" else ""),
            kind=proof.kind or _member(data, "type"),
            data=data,
            headers=headers,
            sent_at=proof.sent_at,
            body=body,
        )
        return self._incoming(event)

    def _incoming(self, event: WebhookEvent) -> Incoming | Ignored:
        content = self._content(event)
        if content is None:
            return Ignored(self.name, event.id, event.kind)
        kind, payload = content
        id = event.id if self.id is None else self._by_rule("id", self.id, event)
        if not id:
            raise WebhookUnmapped(f"webhook source {self.name}: the request has no id; give id= a function that finds one")
        to = self._by_rule("to", self.to, event) if callable(self.to) else self.to
        lasting = self._by_rule("lasting", self.lasting, event) if callable(self.lasting) else self.lasting
        if not (lasting is None or isinstance(lasting, timedelta)):
            raise WebhookUnmapped(f"webhook source {self.name}: lasting= returns a timedelta or None, found {type(lasting).__name__}")
        return Incoming(
            kind=kind,
            id=checked_id(id),
            to=None if to is None else checked_address(to),
            payload=payload,
            source=self.name,
            lasting=lasting,
        )

    def _content(self, event: WebhookEvent) -> tuple[str, bytes] | None:
        if self.message is not None:
            made = self._by_rule("message", self.message, event)
            return None if made is None else (kind_of(checked_message_type(type(made))), encoded_message(made))
        kind = self.kind if isinstance(self.kind, str) or self.kind is None else self._by_rule("kind", self.kind, event)
        if kind is None:
            return None
        checked_text(kind, what="message kind", limit=limits.REGISTRY_KEY_MAX)
        if kind.startswith(RESERVED_ID_PREFIX):
            raise WebhookUnmapped(f"webhook source {self.name}: kinds that begin with {RESERVED_ID_PREFIX!r} are Perdure's own")
        if len(event.body) > limits.MESSAGE_MAX:
            raise PayloadTooLarge(f"webhook of {self.name}", size=len(event.body), limit=limits.MESSAGE_MAX)
        return kind, event.body

    def _by_rule(self, name: str, rule: Callable[[WebhookEvent], T], event: WebhookEvent) -> T:
        try:
            return rule(event)
        except PerdureError:
            raise
        except Exception as error:
            # Only the class is told: the text of a KeyError, say, is a piece of the payload.
            kind = type(error).__name__
            raise WebhookUnmapped(
                f"webhook source {self.name}: {name}= raised {kind} on webhook {event.id!r} of kind {event.kind!r}"
            ) from error


def _member(data: object, name: str) -> str:
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, str) else ""

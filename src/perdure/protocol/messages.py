"""Messages and dead letters over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from perdure import limits
from perdure.protocol.text import KeyText, MessageIdText, SourceText, line


class ToProcess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="way", tag="process"):
    """To the process of this id."""

    process_id: KeyText


class ToKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="way", tag="key"):
    """To the process that holds the key, now or later."""

    key: KeyText


class ToTag(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="way", tag="tag"):
    """To every process under the tag."""

    tag: KeyText


class ToStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="way", tag="start"):
    """To the process that holds the key, or a new one; without a key, to the process of this id, or a new one."""

    process_type: KeyText
    key: KeyText | None = None
    process_id: KeyText | None = None


To = ToProcess | ToKey | ToTag | ToStart

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=limits.DURATION_MAX // 1000)]
Wait = Annotated[
    int,
    msgspec.Meta(
        ge=0, le=limits.HTTP_WAIT_MS_MAX, description="Milliseconds to wait for the reply; the answer comes as soon as it is sealed."
    ),
]
Kind = Annotated[str, line(limits.REGISTRY_KEY_MAX)]
HeaderTexts = Annotated[dict[str, str], msgspec.Meta(extra_json_schema={"x-max-bytes": limits.HEADERS_MAX})]


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A message to deliver. It is accepted once per `id` and `source`.

    `payload` is read by the type that the app has for this `kind`. Without `to` it goes where the app's handlers say. `keep_for_ms`
    is how long a message to a tag is kept for the first process that joins, `expires_after_ms` how long it waits for somebody who
    takes it.
    """

    id: MessageIdText
    kind: Kind
    payload: msgspec.Raw
    to: To | None = None
    source: SourceText = ""
    headers: HeaderTexts | None = None
    keep_for_ms: Milliseconds | None = None
    expires_after_ms: Milliseconds | None = None


class ReplyError(msgspec.Struct, frozen=True):
    """What a handler raised: the name of its class, and its text."""

    name: str
    text: str


class ReplyValue(msgspec.Struct, frozen=True, tag_field="outcome", tag="ok"):
    """A sealed reply: it is final, and every later delivery of the message gets it."""

    value: msgspec.Raw


class ReplyFailure(msgspec.Struct, frozen=True, tag_field="outcome", tag="error"):
    """A sealed reply that is a failure: it is final, too."""

    error: ReplyError


SealedReply = ReplyValue | ReplyFailure


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message when it was accepted, and its reply if it is sealed by now.

    `duplicate`: it was accepted before, and nothing was done again. `copies` is the number of members that a message to a tag goes to.
    """

    message_id: str
    source: str
    duplicate: bool
    status: str
    process_id: str | None
    copies: int | None = None
    reply: SealedReply | None = None


class MessageState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message is, and why: `explanation` says it in a sentence. `ahead` are the messages before it in its mailbox."""

    message_id: str
    source: str
    kind: str
    status: str
    address: str
    process_id: str | None
    accepted_at: datetime | None
    expires_at: datetime | None
    copies: int | None
    ahead: int | None
    redriven_as: str | None
    reply: SealedReply | None
    explanation: str


class DeadLetterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A message that will not be handled, and why. `redriven_as` names the message that it was delivered again as."""

    message_id: str
    source: str
    kind: str
    reason: str
    detail: str
    process_id: str | None
    at: datetime | None
    redriven_as: str | None
    payload: msgspec.Raw


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters in the order of their acceptance; `next` is the `after` of the page that follows, if one does."""

    dead_letters: list[DeadLetterInfo]
    next: str | None


class RedriveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which source the dead letter has, if it has one."""

    source: SourceText = ""


class Redriven(msgspec.Struct, frozen=True):
    """The id of the message that a dead letter was delivered again as."""

    message_id: str

"""What is sent to an endpoint, and what it may answer.

An answer with another status than 200, or whose JSON is no object with one of these two `status`, only says that the command has
arrived: how it ends is told by `POST …/complete`, with the token.

Source: commands.md, "Push".
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from perdure import limits
from perdure.protocol.commands import DidIt, DidNot, LeasedCommand, LeaseFor, Name
from perdure.protocol.text import line

Said = DidIt | DidNot
"""How a command ended, as the answer to sending it."""


class PushedCommand(LeasedCommand, frozen=True, kw_only=True):
    """A command as it is sent. It is a leased one: whoever gets it has `lease_ms` to say how it ended."""

    tenant: str
    deployment: str


class NewEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where commands are to be sent. `secrets`, `whsec_…`, may be left out when there are some; they are never answered."""

    url: Annotated[str, line(limits.SEND_URL_MAX)]
    target: Name | None = None
    secrets: (
        Annotated[list[Annotated[str, line(limits.TOKEN_NAME_MAX)]], msgspec.Meta(min_length=1, max_length=limits.WEBHOOK_SECRETS_MAX)]
        | None
    ) = None
    timeout_ms: Annotated[int, msgspec.Meta(ge=limits.PUSH_TIMEOUT_MIN_US // 1_000, le=int(limits.SEND_SECONDS_MAX) * 1_000)] = (
        limits.PUSH_TIMEOUT_US // 1_000
    )
    result_within_ms: LeaseFor = limits.PUSH_RESULT_US // 1_000
    enabled: bool = True


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """Where commands are sent. `secrets` is how many there are; `url` is without its query, which may be a secret, too."""

    deployment: str
    target: str | None
    url: str
    secrets: int
    timeout_ms: int
    result_within_ms: int
    enabled: bool
    failures: int
    open_until: datetime | None
    created_at: datetime | None
    updated_at: datetime | None


class EndpointList(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints of a tenant by deployment and target, a page of them; `next` is the `after` of the page that follows, if one does."""

    endpoints: list[EndpointView]
    next: str | None


class EndpointGone(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was one."""

    removed: bool


class _Status(msgspec.Struct, frozen=True):
    status: str


def says_how_it_ended(answer: bytes) -> bool:
    """Whether JSON that came with 200 is meant as the end of the command: other things are said there, too."""
    try:
        return msgspec.json.decode(answer, type=_Status).status in {"succeeded", "failed"}
    except (msgspec.DecodeError, RecursionError):
        return False

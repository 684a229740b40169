"""Processes over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from perdure import limits
from perdure.protocol.text import NAMES_CURSOR, ReasonText, cursor, line

AttributeScalar = str | int | float | bool
Limit = Annotated[int, msgspec.Meta(ge=1, le=limits.PAGE_MAX, description="Rows of the page.")]
AttributeText = Annotated[
    str,
    msgspec.Meta(
        description="`x-max-bytes` is for the value.",
        extra_json_schema={
            "pattern": f"^[A-Za-z_][A-Za-z0-9_.]{{0,{limits.ATTRIBUTE_NAME_MAX - 1}}}(>=|<=|\\^=|=)"
            f"[^\\u0000-\\u001f\\u007f-\\u009f]{{0,{limits.ATTRIBUTE_VALUE_MAX}}}$",
            "x-max-bytes": limits.ATTRIBUTE_VALUE_MAX,
        },
    ),
]


class ProcessSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One process as of its last commit. `package_hash` is the version that it runs on, null for local code. Of its `events`, those before `first_event` are removed."""

    process_id: str
    process_type: str
    package_hash: str | None
    status: str
    open_message: str | None
    events: int
    first_event: int
    note: str
    parent: str | None
    created_at: datetime | None
    updated_at: datetime | None


class ProcessDetail(ProcessSummary, frozen=True, kw_only=True):
    """One process with its durable fields, search attributes, keys and tags as of its last commit."""

    fields: msgspec.Raw
    attributes: dict[str, AttributeScalar]
    keys: list[str]
    tags: list[str]


class ProcessPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of processes; `next` is the `after` of the page that follows, if one does. It may have fewer rows than asked for."""

    processes: list[ProcessSummary]
    next: str | None


class ProcessEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a process: `text` is for people; `event`, `name` and `detail` are its parts."""

    seq: int
    at: datetime | None
    event: str
    message_id: str
    name: str
    detail: str
    text: str
    took_us: int | None


class ProcessWait(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a process waits for: a message, a timer, a reply, an awakeable, or a place."""

    what: str
    name: str
    due: datetime | None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a process's events, in order; `next` is the `after` of the page that follows, if one does."""

    events: list[ProcessEvent]
    status: str
    waits_for: list[ProcessWait]
    next: int | None


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Why it is to stop, for people; `force` ends it without running its code again."""

    reason: ReasonText = ""
    force: bool = False


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Why it is held still, for people."""

    reason: ReasonText = ""


class ResumeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing has to be said."""


class Done(msgspec.Struct, frozen=True):
    """What was asked for holds; `changed`, whether it did not before."""

    process_id: str
    changed: bool


class QueryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments of a query, in order."""

    arguments: list[msgspec.Raw] = []


class QueryAnswer(msgspec.Struct, frozen=True):
    """What a query says of a process as of its last commit."""

    value: msgspec.Raw


Status = Literal["idle", "runnable", "waiting", "paused", "stuck", "stranded", "failed", "ended"]


class ProcessesQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which processes a list is of."""

    type: Annotated[str, line(limits.REGISTRY_KEY_MAX, description="Only those of this process type.")] | None = None
    status: Annotated[Status, msgspec.Meta(description="Only those of this status.")] | None = None
    attribute: Annotated[
        list[AttributeText],
        msgspec.Meta(description="Only those with this search attribute: `NAME=VALUE`, `NAME>=VALUE`, `NAME<=VALUE` or `NAME^=BEGINNING`."),
    ] = []
    created_after: Annotated[datetime, msgspec.Meta(tz=True, description="Only those made later.")] | None = None
    updated_before: Annotated[datetime, msgspec.Meta(tz=True, description="Only those that nothing has happened to since.")] | None = None
    order: Annotated[Literal["id", "created", "-created"], msgspec.Meta(description="The quickest when not given.")] | None = None
    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[str, cursor(NAMES_CURSOR)] | None = None

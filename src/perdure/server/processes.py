"""Processes over HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from perdure import limits
from perdure.clock import datetime_of
from perdure.codec import JSON
from perdure.conversations.tables import OVER
from perdure.engine import inspection, queries
from perdure.engine.filters import filters_of
from perdure.engine.inspection import ProcessInfo
from perdure.engine.timeline import Timeline
from perdure.errors import IllegalTransition, NotFoundError, PerdureError, RequestInvalid, UsageError
from perdure.identity import checked_text
from perdure.protocol.processes import (
    Done,
    EventPage,
    Limit,
    ProcessDetail,
    ProcessesQuery,
    ProcessEvent,
    ProcessPage,
    ProcessSummary,
    ProcessWait,
    QueryAnswer,
)
from perdure.server.messages import at
from perdure.server.problems import encode, problem_of
from perdure.server.route import EVENTS_TYPE, Answer, Call, answer
from perdure.server.waiting import pause as wait_for

_SEQUENCE: Final = re.compile(r"-1|\d{1,18}", re.ASCII)


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of events."""

    limit: Limit = limits.PAGE_DEFAULT
    after: (
        Annotated[int, msgspec.Meta(ge=-1, le=limits.SEQUENCE_MAX, description="`next` of the page before, or the last sequence seen.")]
        | None
    ) = None


async def processes(call: Call) -> Answer:
    """Return a page of processes."""
    query: ProcessesQuery = call.query
    if query.type is not None:
        checked_text(query.type, what="type", limit=limits.REGISTRY_KEY_MAX)
    try:
        attributes = filters_of(query.attribute, what="query: attribute")
    except UsageError as error:
        raise RequestInvalid(str(error)) from None
    found = await call.engine.processes(
        type=query.type,
        status=query.status,
        attributes=attributes or None,
        created_after=query.created_after,
        updated_before=query.updated_before,
        order=query.order,
        limit=query.limit,
        after=query.after,
        tenant=call.tenant,
    )
    return answer(ProcessPage(processes=[ProcessSummary(**_summary(one)) for one in found], next=found.next))


async def process(call: Call) -> Answer:
    """Return one process."""
    found = await call.engine.process(call.parts["id"], tenant=call.tenant)
    detail = ProcessDetail(
        **_summary(found),
        fields=msgspec.Raw(JSON.encode(found.fields)),
        attributes={name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.attributes.items()},
        keys=found.keys,
        tags=found.tags,
    )
    return answer(detail)


async def events(call: Call) -> Answer:
    """Return a page of a process's events; or, as server-sent events, all of them as they come until the process is over."""
    streamed = EVENTS_TYPE in call.headers.get("accept", "")
    resumed = _resumed(call)  # which is looked at in any case: a wrong one is refused
    after = resumed if streamed else call.query.after
    page = await _events(call, after=after, limit=call.query.limit)
    if not streamed:
        return answer(_page(page))
    return Answer(media_type=EVENTS_TYPE, stream=_stream(call, page, after), headers={"cache-control": "no-store"})


async def cancel(call: Call) -> Answer:
    """Ask a process to stop for good."""
    process_id = call.parts["id"]
    first = await call.engine.cancel(process_id, reason=call.body.reason, force=call.body.force, tenant=call.tenant)
    return answer(Done(process_id, first))


async def pause(call: Call) -> Answer:
    """Hold a process still."""
    process_id = call.parts["id"]
    return answer(Done(process_id, await call.engine.pause(process_id, reason=call.body.reason, tenant=call.tenant)))


async def resume(call: Call) -> Answer:
    """Let a process go on."""
    process_id = call.parts["id"]
    try:
        await call.engine.resume(process_id, tenant=call.tenant)
    except IllegalTransition:
        if not await call.again():
            raise
        # It goes on: this very request has let it, before the server died.
    return answer(Done(process_id, changed=True))


async def query(call: Call) -> Answer:
    """Return what a query says of a process."""
    engine, texts = call.engine, [bytes(argument) for argument in call.body.arguments]
    value = await queries.ask_by_name(
        engine.store, engine.versions, call.parts["name"], texts, process_id=call.parts["id"], tenant=call.tenant
    )
    return answer(QueryAnswer(msgspec.Raw(JSON.encode(value))))


# --- events as they come -----------------------------------------------------------------------------------


def _resumed(call: Call) -> int | None:
    last = call.headers.get("last-event-id")
    if last is None:
        return call.query.after  # type: ignore[no-any-return]  # the query's type says it
    if not _SEQUENCE.fullmatch(last):
        raise RequestInvalid(f"Last-Event-ID: expected the id of an event of this stream, found {last!r:.{limits.REPR_MAX}}")
    return int(last)


async def _stream(call: Call, page: Timeline, after: int | None) -> AsyncIterator[bytes]:
    call.metrics.streams += 1
    try:
        async for part in _parts(call, page, after):
            yield part
    except PerdureError as error:  # too late for a status
        yield _event("problem", encode(problem_of(error)))
    finally:
        call.metrics.streams -= 1


async def _parts(call: Call, page: Timeline, last: int | None) -> AsyncIterator[bytes]:
    quiet = 0
    yield b"retry: %d\n\n" % (limits.HTTP_RETRY_SECONDS * 1_000)
    while True:
        for one in page:
            yield _event("event", encode(_entry(one)), id=one.seq)
            last, quiet = one.seq, 0
        if page.next is None and page.status in OVER:
            yield _event("end", encode({"status": page.status}))
            return
        if page.next is None:
            if not await wait_for(call, limits.SSE_LOOK_US):
                return
            quiet += limits.SSE_LOOK_US
        if quiet >= limits.SSE_HEARTBEAT_US:
            quiet = 0
            yield b": still here\n\n"
        try:
            page = await _events(call, after=last, limit=limits.PAGE_DEFAULT)
        except NotFoundError:  # its retention has removed it
            yield _event("end", encode({"status": "removed"}))
            return


async def _events(call: Call, *, after: int | None, limit: int) -> Timeline:
    return await inspection.timeline(call.engine.store, call.parts["id"], tenant=call.tenant, after=after, limit=limit)


def _event(name: str, data: bytes, *, id: int | None = None) -> bytes:
    line = b"" if id is None else b"id: %d\n" % id
    return b"event: " + name.encode() + b"\n" + line + b"data: " + data + b"\n\n"


# --- what it looks like ---------------------------------------------------------------------------------------


def _summary(found: ProcessInfo) -> dict[str, Any]:
    return {
        "process_id": found.process_id,
        "process_type": found.process_type,
        "package_hash": found.package_hash,
        "status": found.status,
        "open_message": found.open_message,
        "events": found.events,
        "first_event": found.first_event,
        "note": found.note,
        "parent": found.parent,
        "created_at": at(found.created_at),
        "updated_at": at(found.updated_at),
    }


def _entry(one: inspection.TimelineEntry) -> ProcessEvent:
    return ProcessEvent(
        seq=one.seq,
        at=datetime_of(one.at),
        event=one.event,
        message_id=one.message_id,
        name=one.name,
        detail=one.detail,
        text=one.text,
        took_us=one.took,
    )


def _page(found: Timeline) -> EventPage:
    waits = [ProcessWait(what=one.what, name=one.name, due=at(one.due)) for one in found.waits_for]
    return EventPage(events=[_entry(one) for one in found], status=found.status, waits_for=waits, next=found.next)

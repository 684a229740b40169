"""Messages and dead letters over HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from perdure import limits
from perdure.clock import Micros, datetime_of
from perdure.codec import JSON
from perdure.engine import inspection
from perdure.engine.addressing import Address
from perdure.errors import IllegalTransition, RequestInvalid
from perdure.identity import checked_text
from perdure.protocol.messages import (
    Accepted,
    DeadLetterInfo,
    DeadLetterPage,
    MessageState,
    NewMessage,
    Redriven,
    ReplyFailure,
    To,
    ToKey,
    ToProcess,
    ToStart,
    ToTag,
    Wait,
)
from perdure.protocol.processes import Limit
from perdure.protocol.text import PLACES_CURSOR, SourceText, cursor
from perdure.server import intake
from perdure.server.events import trace_of
from perdure.server.route import Answer, Call, answer
from perdure.server.waiting import reply_of


class DeliverQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait for the reply."""

    wait_ms: Wait = 0


class MessageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which source the message has, if it has one, and how long to wait for its reply."""

    source: SourceText = ""
    wait_ms: Wait = 0


class LettersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of dead letters."""

    limit: Limit = limits.PAGE_DEFAULT
    after: Annotated[str, cursor(PLACES_CURSOR)] | None = None


async def deliver(call: Call) -> Answer:
    """Accept a message; with `wait_ms`, answer with its reply."""
    new: NewMessage = call.body
    if new.keep_for_ms is not None and new.expires_after_ms is not None:
        raise RequestInvalid("body: keep_for_ms is for messages to a tag, expires_after_ms for all others; give one of them")
    wait_ms: int = call.query.wait_ms
    if wait_ms and isinstance(new.to, ToTag):
        raise RequestInvalid("query: wait_ms: a message to a tag has many receivers and no one reply")
    lasting = new.expires_after_ms if new.keep_for_ms is None else new.keep_for_ms
    more = new.headers or {}
    receipt = await call.engine.deliver_encoded(
        new.kind,
        bytes(new.payload),
        id=new.id,
        to=_address(new.to),
        source=new.source,
        tenant=call.tenant,
        headers={**(intake.trace(call.headers) or intake.trace(trace_of(more))), **more} or None,
        lasting=None if lasting is None else timedelta(milliseconds=lasting),
    )
    accepted = Accepted(
        message_id=new.id,
        source=new.source,
        duplicate=receipt.duplicate,
        status=receipt.status,
        process_id=receipt.process_id,
        copies=receipt.copies,
    )
    if not wait_ms or receipt.copies is not None:
        return answer(accepted, status=202)
    reply = await reply_of(call, new.id, source=new.source, wait_ms=wait_ms)
    if reply is None:
        return answer(accepted, status=202)
    status = "done"
    if isinstance(reply, ReplyFailure):  # its handler failed, or nobody will handle it
        status = (await inspection.explain(call.engine.store, new.id, source=new.source, tenant=call.tenant)).status
    return answer(msgspec.structs.replace(accepted, status=status, reply=reply))


async def message(call: Call) -> Answer:
    """Say where a message is, and why, with its reply if it is sealed."""
    message_id, source = call.parts["id"], _source(call.query.source)
    found = await inspection.explain(call.engine.store, message_id, source=source, tenant=call.tenant)
    reply = None
    if found.status != "expired":
        reply = await reply_of(call, message_id, source=source, wait_ms=call.query.wait_ms)
        if call.query.wait_ms:
            found = await inspection.explain(call.engine.store, message_id, source=source, tenant=call.tenant)
    state = MessageState(
        message_id=found.message_id,
        source=found.source,
        kind=found.kind,
        status=found.status,
        address=found.address,
        process_id=found.process_id,
        accepted_at=at(found.accepted_at),
        expires_at=at(found.expires_at),
        copies=found.copies,
        ahead=found.ahead,
        redriven_as=found.redriven_as,
        reply=reply,
        explanation=found.text,
    )
    return answer(state)


async def dead_letters(call: Call) -> Answer:
    """Return a page of dead letters."""
    after = _place(call.query.after)
    found = await inspection.dead_letters(call.engine.store, tenant=call.tenant, limit=call.query.limit, after=after)
    page = DeadLetterPage(
        dead_letters=[
            DeadLetterInfo(
                message_id=one.message_id,
                source=one.source,
                kind=one.kind,
                reason=one.reason,
                detail=one.detail,
                process_id=one.process_id,
                at=at(one.at),
                redriven_as=one.redriven_as,
                payload=msgspec.Raw(JSON.encode(one.payload)),
            )
            for one in found
        ],
        next=f"{found[-1].tick}:{found[-1].source}:{found[-1].message_id}" if len(found) == call.query.limit else None,
    )
    return answer(page)


async def redrive(call: Call) -> Answer:
    """Deliver a dead letter again, as a new message."""
    message_id, source = call.parts["id"], _source(call.body.source)
    try:
        new_id = await call.engine.redrive(message_id, source=source, tenant=call.tenant)
    except IllegalTransition:
        found = await inspection.explain(call.engine.store, message_id, source=source, tenant=call.tenant)
        if found.redriven_as is None or not await call.again():
            raise
        new_id = found.redriven_as  # by this very request, before the server died
    return answer(Redriven(new_id))


def _place(after: str | None) -> tuple[int, str, str] | None:
    place = inspection.dead_letter_place(after)
    if place is not None and place[0] > limits.SEQUENCE_MAX:
        raise RequestInvalid("query: after: expected the `next` of the page before")
    return place


def _source(text: str) -> str:
    return checked_text(text, what="source", limit=limits.SOURCE_MAX) if text else ""


def _address(to: To | None) -> Address | None:
    match to:
        case None:
            return None
        case ToProcess(process_id):
            return Address.process(process_id)
        case ToKey(key):
            return Address.key(key)
        case ToTag(tag):
            return Address.tag(tag)
        case ToStart(process_type, key, process_id):
            return Address.start(process_type, key=key, id=process_id)


def at(instant: Micros | None) -> datetime | None:
    """Return a time as it goes over the wire."""
    return None if instant is None else datetime_of(instant)

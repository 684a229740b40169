"""Awakeables, as those who complete them see them: an engine, or somebody without the app's code.

Source: engine.md, "Verbs of a turn", awakeable.
"""

from __future__ import annotations

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.conversations.tables import PROCESS
from perdure.core.backend import Reader
from perdure.core.table import Index, Key, Scalar, Scan
from perdure.engine.addressing import split_reference
from perdure.engine.outcomes import encode_error
from perdure.engine.replies import Complete, is_awakeable
from perdure.engine.searching import Page, checked_limit, cursor_of, named_by, no_cursor
from perdure.errors import AwakeableFailed, PayloadTooLarge
from perdure.identity import DEFAULT_TENANT, MessageId, TenantId
from perdure.messages.tables import AWAITED_REPLY, AwaitedReplyRow
from perdure.store import Store

_ALL = Index(AWAITED_REPLY, "awaited_reply", prefix=("tenant_id",), order=("ref", "process_id", "operation_id"))


class AwakeableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an open turn waits for, and that whoever has the token may complete; the turn handles the message named."""

    tenant_id: str
    token: str
    process_id: str
    process_type: str
    source: str
    message_id: str
    name: str


def completing(token: str, value: object, *, tenant: str, foreign: bool = False) -> Complete:
    """Return the write that completes an awakeable with a value; see `Engine.complete_awakeable`."""
    response = JSON.encode(value)
    if len(response) > limits.RESULT_MAX:
        raise PayloadTooLarge("the value of an awakeable", size=len(response), limit=limits.RESULT_MAX)
    return Complete(TenantId(tenant), MessageId(token), "ok", response, foreign)


def failing(token: str, text: str, *, tenant: str, foreign: bool = False) -> Complete:
    """Return the write that lets whoever waits get AwakeableFailed; see `Engine.fail_awakeable`."""
    response = encode_error(AwakeableFailed(text[: limits.ERROR_TEXT_MAX]))
    return Complete(TenantId(tenant), MessageId(token), "error", response, foreign)


async def complete_awakeable(store: Store, token: str, value: object = None, *, tenant: str = DEFAULT_TENANT) -> None:
    """Complete an awakeable from where no app is; the engine that owns the process tells it.

    Raises what `Engine.complete_awakeable` raises.
    """
    await store.access.writer.run(completing(token, value, tenant=tenant, foreign=True))


async def fail_awakeable(store: Store, token: str, text: str, *, tenant: str = DEFAULT_TENANT) -> None:
    """Let an awakeable fail, from where no app is; the engine that owns the process tells it.

    Raises what `Engine.fail_awakeable` raises.
    """
    await store.access.writer.run(failing(token, text, tenant=tenant, foreign=True))


async def awakeables(
    store: Store,
    *,
    tenant: str = DEFAULT_TENANT,
    process_id: str | None = None,
    after: str | None = None,
    limit: int = limits.PAGE_DEFAULT,
) -> Page[AwakeableInfo]:
    """Return a page of the awakeables that nobody has completed, by token; a page may have fewer and be followed by another.

    All that turns wait for is looked through for them, at most 10,000 rows for a page.

    Args:
        store: an open store.
        tenant: whose.
        process_id: only those of this process.
        after: `next` of the page before.
        limit: rows of the page, 1 to 1,000.

    Raises:
        UsageError: `after` is no `next` of such a page, or `limit` is out of its range.
    """
    checked_limit(limit)
    reader, found, place = store.access.reader, Page[AwakeableInfo](), _place(after)
    for _ in range(limits.LIST_ROWS_MAX // limits.READ_PAGE):
        rows = await reader.scan(Scan(_ALL, (TenantId(tenant),), limits.READ_PAGE, after=place))
        for key, row in rows:
            place = key.parts[1:]
            if process_id in (None, place[1]) and (info := await _shown(reader, key, row.turn_ref)) is not None:
                found.append(info)
            if len(found) == limit:
                found.next = cursor_of(place)
                return found
        if len(rows) < limits.READ_PAGE:
            return found
    found.next = None if place is None else cursor_of(place)
    return found


async def _shown(reader: Reader, key: Key[AwaitedReplyRow], turn_ref: str) -> AwakeableInfo | None:
    tenant_id, token, process_id, operation_id = map(str, key.parts)
    if not is_awakeable(operation_id):
        return None  # it is a message whose reply is waited for
    process = await reader.get(PROCESS.key(tenant_id, process_id))
    if process is None or process.open_message != turn_ref:
        return None  # that turn is over
    source, message_id = split_reference(turn_ref)
    return AwakeableInfo(
        tenant_id=tenant_id,
        token=token,
        process_id=process_id,
        process_type=process.process_type,
        source=source,
        message_id=message_id,
        name=operation_id,
    )


def _place(cursor: str | None) -> tuple[Scalar, ...] | None:
    if cursor is None:
        return None
    match named_by(cursor):
        case [str(token), str(process_id), str(operation_id)]:
            return token, process_id, operation_id
        case _:
            raise no_cursor(cursor)

"""Awakeables, as those who complete them see them: an engine, or somebody without the app's code.

Source: engine.md, "Verbs of a turn", awakeable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from perdure import limits
from perdure.codec import JSON
from perdure.conversations.tables import PROCESS
from perdure.core.backend import Reader
from perdure.core.table import Index, Key, Read, Scalar, Scan
from perdure.core.view import View
from perdure.cursors import cursor_of, named_by, no_cursor
from perdure.engine.handling import Handling
from perdure.engine.notes import NO_APP, Note, Rules
from perdure.engine.outcomes import encode_error
from perdure.engine.searching import Page, checked_limit
from perdure.errors import AwakeableConflict, AwakeableFailed, AwakeableNotFound, PayloadTooLarge
from perdure.identity import DEFAULT_TENANT, MessageId, TenantId
from perdure.messages.mail import split_reference
from perdure.messages.tables import AWAITED_REPLY, AwaitedReplyRow
from perdure.operations.contract import Outcome
from perdure.operations.tables import OPERATION
from perdure.operations.writes import seal_in
from perdure.replies import AWAKEABLES, is_awakeable
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


class Complete(msgspec.Struct, frozen=True, gc=False):
    """Complete an awakeable, once: the answer says what the owner has to do."""

    rules: Rules
    tenant_id: str
    token: str
    outcome: Outcome
    response: bytes

    def reads(self) -> Iterable[Read]:
        """Name its operation."""
        yield OPERATION.key(self.tenant_id, AWAKEABLES, self.token)

    def decide(self, view: View) -> list[Note]:
        """Seal it and tell the turn that waits.

        Raises:
            AwakeableConflict: it was completed in another way.
            AwakeableNotFound: no open turn has made it.
        """
        handling = Handling(view, self.rules)
        key = OPERATION.key(self.tenant_id, AWAKEABLES, self.token)
        sealed = view.get(key)
        if sealed is not None:
            if (sealed.outcome, sealed.response) != (self.outcome, self.response):
                raise AwakeableConflict(f"awakeable {self.token!r} was completed in another way; the first completion stands")
            return handling.notes
        if not handling.answer(self.tenant_id, self.token, outcome=self.outcome, response=self.response):
            raise AwakeableNotFound(f"no awakeable {self.token!r} in tenant {self.tenant_id}: no turn has made it, or that turn is over")
        seal_in(view, key, self.response, outcome=self.outcome)
        return handling.notes


def completing(rules: Rules, token: str, value: object, *, tenant: str) -> Complete:
    """Return the write that completes an awakeable with a value; see `Engine.complete_awakeable`."""
    response = JSON.encode(value)
    if len(response) > limits.RESULT_MAX:
        raise PayloadTooLarge("the value of an awakeable", size=len(response), limit=limits.RESULT_MAX)
    return Complete(rules, TenantId(tenant), MessageId(token), "ok", response)


def failing(rules: Rules, token: str, text: str, *, tenant: str) -> Complete:
    """Return the write that lets whoever waits get AwakeableFailed; see `Engine.fail_awakeable`."""
    response = encode_error(AwakeableFailed(text[: limits.ERROR_TEXT_MAX]))
    return Complete(rules, TenantId(tenant), MessageId(token), "error", response)


async def complete_awakeable(store: Store, token: str, value: object = None, *, tenant: str = DEFAULT_TENANT) -> None:
    """Complete an awakeable from where no app is; the engine that owns the process tells it.

    Raises what `Engine.complete_awakeable` raises.
    """
    await store.access.writer.run(completing(NO_APP, token, value, tenant=tenant))


async def fail_awakeable(store: Store, token: str, text: str, *, tenant: str = DEFAULT_TENANT) -> None:
    """Let an awakeable fail, from where no app is; the engine that owns the process tells it.

    Raises what `Engine.fail_awakeable` raises.
    """
    await store.access.writer.run(failing(NO_APP, token, text, tenant=tenant))


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
    match named_by(cursor, list[Any]):
        case [str(token), str(process_id), str(operation_id)]:
            return token, process_id, operation_id
        case _:
            raise no_cursor(cursor)

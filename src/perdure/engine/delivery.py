"""Accepting one message, and copying one to the members of a tag.

Source: engine.md, "Addressing and delivery".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.conversations.tables import PROCESS, PROCESS_STATE
from perdure.core.table import Read, Scan
from perdure.core.view import View
from perdure.engine.addressing import Address
from perdure.engine.handling import Handling, operation_key, ref_of
from perdure.engine.notes import Envelope, Note, Receipt, Rules
from perdure.identity import derived_id
from perdure.messages.tables import FAN_OUT, MESSAGE, FanOutRow, MessageStatus
from perdure.operations.tables import OperationRow
from perdure.packages.tables import ROUTE
from perdure.routing.tables import KEY, MEMBERS

replace = msgspec.structs.replace


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """Accept one message; the answer says what became of it, what its owner has to do, and its sealed reply if it has one."""

    rules: Rules
    envelope: Envelope

    def reads(self) -> Iterable[Read]:
        """Name the rows that it surely looks at."""
        envelope, address = self.envelope, self.envelope.address
        tenant_id, process_id = envelope.tenant_id, envelope.process_id
        if not envelope.fresh:
            yield envelope.key
        if address.way == "tag":
            return
        if address.name and address.way != "process":
            yield KEY.key(tenant_id, address.name)
        if address.way != "key" and not envelope.fresh:
            yield PROCESS.key(tenant_id, process_id)
        if address.way == "start":
            yield ROUTE.key(address.process_type)
            local = self.rules.types.get((address.process_type, None))
            if local is None or local.initial:
                yield PROCESS_STATE.key(tenant_id, process_id)

    def decide(self, view: View) -> tuple[Receipt, list[Note], OperationRow | None]:
        """Accept, or recognise a duplicate."""
        handling = Handling(view, self.rules)
        receipt = handling.accept(self.envelope)
        sealed = view.get(operation_key(self.envelope.tenant_id, ref_of(self.envelope.key))) if receipt.duplicate else None
        return receipt, handling.notes, sealed


class FanOutChunk(msgspec.Struct, frozen=True, gc=False):
    """Deliver a fan-out to its next members. The answer says whether more are left."""

    rules: Rules
    tenant_id: str
    source: str
    message_id: str

    def reads(self) -> Iterable[Read]:
        """Name the cursor and the message."""
        yield FAN_OUT.key(self.tenant_id, self.source, self.message_id)
        yield MESSAGE.key(self.tenant_id, self.source, self.message_id)

    def decide(self, view: View) -> tuple[bool, list[Note]]:
        """Deliver to up to `limits.FAN_OUT_CHUNK` members, each with an id of its own."""
        handling = Handling(view, self.rules)
        cursor_key = FAN_OUT.key(self.tenant_id, self.source, self.message_id)
        key = MESSAGE.key(self.tenant_id, self.source, self.message_id)
        cursor, row = view.get(cursor_key), view.get(key)
        if cursor is None:
            return False, handling.notes
        assert row is not None, "a fan-out has its message"
        scan = Scan(MEMBERS, (self.tenant_id, cursor.tag), limits.FAN_OUT_CHUNK, after=(cursor.at, cursor.process_id), upto=(cursor.until,))
        members = view.scan(scan)
        for member, member_row in members:
            process_id = str(member.parts[2])
            copy = Envelope(
                tenant_id=self.tenant_id,
                source="",
                message_id=derived_id("fan-out", self.tenant_id, self.source, self.message_id, process_id),
                digest=row.digest,
                kind=row.kind,
                payload=row.payload,
                headers=row.headers,
                address=Address("process", process_id),
                process_id=process_id,
                inner=True,
                sender=row.sender,
            )
            handling.accept(copy)
            cursor = FanOutRow(cursor.tag, cursor.until, member_row.tick, process_id, cursor.delivered + 1)
        if len(members) == limits.FAN_OUT_CHUNK:
            view.update(cursor_key, cursor)
            return True, handling.notes
        view.delete(cursor_key)
        view.update(key, replace(row, status=MessageStatus.DONE, done_at=view.now, copies=cursor.delivered))
        handling.seal_null(self.tenant_id, ref_of(key), asked=row.asked)
        return False, handling.notes

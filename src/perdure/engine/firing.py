"""Firing schedules: the start message and the move to the next slot, as one transaction.

Source: engine.md, "Schedules".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from perdure.clock import Micros
from perdure.codec import JSON
from perdure.conversations.tables import PROCESS
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.engine.addressing import Address
from perdure.engine.control import CancelProcess
from perdure.engine.handling import Handling
from perdure.engine.notes import Envelope, Note, Rules
from perdure.errors import IllegalTransition
from perdure.identity import RESERVED_ID_PREFIX
from perdure.messages.tables import MESSAGE, MessageStatus
from perdure.timers.schedules import Firing, found, moved, recorded, waiting_of, with_waiting
from perdure.timers.slots import moment, stamp
from perdure.timers.tables import SCHEDULE, ScheduleRow, ScheduleStatus

replace = msgspec.structs.replace
SOURCE: Final = f"{RESERVED_ID_PREFIX}schedule"
"""The source of messages that schedules send. Callers may not bring it, so a slot's message is a schedule's own."""
_UNDER_WAY: Final = (MessageStatus.PARKED, MessageStatus.QUEUED, MessageStatus.OPEN)


class Fired(msgspec.Struct, frozen=True, gc=False):
    """What a firing has come to: the schedule's row, or None when nothing was decided; and what the owner has to do.

    `message_id` is the message that was sent or waits, `runs` the one that is not over yet.
    """

    row: ScheduleRow | None
    notes: list[Note]
    message_id: str = ""
    runs: str = ""


def notes_of(fired: Fired) -> list[Note]:
    """Return what a firing asks of the owner of processes."""
    return fired.notes


class Fire(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Decide on a slot that is due, and move on.

    `seen` is the row that slots were found by; another node may have decided since. `slot` is None when all that was due
    is dropped; `dropped` counts what was, `last` is the last slot decided on, `following` the first one after it.
    """

    rules: Rules
    tenant_id: str
    schedule_id: str
    seen: ScheduleRow
    slot: Micros | None
    last: Micros
    dropped: int
    following: Micros | None

    def reads(self) -> Iterable[Read]:
        """Name the schedule, the message with the process that it starts, and the message before it."""
        yield SCHEDULE.key(self.tenant_id, self.schedule_id)
        if self.slot is not None:
            message_id = id_of(self.schedule_id, self.slot)
            yield MESSAGE.key(self.tenant_id, SOURCE, message_id)
            if self.seen.way == "start" and not self.seen.target:
                yield PROCESS.key(self.tenant_id, message_id)
        if self.seen.last_message:
            yield MESSAGE.key(self.tenant_id, SOURCE, self.seen.last_message)

    def decide(self, view: View) -> Fired:
        """Send the slot's message if the overlap policy lets it."""
        key = SCHEDULE.key(self.tenant_id, self.schedule_id)
        if view.get(key) != self.seen:
            return Fired(None, [])
        handling = Handling(view, self.rules)
        row = replace(self.seen, missed=self.seen.missed + self.dropped, last_slot=self.last, updated_at=view.now)
        row = moved(self.schedule_id, row, self.following)
        if self.slot is not None:
            message_id = id_of(self.schedule_id, self.slot)
            row = _passed(handling, key, row, (self.slot, message_id))
        view.update(key, row)
        return Fired(row, handling.notes)


class Trigger(msgspec.Struct, frozen=True, gc=False):
    """Fire a schedule now, because somebody says so; its slots stay as they are."""

    rules: Rules
    tenant_id: str
    schedule_id: str
    at: Micros

    def reads(self) -> Iterable[Read]:
        """Name the schedule."""
        yield SCHEDULE.key(self.tenant_id, self.schedule_id)

    def decide(self, view: View) -> Fired:
        """Send a message, or let it wait for the one before it.

        Raises:
            ScheduleNotFound: there is no such schedule.
            IllegalTransition: it is removed, or its overlap policy refuses.
        """
        key = SCHEDULE.key(self.tenant_id, self.schedule_id)
        row = found(view, key)
        if row.status == ScheduleStatus.REMOVED:
            raise IllegalTransition(f"schedule {self.schedule_id!r} is removed from its app; declare it there again")
        handling = Handling(view, self.rules)
        message_id = f"{id_of(self.schedule_id, self.at)}+{row.triggers + 1}"
        asked = replace(row, triggers=row.triggers + 1, updated_at=view.now)
        fired = _passed(handling, key, asked, (self.at, message_id))
        if fired.skipped > row.skipped:
            raise IllegalTransition(
                f"schedule {self.schedule_id!r}: {row.last_message} is not over and overlap={row.overlap!r}"
                + (f" lets no more than {row.queue_max} wait" if row.queued else "; trigger it when that is over")
            )
        view.update(key, fired)
        if fired.queued:
            view.signal("engine")  # which waits for the one before it
        return Fired(fired, handling.notes, message_id)


class Release(msgspec.Struct, frozen=True, gc=False):
    """Send the message of the oldest slot that waits, if the one before it is over."""

    rules: Rules
    tenant_id: str
    schedule_id: str

    def reads(self) -> Iterable[Read]:
        """Name the schedule."""
        yield SCHEDULE.key(self.tenant_id, self.schedule_id)

    def decide(self, view: View) -> Fired:
        """Return the row if a message was sent."""
        key = SCHEDULE.key(self.tenant_id, self.schedule_id)
        row = view.get(key)
        if row is None or not row.queued or row.status != ScheduleStatus.ACTIVE:
            return Fired(None, [])
        if _runs(view, self.tenant_id, row.last_message):
            return Fired(None, [], runs=row.last_message)
        handling = Handling(view, self.rules)
        first, *others = waiting_of(row)
        row = _sent(handling, key, with_waiting(replace(row, updated_at=view.now), others), first)
        view.update(key, row)
        return Fired(row, handling.notes, row.last_message)


def id_of(schedule_id: str, slot: Micros) -> str:
    """Return the id of a slot's message. Source: engine.md, "Schedules": `schedule/time`."""
    return f"{schedule_id}/{stamp(slot)}"


def payload_of(payload: bytes, slot: Micros | None) -> bytes:
    """Return a call's arguments, with the slot's time behind them if there is one."""
    if slot is None:
        return payload
    return payload[:-1] + (b"," if len(payload) > len(b"[]") else b"") + JSON.encode(moment(slot)) + b"]"


def _passed(handling: Handling, key: Key[ScheduleRow], row: ScheduleRow, slot: tuple[Micros, str]) -> ScheduleRow:
    """Return the row after the overlap policy has said what becomes of a slot."""
    if row.overlap == "allow" or not (row.queued or _runs(handling.view, str(key.parts[0]), row.last_message)):
        return _sent(handling, key, row, slot)
    if row.overlap == "cancel_previous":
        _cancel(handling, key, row)
        return _sent(handling, key, row, slot)
    at = handling.view.now
    if row.overlap == "queue" and row.queued < row.queue_max:
        row = recorded(row, Firing(slot[0], at, "queued", slot[1]))
        return with_waiting(row, [*waiting_of(row), slot])
    return recorded(replace(row, skipped=row.skipped + 1), Firing(slot[0], at, "skipped", slot[1]))


def _runs(view: View, tenant_id: str, message_id: str) -> bool:
    """Return whether a message is still to be handled, or being handled."""
    message = view.get(MESSAGE.key(tenant_id, SOURCE, message_id)) if message_id else None
    return message is not None and message.status in _UNDER_WAY


def _cancel(handling: Handling, key: Key[ScheduleRow], row: ScheduleRow) -> None:
    """Ask the process that the firing before has started to stop."""
    tenant_id = str(key.parts[0])
    message = handling.view.get(MESSAGE.key(tenant_id, SOURCE, row.last_message))
    process_id = None if message is None else message.process_id
    if process_id is not None:
        cancel = CancelProcess(handling.rules, tenant_id, process_id, f"schedule {key.parts[1]!s} fired again")
        _, notes = cancel.decide(handling.view)
        handling.notes.extend(notes)


def _sent(handling: Handling, key: Key[ScheduleRow], row: ScheduleRow, slot: tuple[Micros, str]) -> ScheduleRow:
    """Accept a slot's message, unless it was accepted before a clock was set back; return the row."""
    tenant_id, (time, message_id) = str(key.parts[0]), slot
    if handling.view.get(MESSAGE.key(tenant_id, SOURCE, message_id)) is not None:
        return row
    address = Address(row.way, row.target, row.process_type)
    payload = payload_of(row.payload, time if row.takes_slot else None)
    digest = hashlib.sha256(b"\n".join((row.kind.encode(), str(address).encode(), payload))).digest()
    envelope = Envelope(
        tenant_id=tenant_id,
        source=SOURCE,
        message_id=message_id,
        digest=digest,
        kind=row.kind,
        payload=payload,
        address=address,
        process_id=row.target if row.way == "process" else message_id,
        inner=True,
    )
    handling.accept(envelope)
    row = recorded(row, Firing(time, handling.view.now, "fired", message_id))
    return replace(row, last_message=message_id, fired=row.fired + 1)

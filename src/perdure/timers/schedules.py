"""Pure decisions about schedules alone: what people and apps do with them, and how they move from slot to slot."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.codec import JSON
from perdure.core.table import Key, Read
from perdure.core.view import View
from perdure.errors import IllegalTransition, ScheduleConflict, ScheduleNotFound
from perdure.timers.slots import delay_of
from perdure.timers.tables import SCHEDULE, Definition, ScheduleRow, ScheduleStatus

replace = msgspec.structs.replace


class Firing(msgspec.Struct, frozen=True):
    """What became of one slot: `fired`, `skipped` (its forerunner still ran) or `queued`; when, and as which message."""

    slot: Micros
    at: Micros
    outcome: str
    message_id: str


_recent = JSON.decoder(list[Firing])
_waiting = JSON.decoder(list[tuple[Micros, str]])


def definition_of(row: ScheduleRow) -> Definition:
    """Return the part of a row that people wrote."""
    return Definition(**{name: getattr(row, name) for name in Definition.__struct_fields__})


def found(view: View, key: Key[ScheduleRow]) -> ScheduleRow:
    """Return a schedule. Raises ScheduleNotFound."""
    row = view.get(key)
    if row is None:
        raise ScheduleNotFound(f"no schedule {str(key.parts[1])!r} in tenant {str(key.parts[0])!r}")
    return row


def moved(schedule_id: str, row: ScheduleRow, slot: Micros | None) -> ScheduleRow:
    """Return the row with its next slot; None when there is none."""
    at = None if slot is None else slot + delay_of(schedule_id, slot, row.jitter)
    return replace(row, next_slot=slot, next_at=at)


def recent_of(row: ScheduleRow) -> list[Firing]:
    """Return the last decisions, oldest first."""
    return _recent(row.recent)  # type: ignore[no-any-return]


def recorded(row: ScheduleRow, firing: Firing) -> ScheduleRow:
    """Return the row with one more decision, of which it remembers the last few."""
    return replace(row, recent=JSON.encode([*recent_of(row), firing][-limits.SCHEDULE_RECENT :]))


def waiting_of(row: ScheduleRow) -> list[tuple[Micros, str]]:
    """Return the slots that wait for the firing before them, with the ids of their messages."""
    return _waiting(row.waiting)  # type: ignore[no-any-return]


def with_waiting(row: ScheduleRow, waiting: list[tuple[Micros, str]]) -> ScheduleRow:
    """Return the row with these slots waiting."""
    return replace(row, waiting=JSON.encode(waiting), queued=len(waiting))


class _OfOne(msgspec.Struct, frozen=True, gc=False):
    tenant_id: str
    schedule_id: str

    @property
    def key(self) -> Key[ScheduleRow]:
        """The key of its row."""
        return SCHEDULE.key(self.tenant_id, self.schedule_id)

    def reads(self) -> Iterable[Read]:
        """Name its row."""
        yield self.key


class Put(_OfOne, frozen=True, gc=False):
    """Make a schedule, or give it a new definition, which takes effect from now on.

    `next_slot` is the first slot of the new definition that is yet to come. While expression and time zone stay, so does
    the slot that comes next: what was missed is caught up. A pause stays, too.
    """

    definition: Definition
    next_slot: Micros | None
    over: bool

    def decide(self, view: View) -> ScheduleRow:
        """Return the row.

        Raises:
            ScheduleConflict: it is declared by another app or by code, or is there with another definition and `over` is false.
        """
        key, fresh = self.key, self.definition
        row = view.get(key)
        if row is None:
            made = ScheduleRow(**msgspec.structs.asdict(fresh), next_slot=None, next_at=None, created_at=view.now, updated_at=view.now)
            made = moved(self.schedule_id, made, self.next_slot)
            view.insert(key, made)
            view.signal("engine")
            return made
        if row.status != ScheduleStatus.REMOVED:
            if row.declared_by != fresh.declared_by:
                owner = f"app {row.declared_by!r}" if row.declared_by else "a caller of engine.schedules.create"
                raise ScheduleConflict(f"schedule {self.schedule_id!r} was made by {owner}; choose another id, or remove it there")
            if definition_of(row) == fresh:
                return row
            if not self.over:
                raise ScheduleConflict(f"schedule {self.schedule_id!r} is there with another definition; delete it, or say over=True")
        changed = self._changed(row, updated_at=view.now)
        view.update(key, changed)
        view.signal("engine")
        return changed

    def _changed(self, row: ScheduleRow, *, updated_at: Micros) -> ScheduleRow:
        same = (row.expression, row.tz) == (self.definition.expression, self.definition.tz)
        again = row.status == ScheduleStatus.REMOVED
        slot = row.next_slot if same and not again else self.next_slot
        changed = replace(row, **msgspec.structs.asdict(self.definition), updated_at=updated_at)
        if again:
            changed = replace(changed, status=ScheduleStatus.ACTIVE)
        if changed.overlap != "queue":
            changed = with_waiting(changed, [])
        return changed if changed.status == ScheduleStatus.PAUSED else moved(self.schedule_id, changed, slot)


class Retire(_OfOne, frozen=True, gc=False):
    """Let a schedule fire no more whose app does not declare it any more; it stays to be looked at."""

    declared_by: str

    def decide(self, view: View) -> None:
        """Mark it, unless somebody else has it by now."""
        row = view.get(self.key)
        if row is not None and row.declared_by == self.declared_by and row.status != ScheduleStatus.REMOVED:
            gone = replace(row, status=ScheduleStatus.REMOVED, next_slot=None, next_at=None, updated_at=view.now)
            view.update(self.key, with_waiting(gone, []))


class Pause(_OfOne, frozen=True, gc=False):
    """Let a schedule fire no more until it is resumed."""

    def decide(self, view: View) -> ScheduleRow:
        """Return the row. Raises ScheduleNotFound, IllegalTransition."""
        row = found(view, self.key)
        if row.status == ScheduleStatus.REMOVED:
            raise IllegalTransition(f"schedule {self.schedule_id!r} is removed from its app, so there is nothing to pause")
        if row.status == ScheduleStatus.ACTIVE:
            row = replace(row, status=ScheduleStatus.PAUSED, next_slot=None, next_at=None, updated_at=view.now)
            view.update(self.key, row)
        return row


class Resume(_OfOne, frozen=True, gc=False):
    """Let a paused schedule fire again, from `next_slot` on: slots of the pause are not caught up.

    `expression` and `tz` are those that `next_slot` belongs to. An active schedule takes the clock's word again:
    after a clock that was far ahead, its next slot is the first one to come.
    """

    expression: str
    tz: str
    next_slot: Micros | None

    def decide(self, view: View) -> ScheduleRow | None:
        """Return the row, or None when its expression has changed meanwhile. Raises ScheduleNotFound, IllegalTransition."""
        row = found(view, self.key)
        if row.status == ScheduleStatus.REMOVED:
            raise IllegalTransition(f"schedule {self.schedule_id!r} is removed from its app; declare it there again")
        if (row.expression, row.tz) != (self.expression, self.tz):
            return None
        slot = self.next_slot
        if row.next_slot is not None and slot is not None:  # what is due already stays due
            slot = min(slot, row.next_slot)
        row = moved(self.schedule_id, replace(row, status=ScheduleStatus.ACTIVE, updated_at=view.now), slot)
        view.update(self.key, row)
        view.signal("engine")
        return row


class Delete(_OfOne, frozen=True, gc=False):
    """Forget a schedule that no code declares. What it has started goes on."""

    def decide(self, view: View) -> None:
        """Delete it. Raises ScheduleNotFound, ScheduleConflict."""
        row = found(view, self.key)
        if row.declared_by and row.status != ScheduleStatus.REMOVED:
            raise ScheduleConflict(f"schedule {self.schedule_id!r} is declared by app {row.declared_by!r}; remove it there, or pause it")
        view.delete(self.key)

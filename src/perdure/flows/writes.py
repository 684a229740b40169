"""Pure decisions about places: who gets one, who waits, and who is next.

A process with a key first takes a place of its key, then one of its type. So a key that is full keeps nobody else waiting, and only
the heads of queues are looked at. Under a rate of its key, the next one follows when it has begun, not when it has joined the queue
of its type: those who wait there would begin at once when it moves.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.core.table import Key, Scan
from perdure.core.view import View
from perdure.flows.tables import FLOW, PLACE, QUEUE, QUEUED, FlowRow, PlaceRow, QueuedRow

replace = msgspec.structs.replace
KEY: Final = "key"
TYPE: Final = "type"
HELD: Final = "held"
_UNTIL_BEGUN: Final = limits.SEQUENCE_MAX


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """What one limit allows: places at the same time, and the microseconds between two that begin; None is without end."""

    places: int | None = None
    interval: Micros | None = None


class Limits(msgspec.Struct, frozen=True, gc=False):
    """The limits of a process type, and of each of its keys."""

    type: Bounds = Bounds()
    key: Bounds = Bounds()


UNLIMITED: Final = Limits()
CLOSED: Final = Limits(Bounds(places=0), Bounds(places=0))


def holds(view: View, tenant_id: str, process_id: str) -> bool:
    """Return whether a process has the places that it asked for."""
    place = view.get(PLACE.key(tenant_id, process_id))
    return place is not None and place.stage == HELD


def ask(view: View, tenant_id: str, process_id: str, *, place: PlaceRow, bounds: Limits) -> bool:
    """Take the places of a process that is to begin, or queue it; return whether it may begin now.

    `place` has its type, key and priority; tick and stage are filled in here.
    """
    assert view.get(PLACE.key(tenant_id, process_id)) is None, f"process {process_id} asks once"
    asked = replace(place, tick=view.tick(), stage=KEY if place.flow_key else TYPE)
    view.insert(PLACE.key(tenant_id, process_id), asked)
    if asked.stage == KEY and not _enter_key(view, tenant_id, process_id, place=asked, bounds=bounds.key):
        return False
    return _enter_type(view, tenant_id, process_id, bounds)


def give_back(view: View, tenant_id: str, process_id: str, bounds: Limits) -> list[str]:
    """Take a process out, wherever it is; return the processes that may begin instead."""
    key = PLACE.key(tenant_id, process_id)
    place = view.get(key)
    if place is None:
        return []
    view.delete(key)
    if place.stage == HELD:
        _free(view, _flow(tenant_id, place.process_type, ""))
    else:
        _unqueue(view, tenant_id, process_id, place)
    if place.flow_key and place.stage != KEY:
        of_key = _flow(tenant_id, place.process_type, place.flow_key)
        _free(view, of_key)
        if place.stage == TYPE:
            _begun(view, of_key, view.now)  # it has not, and will not
    return pull(view, _flow(tenant_id, place.process_type, place.flow_key), bounds)


def pull(view: View, flow: Key[FlowRow], bounds: Limits) -> list[str]:
    """Let those begin that there is room for, at most `limits.FLOW_PULLED` of a queue; return them."""
    tenant_id, process_type, flow_key = (str(part) for part in flow.parts)
    type_key = _flow(tenant_id, process_type, "")
    for _ in range(limits.FLOW_PULLED if flow_key else 0):
        process_id = _next(view, flow, bounds.key, until_begun=True)
        if process_id is None:
            break
        key = PLACE.key(tenant_id, process_id)
        place = view.get(key)
        assert place is not None, "who waits has a place"
        view.update(key, replace(place, stage=TYPE))
        _queue(view, type_key, QUEUED.key(tenant_id, process_type, "", place.priority, place.tick, process_id), flow_key)
    begun = []
    for _ in range(limits.FLOW_PULLED):
        process_id = _next(view, type_key, bounds.type)
        if process_id is None:
            break
        _hold(view, tenant_id, process_id, bounds.key)
        begun.append(process_id)
    return begun


def _enter_key(view: View, tenant_id: str, process_id: str, *, place: PlaceRow, bounds: Bounds) -> bool:
    """Take a place of the key, or queue for it."""
    key = _flow(tenant_id, place.process_type, place.flow_key)
    row = _row(view, key)
    if not row.waiting and _has_room(view, row, bounds):
        _take(view, key, row, bounds, until_begun=True)
        return True
    _queue(view, key, QUEUED.key(tenant_id, place.process_type, place.flow_key, place.priority, place.tick, process_id), place.flow_key)
    return False


def _enter_type(view: View, tenant_id: str, process_id: str, bounds: Limits) -> bool:
    place_key = PLACE.key(tenant_id, process_id)
    place = view.get(place_key)
    assert place is not None, "it asks"
    key = _flow(tenant_id, place.process_type, "")
    row = _row(view, key)
    if not row.waiting and _has_room(view, row, bounds.type):
        _take(view, key, row, bounds.type)
        _hold(view, tenant_id, process_id, bounds.key)
        return True
    view.update(place_key, replace(place, stage=TYPE))
    _queue(view, key, QUEUED.key(tenant_id, place.process_type, "", place.priority, place.tick, process_id), place.flow_key)
    return False


def _next(view: View, key: Key[FlowRow], bounds: Bounds, *, until_begun: bool = False) -> str | None:
    """Give a place to the head of a queue, if there is room and somebody waits."""
    row = view.get(key)
    if row is None or not row.waiting or not _has_room(view, row, bounds):
        return None
    [(head, _)] = view.scan(Scan(QUEUE, key.parts, 1, guard=key))
    view.delete(head)
    _take(view, key, replace(row, waiting=row.waiting - 1), bounds, until_begun=until_begun)
    return str(head.parts[-1])


def _has_room(view: View, row: FlowRow, bounds: Bounds) -> bool:
    return (bounds.places is None or row.running < bounds.places) and (bounds.interval is None or view.now >= row.next_at)


def _take(view: View, key: Key[FlowRow], row: FlowRow, bounds: Bounds, *, until_begun: bool = False) -> None:
    next_at = row.next_at
    if bounds.interval is not None:
        next_at = _UNTIL_BEGUN if until_begun else view.now + bounds.interval
    view.update(key, replace(row, running=row.running + 1, next_at=next_at))


def _begun(view: View, key: Key[FlowRow], next_at: Micros) -> None:
    """Who had taken a place of a key under a rate waits for its type no more."""
    row = view.get(key)
    if row is not None and row.next_at == _UNTIL_BEGUN:
        view.update(key, replace(row, next_at=next_at))


def _free(view: View, key: Key[FlowRow]) -> None:
    row = view.get(key)
    assert row is not None, "who holds a place is counted"
    view.update(key, replace(row, running=row.running - 1))


def _hold(view: View, tenant_id: str, process_id: str, of_key: Bounds) -> None:
    key = PLACE.key(tenant_id, process_id)
    place = view.get(key)
    assert place is not None, "who begins has asked"
    view.update(key, replace(place, stage=HELD))
    if place.flow_key:
        _begun(view, _flow(tenant_id, place.process_type, place.flow_key), view.now + (of_key.interval or 0))


def next_of(row: FlowRow | None) -> Micros | None:
    """Return when a limit has room again by itself, if somebody waits for that."""
    return None if row is None or not row.waiting or row.next_at == _UNTIL_BEGUN else row.next_at


def _queue(view: View, key: Key[FlowRow], queued: Key[QueuedRow], own_key: str) -> None:
    row = _row(view, key)
    assert view.get(queued) is None, "a process waits once"
    view.insert(queued, QueuedRow(own_key))
    view.update(key, replace(row, waiting=row.waiting + 1))


def _unqueue(view: View, tenant_id: str, process_id: str, place: PlaceRow) -> None:
    flow_key = place.flow_key if place.stage == KEY else ""
    queued = QUEUED.key(tenant_id, place.process_type, flow_key, place.priority, place.tick, process_id)
    assert view.get(queued) is not None, "who waits is queued"
    view.delete(queued)
    key = _flow(tenant_id, place.process_type, flow_key)
    row = _row(view, key)
    view.update(key, replace(row, waiting=row.waiting - 1))


def _row(view: View, key: Key[FlowRow]) -> FlowRow:
    row = view.get(key)
    if row is None:
        row = FlowRow()
        view.insert(key, row)
    return row


def _flow(tenant_id: str, process_type: str, flow_key: str) -> Key[FlowRow]:
    return FLOW.key(tenant_id, process_type, flow_key)

"""Who has started whom. A child is on its parent's list from the commit that starts it to the one that ends it.

Source: engine.md, "Verbs of a turn", spawn and cancel.
"""

from __future__ import annotations

import msgspec

from perdure import limits
from perdure.conversations.tables import CHILD, CHILDREN, PROCESS, ChildRow, ProcessRow
from perdure.core.table import Scan
from perdure.core.view import View
from perdure.messages.tables import MESSAGE

replace = msgspec.structs.replace


def adopt(view: View, tenant_id: str, parent_id: str, process_id: str, *, message_id: str) -> None:
    """Note that a process is the child of another, if this very transaction has started it with that message."""
    key = PROCESS.key(tenant_id, process_id)
    process = view.get(key)
    if process is None or process.parent or process_id == parent_id or not _begins_with(view, tenant_id, process, message_id):
        return  # it was there before: whoever holds the key got the message
    view.update(key, replace(process, parent=parent_id))
    child = CHILD.key(tenant_id, parent_id, process_id)
    assert view.get(child) is None, f"process {process_id} is new"
    view.insert(child, ChildRow(view.now))


def _begins_with(view: View, tenant_id: str, process: ProcessRow, message_id: str) -> bool:
    if process.head:
        return process.turn_seq == 0 and process.open_message == message_id
    message = view.get(MESSAGE.key(tenant_id, "", message_id))
    return message is not None and message.mail_number == 1  # it waits for a place to begin


def release_child(view: View, tenant_id: str, process_id: str, process: ProcessRow) -> None:
    """A process ends: it is on nobody's list any more."""
    if process.parent:
        key = CHILD.key(tenant_id, process.parent, process_id)
        if view.get(key) is not None:
            view.delete(key)


def children(view: View, tenant_id: str, parent_id: str, *, after: str | None = None, limit: int = limits.READ_PAGE) -> list[str]:
    """Return a page of the children that have not ended, by id; detached ones are nobody's. `after` is the last of the page before."""
    place = None if after is None else (after,)
    guard = PROCESS.key(tenant_id, parent_id)
    return [str(key.parts[2]) for key, _ in view.scan(Scan(CHILDREN, (tenant_id, parent_id), limit, after=place, guard=guard))]

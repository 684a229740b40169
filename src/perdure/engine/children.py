"""Who has started whom. A child is on its parent's list from the commit that starts it to the one that ends it.

Source: engine.md, "Verbs of a turn", spawn.
"""

from __future__ import annotations

import msgspec

from perdure.conversations.tables import CHILD, OVER, PROCESS, ChildRow, ProcessRow
from perdure.core.view import View
from perdure.messages.tables import MESSAGE

replace = msgspec.structs.replace


def adopt(view: View, tenant_id: str, parent_id: str, process_id: str, *, message_id: str) -> bool:
    """Note that a process is the child of another, and return whether this very transaction has started it with that message."""
    key = PROCESS.key(tenant_id, process_id)
    process = view.get(key)
    if process is None or process.parent or process_id == parent_id or not _begins_with(view, tenant_id, process, message_id):
        return False  # it was there before: whoever holds the key got the message
    view.update(key, replace(process, parent=parent_id))
    child = CHILD.key(tenant_id, parent_id, process_id)
    assert view.get(child) is None, f"process {process_id} is new"
    view.insert(child, ChildRow(view.tick()))
    return True


def _begins_with(view: View, tenant_id: str, process: ProcessRow, message_id: str) -> bool:
    if process.head:
        return process.turn_seq == 0 and process.open_message == message_id
    message = view.get(MESSAGE.key(tenant_id, "", message_id))
    return message is not None and message.mail_number == 1  # it waits for a place to begin


def enlist(view: View, tenant_id: str, process_id: str, process: ProcessRow) -> None:
    """A process that had ended goes on: it is on its parent's list again, if that one goes on, too."""
    parent = PROCESS.key(tenant_id, process.parent)
    row = view.get(parent) if process.parent else None
    # One that was made after its child is another process of the same id.
    if row is None or row.status in OVER or row.stream_no > process.stream_no:
        return
    child = CHILD.key(tenant_id, process.parent, process_id)
    if view.get(child) is None:
        view.update(parent, row)  # the guard of the list
        view.insert(child, ChildRow(view.tick()))


def release_child(view: View, tenant_id: str, process_id: str, process: ProcessRow) -> None:
    """A process ends: it is on nobody's list any more."""
    if process.parent:
        key = CHILD.key(tenant_id, process.parent, process_id)
        if view.get(key) is not None:
            view.delete(key)

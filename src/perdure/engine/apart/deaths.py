"""What an engine does when a child has ended: for the processes of its version, that is a crash.

Source: docs/isolation.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.conversations.tables import PROCESS, ProcessStatus
from perdure.errors import LeaseLost

if TYPE_CHECKING:
    from perdure.engine.owner import Owner


def read_again(owner: Owner, package: str) -> None:
    """Let all processes of a version leave memory, and read those again that had something under way."""
    gone = [resident for resident in owner.residents.values() if resident.package == package]
    under_way = [(resident.tenant_id, resident.process_id) for resident in gone if resident.missed or not resident.quiet]
    for resident in gone:
        owner.evict(resident)
    if owner.is_open:
        owner.background(_read_again(owner, under_way))


async def _read_again(owner: Owner, keys: list[tuple[str, str]]) -> None:
    await owner.store.access.writer.commit()  # what is under way still counts: read before it, steps would run again
    for key in keys:
        process = await owner.store.access.reader.get(PROCESS.key(*key))
        if process is None or process.status != ProcessStatus.RUNNABLE or key in owner.residents:
            continue
        try:
            await owner.recovery.recover(*key, process, first=True)
        except LeaseLost:
            continue  # it is another node's by now, which takes it up
    owner.later(owner.recovery.next_suspect)

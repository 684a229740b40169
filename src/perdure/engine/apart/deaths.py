"""What an engine does when a child has ended: for the processes of its version, that is a crash.

Source: docs/isolation.md.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from perdure.conversations.tables import PROCESS, ProcessRow, ProcessStatus
from perdure.engine.persisting import until_done
from perdure.engine.versions import UNLOADABLE
from perdure.errors import LeaseLost

if TYPE_CHECKING:
    from perdure.engine.owner import Owner


def read_again(owner: Owner, package: str) -> None:
    """Let all processes of a version leave memory, and read those again that had something under way."""
    gone = [resident for resident in owner.residents.values() if resident.package == package]
    under_way = [(resident.tenant_id, resident.process_id) for resident in gone if resident.missed or not resident.quiet]
    for resident in gone:
        owner.evict(resident)
    if owner.is_open and under_way:
        owner.background(until_done(owner, partial(_read_again, owner, package, under_way)))


async def _read_again(owner: Owner, package: str, keys: list[tuple[str, str]]) -> None:
    await owner.store.access.writer.commit()  # what is under way still counts: read before it, steps would run again
    found = [(key, await owner.store.access.reader.get(PROCESS.key(*key))) for key in keys]
    left = [(key, process) for key, process in found if process is not None and process.status == ProcessStatus.RUNNABLE]
    if not left:
        return
    try:
        # Who waits for a version is taken up as one that was not begun; these were, and their attempts count.
        async with owner.versions.using(left[0][1].process_type, package):
            await _recover(owner, left)
    except UNLOADABLE:
        await _recover(owner, left)  # they are stranded
    owner.later(owner.recovery.next_suspect)


async def _recover(owner: Owner, left: list[tuple[tuple[str, str], ProcessRow]]) -> None:
    for key, process in left:
        if key in owner.residents:
            continue
        try:
            await owner.recovery.recover(*key, process, first=True)
        except LeaseLost:
            continue  # it is another node's by now, which takes it up

"""Moving many processes to a package, one transaction each: a page is looked at after the other, whatever is refused.

Source: packages.md, "Moving a process".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.conversations.tables import BY_PACKAGE, PROCESSES, ProcessRow, ProcessStatus
from perdure.core.table import Key, Scan
from perdure.engine.app import App
from perdure.engine.moving import Mover, Target
from perdure.engine.notes import NO_APP
from perdure.engine.verification import ALL_PROCESSES
from perdure.engine.versions import Versions
from perdure.errors import (
    CorruptEvent,
    EventTooNew,
    IllegalTransition,
    PackageEntryMissing,
    PerdureError,
    ProcessEnded,
    ProcessIncompatible,
    ProcessNotFound,
    StoreBusy,
    UsageError,
)
from perdure.identity import TenantId
from perdure.packages.arguments import checked_by, checked_hash, checked_type
from perdure.packages.contract import UNKNOWN_ACTOR
from perdure.packages.signing import TrustPolicy
from perdure.store import Store

LOCAL: Final = "local"
"""Names code of no package, where processes come from."""

_REFUSED: Final = (ProcessIncompatible, IllegalTransition, StoreBusy, CorruptEvent, EventTooNew)
_GONE: Final = (ProcessNotFound, ProcessEnded)


class TriedMove(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one process that was to be moved.

    Attributes:
        tenant_id: whose it is.
        process_id: which.
        origin: the package that it was on, None for local code.
        moved: whether it was moved, or could be.
        code: of the error that has refused it; empty when it was moved.
        reason: why it was refused, for people.
    """

    tenant_id: str
    process_id: str
    origin: str | None
    moved: bool
    code: str = ""
    reason: str = ""


class Moving:
    """Moves the processes of a store from where no engine runs: the engine that owns one hears of it.

    The package is loaded here, with the rights of this process, into this interpreter or one of its own.

    Args:
        store: that is open.
        actor: who does it.
        trust: who has to have signed the package; None for anybody or nobody.
        environments: where those of packages with interpreters of their own are kept; the user's folder of caches when not given.
    """

    def __init__(
        self, store: Store, *, actor: str = UNKNOWN_ACTOR, trust: TrustPolicy | None = None, environments: Path | None = None
    ) -> None:
        self._store = store
        self._actor = checked_by(actor, None).actor
        self._versions = Versions(store, App("moving"), trust=trust, environments=environments)
        self._mover = Mover(store, self._versions, rules=NO_APP, commit=store.access.writer.run)

    async def close(self) -> None:
        """Let go the packages that were loaded."""
        await self._versions.close()

    async def move(self, process_id: str, content_hash: str, *, tenant: str) -> bool:
        """Move one process; see `Engine.move`."""
        return await self._mover.move(TenantId(tenant), process_id, Target(checked_hash(content_hash), self._actor))

    async def move_all(
        self,
        content_hash: str,
        process_type: str,
        *,
        origin: str | None = None,
        tenant: str | None = None,
        dry_run: bool = False,
    ) -> AsyncIterator[TriedMove]:
        """Move the processes of a type that are not over, or have failed, and yield what became of each. Those that are there are left out.

        Args:
            content_hash: of the package.
            process_type: of the processes.
            origin: only those on this package, `LOCAL` for code of none; all when not given.
            tenant: only this one's.
            dry_run: only find out which could be moved.

        Raises:
            UsageError: the package has no such type.
            PackageMissing, and what else `Versions.using` raises: it cannot be loaded here; nothing was moved.
            InvalidContentHash, InvalidIdentifier: nothing was read.
        """
        target, process_type = Target(checked_hash(content_hash), self._actor), checked_type(process_type)
        if origin is not None and origin != LOCAL:
            checked_hash(origin)
        async with self._using(process_type, content_hash):
            async for key, row in self._movable(origin, None if tenant is None else TenantId(tenant)):
                if row.process_type == process_type:
                    tried = await self._try(key, row, target, dry_run=dry_run)
                    if tried is not None:
                        yield tried

    @asynccontextmanager
    async def _using(self, process_type: str, package: str) -> AsyncIterator[None]:
        """Keep a version loaded, however many others are met meanwhile."""
        async with AsyncExitStack() as pin:
            try:
                await pin.enter_async_context(self._versions.using(process_type, package))
            except PackageEntryMissing:
                if package in self._versions.failed:
                    raise
                raise UsageError(f"package {package} has no process type {process_type!r}; choose one that has it") from None
            yield

    async def _movable(self, origin: str | None, tenant: TenantId | None) -> AsyncIterator[tuple[Key[ProcessRow], ProcessRow]]:
        """Yield the processes of a package, or of all code, that are not over or could be restarted."""
        packaged = origin not in {None, LOCAL}
        index = BY_PACKAGE if packaged else ALL_PROCESSES if tenant is None else PROCESSES
        prefix = (origin,) if packaged else () if tenant is None else (tenant,)
        after: tuple[Any, ...] | None = None
        while rows := await self._store.access.reader.scan(Scan(index, prefix, limits.READ_PAGE, after=after)):
            for key, row in rows:
                if (
                    row.status not in {ProcessStatus.ENDED, ProcessStatus.REMOVED}
                    and tenant in {None, key.parts[0]}
                    and not (origin == LOCAL and row.package_hash is not None)
                ):
                    yield key, row
            after = index.order_of(rows[-1][0].parts, rows[-1][1])

    async def _try(self, key: Key[ProcessRow], row: ProcessRow, target: Target, *, dry_run: bool) -> TriedMove | None:
        """Return what became of a process; None for one that is over by now, or there already."""
        tenant_id, process_id = map(str, key.parts)
        error: PerdureError | None = None
        try:
            if not await self._mover.move(TenantId(tenant_id), process_id, target, dry_run=dry_run):
                return None
        except _GONE:
            return None
        except _REFUSED as refused:
            error = refused
        return TriedMove(
            tenant_id=tenant_id,
            process_id=process_id,
            origin=row.package_hash,
            moved=error is None,
            code="" if error is None else error.code,
            reason="" if error is None else str(error),
        )

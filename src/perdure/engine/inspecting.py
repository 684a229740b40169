"""What an engine tells of its store: processes and messages as of their last commits, on whichever node they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from perdure import limits
from perdure.engine import inspection
from perdure.engine.export import ProcessExport, export_process
from perdure.engine.searching import AttributeFilter, Order, Page
from perdure.identity import DEFAULT_TENANT
from perdure.store import Store


class Inspecting:
    """The methods of an engine that read."""

    store: Store

    async def processes(
        self,
        *,
        type: Any = None,
        status: str | None = None,
        attributes: Mapping[str, AttributeFilter] | None = None,
        created_after: datetime | None = None,
        updated_before: datetime | None = None,
        order: Order | None = None,
        limit: int = limits.PAGE_DEFAULT,
        after: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Page[inspection.ProcessInfo]:
        """Return a page of processes as of their last commits, those that are over included.

        Args:
            type: only those of a process type: the class, the function, or its name.
            status: only those that are idle, runnable, waiting, paused, stuck, stranded, failed or ended.
            attributes: only those with these search attributes: a value, `Between(low, high)` or `StartsWith(text)` by name.
            created_after: only those made later; a datetime with a time zone.
            updated_before: only those that nothing has happened to since.
            order: `id`, `created` (oldest first) or `-created` (newest first). When not given, the quickest: by the first
                attribute that is one value, or else the first one, and then by id; by creation with `created_after`; by id.
            limit: rows of the page, 1 to 1,000. There may be fewer: some 10,000 rows are looked at for one page.
            after: `next` of the page before; the other arguments as for that one.
            tenant: whose.

        Returns:
            The page, a list; its `next` is None when no page follows. What does not change meanwhile comes once.

        Raises:
            UsageError, InvalidIdentifier: the text says which argument is wrong.
        """
        return await inspection.processes(
            self.store,
            tenant=tenant,
            type=type,
            status=status,
            attributes=attributes,
            created_after=created_after,
            updated_before=updated_before,
            order=order,
            limit=limit,
            after=after,
        )

    async def process(self, process_id: str, *, tenant: str = DEFAULT_TENANT) -> inspection.ProcessInfo:
        """Return one process, with fields, attributes, keys and tags as of its last commit. Raises ProcessNotFound."""
        return await inspection.process(self.store, process_id, tenant=tenant)

    async def children(
        self, process_id: str, *, after: str | None = None, limit: int = limits.PAGE_DEFAULT, tenant: str = DEFAULT_TENANT
    ) -> Page[inspection.ProcessInfo]:
        """Return a page of the children of a process that have not ended, by id, also after its own end.

        Raises ProcessNotFound, UsageError.

        Args:
            process_id: which.
            after: `next` of the page before.
            limit: rows of the page, 1 to 1,000.
            tenant: whose.
        """
        return await inspection.children(self.store, process_id, tenant=tenant, after=after, limit=limit)

    async def timeline(
        self, process_id: str, *, after: int = -1, limit: int = limits.PAGE_DEFAULT, tenant: str = DEFAULT_TENANT
    ) -> inspection.Timeline:
        """Return a page of what happened in a process, and what it waits for now. Raises ProcessNotFound, UsageError.

        Args:
            process_id: which.
            after: `next` of the page before.
            limit: events of the page, 1 to 1,000.
            tenant: whose.
        """
        return await inspection.timeline(self.store, process_id, tenant=tenant, after=after, limit=limit)

    async def export_process(self, process_id: str, *, tenant: str = DEFAULT_TENANT) -> ProcessExport:
        """Return a process with its record, for `perdure.testing.replay`. Raises ProcessNotFound, StoreBusy."""
        return await export_process(self.store, process_id, tenant=tenant)

    async def explain(self, message_id: str, *, source: str = "", tenant: str = DEFAULT_TENANT) -> inspection.Explanation:
        """Return where a message is, and why. Raises MessageNotFound."""
        return await inspection.explain(self.store, message_id, source=source, tenant=tenant)

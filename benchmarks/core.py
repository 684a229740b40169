"""The core alone: small keyed transactions by concurrency."""

from __future__ import annotations

from functools import partial

from benchmarks.measure import LEVELS, closed_loop, fresh_store, ours, report
from perdure import ProcessIdentity, RegistryKey, Store, TenantId

TENANT = TenantId("default")


async def _register(store: Store, identity: ProcessIdentity, n: int) -> None:
    await store.processes.register(TENANT, RegistryKey(f"k{n}"), identity)


async def transactions() -> None:
    """Registrations of a key: one row read, one inserted, one event, one counter."""
    identity = ProcessIdentity(tenant_id=TENANT, process_id="p", process_type="order")  # type: ignore[arg-type]  # validated inside
    for clients in LEVELS:
        async with fresh_store() as store:
            writer = store.access.writer
            result = await closed_loop(partial(_register, store, identity), clients)
            report(
                benchmark="transactions",
                **ours(),
                **result,
                commits=writer.commits,
                per_commit=writer.transactions / max(1, writer.commits),
            )

"""What must not grow with the store: lookups, appends, recovery. Sizes are small with BENCH=short."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from functools import partial

from benchmarks.measure import SHORT, closed_loop, fresh_store, ours, report
from perdure import DurableConversation, ProcessIdentity, RegistryKey, Store, TenantId

TENANT = TenantId("default")
KEYS = (1_000, 5_000) if SHORT else (10_000, 1_000_000)
EVENTS = (0, 1_000) if SHORT else (0, 100_000)
BATCH = 500


def _identity(number: int) -> ProcessIdentity:
    return ProcessIdentity(tenant_id=TENANT, process_id=f"p{number}", process_type="order")  # type: ignore[arg-type]  # validated inside


async def _register(store: Store, first: int, last: int) -> None:
    for begin in range(first, last, BATCH):
        numbers = range(begin, min(begin + BATCH, last))
        await asyncio.gather(*(store.processes.register(TENANT, RegistryKey(f"key {n}"), _identity(n)) for n in numbers))
        await asyncio.gather(
            *(store.processes.register_correlated(TENANT, f"tag {n // 10}", _identity(n).process_id, _identity(n)) for n in numbers)
        )


async def _lookup(store: Store, size: int, n: int) -> None:
    assert await store.processes.lookup(TENANT, RegistryKey(f"key {n * 7919 % size}")) is not None


async def _lookup_members(store: Store, size: int, n: int) -> None:
    assert len(await store.processes.lookup_correlated(TENANT, f"tag {n * 7919 % (size // 10)}")) == 10


async def lookups() -> None:
    """A lookup by key, and ten members of a tag, by the number of keys."""
    async with fresh_store() as store:
        size = 0
        for target in KEYS:
            await _register(store, size, target)
            size = target
            result = await closed_loop(partial(_lookup, store, size), 1)
            report(benchmark="lookup by key", **ours(), keys=size, **result)
            result = await closed_loop(partial(_lookup_members, store, size), 1)
            report(benchmark="lookup of 10 under a tag", **ours(), processes=size, **result)


async def appends() -> None:
    """An append to a conversation, by its length; and what its recovery takes."""
    for length in EVENTS:
        async with fresh_store() as store:
            conversation = DurableConversation("long", store)
            await conversation.record_message_received("first", 0)
            await conversation.record_processing_started("first")
            for index in range(length):
                await conversation.record_step_completed("first", index, b"{}")
            await conversation.record_processing_finished("first")

            async def append(n: int, conversation: DurableConversation = conversation) -> None:
                await conversation.record_message_received(f"m{n}", n)

            result = await closed_loop(append, 1)
            report(benchmark="append to a conversation", **ours(), events=length, **result)
            await conversation.snapshot()
            start = time.perf_counter()
            await DurableConversation.recover("long", store)
            report(benchmark="recovery from a snapshot", **ours(), events=length, ms=(time.perf_counter() - start) * 1000)


async def import_time() -> None:
    """`import perdure` above a bare interpreter, and `perdure --help`; medians of 9."""

    def median(*command: str) -> float:
        times = []
        for _ in range(3 if SHORT else 9):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times.append((time.perf_counter() - start) * 1000)
        return sorted(times)[len(times) // 2]

    bare = median("-c", "pass")
    report(benchmark="import perdure", **ours(), ms=median("-c", "import perdure") - bare)
    report(benchmark="perdure --help", **ours(), ms=median("-m", "perdure", "--help"))

"""What must not grow with the store: lookups, appends, recovery. Sizes are small with BENCH=short."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import filling
from benchmarks.measure import SHORT, closed_loop, ours, report
from perdure import DurableConversation, RegistryKey, Store, TenantId, open_store
from tests.contracts.conversations import CountingReader

TENANT = TenantId(filling.TENANT)
KEYS = (1_000, 10_000) if SHORT else (10_000, 10_000_000)
PROCESSES = (1_000, 5_000) if SHORT else (10_000, 1_000_000)
MESSAGES = (0, 1_000) if SHORT else (0, 1_000_000)
NAME = "long"
STRIDE = 7_919  # a prime: the calls go all over the range


async def _lookup(store: Store, size: int, n: int) -> None:
    assert await store.processes.lookup(TENANT, RegistryKey(f"key {n * STRIDE % size}")) is not None


async def _lookup_members(store: Store, size: int, n: int) -> None:
    members = await store.processes.lookup_correlated(TENANT, f"tag {n * STRIDE % (size // filling.MEMBERS)}")
    assert len(members) == filling.MEMBERS


async def lookups() -> None:
    """A lookup by key, and ten members of a tag, by the number of keys and of processes under tags."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "bench.db"
        async with open_store(f"sqlite:///{path}"):
            pass
        before = 0
        for keys in KEYS:
            filling.with_keys(path, before, keys)
            before = keys
            async with open_store(f"sqlite:///{path}") as store:
                assert await store.processes.len() == keys
                report(benchmark="lookup by key", **ours(), keys=keys, **await closed_loop(partial(_lookup, store, keys), 1))
        before = 0
        for processes in PROCESSES:
            filling.with_tags(path, before, processes, after_tick=KEYS[-1])
            before = processes
            async with open_store(f"sqlite:///{path}") as store:
                result = await closed_loop(partial(_lookup_members, store, processes), 1)
                report(benchmark="lookup of 10 under a tag", **ours(), processes=processes, **result)


async def appends() -> None:
    """An append to a conversation, by its length in finished messages of three events; and what its recovery reads."""
    for messages in MESSAGES:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            path = Path(folder) / "bench.db"
            async with open_store(f"sqlite:///{path}"):
                pass
            if messages:
                filling.with_conversation(path, NAME, messages)
            async with open_store(f"sqlite:///{path}") as store:
                await _appends(store, messages)


async def _appends(store: Store, messages: int) -> None:
    conversation = await DurableConversation.recover(NAME, store)
    assert conversation.expected_seq == 3 * messages

    async def append(n: int) -> None:
        # A message that is over leaves memory: what is measured is not the number of open ones.
        await conversation.record_message_received(f"m{n}", n)
        await conversation.record_processing_started(f"m{n}")
        await conversation.record_processing_finished(f"m{n}")

    report(benchmark="three appends to a conversation", **ours(), events=3 * messages, **await closed_loop(append, 1))
    await conversation.record_message_received("open", 0)
    await conversation.snapshot()
    reader = CountingReader(store.access.reader)
    store.access = store.access._replace(reader=reader)  # type: ignore[misc]  # only here, to count
    start = time.perf_counter()
    await DurableConversation.recover(NAME, store)
    report(
        benchmark="recovery from a snapshot",
        **ours(),
        finished_messages=messages,
        rows_read=sum(reader.rows.values()),
        ms=(time.perf_counter() - start) * 1000,
    )


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

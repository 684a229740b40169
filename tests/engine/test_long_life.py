"""However many messages a process has had, recovering it reads the same few rows. A soak gives it a million."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import Address, DurableConversation, Engine, Retention, Store, VirtualClock, open_store
from perdure.engine import inspection
from tests.contracts.conversations import CountingReader
from tests.engine.meters import Go, Tick, Wait, meter
from tests.engine.orders import only_process, reaches

CLIENTS = 256
MESSAGES = int(os.environ.get("PERDURE_SOAK_MESSAGES", "2000"))
KEEP = Retention(turns=timedelta(minutes=1), messages=timedelta(minutes=2), tombstones=timedelta(minutes=10))
SECOND = 1_000_000


async def live(engine: Engine, messages: int, clock: VirtualClock) -> None:
    """Give the one process `messages` messages, 256 at a time; a second passes with each thousand."""
    numbers: Iterator[int] = iter(range(messages))

    async def client() -> None:
        for n in numbers:
            await engine.deliver(Tick(1), id=f"t{n}", wait=True)
            if n % 1_000 == 0:
                clock.advance(SECOND)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def rows_to_recover(store: Store, clock: VirtualClock, messages: int, *, retention: Retention | None = None) -> dict[str, int]:
    """Live for so long, stop with a turn open, and return the rows that are read to go on, by table."""
    async with Engine(store, meter(), retention=retention) as engine:
        await live(engine, messages, clock)
        await engine.deliver(Wait(), id="open")
        process = await only_process(engine, "Meter")
        await reaches(engine, process.process_id, "waiting")
    reader = CountingReader(store.access.reader)
    access, store.access = store.access, store.access._replace(reader=reader)  # type: ignore[misc]  # only here, to count
    async with Engine(store, meter(), retention=retention) as engine:
        await engine.deliver(Go(), id="go", to=Address.process(process.process_id))
        assert await engine.deliver(Wait(), id="open", wait=True) == messages + 1
        rows = dict(reader.rows)
    store.access = access  # type: ignore[misc]  # see above
    return rows


@pytest.mark.parametrize("retention", [None, KEEP], ids=["everything is kept", "a minute is kept"])
async def test_recovery_reads_as_few_rows_after_a_long_life_as_after_a_short_one(
    tmp_path: Path, clock: VirtualClock, retention: Retention | None
) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'short.db'}", clock=clock) as store:
        short = await rows_to_recover(store, clock, 20, retention=retention)
    async with open_store(f"sqlite:///{tmp_path / 'long.db'}", clock=clock) as store:
        long = await rows_to_recover(store, clock, 2_000, retention=retention)

    assert long == short
    assert sum(long.values()) < 30


async def test_a_life_under_retention_does_not_grow(tmp_path: Path, clock: VirtualClock) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'store.db'}", clock=clock) as store, Engine(store, meter(), retention=KEEP) as engine:
        sizes: list[tuple[int, ...]] = []
        for _ in range(6):
            await engine.deliver(Tick(1), id=f"first {len(sizes)}", wait=True)
            await _ticks(engine, 100, f"{len(sizes)}-")
            clock.advance(120 * SECOND)
            await engine.sweep()
            rows = (await store.info()).rows
            sizes.append((rows["event"], rows["turn"], rows["operation"] - rows["message"], rows["process"]))
        clock.advance(10_000 * SECOND)
        await engine.sweep()
        rows = (await store.info()).rows

    assert len(set(sizes)) == 1, sizes
    assert (rows["message"], rows["operation"], rows["event"]) == (1, 1, 3), "only its last turn"


async def _ticks(engine: Engine, count: int, stem: str) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(count):
            group.create_task(engine.deliver(Tick(1), id=f"{stem}{n}", wait=True))


@pytest.mark.soak
async def test_a_million_messages_in_one_life(tmp_path: Path, clock: VirtualClock) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'short.db'}", clock=clock) as store:
        short = await rows_to_recover(store, clock, 20, retention=KEEP)
    async with open_store(f"sqlite:///{tmp_path / 'long.db'}", clock=clock) as store:
        assert await rows_to_recover(store, clock, MESSAGES, retention=KEEP) == short
        [process] = await inspection.processes(store)
        reader = CountingReader(store.access.reader)
        store.access = store.access._replace(reader=reader)  # type: ignore[misc]  # only here, to count
        await DurableConversation.recover(process.process_id, store)
        assert reader.rows["event"] == process.events - process.first_event

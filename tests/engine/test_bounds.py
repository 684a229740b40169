"""Bounds that the design names: threads, wake-ups of one round, events of a turn, what a start costs; and where steps run."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from pathlib import Path

import pytest

from perdure import App, Engine, Process, Store, VirtualClock, limits, open_store, step_info
from perdure.clock import SECOND
from tests.contracts.conversations import CountingReader
from tests.engine.conftest import Running
from tests.engine.orders import holds, reaches
from tests.engine.programs import draw
from tests.engine.test_residency import out_of_memory, rests
from tests.engine.turns import Diary, Life, World


async def test_no_more_plain_functions_run_at_once_than_there_are_threads(store: Store) -> None:
    app, guard, free = App("threads"), threading.Lock(), threading.Event()
    running, most = [0], [0]

    def work() -> None:
        with guard:
            running[0] += 1
            most[0] = max(most[0], running[0])
        free.wait()
        with guard:
            running[0] -= 1

    @app.process
    async def job(p: Process) -> None:
        await asyncio.gather(*(p.step(work) for _ in range(6)))

    async with Engine(store, app, max_threads=2) as engine:
        call = asyncio.ensure_future(engine.call(job, id="j"))
        await holds(lambda: running[0] == 2)
        await engine.store.commit()
        free.set()
        await call

    assert most == [2]


async def test_async_steps_run_on_the_loop_of_the_engine_and_plain_ones_on_its_threads(running: Running) -> None:
    app = App("where")
    seen: list[object] = []

    async def on_the_loop() -> None:
        seen.append(asyncio.get_running_loop())

    def on_a_thread() -> str:
        return threading.current_thread().name

    @app.process
    async def job(p: Process) -> str:
        await p.step(on_the_loop)
        seen.append(asyncio.get_running_loop())
        return await p.step(on_a_thread)

    async with running(app) as engine:
        assert (await engine.call(job, id="j")).startswith("perdure-step")

    assert seen[0] is asyncio.get_running_loop()
    assert seen[1] is not seen[0], "a handler runs on a loop of its own"


async def test_an_idempotency_key_is_derived_in_this_way_for_ever(running: Running) -> None:
    app = App("keys")
    keys: list[str] = []

    async def pay() -> None:
        keys.append(step_info().idempotency_key)

    @app.process
    async def job(p: Process) -> None:
        await p.step(pay)
        await p.step(pay)

    async with running(app) as engine:
        await engine.call(job, id="j-1", tenant="acme")

    for key, step in zip(keys, ("pay", "pay#2"), strict=True):
        digest = hashlib.blake2b(digest_size=16)
        for part in (b"acme", b"j-1", b"j-1", step.encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        assert key == f"pd-{digest.hexdigest()}"


async def test_no_more_are_woken_in_one_round_of_the_loop_than_the_limit(
    running: Running, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAKE_UPS", 3)
    app, count = App("many"), 40

    @app.process
    async def sleeper(p: Process) -> None:
        await p.sleep(60)

    async with running(app) as engine:
        calls = [asyncio.ensure_future(engine.call(sleeper, id=f"s{number}")) for number in range(count)]
        for number in range(count):
            await rests(engine, f"s{number}")
        clock.advance(SECOND)
        await out_of_memory(engine)

        clock.advance(60 * SECOND)
        known: set[tuple[str, str]] = set()
        most = 0
        while len(known) < count:
            await asyncio.sleep(0)
            here = set(engine._owner.residents)
            most = max(most, len(here - known))
            known |= here
        await asyncio.gather(*calls)

    assert 0 < most <= 3


def test_a_turn_of_many_events_is_warned_about_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limits, "TURN_EVENTS_WARN", 10)

    async def code(p: Diary) -> None:
        for _ in range(9 if p.total else 25):
            await p.step(draw)

    Life(World(code)).run()

    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "10 events in one turn" in warned[0]
    assert "spread the work over messages" in warned[0]


async def rows_at_start(path: Path, clock: VirtualClock, sleepers: int) -> dict[str, int]:
    """Return the rows that an engine reads as it starts on a store with so many that sleep, by table."""
    app = App("sleepers")

    @app.process
    async def sleeper(p: Process) -> None:
        await p.sleep(1_000_000)

    async with open_store(f"sqlite:///{path}", clock=clock) as store:
        async with Engine(store, app) as engine:
            for number in range(sleepers):
                call = asyncio.ensure_future(engine.call(sleeper, id=f"s{number}"))
                call.add_done_callback(lambda ended: ended.exception())
            for number in range(sleepers):
                await reaches(engine, f"s{number}", "waiting")
        reader = CountingReader(store.access.reader)
        store.access = store.access._replace(reader=reader)  # type: ignore[misc]  # only here, to count
        async with Engine(store, app) as engine:
            await engine.store.commit()
            assert not engine._owner.residents
            return dict(reader.rows)


async def test_a_start_reads_as_few_rows_beside_many_that_sleep_as_beside_one(tmp_path: Path, clock: VirtualClock) -> None:
    few = await rows_at_start(tmp_path / "few.db", clock, 1)
    many = await rows_at_start(tmp_path / "many.db", clock, 60)

    assert many == few

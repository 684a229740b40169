"""A line that holds up the event loop is named, while it does."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import App, Engine, Process, VirtualClock, limits, open_store


class Heard(logging.Handler):
    """Sets an event when something is said of a loop that is held up."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "this very line" in text:  # whatever else may have held it up for so short a time
            self.said.append(text)
            self.event.set()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setattr(limits, "WATCHDOG_SECONDS", 0.005)
    handler, logger = Heard(), logging.getLogger("perdure.engine")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def blocks(event: threading.Event) -> bool:
    """Hold up whoever calls, until the event is set."""
    return event.wait(30)  # this very line


@pytest.mark.parametrize("where", ["handler", "step"])
async def test_the_line_that_holds_up_the_loop_is_named(tmp_path: Path, heard: Heard, where: str) -> None:
    app = App("blocked")

    async def step() -> bool:
        return blocks(heard.event)

    async def alive() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    @app.process
    async def job(p: Process) -> bool:
        await p.step(alive)
        return await p.step(step) if where == "step" else blocks(heard.event)

    async with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store, Engine(store, app) as engine:
        assert await engine.call(job, id="j")

    [said] = heard.said
    assert f"held up for over 0.005 s at {__file__}:" in said
    assert "in blocks; nothing else goes on meanwhile" in said


async def test_where_time_is_virtual_nobody_looks_on(clock: VirtualClock, heard: Heard) -> None:
    async with open_store("sqlite:///:memory:", clock=clock) as store, Engine(store, App("quiet")):
        names = [thread.name for thread in threading.enumerate()]

    assert "perdure-watchdog" not in names
    assert heard.said == []

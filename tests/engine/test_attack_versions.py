"""A store that cannot be read for a while when a version is to be loaded: what is on it is taken up when it can be read again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Engine, Store, VirtualClock
from perdure.core.table import Key
from perdure.errors import StoreBusy
from perdure.packages.tables import PACKAGE
from tests.engine.orders import crash, eventually, holds
from tests.engine.shop import send
from tests.engine.test_attack_commits import STALL
from tests.engine.works import did, works
from tests.packages.built import deploy

NODE = App("node")
APART, SHARED = works(apart=True), works(apart=False)


class Busy:
    """A store that cannot read the first packages that it is asked for."""

    def __init__(self, store: Store, count: int) -> None:
        reader: Any = store.access.reader
        self.get = reader.get
        self.count = count
        self.refused = 0
        setattr(reader, "get", self._get)  # noqa: B010  # as one injects a fault

    async def _get(self, key: Key[Any]) -> Any:
        if key.table is PACKAGE and self.refused < self.count:
            self.refused += 1
            raise StoreBusy("locked")
        return await self.get(key)


async def passes(clock: VirtualClock, condition: Callable[[], bool]) -> None:
    async def true() -> bool:
        clock.advance(STALL)
        return condition()

    await eventually(true)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


async def test_what_a_crash_has_left_is_taken_up(store: Store, clock: VirtualClock, place: Path) -> None:
    await deploy(store, SHARED)
    engine = await Engine(store, NODE).__aenter__()
    await send(engine, "lasting", str(place), id="l")
    await holds(lambda: did(place) == ["began a step"])
    await crash(engine)
    await engine.versions.close()  # of this interpreter, which goes on
    left = len(did(place))
    busy = Busy(store, 2)  # one look is that for what packages need
    async with Engine(store, NODE):
        await holds(lambda: busy.refused == 2)
        await passes(clock, lambda: "began a step" in did(place)[left:])


async def test_what_was_under_way_when_an_interpreter_ended_is_taken_up(
    store: Store, clock: VirtualClock, tmp_path: Path, place: Path
) -> None:
    await deploy(store, APART)
    async with Engine(store, NODE, environments=tmp_path) as engine:
        await send(engine, "lasting", str(place), id="l")
        await holds(lambda: did(place) == ["began a step"])
        busy = Busy(store, 1)
        os.kill(engine.versions.apart[APART.identity], signal.SIGKILL)
        await holds(lambda: busy.refused == 1)
        await passes(clock, lambda: did(place) == ["began a step", "began a step"])

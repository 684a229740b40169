"""`perdure.run`: one handler run to its reply, and everything else as durable as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

import perdure
from perdure import Address, App, Engine, Process, open_store
from perdure.engine import inspection
from tests.engine.orders import eventually


class Go(msgspec.Struct, tag="go"):
    said: str


class Work:
    """An app with a process that others wait for, one that sleeps, and one that only answers."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.may_end = False
        self.app = App("work")

        @self.app.process
        async def opener(p: Process) -> None:
            p.send(Go(await p.step(self.slow)), to=Address.key("waits"))

        @self.app.process
        async def waiter(p: Process) -> str:
            await p.bind("waits")
            return (await p.receive(Go)).said

        @self.app.process
        async def sleeper(p: Process) -> None:
            await p.sleep(1_000_000)

        self.opener, self.waiter, self.sleeper = opener, waiter, sleeper

    async def slow(self) -> str:
        self.effects.append("slow")
        if not self.may_end:
            await asyncio.Event().wait()
        return "done"


def test_it_resumes_what_is_open_returns_its_own_reply_and_leaves_the_rest_durable(tmp_path: Path) -> None:
    url, work = f"sqlite:///{tmp_path / 'run.db'}", Work()

    async def leave_open() -> None:
        async with open_store(url) as store, Engine(store, work.app) as engine:
            for handler, id in ((work.opener, "o"), (work.sleeper, "s")):
                call = asyncio.ensure_future(engine.call(handler, id=id))
                call.add_done_callback(lambda ended: ended.exception())
            await eventually(lambda: _begun(work))
            await eventually(lambda: _waits(engine))

    async def statuses() -> dict[str, str]:
        async with open_store(url) as store:
            return {one.process_id: one.status for one in await inspection.processes(store)}

    asyncio.run(leave_open())
    work.may_end = True

    assert perdure.run(work.app, work.waiter, id="w", store=url) == "done"

    assert asyncio.run(statuses()) == {"o": "ended", "s": "waiting", "w": "ended"}
    assert perdure.run(work.app, work.waiter, id="w", store=url) == "done"
    assert work.effects == ["slow", "slow"], "the step that was under way at the stop, and no other"


async def _begun(work: Work) -> bool:
    return work.effects == ["slow"]


async def _waits(engine: Engine) -> bool:
    return any(one.status == "waiting" for one in await inspection.processes(engine.store))


def test_without_a_store_it_is_durable_in_perdure_db_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = App("here")

    @app.process
    async def hello(p: Process, name: str) -> str:
        return f"Hello, {name}!"

    assert perdure.run(app, hello, "world", id="greeting-1") == "Hello, world!"

    assert (tmp_path / "perdure.db").is_file()

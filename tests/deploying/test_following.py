"""An engine that is open follows a deploy at once, over HTTP as elsewhere, and whoever runs stays on what it started on."""

from __future__ import annotations

import contextlib
from typing import Any

import perdure
from perdure.errors import ProcessTypeRetired
from perdure.protocol.messages import ToStart
from perdure.server import serving
from perdure.store import Store
from tests.deploying.shops import identity, importable

FLOWS = """\
import msgspec
import perdure

app = perdure.App("shop")


class Go(msgspec.Struct):
    pass


@app.process
async def hello(p: perdure.Process, name: str) -> str:
    return f"{{name}} on version {0}"


@app.process
async def wait(p: perdure.Process, name: str) -> str:
    await p.receive(Go)
    return f"{{name}} on version {0}"
"""


async def test_new_processes_follow_a_deploy_a_rollback_and_a_retirement(store: Store) -> None:
    first, second = [await importable(FLOWS.format(number)) for number in (1, 2)]
    async with (
        perdure.Engine(store, perdure.App("empty")) as engine,
        serving(engine, dev=True) as server,
        perdure.Client(server.url) as client,
    ):

        async def greeted(id: str) -> Any:
            return await client.call(["Ann"], id=id, kind="hello()", to=ToStart("hello"))

        await client.deploy(first)
        one = await greeted("m1")
        await client.deliver(["Bob"], id="w", kind="wait()", to=ToStart("wait", process_id="w"))
        await client.deploy(second)
        two = await greeted("m2")
        page = await client.versions("wait", processes=True)
        await client.rollback("hello")
        back = await greeted("m3")
        await client.retire("hello")
        with contextlib.suppress(ProcessTypeRetired):
            raise AssertionError(await greeted("m4"))

    assert engine.versions.loaded == (), "neither those that have ended nor the one that waits keep their code when the engine is closed"
    assert (one, two, back) == ("Ann on version 1", "Ann on version 2", "Ann on version 1")
    assert {each.content_hash: each.processes for each in page.versions} == {identity(first): {"waiting": 1}, identity(second): {}}

"""Packages whose code turns against whoever loads it: that is the version's own failure, and the engine goes on."""

from __future__ import annotations

import pytest

from perdure import App, Engine, Store
from tests.engine.orders import reaches
from tests.engine.shop import ONE, run, send
from tests.packages.built import built, deploy, siblings

NODE = App("node")
FLOWS = """\
import perdure
import perdure.errors

app = perdure.App("shop")


@app.process
async def turns(p: perdure.Process) -> str:
    return "well"
"""
LIES = "class Lies:\n    @property\n    def __class__(self):\n        raise {}\n\n\nlies = Lies()\n"
WELL = built({"shop/__init__.py": "", "shop/flows.py": FLOWS})


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (LIES.format("KeyboardInterrupt"), "KeyboardInterrupt"),
        (LIES.format("SystemExit(4)"), "SystemExit: 4"),
        (LIES.format("RuntimeError('\\ud800\\0')"), r"RuntimeError: \ud800\x00"),
        (LIES.format("perdure.errors.UsageError('mine')"), "UsageError: mine"),
        ("app.types = None", "AttributeError"),
        ("app.types = {'turns': 3}", "AttributeError"),
        (
            "class App(perdure.App):\n    @property\n    def types(self):\n        raise ValueError(self)\n\n\nother = App.__new__(App)",
            "ValueError",
        ),
    ],
)
async def test_code_that_raises_whatever_it_can_when_it_is_looked_at_strands_its_processes_and_nobody_else(
    code: str, said: str, store: Store
) -> None:
    [bad] = siblings(WELL, "shop/flows.py", [f"{FLOWS}\n\n{code}\n"])
    await deploy(store, bad)
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await send(engine, "turns", id="t")
        await reaches(engine, "t", "stranded")
        [stranded] = await engine.processes(status="stranded")
        assert stranded.note.startswith("package-import-failed: ")
        assert said in stranded.note
        assert await run(engine, "hello", "a", id="h") == "hello a from 1"
    async with Engine(store, NODE) as engine:  # who finds it so goes on, too
        assert await run(engine, "hello", "b", id="i") == "hello b from 1"
        assert [one.process_id for one in await engine.processes(status="stranded")] == ["t"]

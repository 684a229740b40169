"""An app whose processes set search attributes, and what the store says of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from perdure import Address, App, Engine, Process, on
from perdure.engine import inspection

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Label(msgspec.Struct, tag="label"):
    """Set and take away attributes, then do as `how` says: nothing, raise, end, wait."""

    name: str
    put: dict[str, Any] = {}
    take: list[str] = []
    how: str = ""


class Relabel(msgspec.Struct, tag="relabel"):
    name: str
    put: dict[str, Any] = {}
    take: list[str] = []
    how: str = ""
    step_between: bool = True


class Go(msgspec.Struct, tag="go"):
    name: str


class Effects:
    """The steps that were run, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def note(self, what: str) -> str:
        self.done.append(what)
        return what


def key(message: Label | Relabel | Go) -> str:
    return f"file:{message.name}"


def make_app(effects: Effects | None = None) -> App:
    app, note = App("files"), (effects or Effects()).note

    async def work(p: Process, message: Label | Relabel) -> str:
        for name, value in message.put.items():
            p.attributes[name] = NOON if value == "noon" else value
        if getattr(message, "step_between", True):
            await p.step(note, f"{message.name} half")
        for name in message.take:
            del p.attributes[name]
        if message.how.startswith("wait"):
            await p.receive(Go, timeout=timedelta(days=1))
        elif message.how:
            await p.step(note, f"{message.name} {message.how}")
        if message.how.endswith("raise"):
            raise ValueError(message.name)
        return p.finish("ended") if message.how == "end" else "done"

    @app.process
    class File(Process):
        @on(Label, start=True, key=key, on_error="fail_turn")
        async def label(self, message: Label) -> str:
            return await work(self, message)

        @on(Relabel, key=key)
        async def relabel(self, message: Relabel) -> str:
            return await work(self, message)

    @app.process
    class Other(Process):
        @on(Go, start=True)
        async def go(self, message: Go) -> None:
            self.attributes["name"] = message.name

    app.extras = {"File": File, "Other": Other}  # type: ignore[attr-defined]  # handed to the tests
    return app


async def label(engine: Engine, name: str, put: Mapping[str, Any], **how: Any) -> str:
    """Make a process with attributes and return its id."""
    message = Label(name, dict(put), **how)
    await engine.deliver(message, id=f"label {name}", to=Address.start("File", key=key(message), id=name), wait=True)
    return name


async def attributes(engine: Engine, process_id: str) -> dict[str, Any]:
    """Return what a process is found by."""
    return dict((await engine.process(process_id)).attributes)


async def found(engine: Engine, **asked: Any) -> list[str]:
    """Return the ids of a list, page by page, two at a time."""
    ids: list[str] = []
    after: str | None = None
    while True:
        page = await engine.processes(limit=2, after=after, **asked)
        ids += [one.process_id for one in page]
        after = page.next
        if after is None:
            return ids


async def rows(engine: Engine) -> int:
    """Return how many attributes the store holds, those without a value included."""
    return (await engine.store.info()).rows["process_attribute"]


async def is_status(engine: Engine, process_id: str, status: str) -> bool:
    return (await inspection.process(engine.store, process_id)).status == status

"""An app of families: parents that wait for their children, or do not, and leaves that undo what they have done when they are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from perdure import App, Flow, Process, on
from perdure.engine import inspection
from perdure.store import Store
from perdure.testing import EffectLedger


class Go(msgspec.Struct, tag="go"):
    """What everybody here waits for."""


class Visit(msgspec.Struct, tag="visit"):
    name: str


class Guest(Process):
    """One that is idle between two visits."""

    visits: int = 0

    @on(Visit, start=True, key=lambda message: f"guest:{message.name}")
    async def come(self, _message: Visit) -> int:
        self.visits += 1
        return self.visits


class Families:
    """The app, and what its steps did. A thread of `late` waits for `go_on`; so many leaves have a place at once."""

    def __init__(self, *, places: int | None = None) -> None:
        self.ledger = EffectLedger()
        self.app = App("families")
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.guest = self.app.process(Guest)
        self._children(self.app, Flow(concurrency=places))
        self._parents(self.app)
        self._restless(self.app)

    def _note(self, what: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def note() -> None:
            self.ledger.note(what)

        return note

    def _children(self, app: App, flow: Flow) -> None:
        @app.process(flow=flow)
        async def leaf(p: Process, name: str) -> str:
            try:
                await p.receive(Go)
            except asyncio.CancelledError:
                await p.step(self._note(f"undo {name}"), name="undo")
                raise
            await p.step(self._note(f"do {name}"), name="do")
            return name

        @app.process
        async def refuses(p: Process) -> str:
            try:
                await p.receive(Go)
            except asyncio.CancelledError:
                await p.receive(Go)
            return "went"

        self.leaf_of, self.refuser = leaf, refuses

    def _parents(self, app: App) -> None:
        @app.process
        async def parent(p: Process, name: str, leaves: int) -> None:
            for number in range(leaves):
                p.spawn(self.leaf_of, f"{name}.{number}")
            p.spawn(self.leaf_of, f"{name}.detached", detached=True)
            await p.receive(Go)

        @app.process
        async def grandparent(p: Process, depth: int, width: int) -> None:
            for number in range(width):
                if depth:
                    p.spawn(grandparent, depth - 1, width)
                else:
                    p.spawn(self.leaf_of, f"{p.id}.{number}")
            await p.receive(Go)

        @app.process
        async def keeps(p: Process) -> None:
            p.spawn(self.refuser)
            await p.receive(Go)

        @app.process
        async def hosts(p: Process, names: list[str]) -> None:
            for name in names:
                p.spawn(Guest.come, Visit(name))
            await p.receive(Go)

        @app.process
        async def shares(p: Process) -> str:
            return await p.call(self.leaf_of, "shared", id="shared")

        self.parent, self.grandparent, self.keeps, self.hosts, self.shares = parent, grandparent, keeps, hosts, shares

    def _restless(self, app: App) -> None:
        @app.process
        async def caller(p: Process, name: str) -> str:
            try:
                return await p.call(self.leaf_of, name)
            except asyncio.CancelledError:
                await p.step(self._note(f"undo {name}'s caller"), name="undo")
                raise

        @app.process
        async def compensates(p: Process) -> None:
            p.spawn(self.leaf_of, "before")
            try:
                await p.receive(Go)
            except asyncio.CancelledError:
                p.spawn(self.leaf_of, "after")
                await p.call(self.leaf_of, "refund")
                raise

        @app.process
        async def late(p: Process, verb: str) -> None:
            async def beside() -> None:
                await p.sleep(60)
                if verb == "spawn":
                    p.spawn(self.leaf_of, "late")
                else:
                    await p.call(self.leaf_of, "late")
                await p.receive(Go)

            await asyncio.gather(p.step(self._holds_up), beside())

        @app.process
        async def spreads(p: Process) -> None:
            p.spawn(spreads)
            await p.receive(Go)

        self.caller, self.compensates, self.late, self.spreads = caller, compensates, late, spreads

    def _holds_up(self) -> None:
        self.begun.set()
        self.go_on.wait()


async def standing(store: Store, *, tenant: str = "default") -> dict[str, list[str]]:
    """Return how the processes of each type stand: their status and note, sorted."""
    found: dict[str, list[str]] = {}
    after = None
    while True:
        page = await inspection.processes(store, tenant=tenant, limit=1_000, after=after)
        for one in page:
            found.setdefault(one.process_type, []).append(f"{one.status} {one.note}".strip())
        after = page.next
        if after is None:
            break
    return {name: sorted(rows) for name, rows in sorted(found.items())}

"""Attacks on the engine that once went through: full disks, and commits that are refused for themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock, on
from perdure.core.backend import Batch, BatchRefused
from perdure.engine import inspection
from tests.engine.conftest import Running
from tests.engine.orders import Broadcast, Comment, Ledger, Place, eventually, holds, make_app, reaches
from tests.engine.test_attack import never, settles
from tests.engine.test_attack_commits import STALL, Full, _long


async def test_a_fan_out_goes_on_when_the_disk_is_no_longer_full(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    disk = Full(store)
    async with Engine(store, make_app(ledger)) as engine:
        await engine.deliver(Place("1"), id="p", wait=True)
        await engine.deliver(Comment("1", "x"), id="c", wait=True)
        disk.chosen = lambda tables: "mailbox" not in tables and "fan_out" in tables and bool(disk.refused) is False and "process" in tables
        await engine.deliver(Broadcast("comment:x", "news"), id="b")
        await holds(lambda: disk.refused)

        async def over() -> bool:
            clock.advance(STALL)  # the engine may not have heard of the refusal yet
            return (await engine.explain("b")).status == "done"

        await eventually(over)
        await eventually(lambda: _long(ledger.effects, 2))  # type: ignore[arg-type]  # a list of texts is as long


async def _refused(disk: Full, clock: VirtualClock) -> bool:
    """Return whether a batch was refused, and the engine will look again."""
    return bool(disk.refused) and clock.next_alarm() is not None


async def test_what_expires_while_the_disk_is_full_expires_afterwards(store: Store, clock: VirtualClock) -> None:
    disk = Full(store)
    async with Engine(store, make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "x"), id="c", expires_after=timedelta(seconds=1))
        disk.chosen = lambda tables: "dead_letter" in tables and not disk.refused
        clock.advance(STALL)
        await eventually(lambda: _refused(disk, clock))
        clock.advance(STALL)
        await settles(engine, "c", "dead")


async def test_a_commit_that_is_refused_for_itself_is_not_told_to_the_callers_of_others(store: Store) -> None:
    app, gate = App("two"), asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    @app.process
    async def fine(p: Process) -> str:
        await p.step(wait)
        return "fine"

    @app.process
    async def refused(p: Process) -> str:
        return "never"

    backend: Any = store.access.writer._backend
    apply = backend.apply

    async def refuse(batch: Batch) -> None:
        from perdure.errors import TransactionRefused

        if any(b"never" in bytes(getattr(change.row, "response", None) or b"") for change in batch.changes):
            raise BatchRefused(TransactionRefused("a check"), divisible=True)
        await apply(batch)

    backend.apply = refuse
    async with Engine(store, app) as engine:
        other = asyncio.ensure_future(engine.call(fine, id="f"))
        await reaches(engine, "f", "runnable")
        with pytest.raises(Exception, match="a check"):
            await asyncio.wait_for(engine.call(refused, id="r"), 5)
        gate.set()
        assert await asyncio.wait_for(other, 5) == "fine"


async def test_a_fan_out_that_a_command_line_redrives_is_carried_out(running: Running, store: Store, clock: VirtualClock) -> None:
    async with running(make_app(Ledger())) as engine:
        await engine.deliver(Broadcast("comment:x", "early"), id="b", keep_for=timedelta(seconds=1))
        clock.advance(2_000_000)
        await settles(engine, "b", "dead")
        await engine.deliver(Place("1"), id="p", wait=True)
        await engine.deliver(Comment("1", "x"), id="c", wait=True)
        await inspection.redrive(store, "b")
        await settles(engine, "b~2")
        assert (await engine.explain("b~2")).copies == 1


async def test_an_engine_closes_while_the_disk_is_full(store: Store) -> None:
    app, disk = App("full"), Full(store)

    @app.process
    async def job(p: Process) -> None:
        await p.step(never)

    async with Engine(store, app) as engine:
        call = asyncio.ensure_future(engine.call(job, id="j"))
        await reaches(engine, "j", "runnable")
        disk.chosen = lambda _tables: True
    with pytest.raises(Exception, match="answered after a restart"):
        await call
    disk.chosen = lambda _tables: False
    async with Engine(store, app):
        pass


async def test_a_copy_to_a_process_with_a_hostile_name_is_not_taken_for_a_send(running: Running) -> None:
    app = App("names")
    heard: list[str] = []

    @app.process
    class Member(Process):
        @on(Broadcast, tag=lambda message: message.tag)
        async def hear(self, message: Broadcast) -> None:
            heard.append(message.text)

        @on(Place, start=True)
        async def place(self, message: Place) -> None:
            self.tag("t")
            self.send(Comment("1", "x"), to=Address.key("nobody"))

    async with running(app) as engine:
        await engine.deliver(Place("1"), id="m", source="", to=Address.start("Member", id="p"), wait=True)
        await engine.deliver(Place("2"), id="n", to=Address.start("Member", id="send#2"), wait=True)
        await engine.deliver(Broadcast("t", "news"), id="m", source="p")

        async def all_heard() -> bool:
            return len(heard) == 2

        await eventually(all_heard)

"""A worker that leaves while it asks for work keeps none from others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.commands.registry import Commands
from perdure.server import application
from tests.server.commanding import Yard
from tests.server.conftest import Served, until


@pytest.fixture
async def yard(served: Served) -> Yard:
    return await Yard.of(served)


async def _is_back(yard: Yard, command_id: str) -> bool:
    return (await yard.kinds(command_id))[-1] == "released"


async def test_what_is_given_out_while_the_worker_leaves_goes_back_at_once(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    take, given, held = Commands._take, asyncio.Event(), asyncio.Event()

    async def slow(self: Commands, *args: Any) -> Any:
        taken = await take(self, *args)  # it is committed, and not known to whoever asked
        given.set()
        await held.wait()
        return taken

    command_id = await yard.sent()
    monkeypatch.setattr(Commands, "_take", slow)
    async with yard.served.waiting_for(yard.lease(wait_ms=30_000)):
        await given.wait()
    monkeypatch.setattr(Commands, "_take", take)
    held.set()
    await until(lambda: _is_back(yard, command_id))

    lease = await yard.leased()
    assert (lease["command_id"], (await yard.show(command_id))["failures"]) == (command_id, 0)


async def test_what_is_given_out_to_a_worker_that_has_just_left_goes_back_at_once(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, given = Commands.lease, asyncio.Event()

    async def leased(self: Commands, *args: Any, **named: Any) -> Any:
        found = await ask(self, *args, **named)
        given.set()
        return found

    async def gone(request: object) -> None:
        await given.wait()

    command_id = await yard.sent()
    monkeypatch.setattr(Commands, "lease", leased)
    monkeypatch.setattr(application, "_gone", gone)
    said = await yard.lease()
    monkeypatch.undo()

    assert said.json == {"leases": []}
    assert await yard.kinds(command_id) == ["created", "leased", "released"]
    assert (await yard.leased())["command_id"] == command_id


async def test_what_cannot_be_read_after_it_was_given_out_goes_back(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 5.2: one that failed lost all leases of its call."""

    async def broken(*args: Any) -> Any:
        raise ZeroDivisionError

    sent = [await yard.sent() for _ in range(3)]
    monkeypatch.setattr(Commands, "_leases", broken)
    said = await yard.lease(max_leases=3)
    monkeypatch.undo()

    assert said.status == 500
    for command_id in sent:
        assert await yard.kinds(command_id) == ["created", "leased", "released"]
    assert {one["command_id"] for one in (await yard.lease(max_leases=3)).json["leases"]} == set(sent)


async def test_a_worker_that_leaves_while_there_is_nothing_takes_nothing_later(yard: Yard) -> None:
    async with yard.served.waiting_for(yard.lease(wait_ms=30_000)):
        await until(lambda: yard.served.in_flight == 1)
    await until(lambda: yard.served.in_flight == 0)

    command_id = await yard.sent()

    assert await yard.kinds(command_id) == ["created"]


async def test_a_server_that_stops_gives_nothing_out_to_who_waits(yard: Yard) -> None:
    async with yard.served.waiting_for(yard.lease(wait_ms=30_000)) as asking:
        await until(lambda: yard.served.in_flight == 1)
        yard.served.server.application.stopping.set()
        said = await asking

    assert (said.status, said.json) == (200, {"leases": []})

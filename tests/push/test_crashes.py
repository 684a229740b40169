"""Whoever sends dies, stops, or is one of two."""

from __future__ import annotations

import asyncio

import pytest

from perdure import App, Engine, Process, VirtualClock, limits
from perdure.engine import pushing as engine_pushing
from tests.contracts.commands import DISPATCHED, SUCCEEDED
from tests.engine.nodes import comes, two_nodes
from tests.push.desk import HOUR, LOOPBACK, Desk, black_hole, commands_at, in_turn, pushing
from tests.push.test_outcomes import ACCEPTED, DONE
from tests.sending.site import Site


async def test_what_was_given_out_and_not_sent_because_of_a_crash_comes_back_at_the_end_of_its_lease(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 5.2: it was marked as given out, and never sent."""
    async with Site(DONE) as site:
        await desk.store.push.put("site", site.url())

        async def dies(*_: object) -> None:
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(engine_pushing.Pusher, "_send", dies)
            patched.setattr(limits, "PUSH_CLOSE_SECONDS", 0.0)
            async with pushing(desk.store):
                command_id = await desk.send()
                await desk.comes_to(command_id, "created", "leased")
        async with pushing(desk.store):
            await desk.rests()
            desk.clock.advance(HOUR - 1)
            await desk.rests()
            assert site.requests == []
            desk.clock.advance(1)
            found = await desk.comes_to(command_id, "created", "leased", "lease-expired", "leased", "sent", "succeeded")

        assert (found.state, found.failures, found.attempt) == (SUCCEEDED, 1, 2)


async def test_an_engine_that_closes_waits_for_answers_under_way_and_stores_them(desk: Desk) -> None:
    gate = asyncio.Event()

    async def gated(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(DONE)
        writer.close()

    async with Site(gated) as site:
        await desk.store.push.put("site", site.url())
        async with pushing(desk.store) as engine:
            command_id = await desk.send()
            await desk.until(lambda: len(site.requests) == 1)
            closing = asyncio.create_task(engine.close())
            await desk.rests()
            later = await desk.send()
            await desk.rests()
            gate.set()
            await closing

        assert await desk.kinds(command_id) == ["created", "leased", "sent", "succeeded"]
        assert await desk.kinds(later) == ["created"]


async def test_what_is_cut_off_when_an_engine_closes_may_have_arrived_and_keeps_its_lease(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PUSH_CLOSE_SECONDS", 0.0)
    async with Site(in_turn(black_hole, ACCEPTED)) as site:
        await desk.store.push.put("site", site.url())
        async with pushing(desk.store):
            command_id = await desk.send()
            await desk.until(lambda: len(site.requests) == 1)
        async with pushing(desk.store):
            await desk.rests()
            assert (await desk.status(command_id)).state == DISPATCHED
            desk.clock.advance(HOUR)
            await desk.comes_to(command_id, "created", "leased", "lease-expired", "leased", "sent")

        assert [command.attempt for command in commands_at(site)] == [1, 2]


async def test_a_command_of_a_process_is_sent_and_its_process_goes_on(desk: Desk) -> None:
    app = App("shop")

    @app.process
    async def pick(p: Process) -> str:
        return str((await p.command("site", "pick", {"count": 3}, target="arm"))["shelf"])

    async with Site(DONE) as site:
        await desk.store.push.put("site", site.url())
        async with Engine(desk.store, app, push_allowed=LOOPBACK) as engine:
            assert await engine.call(pick) == "A"

        assert [(command.command, bytes(command.params)) for command in commands_at(site)] == [("pick", b'{"count":3}')]


COUNT = 20


async def test_two_nodes_send_each_command_once_and_the_other_goes_on(postgres_url: str, unhurried: None, clock: VirtualClock) -> None:
    del unhurried
    async with Site(DONE) as site, two_nodes(postgres_url, App("desk"), clock, push_allowed=LOOPBACK) as nodes:
        await nodes.a.store.push.put("site", site.url())

        async def send(count: int) -> None:
            for number in range(count):
                engine = (nodes.a, nodes.b)[number % 2]
                await engine.store.commands.create_command("site", "pick", params=b"1")

        async def all_done(count: int = COUNT) -> bool:
            return await nodes.run("select count(*) from perdure.command where state = 'SUCCEEDED'") == [(count,)]

        await send(COUNT)
        await comes(all_done)
        assert len({command.command_id for command in commands_at(site)}) == len(site.requests) == COUNT
        await nodes.kill(nodes.a)
        await nodes.b.store.commands.create_command("site", "pick", params=b"1")
        await nodes.take_over(nodes.a, nodes.b)
        clock.advance(limits.COMMAND_LOOK_US)

        await comes(lambda: all_done(COUNT + 1))
        assert len(site.requests) == COUNT + 1


async def test_who_does_not_lead_sends_nothing(lone: Desk) -> None:
    async with Site(DONE) as site, pushing(lone.store) as engine:
        engine._pusher._leads = lambda: False
        await lone.store.push.put("site", site.url())
        command_id = await lone.send()
        await lone.rests()
        assert site.requests == []
        engine._pusher._leads = lambda: True
        lone.clock.advance(limits.COMMAND_LOOK_US)

        assert (await lone.comes_to(command_id, "created", "leased", "sent", "succeeded")).state == SUCCEEDED


async def test_two_nodes_that_both_believe_to_lead_send_each_command_once(postgres_url: str, unhurried: None, clock: VirtualClock) -> None:
    del unhurried
    async with Site(DONE) as site, two_nodes(postgres_url, App("desk"), clock, push_allowed=LOOPBACK) as nodes:
        nodes.b._pusher._leads = lambda: True
        await nodes.a.store.push.put("site", site.url())
        await asyncio.gather(
            *((nodes.a, nodes.b)[number % 2].store.commands.create_command("site", "pick", params=b"1") for number in range(COUNT))
        )

        async def all_done() -> bool:
            return await nodes.run("select count(*) from perdure.command where state = 'SUCCEEDED'") == [(COUNT,)]

        await comes(all_done)
        assert len({command.command_id for command in commands_at(site)}) == len(site.requests) == COUNT

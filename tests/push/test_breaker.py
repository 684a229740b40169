"""Endpoints that do not work are left alone, and hold nobody up."""

from __future__ import annotations

import asyncio

from perdure import limits
from perdure.clock import SECOND
from perdure.commands.contract import CommandRetry
from tests.contracts.commands import DISPATCHED, FAILED, PENDING, SUCCEEDED
from tests.push.desk import HOUR, Desk, commands_at, in_turn, pushing
from tests.push.test_outcomes import DONE
from tests.sending.site import Site, answer

BROKEN = answer("500 Internal Server Error")
BUSY = answer("503 Service Unavailable", "Retry-After: 60")
PATIENT = CommandRetry(max_attempts=50, initial=0)


async def test_an_open_breaker_holds_its_queue_back_lets_one_probe_through_and_closes_again(desk: Desk) -> None:
    async with Site(in_turn(*[BROKEN] * (limits.BREAKER_FAILURES + 1), DONE)) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url())
        for count in range(1, limits.BREAKER_FAILURES + 1):
            command_id = await desk.send()
            await desk.comes_to(command_id, "created", "leased", "send-unknown")
            assert (await desk.store.push.get("site")).failures == count
        opened = desk.clock.now()
        waiting = [await desk.send() for _ in range(3)]
        await desk.rests()
        assert (await desk.store.push.get("site")).open_until == opened + limits.BREAKER_OPEN_US
        assert [(await desk.status(one)).state for one in waiting] == [PENDING] * 3

        desk.clock.advance(limits.BREAKER_OPEN_US - 1)
        await desk.rests()
        assert len(site.requests) == limits.BREAKER_FAILURES
        desk.clock.advance(1)
        await desk.comes_to(waiting[0], "created", "leased", "send-unknown")
        await desk.rests()
        assert len(site.requests) == limits.BREAKER_FAILURES + 1, "one probe, and it failed"
        assert (await desk.store.push.get("site")).open_until == desk.clock.now() + 2 * limits.BREAKER_OPEN_US

        desk.clock.advance(2 * limits.BREAKER_OPEN_US)
        for one in waiting[1:]:
            assert (await desk.comes_to(one, "created", "leased", "sent", "succeeded")).state == SUCCEEDED
        found = await desk.store.push.get("site")
        assert (found.failures, found.open_until) == (0, None)
        assert (await desk.status(waiting[0])).state == DISPATCHED


async def test_a_probe_is_alone(desk: Desk) -> None:
    gate = asyncio.Event()

    async def gated(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(DONE)
        writer.close()

    async with Site(in_turn(BUSY, gated)) as site, pushing(desk.store):
        await desk.store.push.put("site", site.url())
        ids = [await desk.send(retry=PATIENT)]
        await desk.comes_to(ids[0], "created", "leased", "send-refused", "attempt-failed")
        ids += [await desk.send(retry=PATIENT) for _ in range(2)]
        desk.clock.advance(60 * SECOND)
        await desk.until(lambda: len(site.requests) == 2)
        await desk.rests()
        assert len(site.requests) == 2, "whose outcome is awaited"
        gate.set()

        for one in ids:
            await desk.until(lambda: len(site.requests) == 4)
            assert (await desk.store.commands.wait_command(one, HOUR)).state == SUCCEEDED


async def test_what_the_breaker_holds_back_is_no_failure_and_keeps_its_deadline(lone: Desk) -> None:
    async with Site(BUSY) as site, pushing(lone.store):
        await lone.store.push.put("site", site.url())
        first = await lone.send()
        await lone.comes_to(first, "created", "leased", "send-refused", "attempt-failed")
        waiting = await lone.send(deadline=lone.clock.now() + 30 * SECOND)
        await lone.rests()
        lone.clock.advance(30 * SECOND)
        found = await lone.comes_to(waiting, "created", "expired")

        assert found.failures == 0
        assert len(site.requests) == 1


async def test_an_endpoint_that_does_not_answer_takes_few_places_and_others_have_theirs(lone: Desk) -> None:
    gate = asyncio.Event()

    async def gated(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(DONE)
        writer.close()

    async with Site(gated) as slow, Site(DONE) as quick, pushing(lone.store):
        await lone.store.push.put("slow", slow.url())
        await lone.store.push.put("quick", quick.url())
        held = [await lone.send(deployment="slow") for _ in range(3 * limits.PUSH_ENDPOINT_UNDER_WAY)]
        await lone.until(lambda: len(slow.requests) == limits.PUSH_ENDPOINT_UNDER_WAY)
        others = [await lone.send(deployment="quick") for _ in range(3)]
        for one in others:
            await lone.comes_to(one, "created", "leased", "sent", "succeeded")
        await lone.rests()
        assert len(slow.requests) == limits.PUSH_ENDPOINT_UNDER_WAY
        gate.set()

        for one in held:
            await lone.comes_to(one, "created", "leased", "sent", "succeeded")


async def test_when_all_places_are_taken_endpoints_have_their_turns(lone: Desk, monkeypatch: object) -> None:
    monkeypatch.setattr(limits, "PUSH_UNDER_WAY", 1)  # type: ignore[attr-defined]  # pytest's
    async with Site(DONE) as site, pushing(lone.store):
        for name in "abc":
            await lone.store.push.put(name, site.url(f"/{name}"))
        await asyncio.gather(*(lone.send(deployment=name) for name in "abc" for _ in range(8)))
        await lone.until(lambda: len(site.requests) == 24)

    order = [command.deployment for command in commands_at(site)]
    assert all(order.index(name) < 8 for name in "abc"), f"nobody waits for all of another's: {order}"


async def test_a_refusal_that_is_an_answer_does_not_open_the_breaker(lone: Desk) -> None:
    async with Site(answer("400 Bad Request")) as site, pushing(lone.store):
        await lone.store.push.put("site", site.url())
        for _ in range(2 * limits.BREAKER_FAILURES):
            found = await lone.comes_to(await lone.send(), "created", "leased", "send-refused", "failed")
            assert found.state == FAILED

        assert (await lone.store.push.get("site")).open_until is None

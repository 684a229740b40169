"""Workers under attack: handlers that misbehave, servers that do, and time that stands still."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import msgspec
import pytest
from aiohttp import web

from perdure import CommandContext
from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandStatus
from perdure.commands.states import CommandState
from perdure.errors import CommandFailed, InvalidIdentifier, UsageError
from perdure.limits import COMMAND_CODE_MAX, COMMAND_MESSAGE_MAX, COMMAND_NOTE_MAX, WORKER_MAX
from tests.worker.hub import LEASE, Hub, at_work
from tests.worker.proxy import Asked, problem, proxy_to
from tests.worker.test_leases import THIRD, Slow


def error_of(status: CommandStatus) -> dict[str, Any]:
    assert status.error is not None
    found: dict[str, Any] = msgspec.json.decode(status.error)
    return found


# --- handlers that misbehave ----------------------------------------------------------------------------


def leave(_context: CommandContext) -> None:
    sys.exit(3)


async def leave_later(_context: CommandContext) -> None:
    sys.exit(3)


def nothing_left(_context: CommandContext) -> None:
    next(iter([]))


def interrupt(_context: CommandContext) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("handler", "text"),
    [(leave, "SystemExit: 3"), (leave_later, "SystemExit: 3"), (nothing_left, "StopIteration"), (interrupt, "KeyboardInterrupt")],
)
async def test_c3_a_handler_that_leaves_the_program_is_a_failed_attempt_and_the_worker_lives_on(hub: Hub, handler: Any, text: str) -> None:
    worker = hub.worker()
    worker.command("leave")(handler)
    slow = Slow(worker)
    slow.go_on.set()
    sent = await hub.send("leave")
    async with at_work(worker):
        failed = await hub.over(sent)
        assert (await hub.over(await hub.send("slow"))).state == CommandState.SUCCEEDED

    assert (failed.state, failed.failures, error_of(failed)["code"]) == ("FAILED", 5, "handler-error")
    assert text in error_of(failed)["message"]


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


async def test_c3_an_error_without_a_text_is_a_failed_attempt(hub: Hub) -> None:
    worker = hub.worker()

    @worker.command("work")
    def work(_context: CommandContext) -> None:
        raise Mute

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert error_of(status) == {"code": "handler-error", "message": "Mute: (its text cannot be made)", "details": None}


LONG = "\N{SNOWMAN}" * 100_000


@pytest.mark.parametrize(
    ("error", "attempts", "code", "details"),
    [
        (LookupError(LONG), 5, "handler-error", None),
        (CommandFailed("no-stock", LONG, "d" * 100_000), 1, "no-stock", None),
        (CommandFailed("no-stock", LONG, {"left": 0}), 1, "no-stock", {"left": 0}),
    ],
    ids=["any", "own", "details"],
)
async def test_section_5_4_an_error_of_any_length_ends_its_attempt(
    hub: Hub, error: Exception, attempts: int, code: str, details: object
) -> None:
    """One that was too long was refused, and the command was done again and again."""
    async with proxy_to(hub.url) as proxy:
        worker = hub.worker()
        worker.connection.url = proxy.url

        @worker.command("work")
        async def work(_context: CommandContext) -> None:
            raise error

        sent = await hub.send("work")
        async with at_work(worker):
            status = await hub.over(sent)

    told = error_of(status)
    assert (status.state, status.failures, status.dead) == (CommandState.FAILED, attempts, attempts > 1)
    assert (told["code"], told["details"]) == (code, details)
    assert COMMAND_MESSAGE_MAX - 3 < len(told["message"].encode()) <= COMMAND_MESSAGE_MAX
    assert len(proxy.of("/complete")) == attempts, "none was refused"


@pytest.mark.parametrize(
    ("code", "kept"),
    [("no\nstock", "no stock"), ("ü" * COMMAND_CODE_MAX, "ü" * (COMMAND_CODE_MAX // 2)), ("", "failed"), ("\ud800", "failed")],
)
async def test_a_handlers_code_of_any_text_ends_the_command(hub: Hub, code: str, kept: str) -> None:
    worker = hub.worker()

    @worker.command("work")
    async def work(_context: CommandContext) -> None:
        raise CommandFailed(code, "why")

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.attempt, error_of(status)["code"]) == (CommandState.FAILED, 1, kept)


@pytest.mark.parametrize("note", ["two\nlines", "ü" * COMMAND_NOTE_MAX, "\ud800", "\0"])
async def test_a_note_of_any_text_is_told_and_no_handler_is_stopped_for_it(hub: Hub, note: str) -> None:
    worker = hub.worker()
    slow, sent = Slow(worker), await hub.send("slow")
    async with at_work(worker):
        await slow.begun.wait()
        assert slow.context is not None
        slow.context.progress(0.5, note)
        hub.clock.advance(THIRD)
        seen = await hub.until_status(sent, lambda one: one.progress is not None or one.state != CommandState.DISPATCHED)
        slow.go_on.set()
        assert (await hub.over(sent)).state == CommandState.SUCCEEDED

    assert seen.progress is not None
    assert slow.cancelled == 0


def test_a_note_that_is_no_text_is_refused() -> None:
    context = CommandContext(command_id="c", command="x", attempt=1, target=None, traceparent="", deadline=None, clock=VirtualClock())

    with pytest.raises(UsageError, match="note"):
        context.progress(0.5, 7)  # type: ignore[arg-type]


# --- threads --------------------------------------------------------------------------------------------


async def test_c2_as_many_plain_handlers_run_at_once_as_the_worker_says(hub: Hub) -> None:
    most = 40  # more than asyncio has threads
    worker, active, go_on, counting = hub.worker(max_concurrency=most), list[int](), threading.Event(), threading.Lock()

    @worker.command("work")
    def work(_context: CommandContext, n: int) -> None:
        with counting:
            active.append(n)
        assert go_on.wait(30)

    sent = [await hub.send("work", str(n).encode()) for n in range(most)]
    async with at_work(worker):
        try:
            await hub.until(lambda: len(active) == most)
        finally:
            go_on.set()
        assert {(await hub.over(one)).state for one in sent} == {"SUCCEEDED"}


async def test_c2_c5_a_plain_handler_that_goes_on_after_its_deadline_keeps_its_slot_and_is_told(hub: Hub) -> None:
    worker, go_on, contexts, ended = hub.worker(), threading.Event(), list[CommandContext](), threading.Event()

    @worker.command("work")
    def work(context: CommandContext) -> None:
        contexts.append(context)
        if context.remaining is None:
            return
        assert go_on.wait(30)
        ended.set()

    first = await hub.send("work", deadline=hub.clock.now() + 10 * SECOND)
    async with at_work(worker):
        try:
            await hub.until(lambda: len(contexts) == 1)
            hub.clock.advance(10 * SECOND)
            assert (await hub.over(first)).state == CommandState.EXPIRED
            await hub.until(contexts[0].cancelled.is_set)
            second = await hub.send("work")
            await hub.others_are_served()
            busy = (await hub.status(second)).state, ended.is_set()
        finally:
            go_on.set()
        assert (await hub.over(second)).state == CommandState.SUCCEEDED

    assert busy == (CommandState.PENDING, False)
    assert ended.is_set()


# --- leases ---------------------------------------------------------------------------------------------


async def test_c15_a_renewal_that_is_never_answered_keeps_no_handler_beyond_its_lease(hub: Hub) -> None:
    held = asyncio.Event()

    async def hold_renewals(asked: Asked) -> web.StreamResponse | None:
        if asked.path.endswith("/renew"):
            await held.wait()
        return None

    async with proxy_to(hub.url) as proxy:
        proxy.before = hold_renewals
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, _ = Slow(worker), await hub.send("slow")
        async with at_work(worker):
            await slow.begun.wait()
            hub.clock.advance(THIRD)
            await hub.until(lambda: len(proxy.of("/renew")) == 1)
            hub.clock.advance(THIRD * 2)
            await hub.until(lambda: slow.cancelled == 1)

    assert proxy.of("/complete") == []


@pytest.mark.parametrize("refusal", [problem(401, "token-invalid"), problem(503, "lease-lost"), problem(422, "request-invalid")])
async def test_c16_a_renewal_that_is_refused_for_another_reason_than_the_lease_stops_no_handler(hub: Hub, refusal: web.Response) -> None:
    refused = 0

    async def refuse_once(asked: Asked) -> web.StreamResponse | None:
        nonlocal refused
        if asked.path.endswith("/renew") and not refused:
            refused += 1
            return refusal
        return None

    async with proxy_to(hub.url) as proxy:
        proxy.before = refuse_once
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, sent = Slow(worker), await hub.send("slow")
        async with at_work(worker):
            await slow.begun.wait()
            hub.clock.advance(THIRD)
            await hub.until(lambda: refused == 1)
            await hub.pass_time(lambda: len(proxy.of("/renew")) > 1)
            slow.go_on.set()
            assert (await hub.over(sent)).state == CommandState.SUCCEEDED

    assert slow.cancelled == 0


async def test_c18_a_second_lease_of_a_command_stops_the_handler_of_the_first(hub: Hub) -> None:
    """The time of the worker stands still, and it gets again what it still does. Section 5.3: that was given back under its handler."""
    worker, slept = hub.worker(max_concurrency=2, clock=VirtualClock()), list[int]()

    @worker.command("work")
    async def work(context: CommandContext) -> int:
        if context.attempt == 1:
            slept.append(1)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                slept.append(-1)
                raise
        return context.attempt

    sent = await hub.send("work")
    async with at_work(worker):
        await hub.until(lambda: slept == [1])
        hub.clock.advance(LEASE)
        await hub.store.commands.expire_due(hub.clock.now())
        status = await hub.over(sent)
        await hub.until(lambda: slept == [1, -1])

    assert (status.state, await hub.store.commands.get_result(sent)) == (CommandState.SUCCEEDED, b"2")


async def test_leases_that_came_too_late_are_no_handlers(hub: Hub) -> None:
    """The worker was suspended between its request and the answer."""
    clock = VirtualClock()

    async def suspend(asked: Asked) -> web.StreamResponse | None:
        if "/leases" in asked.path and clock.now() == begun:
            clock.advance(10 * LEASE)
        return None

    begun = clock.now()
    async with proxy_to(hub.url) as proxy:
        proxy.before = suspend
        worker = hub.worker(clock=clock)
        worker.connection.url = proxy.url
        slow, sent = Slow(worker), await hub.send("slow")
        async with at_work(worker):
            await hub.until(lambda: len(proxy.of("/leases")) == 2)

    assert not slow.begun.is_set()
    assert await hub.kinds(sent) == ["created", "leased"]


async def test_c8_what_is_done_when_the_drain_time_is_over_is_not_given_back(hub: Hub) -> None:
    tried, go_on = asyncio.Event(), False

    async def away(asked: Asked) -> web.StreamResponse | None:
        if asked.path.endswith("/complete") and not go_on:
            tried.set()
            return problem(503, "overloaded")
        return None

    async with proxy_to(hub.url) as proxy:
        proxy.before = away
        worker = hub.worker(drain=THIRD / 2)
        worker.connection.url = proxy.url
        slow, sent = Slow(worker), await hub.send("slow")
        slow.go_on.set()
        working = asyncio.create_task(worker.work())
        await tried.wait()
        worker.stop()
        drained = hub.clock.now() + 12 * SECOND
        await hub.pass_time(lambda: hub.clock.now() > drained)
        go_on = True
        await hub.pass_time(working.done)
        await working

    assert proxy.of("/release") == []
    assert (await hub.status(sent)).state == CommandState.SUCCEEDED


# --- what cannot be a worker ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lease": None}, "lease: expected a timedelta"),
        ({"drain": 30}, "drain: expected a timedelta"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "ü" * WORKER_MAX}, "name"),
        ({"url": "https://host/?"}, "query"),
        ({"url": "https://host/#"}, "fragment"),
        ({"url": 7}, "url"),
        ({"tenant": "a/b"}, "TenantId"),
    ],
)
def test_c11_what_cannot_be_is_refused_by_its_name(options: dict[str, Any], text: str) -> None:
    from perdure import Worker

    with pytest.raises((UsageError, InvalidIdentifier), match=text):
        Worker(**{"url": "http://127.0.0.1:1", "deployment": "acme", **options})

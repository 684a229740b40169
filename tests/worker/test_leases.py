"""Workers: leases that are renewed, lost and given back; the end of a worker; servers that are away; tokens.

C5 and so on are groups of the research on commands, section 3.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from perdure import CommandContext, VirtualClock, Worker
from perdure.clock import SECOND
from perdure.commands.contract import Progress, Succeeded
from perdure.commands.states import CommandState
from perdure.errors import NotAllowed, TokenInvalid, UsageError
from perdure.tokens.contract import Grant
from tests.contracts.commands import waits_until
from tests.worker.hub import LEASE, Hub, at_work, hub_on

THIRD = LEASE / 3
YEAR = 365 * 86_400 * SECOND
SECRET = "sentinel-of-a-secret"


class Slow:
    """A handler that begins, and goes on when it is let."""

    def __init__(self, worker: Worker) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = 0
        self.context: CommandContext | None = None
        worker.command("slow")(self.slow)

    async def slow(self, context: CommandContext, params: object) -> object:
        self.context = context
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return params


async def test_a_lease_is_renewed_while_its_handler_runs_and_progress_is_seen(hub: Hub) -> None:
    worker = hub.worker()
    slow, sent = Slow(worker), await hub.send("slow")
    async with at_work(worker):
        await slow.begun.wait()
        assert slow.context is not None
        slow.context.progress(0.5, "half of it")
        begun = await hub.status(sent)

        hub.clock.advance(THIRD)

        renewed = await hub.until_status(sent, lambda one: one.progress is not None)
        slow.go_on.set()
        assert (await hub.over(sent)).state == CommandState.SUCCEEDED

    assert renewed.progress == Progress(fraction=0.5, note="half of it")
    assert begun.lease_expires_at is not None
    assert renewed.lease_expires_at == begun.lease_expires_at + THIRD // (LEASE / 60_000_000)
    with pytest.raises(UsageError, match="0 to 1"):
        slow.context.progress(1.5)


@pytest.mark.parametrize("off", [-YEAR, YEAR], ids=["behind", "ahead"])
async def test_section_5_5_a_worker_whose_clock_is_years_wrong_does_its_commands(hub: Hub, off: int) -> None:
    """The end of a lease was an instant of the server's clock, and read by the worker's."""
    clock = VirtualClock(hub.clock.now() + off)
    worker = hub.worker(clock=clock)
    slow, sent = Slow(worker), await hub.send("slow", deadline=hub.clock.now() + 90 * SECOND)
    async with at_work(worker):
        await slow.begun.wait()
        assert slow.context is not None
        left = [slow.context.remaining]
        for _ in range(4):  # longer than the lease
            await waits_until(clock, clock.now() + 20 * SECOND)  # then it is renewed
            hub.clock.advance(THIRD)
            clock.advance(THIRD)
            left.append(slow.context.remaining)
        slow.go_on.set()
        status = await hub.over(sent)

    assert left == [90.0, 70.0, 50.0, 30.0, 10.0]
    assert (status.state, status.attempt, slow.cancelled) == (CommandState.SUCCEEDED, 1, 0)


async def test_c5_a_handler_is_cancelled_when_its_deadline_passes_and_its_result_does_not_count(hub: Hub) -> None:
    worker = hub.worker()
    slow, sent = Slow(worker), await hub.send("slow", deadline=hub.clock.now() + 10 * SECOND)
    async with at_work(worker):
        await slow.begun.wait()
        hub.clock.advance(10 * SECOND)
        assert (await hub.over(sent)).state == CommandState.EXPIRED
        await hub.until(lambda: slow.cancelled == 1)

    assert (await hub.kinds(sent))[-1] == "expired"


async def test_an_async_handler_is_cancelled_when_somebody_asks_for_it(hub: Hub) -> None:
    worker = hub.worker()
    slow, sent = Slow(worker), await hub.send("slow")
    async with at_work(worker):
        await slow.begun.wait()
        assert await hub.store.commands.cancel(sent, reason="no need") == CommandState.DISPATCHED
        hub.clock.advance(THIRD)
        status = await hub.over(sent)

    assert (status.state, slow.cancelled) == (CommandState.CANCELLED, 1)
    assert slow.context is not None
    assert slow.context.cancelled.is_set()
    assert (await hub.kinds(sent))[-2:] == ["cancel-requested", "cancelled"]


async def test_a_plain_handler_sees_that_it_is_to_stop_and_may_finish(hub: Hub) -> None:
    worker, begun, seen = hub.worker(), asyncio.Event(), threading.Event()
    loop, contexts = asyncio.get_running_loop(), list[CommandContext]()

    @worker.command("work")
    def work(context: CommandContext) -> str:
        contexts.append(context)
        loop.call_soon_threadsafe(begun.set)
        assert seen.wait(10)
        return "finished"

    sent = await hub.send("work")
    async with at_work(worker):
        await begun.wait()
        await hub.store.commands.cancel(sent)
        hub.clock.advance(THIRD)
        await hub.until(contexts[0].cancelled.is_set)
        seen.set()
        assert (await hub.over(sent)).state == CommandState.SUCCEEDED


async def test_section_5_3_who_has_lost_a_lease_is_stopped_and_what_it_did_does_not_count(hub: Hub) -> None:
    worker = hub.worker()
    slow, sent = Slow(worker), await hub.send("slow", b"1")
    async with at_work(worker):
        await slow.begun.wait()
        hub.clock.advance(LEASE)
        await hub.store.commands.expire_due(hub.clock.now())
        [taken] = await hub.store.commands.lease("acme", worker="another")
        await hub.until(lambda: slow.cancelled == 1)
        assert await hub.store.commands.complete(sent, taken.token, Succeeded(result=b"2"))

    status = await hub.status(sent)
    assert (status.worker, status.attempt, await hub.store.commands.get_result(sent)) == ("another", 2, b"2")
    assert await hub.kinds(sent) == ["created", "leased", "lease-expired", "leased", "succeeded"]


async def test_c7_a_worker_that_stops_finishes_what_it_has_and_takes_nothing_more(hub: Hub) -> None:
    worker = hub.worker(max_concurrency=2)
    slow, sent = Slow(worker), await hub.send("slow")
    working = asyncio.create_task(worker.work())
    await slow.begun.wait()
    worker.stop()
    slow.go_on.set()
    await asyncio.wait_for(working, 10)
    late = await hub.send("slow")

    assert (await hub.status(sent)).state == CommandState.SUCCEEDED
    assert await hub.kinds(late) == ["created"]


async def test_c8_what_is_not_done_in_the_drain_time_is_given_back_for_another_at_once(hub: Hub) -> None:
    worker = hub.worker()
    slow, sent = Slow(worker), await hub.send("slow")
    working = asyncio.create_task(worker.work())
    await slow.begun.wait()
    worker.stop()
    await hub.pass_time(working.done)
    await working

    status = await hub.status(sent)
    assert (status.state, status.attempt, status.failures, slow.cancelled) == (CommandState.PENDING, 2, 0, 1)
    events = await hub.store.commands.history(sent)
    assert [(event.kind, event.detail) for event in events][-1] == ("released", "the worker stops")


async def test_a_server_that_was_away_is_asked_again(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    port = int(hub.url.rpartition(":")[2])
    worker = Worker("http://127.0.0.1:1", deployment="acme", clock=hub.clock, lease=LEASE)
    slow, sent = Slow(worker), await hub.send("slow")
    slow.go_on.set()
    with caplog.at_level(logging.WARNING):
        async with at_work(worker):
            await hub.pass_time(lambda: "no commands could be asked for" in caplog.text)
            worker.connection.url = f"http://127.0.0.1:{port}"
            over = asyncio.ensure_future(hub.over(sent))
            await hub.pass_time(over.done)
    assert (await hub.status(sent)).state == CommandState.SUCCEEDED


async def token(hub: Hub, grant: str) -> str:
    return (await hub.store.tokens.create("worker", [Grant.parse(grant)], tenant="default")).text


async def test_c12_a_token_file_is_read_again_when_its_token_is_refused(tmp_path: Path) -> None:
    async with hub_on(VirtualClock(), dev=False) as hub:
        file = tmp_path / "token"
        old, new = await token(hub, "command:work=acme/w"), await token(hub, "command:work=acme/w")
        file.write_text(old + "\n")
        worker = hub.worker(token_file=file, target="w")
        slow = Slow(worker)
        slow.go_on.set()
        async with at_work(worker):
            assert (await hub.over(await hub.send("slow", target="w"))).state == CommandState.SUCCEEDED
            file.write_text(new + "\n")
            await hub.store.tokens.revoke(old.split("_")[1])
            assert (await hub.over(await hub.send("slow", target="w"))).state == CommandState.SUCCEEDED


@pytest.mark.parametrize(
    ("grant", "target", "error"),
    [("command:work=acme/other", "w", NotAllowed), ("read", "w", NotAllowed), ("", "w", TokenInvalid)],
)
async def test_c13_c17_a_worker_that_may_not_ends_and_tells_no_secret(
    grant: str, target: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async with hub_on(VirtualClock(), dev=False) as hub:
        text = await token(hub, grant) if grant else "pdt_0_0"
        worker = hub.worker(token=text, target=target)
        Slow(worker)
        with caplog.at_level(logging.DEBUG), pytest.raises(error) as refused:
            await asyncio.wait_for(worker.work(), 10)

    assert text.rpartition("_")[2] not in str(refused.value) or text == "pdt_0_0"
    assert text not in caplog.text


async def test_c10_c17_a_line_for_each_command_names_it_and_neither_params_nor_result(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    worker = hub.worker(target="w7")
    slow = Slow(worker)
    slow.go_on.set()
    with caplog.at_level(logging.DEBUG):
        sent = await hub.send("slow", f'"{SECRET}"'.encode(), target="w7")
        async with at_work(worker):
            await hub.over(sent)

    [line] = [record for record in caplog.records if record.name == "perdure.worker" and sent in record.getMessage()]
    fields = {name: getattr(line, name) for name in ("command_id", "command", "attempt", "target", "outcome", "told")}
    assert fields == {"command_id": sent, "command": "slow", "attempt": 1, "target": "w7", "outcome": "DidIt", "told": "counted"}
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("content", "text"), [(None, "cannot be read"), ("", "empty"), ("a b", "one word"), ("\xe9", "one word|cannot be read")]
)
async def test_c12_a_token_file_without_a_token_is_told_by_its_name(hub: Hub, tmp_path: Path, content: str | None, text: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    worker = hub.worker(token_file=file)
    Slow(worker)

    with pytest.raises(UsageError, match=text) as refused:
        await asyncio.wait_for(worker.work(), 10)
    assert str(file) in str(refused.value)

"""Workers and what lies between them and their server: answers that are lost, refusals, paths, and programs that are stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from perdure import Client, CommandContext, VirtualClock, Worker, limits
from perdure.commands.states import CommandState
from perdure.errors import PerdureError, ServerRefused
from tests.blobs.bytes import noise
from tests.gate.tree import ROOT
from tests.worker.hub import Hub, at_work, hub_on
from tests.worker.proxy import Asked, problem, proxy_to
from tests.worker.test_leases import SECRET, THIRD, Slow, token

LEASED = {
    "command_id": "cmd_1",
    "token": 1,
    "attempt": 1,
    "command": "slow",
    "target": None,
    "params": None,
    "params_blob": None,
    "lease_ms": 60_000,
    "deadline_ms": None,
    "traceparent": "",
}
"""As a server gives it out."""


async def test_c16_an_outcome_is_told_until_the_server_takes_it(hub: Hub) -> None:
    refusals = [problem(503, "overloaded"), problem(429, "mailbox-full"), problem(500, "error")]

    async def refuse(asked: Asked) -> web.StreamResponse | None:
        return refusals.pop() if asked.path.endswith("/complete") and refusals else None

    async with proxy_to(hub.url) as proxy:
        proxy.before = refuse
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, sent = Slow(worker), await hub.send("slow", b"7")
        slow.go_on.set()
        async with at_work(worker):
            over = asyncio.ensure_future(hub.over(sent))
            await hub.pass_time(over.done)

    assert await hub.store.commands.get_result(sent) == b"7"
    assert len(proxy.of("/complete")) == 4
    assert len({one.body for one in proxy.of("/complete")}) == 1


async def test_c16_an_outcome_whose_answer_was_lost_is_told_again_and_counts_once(hub: Hub) -> None:
    async with proxy_to(hub.url) as proxy:
        proxy.loses = lambda asked: asked.path.endswith("/complete") and len(proxy.of("/complete")) == 1
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, sent = Slow(worker), await hub.send("slow", b"7")
        slow.go_on.set()
        async with at_work(worker):
            await hub.pass_time(lambda: len(proxy.of("/complete")) == 2)

    assert (await hub.kinds(sent)).count("succeeded") == 1


@pytest.mark.parametrize(("status", "code"), [(409, "stale-lease"), (422, "request-invalid"), (404, "command-not-found")])
async def test_c16_an_outcome_that_is_refused_is_not_told_again(hub: Hub, status: int, code: str) -> None:
    async def refuse(asked: Asked) -> web.StreamResponse | None:
        return problem(status, code) if asked.path.endswith("/complete") else None

    async with proxy_to(hub.url) as proxy:
        proxy.before = refuse
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, _ = Slow(worker), await hub.send("slow")
        slow.go_on.set()
        async with at_work(worker):
            await hub.until(lambda: len(proxy.of("/leases")) == 2)

    assert len(proxy.of("/complete")) == 1


async def test_c15_an_outcome_is_not_told_when_the_lease_is_over(hub: Hub) -> None:
    async def away(asked: Asked) -> web.StreamResponse | None:
        return problem(503, "overloaded") if asked.path.endswith("/complete") else None

    async with proxy_to(hub.url) as proxy:
        proxy.before = away
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, _ = Slow(worker), await hub.send("slow")
        slow.go_on.set()
        begun = hub.clock.now()
        async with hub.at_work(worker):
            await hub.pass_time(lambda: len(proxy.of("/leases")) == 2)

    assert hub.clock.now() - begun >= 59_000_000
    first, *told = [one.body for one in proxy.of("/complete")]
    assert 5 < told.count(first) < 30, "the worker may have got it again, with another token, before it stopped"


async def test_c13_leases_that_are_refused_for_now_are_asked_for_again(hub: Hub) -> None:
    refusals = [problem(503, "store-unavailable", retry_after="1"), problem(502, "x"), web.Response(status=504, text="a proxy's page")]

    async def refuse(asked: Asked) -> web.StreamResponse | None:
        return refusals.pop() if "/leases" in asked.path and refusals else None

    async with proxy_to(hub.url) as proxy:
        proxy.before = refuse
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow, sent = Slow(worker), await hub.send("slow")
        slow.go_on.set()
        async with at_work(worker):
            over = asyncio.ensure_future(hub.over(sent))
            await hub.pass_time(over.done)

    assert refusals == []


async def test_c13_a_server_that_is_none_ends_the_worker(hub: Hub) -> None:
    async def another(_asked: Asked) -> web.StreamResponse | None:
        return web.Response(status=404, text="<html>")

    async with proxy_to(hub.url) as proxy:
        proxy.before = another
        worker = hub.worker()
        worker.connection.url = proxy.url
        Slow(worker)
        with pytest.raises(ServerRefused, match="is the URL right"):
            await asyncio.wait_for(worker.work(), 10)


@pytest.mark.parametrize(
    "said",
    [
        {},
        [],
        {"leases": None},
        {"leases": [{}]},
        {"leases": [LEASED, {**LEASED, "attempt": "1"}]},
        {"leases": [{**LEASED, "command": None}]},
    ],
    ids=["empty", "list", "null", "nothing", "text", "nameless"],
)
async def test_s4_leases_that_are_none_end_the_worker_and_no_handler_runs(hub: Hub, said: object) -> None:
    """Nor does what is right beside what is not."""

    async def give(asked: Asked) -> web.StreamResponse | None:
        return web.json_response(said) if "/leases" in asked.path else None

    async with proxy_to(hub.url) as proxy:
        proxy.before = give
        worker = hub.worker()
        worker.connection.url = proxy.url
        slow = Slow(worker)
        with pytest.raises(ServerRefused, match="not one that this version knows"):
            await asyncio.wait_for(worker.work(), 10)

    assert len(proxy.asked) == 1
    assert not slow.begun.is_set()


async def test_c18_the_prefix_of_a_url_is_kept(hub: Hub) -> None:
    async def below(asked: Asked) -> web.StreamResponse | None:
        return None if asked.path.startswith("/some/hub/v1/") else problem(404, "route-not-found")

    async with proxy_to(hub.url.rstrip("/")) as proxy:
        proxy.before = below
        worker = hub.worker()
        worker.connection.url = proxy.url + "/some/hub"
        Slow(worker)
        with pytest.raises(PerdureError, match="no such path"):  # says the server itself, which has no prefix
            await asyncio.wait_for(worker.work(), 10)

    assert proxy.asked[0].path.startswith("/some/hub/v1/tenants/default/deployments/acme/leases?")


async def test_section_1_5_13_behind_a_proxy_with_a_prefix_a_command_is_done(hub: Hub) -> None:
    """What a worker got named its server as that one saw itself. C18."""
    params, result, got = noise(2 * limits.MIB), noise(2 * limits.MIB, seed=2), []
    async with proxy_to(hub.url) as proxy:
        proxy.strips = "/some/hub"
        worker = Worker(proxy.url + "/some/hub", deployment="acme", clock=hub.clock)

        @worker.command("work")
        async def work(_context: CommandContext, params: bytes) -> bytes:
            got.append(params)
            return result

        async with Client(proxy.url + "/some/hub", clock=hub.clock) as client, at_work(worker):
            assert await asyncio.wait_for(client.command("acme", "work", params, result=bytes), 30) == result

    assert got == [params]
    paths = [one.path.partition("?")[0] for one in proxy.asked]
    assert all(path.startswith("/some/hub/v1/tenants/default/") for path in paths)
    asked = {f"{one.method} {path.rpartition('/')[2]}" for one, path in zip(proxy.asked, paths, strict=True)}
    assert asked >= {"PUT params", "POST leases", "GET params", "PUT result", "POST complete", "GET result"}


async def test_c4_a_command_of_a_name_that_was_not_asked_for_is_given_back_for_others(hub: Hub) -> None:
    """A server that does not look at `names`: one of another make."""
    sent = await hub.send("another", target="w")
    leases = await hub.store.commands.lease("acme", target="w")
    lease = {**LEASED, "command_id": sent, "token": leases[0].token, "command": "another", "target": "w"}

    async def give(asked: Asked) -> web.StreamResponse | None:
        if "/leases" in asked.path and len(proxy.of("/leases")) == 1:
            return web.json_response({"leases": [lease]})
        return None

    async with proxy_to(hub.url) as proxy:
        proxy.before = give
        worker = hub.worker(target="w")
        worker.connection.url = proxy.url
        Slow(worker)
        async with at_work(worker):
            status = await hub.until_status(sent, lambda one: one.state == CommandState.PENDING)

    [release] = proxy.of("/release")
    assert release.json["delay_ms"] == limits.WORKER_UNKNOWN_US // 1_000
    assert (status.failures, status.available_at - hub.clock.now()) == (0, limits.WORKER_UNKNOWN_US)


async def test_c9_a_result_that_is_larger_than_any_may_be_fails_the_command(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = hub.worker()

    @worker.command("work")
    async def work(_context: CommandContext) -> str:
        return "x" * limits.COMMAND_RESULT_MAX

    sent = await hub.send("work")
    monkeypatch.setattr(limits, "BLOB_MAX", limits.COMMAND_RESULT_MAX)
    async with at_work(worker):
        status = await hub.over(sent)

    assert status.error is not None
    assert (status.attempt, msgspec.json.decode(status.error)["code"]) == (1, "result-too-large")


async def test_c8_what_a_worker_gives_back_another_gets_at_once(hub: Hub) -> None:
    first, second = hub.worker(drain=THIRD / 20, name="first"), hub.worker(name="second")
    slow, other = Slow(first), Slow(second)
    other.go_on.set()
    sent = await hub.send("slow", b"2")
    async with at_work(first):
        await slow.begun.wait()
        async with at_work(second):
            first.stop()
            over = asyncio.ensure_future(hub.over(sent))
            await hub.pass_time(over.done)

    status = await hub.status(sent)
    assert (status.worker, status.attempt, status.failures) == ("second", 2, 0)
    assert slow.context is not None
    assert slow.context.cancelled.is_set()


async def test_c17_nothing_that_is_logged_or_raised_tells_a_token_params_or_a_result(caplog: pytest.LogCaptureFixture) -> None:
    async with hub_on(VirtualClock(), dev=False) as hub, proxy_to(hub.url) as proxy:
        text = await token(hub, "command:work=acme/w")
        proxy.loses = lambda asked: len(proxy.of(asked.path.partition("?")[0])) == 1  # the first answer to each
        worker = hub.worker(token=text, target="w")
        worker.connection.url = proxy.url

        @worker.command("work")
        async def work(context: CommandContext, params: str) -> str:
            if context.attempt < 3:
                raise LookupError("not yet")
            return params + params

        with caplog.at_level(logging.DEBUG):
            async with hub.at_work(worker):
                sent = await hub.send("work", f'"{SECRET}"'.encode(), target="w")
                over = asyncio.ensure_future(hub.over(sent))
                await hub.pass_time(over.done)

    assert (await over).state == CommandState.SUCCEEDED
    said = caplog.text + repr(worker.connection.__dict__) + "".join(str(record.__dict__) for record in caplog.records)
    assert "not yet" in said
    assert SECRET not in said
    assert text.rpartition("_")[2] not in said


PROGRAM = """
import asyncio, os
from pathlib import Path
import perdure

worker = perdure.Worker(os.environ["URL"], deployment="acme", max_concurrency=2)


@worker.command("work")
async def work(context, params):
    print("begun", flush=True)
    while not Path("go-on").exists():
        await asyncio.sleep(0.01)
    return params
"""


async def test_c7_the_program_of_a_worker_finishes_what_it_has_at_sigterm(tmp_path: Path) -> None:
    from perdure import App, Engine, open_store
    from perdure.server.serving import serving

    (tmp_path / "shop_worker.py").write_text(PROGRAM)
    async with open_store("sqlite:///:memory:") as store, Engine(store, App("none")) as engine, serving(engine, dev=True) as server:
        sent = (await store.commands.create_command("acme", "work", params=b"7")).command_id
        environment = {**os.environ, "URL": server.url, "PYTHONPATH": str(ROOT / "src")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "perdure", "worker", "shop_worker:worker"),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"begun\n"
            process.send_signal(signal.SIGTERM)
            (tmp_path / "go-on").touch()
            over = await store.commands.wait_command(sent, 30_000_000)
            _, errors = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    assert (over.state, process.returncode) == (CommandState.SUCCEEDED, 0)
    assert "the worker stops" in errors.decode() or "counted" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_section_5_2_a_request_for_leases_that_is_called_off_leaves_no_command_to_nobody(hub: Hub) -> None:
    """Wherever it is then: before its commit, in it, or after it."""
    found = set[tuple[bool, str]]()
    for rounds in range(60):
        sent = await hub.send("work", target=f"w{rounds}")
        asking = asyncio.ensure_future(hub.store.commands.lease("acme", target=f"w{rounds}"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        called_off = asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        found.add((called_off, (await hub.status(sent)).state))

    assert found == {(True, "PENDING"), (False, "DISPATCHED")}

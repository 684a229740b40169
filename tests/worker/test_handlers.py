"""Workers: how commands come to handlers, and what becomes of what these return and raise.

C1 and so on are groups of the research on commands, section 3.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import msgspec
import pytest

from perdure import Client, CommandContext
from perdure.commands.states import CommandState
from perdure.errors import CommandFailed, DefinitionError, InvalidIdentifier, UsageError
from perdure.limits import COMMAND_RESULT_MAX, WORKER_LEASE_MIN_US
from tests.worker.hub import Hub, at_work


class Pick(msgspec.Struct):
    order: str


class Picked(msgspec.Struct):
    shelf: int
    by: str


async def test_c1_a_handler_gets_its_params_and_context_and_its_result_is_the_commands(hub: Hub) -> None:
    worker, seen = hub.worker(target="w7"), list[CommandContext]()

    @worker.command("pick")
    async def pick(context: CommandContext, params: Pick) -> Picked:
        seen.append(context)
        return Picked(3, params.order)

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = await hub.send("pick", b'{"order":"7"}', target="w7", traceparent=trace, deadline=hub.clock.now() + 90_000_000)
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.worker, await hub.store.commands.get_result(sent)) == ("SUCCEEDED", "w", b'{"shelf":3,"by":"7"}')
    [context] = seen
    told = (context.command_id, context.command, context.attempt, context.target, context.traceparent, context.remaining)
    assert told == (sent, "pick", 1, "w7", trace, 90.0)


async def test_c2_at_most_so_many_handlers_are_active(hub: Hub) -> None:
    worker, active, most, go_on = hub.worker(max_concurrency=2), set[int](), set[int](), asyncio.Event()

    @worker.command("work")
    async def work(_context: CommandContext, n: int) -> None:
        active.add(n)
        most.add(len(active))
        await go_on.wait()
        active.remove(n)

    sent = [await hub.send("work", str(n).encode()) for n in range(5)]
    async with at_work(worker):
        await hub.until(lambda: len(active) == 2)
        await hub.others_are_served()
        states = [(await hub.status(one)).state for one in sent]
        go_on.set()
        assert [(await hub.over(one)).state for one in sent] == ["SUCCEEDED"] * 5

    assert states == ["DISPATCHED", "DISPATCHED", "PENDING", "PENDING", "PENDING"]
    assert max(most) == 2


async def test_section_5_1_ten_workers_of_four_slots_run_forty_commands_at_once(hub: Hub) -> None:
    active, go_on = set[int](), asyncio.Event()
    workers = [hub.worker(max_concurrency=4, name=f"w{n}") for n in range(10)]
    for worker in workers:

        @worker.command("work")
        async def work(_context: CommandContext, n: int) -> None:
            active.add(n)
            await go_on.wait()

    sent = [await hub.send("work", str(n).encode()) for n in range(40)]
    async with at_work(*workers):
        await hub.until(lambda: len(active) == 40)
        go_on.set()
        assert {(await hub.over(one)).state for one in sent} == {"SUCCEEDED"}


async def test_section_5_6_a_worker_that_is_free_asks_at_once(hub: Hub) -> None:
    """It paused for 5 seconds between what it did."""
    worker, begun = hub.worker(), hub.clock.now()

    @worker.command("work")
    async def work(_context: CommandContext) -> None:
        return None

    sent = [await hub.send("work") for _ in range(20)]
    async with at_work(worker):
        assert [(await hub.over(one)).state for one in sent] == ["SUCCEEDED"] * 20

    assert hub.clock.now() == begun


async def test_section_5_5_the_shortest_lease_is_enough_for_a_command(hub: Hub) -> None:
    worker = hub.worker(lease=timedelta(microseconds=WORKER_LEASE_MIN_US))

    @worker.command("work")
    async def work(_context: CommandContext) -> str:
        return "done"

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.attempt, await hub.store.commands.get_result(sent)) == ("SUCCEEDED", 1, b'"done"')


@pytest.mark.parametrize("result", [None, 0, False, "", [], {}, b""], ids=repr)
async def test_section_5_7_a_result_that_is_nothing_is_one(hub: Hub, result: object) -> None:
    """Its body was empty, and nobody could read it."""
    worker = hub.worker()

    @worker.command("work")
    async def work(_context: CommandContext) -> object:
        return result

    async with at_work(worker), Client(hub.url) as client:
        got = await client.command("acme", "work", result=type(result))
        sent = await client.send_command("acme", "work")
        view = await client.wait_command(sent.command_id)

    assert (got, type(got)) == (result, type(result))
    assert await hub.store.commands.get_result(view.command_id) == msgspec.json.encode(result)


async def test_section_5_8_names_of_any_text_lead_to_a_worker(hub: Hub) -> None:
    """Names with a slash, which operations have, were refused or lost."""
    names = {"deployment": "eu/a b", "target": "x:y/%2F?z#\N{SNOWMAN}"}
    worker, seen = hub.worker(**names), list[CommandContext]()

    @worker.command("kubernetes/restart-pod")
    async def restart(context: CommandContext, params: int) -> int:
        seen.append(context)
        return params + 1

    async with at_work(worker), Client(hub.url) as client:
        done = client.command("eu/a b", "kubernetes/restart-pod", 1, target=names["target"], key="a/b c", result=int)
        assert await asyncio.wait_for(done, 10) == 2

    assert [(one.command, one.target) for one in seen] == [("kubernetes/restart-pod", names["target"])]


async def test_c3_c6_what_a_handler_raises_is_another_attempt_and_the_worker_lives_on(hub: Hub) -> None:
    worker, attempts = hub.worker(), list[int]()

    @worker.command("work")
    async def work(context: CommandContext) -> str:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise LookupError("not yet")
        return "done"

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.attempt, status.failures, attempts) == ("SUCCEEDED", 3, 2, [1, 2, 3])
    events = await hub.store.commands.history(sent)
    assert [event.detail for event in events if event.kind == "attempt-failed"] == ["handler-error", "handler-error"]


async def test_a_command_that_fails_at_every_attempt_is_a_dead_letter_with_the_last_error(hub: Hub) -> None:
    worker = hub.worker()

    @worker.command("work")
    def work(_context: CommandContext) -> None:
        raise LookupError("nowhere")

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.failures, status.dead) == ("FAILED", 5, True)
    assert status.error is not None
    assert msgspec.json.decode(status.error) == {"code": "handler-error", "message": "LookupError: nowhere", "details": None}


async def test_a_handler_ends_a_command_with_a_code_of_its_own(hub: Hub) -> None:
    worker = hub.worker()

    @worker.command("work")
    async def work(_context: CommandContext) -> None:
        raise CommandFailed("out-of-stock", "none left", {"left": 0})

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.attempt, status.dead) == ("FAILED", 1, False)
    assert status.error is not None
    assert msgspec.json.decode(status.error) == {"code": "out-of-stock", "message": "none left", "details": {"left": 0}}


async def test_a_plain_function_runs_on_a_thread(hub: Hub) -> None:
    worker, threads = hub.worker(), list[int]()

    @worker.command("work")
    def work(_context: CommandContext, n: int) -> int:
        threads.append(threading.get_ident())
        return n + 1

    sent = await hub.send("work", b"1")
    async with at_work(worker):
        assert (await hub.over(sent)).state == CommandState.SUCCEEDED

    assert await hub.store.commands.get_result(sent) == b"2"
    assert threads != [threading.get_ident()]


async def test_c4_a_worker_gets_no_command_that_it_has_no_handler_for(hub: Hub) -> None:
    worker = hub.worker()

    @worker.command("known")
    async def known(_context: CommandContext) -> None:
        return None

    other, sent = await hub.send("unknown"), await hub.send("known")
    async with at_work(worker):
        await hub.over(sent)

    assert await hub.kinds(other) == ["created"]


@pytest.mark.parametrize("params", [b'{"order":7}', b"[]", b"null"])
async def test_c18_params_of_another_type_fail_the_command_and_no_handler_is_called(hub: Hub, params: bytes) -> None:
    """Section 5.4: by design, so workers are replaced before their senders (docs/commands.md): another attempt would meet the same type."""
    worker, called = hub.worker(), list[Pick]()

    @worker.command("pick")
    async def pick(_context: CommandContext, params: Pick) -> None:
        called.append(params)

    sent = await hub.send("pick", params)
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.attempt, called) == ("FAILED", 1, [])
    assert status.error is not None
    assert msgspec.json.decode(status.error)["code"] == "params-invalid"


@pytest.mark.parametrize("text", ["%%%", "YQ", "Y Q==", "YQ==\n", "YQ==YQ==", "-_8="])
async def test_c18_bytes_that_are_no_base64_fail_the_command_and_no_handler_is_called(hub: Hub, text: str) -> None:
    worker, called = hub.worker(), list[bytes]()

    @worker.command("print")
    async def print_it(_context: CommandContext, params: bytes) -> None:
        called.append(params)

    sent = await hub.send("print", msgspec.json.encode(text))
    async with at_work(worker):
        status = await hub.over(sent)
        assert (await hub.over(await hub.send("print", b'"+/8="'))).state == CommandState.SUCCEEDED

    assert (status.state, status.attempt, called) == ("FAILED", 1, [b"\xfb\xff"])
    assert status.error is not None
    assert msgspec.json.decode(status.error)["code"] == "params-invalid"


@pytest.mark.parametrize(("result", "code"), [(float("nan"), "result-unencodable"), (object(), "result-unencodable")])
async def test_a_result_that_cannot_be_sent_fails_the_command(hub: Hub, result: object, code: str) -> None:
    worker = hub.worker()

    @worker.command("work")
    async def work(_context: CommandContext) -> object:
        return result

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert status.error is not None
    assert (status.state, status.attempt, msgspec.json.decode(status.error)["code"]) == ("FAILED", 1, code)


async def test_a_result_of_just_the_limit_is_taken(hub: Hub) -> None:
    worker = hub.worker()

    @worker.command("work")
    async def work(_context: CommandContext) -> str:
        return "x" * (COMMAND_RESULT_MAX - 2)

    sent = await hub.send("work")
    async with at_work(worker):
        status = await hub.over(sent)

    assert (status.state, status.response_size_bytes) == ("SUCCEEDED", COMMAND_RESULT_MAX)


def no_arguments() -> None: ...


def three_arguments(_a: CommandContext, _b: int, _c: int) -> None: ...


def named_ones(_context: CommandContext, *, _params: int) -> None: ...


@pytest.mark.parametrize("function", [no_arguments, three_arguments, named_ones])
def test_c11_a_handler_that_takes_something_else_is_refused(function: object) -> None:
    from perdure import Worker

    with pytest.raises(DefinitionError, match="expected a function of"):
        Worker("http://127.0.0.1:1", deployment="acme").command("work")(function)  # type: ignore[type-var]


def test_c11_what_cannot_be_a_worker_is_refused() -> None:
    """Section 5.5: with a lease shorter than the margin every command failed undone."""
    from perdure import Worker

    for options, text in (
        ({"deployment": ""}, "deployment"),
        ({"target": "\n"}, "target"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"lease": timedelta(seconds=1)}, "lease"),
        ({"token": "a", "token_file": "b"}, "not both"),
        ({"token": "two words"}, "token"),
        ({"url": "mailto:a@b"}, "url"),
        ({"url": "https://user:secret@host"}, "url"),
    ):
        with pytest.raises((UsageError, InvalidIdentifier), match=text) as refused:
            Worker(**{"url": "http://127.0.0.1:1", "deployment": "acme", **options})  # type: ignore[arg-type]
        assert "secret" not in str(refused.value)

    worker = Worker("http://127.0.0.1:1", deployment="acme")
    worker.command("work")(lambda _context: None)
    with pytest.raises(DefinitionError, match="already"):
        worker.command("work")
    with pytest.raises(UsageError, match="without handlers"):
        asyncio.run(Worker("http://127.0.0.1:1", deployment="acme").work())

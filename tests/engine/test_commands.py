"""Work for workers elsewhere: how a process's command ends, and what the process sees of it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Process, VirtualClock, limits
from perdure.blob import Blob
from perdure.clock import SECOND
from perdure.commands.contract import CommandRetry, Failed, Stopped, Succeeded
from perdure.errors import (
    InvalidIdentifier,
    NotInTurn,
    PayloadInvalid,
    PayloadTooLarge,
    PayloadUnencodable,
    PerdureError,
    ProcessCancelled,
    UsageError,
)
from tests.contracts.commands import CANCELLED, DISPATCHED, PENDING, SUCCEEDED, kept_apart
from tests.engine.conftest import Running
from tests.engine.orders import eventually, reaches
from tests.engine.working import Go, Picked, Shop, awaited, comes_to, commands_of, take, whole, work

BIG = "x" * limits.COMMAND_PARAMS_MAX

APART = Blob(sha256=hashlib.sha256(b"123456789").hexdigest(), size=9, content_type="text/csv")


async def test_a_process_waits_for_a_worker_and_gets_its_result(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.pick, 3, id="p"))

        taken = await work(engine, Succeeded(result=b'{"shelf":"A","count":3}'), target="arm")

        assert (taken.command, taken.params, taken.target) == ("pick", b'{"count":3}', "arm")
        assert await call == Picked("A", 3)
        [found] = await commands_of(engine.store)
        assert (found.state, found.command_id) == (SUCCEEDED, taken.command_id)
        assert (await engine.store.commands.history(taken.command_id))[0].actor == "process p"
        assert await awaited(engine.store) == 0
        await whole(engine)


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (
            Failed(code="no-stock", message="none left", details=b'{"shelf":"A"}'),
            ["CommandFailed", "no-stock", "no-stock: none left", {"shelf": "A"}],
        ),
        (Failed(code="busy", retryable=True), ["CommandFailed", "busy", "busy", None]),
        (Succeeded(result=b"[1]"), ["done", [1]]),
        (Succeeded(), ["done", None]),
        (
            Succeeded(result=APART),
            ["done", {"sha256": APART.sha256, "size": 9, "content_type": "text/csv"}],
        ),
    ],
)
async def test_a_process_sees_how_its_command_ended(running: Running, outcome: Any, seen: list[Any]) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        assert await kept_apart(engine.store, b"123456789") == APART
        call = asyncio.create_task(engine.call(shop.tries, "x", id="p"))

        await work(engine, outcome)

        assert await call == seen
        assert await awaited(engine.store) == 0


async def test_a_process_sees_that_a_worker_went_away(running: Running, clock: VirtualClock) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.tries, "x", id="p"))
        await take(engine)
        await reaches(engine, "p", "waiting")

        clock.advance(600 * SECOND)

        assert (await call)[:2] == ["CommandFailed", "lease-expired"]


@pytest.mark.parametrize("taken", [False, True])
async def test_a_process_sees_that_the_deadline_passed_in_virtual_time(running: Running, clock: VirtualClock, taken: bool) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.tries, "deadline", id="p"))
        await reaches(engine, "p", "waiting")
        if taken:
            await take(engine)
        clock.advance(9 * SECOND - 1)
        await engine.store.commit()
        assert not call.done()

        clock.advance(1)

        assert (await call)[:2] == ["CommandExpired", "command-expired"]


async def test_a_deadline_of_no_time_is_over_at_once(running: Running) -> None:
    app = App("a")

    @app.process
    async def hasty(p: Process) -> None:
        await p.command("site", "x", deadline=timedelta(0))

    async with running(app) as engine:
        with pytest.raises(PerdureError, match="command-expired"):
            await engine.call(hasty, id="p")
        await whole(engine)


@pytest.mark.parametrize("taken", [False, True])
async def test_a_process_sees_that_somebody_cancelled_its_command(running: Running, taken: bool) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.tries, "x", id="p"))
        await reaches(engine, "p", "waiting")
        [command] = await commands_of(engine.store)
        lease = await take(engine) if taken else None

        await engine.store.commands.cancel(command.command_id, reason="sold out")
        if lease:
            assert not call.done()
            await engine.store.commands.complete(lease.command_id, lease.token, Stopped())

        assert await call == ["CommandCancelled", "command-cancelled", "command-cancelled: sold out", None]


async def test_a_process_that_is_not_in_memory_is_woken_by_the_end_of_its_command(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.pick, 3, id="p"))
        await reaches(engine, "p", "waiting")
    await asyncio.gather(call, return_exceptions=True)
    [lease] = await engine.store.commands.lease("site", target="arm")

    await engine.store.commands.complete(lease.command_id, lease.token, Succeeded(result=b'{"shelf":"B","count":1}'))

    async with running(shop.app) as engine:
        assert await engine.call(shop.pick, 3, id="p") == Picked("B", 1)
        assert len(await commands_of(engine.store)) == 1


async def test_a_failed_attempt_is_no_news_for_the_process(running: Running, clock: VirtualClock) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.many, 1, id="p"))
        for _ in range(2):
            await work(engine, Failed(code="busy", retryable=True))
            await engine.store.commit()
            assert not call.done()
            clock.advance(10 * SECOND)

        await work(engine)

        assert await call == [1]


async def test_a_result_of_another_type_is_invalid(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.pick, 3, id="p"))

        await work(engine, Succeeded(result=b'{"shelf":7}'), target="arm")

        with pytest.raises(PayloadInvalid):
            await call


async def test_commands_sent_at_once_are_waited_for_later_or_never(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.later, id="p"))
        await reaches(engine, "p", "waiting")
        await work(engine, Succeeded(result=b"7"), names=["one"])
        await engine.deliver(Go(), id="g", to=Address.process("p"))

        assert await call == [7, *shop.log[:2]]
        found = await commands_of(engine.store)
        assert [(one.command_id, one.command, one.state) for one in found] == [
            (shop.log[0], "one", SUCCEEDED),
            (shop.log[1], "two", PENDING),
        ], "what nobody waits for goes on when the turn is over"
        assert await awaited(engine.store) == 0

        await work(engine, names=["two"])
        await engine.store.commit()
        await whole(engine)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_command_that_a_task_waits_for_goes_on_when_its_turn_is_over(running: Running, fails: bool) -> None:
    app = App("a")

    @app.process
    async def leaves(p: Process) -> str:
        task = asyncio.create_task(p.command("site", "long"))
        await p.sleep(1)
        assert not task.done()
        if fails:
            raise LookupError
        return "gone"

    async with running(app) as engine:
        call = asyncio.create_task(engine.call(leaves, id="p"))
        taken = await take(engine)
        await reaches(engine, "p", "waiting")
        assert isinstance(engine.clock, VirtualClock)
        engine.clock.advance(SECOND)
        await asyncio.gather(call, return_exceptions=True)

        assert isinstance(call.exception(), LookupError) if fails else call.result() == "gone"
        assert not (await engine.store.commands.renew(taken.command_id, taken.token)).cancel_requested
        assert await awaited(engine.store) == 0
        assert await engine.store.commands.complete(taken.command_id, taken.token, Succeeded())
        await whole(engine)


async def test_losers_of_a_race_are_cancelled(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.races, id="p"))
        slow = await take(engine, names=["slow"])
        await work(engine, Succeeded(result=b'"quick"'), names=["fast"])

        assert await call == [1, "quick"]

        renewal = await engine.store.commands.renew(slow.command_id, slow.token)
        assert (renewal.cancel_requested, renewal.reason) == (True, "its process waits for it no more")
        assert await engine.store.commands.complete(slow.command_id, slow.token, Stopped())
        await whole(engine)


async def test_a_race_that_a_message_wins_cancels_both(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.races, id="p"))
        await reaches(engine, "p", "waiting")
        await engine.deliver(Go(), id="g", to=Address.process("p"))

        assert (await call)[0] == 2

        assert [one.state for one in await commands_of(engine.store)] == [CANCELLED] * 2
        assert await awaited(engine.store) == 0
        await whole(engine)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("taken", [False, True])
async def test_a_process_that_is_cancelled_cancels_its_commands(running: Running, taken: bool, force: bool) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.pick, 3, id="p"))
        await reaches(engine, "p", "waiting")
        lease = await take(engine, target="arm") if taken else None
        [command] = await commands_of(engine.store)

        await engine.cancel("p", force=force)
        with pytest.raises(ProcessCancelled):
            await call

        if lease:
            await comes_to(engine, command.command_id, DISPATCHED)
            assert (await engine.store.commands.renew(lease.command_id, lease.token)).cancel_requested
        else:
            await comes_to(engine, command.command_id, CANCELLED)
        assert await awaited(engine.store) == 0
        await whole(engine)


async def test_a_turn_that_leaves_memory_cancels_nothing(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.pick, 3, id="p"))
        await reaches(engine, "p", "waiting")
    await asyncio.gather(call, return_exceptions=True)

    assert [one.state for one in await commands_of(engine.store)] == [PENDING]


async def test_many_commands_of_one_turn_come_back_in_their_places(running: Running) -> None:
    shop = Shop()
    async with running(shop.app) as engine:
        call = asyncio.create_task(engine.call(shop.many, 30, id="p"))
        leases: list[Any] = []

        async def all_of_them() -> bool:
            leases.extend(await engine.store.commands.lease("site", max_leases=100))
            return len(leases) == 30

        await eventually(all_of_them)
        await asyncio.gather(
            *(engine.store.commands.complete(one.command_id, one.token, Succeeded(result=one.params)) for one in reversed(leases))
        )

        assert await call == list(range(30))


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[PerdureError]]] = [
    *(((name, "x"), {}, InvalidIdentifier) for name in ["", "x" * 257, "a\n", 7]),
    *((("site", name), {}, InvalidIdentifier) for name in ["", "x" * 257, "a\n", 7]),
    (("site", "x"), {"target": ""}, InvalidIdentifier),
    (("site", "x", BIG), {}, PayloadTooLarge),
    (("site", "x", object()), {}, PayloadUnencodable),
    (("site", "x", Blob(sha256="a", size=1)), {}, InvalidIdentifier),
    *((("site", "x"), {"priority": number}, UsageError) for number in [2**31, 1.5, None, "1"]),
    *((("site", "x"), {"retry": retry}, UsageError) for retry in [None, 3, "3"]),
    *((("site", "x"), {"deadline": span}, UsageError) for span in [timedelta(seconds=-1), timedelta(days=40_000), 5, "1 s"]),
    *((("site", "x"), {"delay": span}, UsageError) for span in [timedelta(seconds=-1), timedelta(days=367), 5, "1 s"]),
]


@pytest.mark.parametrize(("places", "names", "refusal"), WRONG, ids=range(len(WRONG)))
async def test_what_cannot_be_a_command_is_refused_where_it_is_asked_for(
    running: Running, places: tuple[Any, ...], names: dict[str, Any], refusal: type[PerdureError]
) -> None:
    app = App("a")

    @app.process
    async def asks(p: Process, verb: str) -> str:
        with pytest.raises(refusal):
            if verb == "command":
                await p.command(*places, **names)
            else:
                p.command_async(*places, **names)
        return "refused"

    async with running(app) as engine:
        for verb in ("command", "command_async"):
            assert await engine.call(asks, verb, id=verb) == "refused"
        assert await commands_of(engine.store) == []


async def test_what_a_command_was_given_is_what_its_worker_gets(running: Running, clock: VirtualClock) -> None:
    app = App("a")

    class Order(msgspec.Struct):
        n: int

    @app.process
    async def asks(p: Process) -> None:
        retry = CommandRetry(max_attempts=7)
        p.command_async(
            "site", "x", Order(1), target="arm", deadline=timedelta(seconds=60), retry=retry, priority=-3, delay=timedelta(seconds=5)
        )
        p.command_async("site", "x", APART)

    async with running(app) as engine:
        assert await kept_apart(engine.store, b"123456789") == APART
        await engine.call(asks, id="p")
        first, second = await commands_of(engine.store)
        now = clock.now()
        assert (first.target, first.deadline, first.max_attempts, first.priority) == ("arm", now + 60 * SECOND, 7, -3)
        assert (first.available_at, first.request_size_bytes) == (now + 5 * SECOND, 7)
        assert await engine.store.commands.get_params(first.command_id) == b'{"n":1}'
        assert await engine.store.commands.get_params(second.command_id) == APART


def test_a_command_needs_a_turn() -> None:
    with pytest.raises(NotInTurn):
        Process().command("site", "x").close()
    with pytest.raises(NotInTurn):
        Process().command_async("site", "x")

"""Two engines on one database: what comes in at one node reaches the process of the other, once, and the answer comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from perdure import Address, App, Process, VirtualClock
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.errors import ProcessCancelled, ProcessEnded
from perdure.identity import ProcessId, ProcessIdentity, RegistryKey, TenantId
from tests.engine.families import Families
from tests.engine.nodes import Nodes, comes, happens, two_nodes
from tests.engine.orders import Approve, Broadcast, Close, Comment, Ledger, Place, make_app

MANY = 12


@pytest.fixture
def url(postgres_url: str, unhurried: None) -> str:
    del unhurried
    return postgres_url


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def place(nodes: Nodes, order: str, *, total: int = 0, at: Any = None) -> str:
    """Place an order, whose process is the node's where it is placed."""
    receipt = await (at or nodes.a).deliver(Place(order, total), id=f"place {order}")
    assert receipt.process_id is not None
    await nodes.comes_to(receipt.process_id, "waiting" if total > 100 else "idle")
    return str(receipt.process_id)


async def test_a_message_by_key_or_by_id_reaches_the_other_nodes_process_and_its_reply_comes_back(
    url: str, clock: VirtualClock, ledger: Ledger
) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o")
        assert nodes.a._owner.shards.mine("default", process_id)

        by_key = await nodes.b.deliver(Comment("o", "one"), id="m1", wait=True)
        by_id = await nodes.b.deliver(Comment("o", "two"), id="m2", to=Address.process(process_id), wait=True)

        assert (by_key, by_id) == (1, 2)
        assert await nodes.run("select count(*) from perdure.inbox") == [(0,)]
        assert await nodes.run("select status from perdure.process") == [("idle",)]


async def test_a_process_is_started_on_the_node_that_owns_its_id_wherever_it_is_asked_for(
    url: str, clock: VirtualClock, ledger: Ledger
) -> None:
    app = make_app(ledger)
    hello = app.extras["hello"]  # type: ignore[attr-defined]  # the app's own
    async with two_nodes(url, app, clock) as nodes:
        ids = [nodes.id_on(engine) for engine in (nodes.a, nodes.b) for _ in range(MANY)]

        replies = await asyncio.gather(
            *(engine.call(hello, name, id=name) for name in ids for engine in (nodes.a, nodes.b)),
        )

        assert replies == [f"Hello, {name.upper()}!" for name in ids for _ in range(2)]
        assert Counter(ledger.effects) == dict.fromkeys(ids, 1)


async def test_of_two_nodes_that_start_under_one_key_one_does_and_both_get_the_reply(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        places = [(engine, f"o{number}") for number in range(MANY) for engine in (nodes.a, nodes.b)]

        replies = await asyncio.gather(*(engine.deliver(Place(order), id=f"place {order}", wait=True) for engine, order in places))

        assert [reply["order_id"] for reply in replies] == [order for _, order in places]
        assert len(await inspection.processes(nodes.a.store)) == MANY
        assert Counter(ledger.effects) == {f"charge o{number}": 1 for number in range(MANY)}


async def test_a_message_that_both_nodes_get_is_handled_once_and_both_hear_the_same(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        for order in ("x", "y"):
            await place(nodes, order, at=nodes.a if order == "x" else nodes.b)

        replies = await asyncio.gather(
            *(
                engine.deliver(Comment(order, f"{n}"), id=f"{order}{n}", wait=True)
                for n in range(MANY)
                for order in "xy"
                for engine in (nodes.a, nodes.b)
            )
        )

        pairs = list(zip(replies[::2], replies[1::2], strict=True))
        assert all(one == other for one, other in pairs)
        assert sorted(one for one, _ in pairs) == sorted([*range(1, MANY + 1)] * 2)


async def test_what_a_turn_waits_for_may_come_in_at_the_other_node(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o", total=500)
        first = asyncio.create_task(nodes.a.deliver(Place("o", 500), id="place o", wait=True))
        second = asyncio.create_task(nodes.b.deliver(Place("o", 500), id="place o", wait=True))

        await nodes.b.deliver(Approve("o"), id="m", to=Address.key("order:o"))

        assert await first == await second == {"order_id": "o", "status": "approved"}
        await nodes.comes_to(process_id, "idle")
        assert ledger.effects == ["charge o", "settle o"]


async def test_a_fan_out_reaches_members_on_both_nodes_wherever_it_comes_in(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        for number in range(MANY):
            at = nodes.a if number % 2 else nodes.b
            await place(nodes, f"o{number}", at=at)
            await at.deliver(Comment(f"o{number}", "all"), id=f"join {number}", wait=True)
        ledger.effects.clear()

        for engine, text in ((nodes.a, "from a"), (nodes.b, "from b")):
            await engine.deliver(Broadcast("comment:all", text), id=text)

        await happens(lambda: len(ledger.effects) >= 2 * MANY, nodes)
        assert len(set(ledger.effects)) == len(ledger.effects) == 2 * MANY
        assert await nodes.run("select count(*) from perdure.fan_out") == [(0,)]


async def test_what_is_parked_under_a_key_at_one_node_goes_to_who_binds_it_at_the_other(
    url: str, clock: VirtualClock, ledger: Ledger
) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        parked = await nodes.b.deliver(Comment("o", "early"), id="early")
        assert parked.status == "parked"

        await place(nodes, "o")

        assert await nodes.b.deliver(Comment("o", "early"), id="early", wait=True) == 1


async def test_what_is_parked_goes_to_the_other_nodes_process_that_a_caller_binds(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o")
        message = Comment("o", "early")
        for number, engine in enumerate((nodes.a, nodes.b)):
            await engine.deliver(message, id=f"m{number}", to=Address.key(f"alias {number}"))
            identity = ProcessIdentity(tenant_id=TenantId("default"), process_id=ProcessId(process_id), process_type="Order")

            await nodes.b.store.processes.register(TenantId("default"), RegistryKey(f"alias {number}"), identity)

            assert await nodes.a.deliver(message, id=f"m{number}", to=Address.key(f"alias {number}"), wait=True) == number + 1


async def test_people_may_ask_at_any_node(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o", total=500)

        assert await nodes.b.pause(process_id)
        await nodes.b.deliver(Approve("o"), id="m", to=Address.key("order:o"))
        await nodes.comes_to(process_id, "paused")
        assert ledger.effects == ["charge o"]
        await nodes.b.resume(process_id)

        assert await nodes.b.deliver(Place("o", 500), id="place o", wait=True) == {"order_id": "o", "status": "approved"}
        await nodes.comes_to(process_id, "idle")


async def test_a_dead_letter_is_redriven_at_the_other_node(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        await nodes.a.deliver(Comment("o", "early"), id="m", expires_after=timedelta(seconds=1))
        clock.advance(2 * SECOND)
        await comes(partial(dead, nodes, "m"))
        await place(nodes, "o")

        again = await nodes.b.redrive("m")

        assert again == "m~2"
        assert await nodes.b.deliver(Comment("o", "next"), id="next", wait=True) == 2


async def test_what_expires_is_a_dead_letter_wherever_it_came_in(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o")
        for engine, name in ((nodes.a, "a"), (nodes.b, "b")):
            await engine.deliver(Comment("nobody", "?"), id=f"parked {name}", expires_after=timedelta(seconds=1))
            await engine.deliver(Approve("o"), id=f"queued {name}", to=Address.process(process_id), expires_after=timedelta(seconds=1))

            clock.advance(2 * SECOND)

            await comes(partial(dead, nodes, f"parked {name}"))
            await comes(partial(dead, nodes, f"queued {name}"))


async def dead(nodes: Nodes, message_id: str) -> bool:
    return await nodes.run("select status from perdure.message where message_id = $1", message_id) == [("dead",)]


async def test_a_process_is_restarted_from_a_step_at_the_other_node(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o", total=500)

        again = await nodes.b.restart_from("charge", process_id)

        assert again == "place o~2"
        await happens(lambda: ledger.effects == ["charge o", "charge o"], nodes)
        await nodes.comes_to(process_id, "waiting")
        await nodes.b.deliver(Approve("o"), id="m", to=Address.key("order:o"), wait=True)
        await nodes.comes_to(process_id, "idle")


async def test_a_process_that_ends_while_the_other_node_delivers_takes_a_message_or_refuses_it(
    url: str, clock: VirtualClock, ledger: Ledger
) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        ids = {order: await place(nodes, order) for order in (f"o{number}" for number in range(MANY))}

        async def comment(order: str, process_id: str) -> object:
            try:
                return await nodes.b.deliver(Comment(order, "late"), id=f"late {order}", to=Address.process(process_id), wait=True)
            except ProcessEnded as error:
                return error

        comments = [asyncio.create_task(comment(order, process_id)) for order, process_id in ids.items()]
        await asyncio.gather(*(nodes.a.deliver(Close(order), id=f"close {order}", wait=True) for order in ids))
        answers = await asyncio.gather(*comments)

        assert all(answer == 1 or isinstance(answer, ProcessEnded) for answer in answers)
        assert {await nodes.status(process_id) for process_id in ids.values()} == {"ended"}


async def test_children_on_both_nodes_are_cancelled_with_their_parent_asked_at_any(url: str, clock: VirtualClock) -> None:
    family = Families()
    async with two_nodes(url, family.app, clock) as nodes:
        for detached, (engine, at) in enumerate(((nodes.a, nodes.b), (nodes.b, nodes.a)), 1):
            process_id = nodes.id_on(engine)
            call = asyncio.create_task(at.call(family.parent, process_id, MANY, id=process_id))
            await comes(partial(number_of, nodes, "waiting", 1 + MANY + detached))

            assert await at.cancel(process_id, reason="enough")

            with pytest.raises(ProcessCancelled):
                await call

            await comes(partial(number_of, nodes, "ended", detached * (MANY + 1)))
            assert {text: count for text, count in family.ledger.counts.items() if process_id in text} == {
                f"undo {process_id}.{n}": 1 for n in range(MANY)
            }


async def number_of(nodes: Nodes, status: str, count: int) -> bool:
    return await nodes.run("select count(*) from perdure.process where status = $1", status) == [(count,)]


async def test_an_awakeable_is_completed_and_failed_at_the_other_node(url: str, clock: VirtualClock) -> None:
    app, tokens = App("app"), list[str]()

    async def hand_in(token: str) -> None:
        tokens.append(token)

    @app.process
    async def waits(p: Process) -> Any:
        token, value = p.awakeable()
        await p.step(hand_in, token)
        return await value

    async with two_nodes(url, app, clock) as nodes:
        process_id = nodes.id_on(nodes.a)
        call = asyncio.create_task(nodes.b.call(waits, id=process_id))
        await nodes.comes_to(process_id, "waiting")

        await nodes.b.complete_awakeable(tokens[0], 7)

        assert await call == 7


async def test_delayed_messages_between_nodes_come_when_they_are_due(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    app = make_app(ledger)

    @app.process
    async def later(p: Process, order: str) -> None:
        p.send(Comment(order, "later"), to=Address.key(f"order:{order}"), after=timedelta(hours=1))

    async with two_nodes(url, app, clock) as nodes:
        for sender, owner in ((nodes.a, nodes.b), (nodes.b, nodes.a), (nodes.b, nodes.b)):
            order = nodes.id_on(owner)
            process_id = await place(nodes, order, at=owner)
            await sender.call(later, order, id=nodes.id_on(sender))
            assert await nodes.run("select count(*) from perdure.message where status = 'delayed'") == [(1,)]

            async def come(order: str = order) -> bool:
                clock.advance(60_000_000)
                found = await nodes.run("select status from perdure.message where kind = 'comment' and address = $1", f"key order:{order}")
                return found == [("done",)]

            await comes(come)
            await nodes.comes_to(process_id, "idle")

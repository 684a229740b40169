"""Contract 2: two open stores on one database. Research on commands, sections 3.1 and 5.3: two servers, and races."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandRegistry, Lease, Succeeded
from perdure.commands.states import TERMINAL
from perdure.errors import IllegalTransition, LeaseLost, RejectedError
from perdure.store import Store, open_store
from tests.contracts.commands import (
    CANCELLED,
    FAILED,
    HOPELESS,
    MINUTE,
    OOPS,
    PENDING,
    SUCCEEDED,
    check,
    create,
    kinds,
    lease,
    state_of,
    take,
    waits_until,
)
from tests.stores import DURABLE, store_url

Nodes = tuple[Store, Store]
HOUR = 60 * MINUTE
YEAR = 365 * 24 * HOUR
MANY = 60
ROUNDS = 12
IDLE = 20_000


@pytest.fixture(params=DURABLE)
async def nodes(request: Any, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = store_url(request, request.param, tmp_path)
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        yield one, other


async def works(commands: CommandRegistry, most: int, worker: str) -> list[Lease]:
    """Take what there is, some at a time, until there is nothing."""
    found: list[Lease] = []
    while taken := await lease(commands, max_leases=most, worker=worker):
        found += taken
    return found


async def test_no_command_is_given_twice_and_none_is_left(nodes: Nodes) -> None:
    ids = await asyncio.gather(*(create(nodes[n % 2].commands) for n in range(MANY)))

    taken = await asyncio.gather(*(works(node.commands, most, f"{n}{most}") for n, node in enumerate(nodes) for most in (1, 3, 7)))

    assert Counter(one.command_id for some in taken for one in some) == Counter(ids)
    assert len({one.token for some in taken for one in some}) == MANY
    await check(nodes[0])


async def test_ten_workers_on_each_node_with_one_lease_each_all_have_work(nodes: Nodes) -> None:
    """Section 5.1: of ten, two had."""
    for n in range(20):
        await create(nodes[n % 2].commands)

    taken = await asyncio.gather(*(lease(node.commands) for node in nodes for _ in range(10)))

    assert sum(len(one) for one in taken) + len(await works(nodes[0].commands, 20, "last")) == 20
    assert len({one.command_id for some in taken for one in some}) == sum(len(one) for one in taken)
    await check(nodes[1])


async def test_work_made_while_others_take_and_give_back_is_done_once(nodes: Nodes, clock: VirtualClock) -> None:
    chance, done = random.Random(1), Counter[str]()

    async def made() -> list[str]:
        return [await create(nodes[n % 2].commands, priority=n % 3) for n in range(MANY)]

    async def worked(commands: CommandRegistry) -> None:
        idle = 0
        while done.total() < MANY and idle < IDLE:
            await asyncio.sleep(0)  # a look at a file does not wait
            taken = await lease(commands, max_leases=3)
            idle = 0 if taken else idle + 1
            for one in taken:
                if chance.random() < 0.3:
                    await commands.release(one.command_id, one.token)
                elif await commands.complete(one.command_id, one.token, Succeeded()):
                    done[one.command_id] += 1

    making = asyncio.create_task(made())
    await asyncio.gather(*(worked(node.commands) for node in nodes for _ in range(3)))
    ids = await making

    assert done == Counter(ids)
    assert [await state_of(nodes[0].commands, command_id) for command_id in ids] == [SUCCEEDED] * MANY
    await check(nodes[0])


async def test_who_waits_on_one_node_gets_what_is_made_on_the_other(nodes: Nodes, clock: VirtualClock) -> None:
    one, other = nodes
    waiting = asyncio.create_task(lease(one.commands, wait=30 * SECOND))
    await waits_until(clock, clock.now() + 30 * SECOND)

    command_id = await create(other.commands)
    [taken] = await waiting
    assert taken.command_id == command_id

    following = asyncio.create_task(other.commands.wait_command(command_id, 30 * SECOND))
    await waits_until(clock, clock.now() + 30 * SECOND)
    await one.commands.complete(command_id, taken.token, Succeeded())
    assert (await following).state == SUCCEEDED


async def test_of_one_key_on_two_nodes_one_command_is_made(nodes: Nodes) -> None:
    """Section 1.5 (7)."""
    for n in range(ROUNDS):
        made = await asyncio.gather(
            *(node.commands.create_command("site", "pick", idempotency_key=f"k{n}", params=b"1") for node in nodes for _ in range(4))
        )

        assert len({one.command_id for one in made}) == 1
        assert Counter(one.duplicate for one in made) == {False: 1, True: 7}
    await check(nodes[0])


async def test_of_two_who_give_params_at_once_one_does(nodes: Nodes) -> None:
    """Section 5.3: both passed the check, and the command was given out twice."""
    for _ in range(ROUNDS):
        made = await nodes[0].commands.create_command("site", "pick", "PENDING_UPLOAD")  # type: ignore[arg-type]  # as it comes over the wire

        given = await asyncio.gather(
            *(node.commands.set_params(made.command_id, data) for node, data in zip(nodes, (b"1", b"2"), strict=True)),
            return_exceptions=True,
        )

        assert [type(one) for one in given if one is not None] == [IllegalTransition]
        [taken] = await lease(nodes[0].commands, max_leases=2)
        assert taken.params == (b"1" if given[0] is None else b"2")
    await check(nodes[0])


Act = Callable[[CommandRegistry, Lease], Awaitable[Any]]
ACTS: dict[str, Act] = {
    "done": lambda commands, one: commands.complete(one.command_id, one.token, Succeeded(result=b"1")),
    "done otherwise": lambda commands, one: commands.complete(one.command_id, one.token, Succeeded(result=b"2")),
    "failed": lambda commands, one: commands.complete(one.command_id, one.token, HOPELESS),
    "tried": lambda commands, one: commands.complete(one.command_id, one.token, OOPS),
    "released": lambda commands, one: commands.release(one.command_id, one.token),
    "renewed": lambda commands, one: commands.renew(one.command_id, one.token),
    "cancelled": lambda commands, one: commands.cancel(one.command_id),
    "expired": lambda commands, one: commands.expire_due(2**52),
    "taken": lambda commands, one: lease(commands),
    "set": lambda commands, one: commands.update_command_state(one.command_id, PENDING),
}
RACES = [(one, other) for n, one in enumerate(ACTS) for other in list(ACTS)[n + 1 :]]


@pytest.mark.parametrize("due", ["nothing", "lease", "deadline"])
async def test_of_two_who_do_something_at_once_on_two_nodes_one_comes_after_the_other(nodes: Nodes, clock: VirtualClock, due: str) -> None:
    """Sections 3.1 and 5.3: release against re-lease, a result against expiry; each pair of what may happen to a leased command.

    Whatever the outcome, the store is whole, a command ends once, and its result is that of who was told that it counts.
    """
    for one, other in RACES:
        now = clock.now()
        command_id = await create(nodes[0].commands, deadline=now + 9 * SECOND if due == "deadline" else None)
        [taken] = await lease(nodes[0].commands, lease_for=9 * SECOND if due == "lease" else MINUTE)
        clock.advance(9 * SECOND)

        found = await asyncio.gather(ACTS[one](nodes[0].commands, taken), ACTS[other](nodes[1].commands, taken), return_exceptions=True)

        for answer in found:
            assert not isinstance(answer, BaseException) or isinstance(answer, RejectedError | LeaseLost), (one, other, answer)
        state, events = await state_of(nodes[0].commands, command_id), await kinds(nodes[1].commands, command_id)
        ends = [kind for kind in events if kind in ("succeeded", "failed", "expired", "cancelled")]
        assert len(ends) == (state in TERMINAL), (one, other, events)
        result = await nodes[1].commands.get_result(command_id)
        for name, answer in zip((one, other), found, strict=True):
            if answer is True and name.startswith("done"):
                assert (state, result) == (SUCCEEDED, b"1" if name == "done" else b"2")
        assert (result is not None) == (state == SUCCEEDED)
        assert due != "deadline" or state not in {SUCCEEDED, FAILED}, (one, other, events)
        await check(nodes[0])
        if state not in TERMINAL:
            await nodes[0].commands.update_command_state(command_id, CANCELLED)


async def test_of_a_worker_that_is_late_and_the_next_one_the_next_one_counts(nodes: Nodes, clock: VirtualClock) -> None:
    late, next_ = nodes
    command_id = await create(late.commands)
    first = await take(late.commands, lease_for=SECOND)
    clock.advance(SECOND)
    second = await take(next_.commands)

    answers = await asyncio.gather(
        late.commands.complete(command_id, first.token, HOPELESS),
        next_.commands.complete(command_id, second.token, Succeeded(result=b"2")),
        return_exceptions=True,
    )

    assert answers[1] is True
    assert answers[0] is False or isinstance(answers[0], LeaseLost)
    assert await state_of(late.commands, command_id) == SUCCEEDED
    await check(late)


@pytest.mark.parametrize("off", [-YEAR, YEAR], ids=["behind", "ahead"])
async def test_section_5_5_nodes_go_by_the_clock_of_the_server_whatever_their_own_shows(
    request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    """What had ended, and for how long, was told by the clock of whoever looked. On a file there is one clock, that of its machine."""
    url, shown = store_url(request, "postgres", tmp_path), time.time_ns
    async with open_store(url) as right:
        monkeypatch.setattr(time, "time_ns", lambda: shown() + 1_000 * off)  # the machine's
        async with open_store(url) as wrong:
            assert abs(wrong.access.clock.now() - right.access.clock.now()) < HOUR
            command_id = await create(right.commands, deadline=right.access.clock.now() + 2 * HOUR)
            taken = await take(right.commands, lease_for=HOUR)

            for _ in range(3):  # from the database, and from what is in memory
                renewed = await wrong.commands.renew(command_id, taken.token, lease_for=HOUR)
                assert abs(renewed.lease_expires_at - taken.lease_expires_at) < HOUR
            assert await wrong.commands.expire_due(2**52) == 0
            assert await lease(wrong.commands) == []
            assert await right.commands.complete(command_id, taken.token, Succeeded())
            await check(right)

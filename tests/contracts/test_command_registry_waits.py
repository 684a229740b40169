"""Contract 2: waiting for work and for an end of it, in virtual time. Research on commands, section 5.6."""

from __future__ import annotations

import asyncio

from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import Lease, Succeeded
from perdure.store import Store
from tests.contracts.commands import DISPATCHED, SUCCEEDED, create, lease, take, waits_until


async def after(span: int, waiting: asyncio.Task[list[Lease]], clock: VirtualClock) -> list[Lease]:
    """Return what somebody gets who waits until then."""
    await waits_until(clock, clock.now() + span)
    clock.advance(span)
    return await waiting


async def test_who_waits_gets_a_new_command_at_once(store: Store) -> None:
    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await lease(store.commands, deployment_id="other")

    command_id = await create(store.commands)

    assert [one.command_id for one in await waiting] == [command_id]


async def test_each_of_those_who_wait_gets_one(store: Store) -> None:
    waiting = [asyncio.create_task(lease(store.commands, wait=30 * SECOND)) for _ in range(5)]
    await lease(store.commands, deployment_id="other")

    ids = [await create(store.commands) for _ in range(5)]

    assert sorted(one.command_id for [one] in await asyncio.gather(*waiting)) == sorted(ids)


async def test_who_waits_in_vain_gets_nothing_at_the_end(store: Store, clock: VirtualClock) -> None:
    end = clock.now() + 30 * SECOND
    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await waits_until(clock, end)
    await create(store.commands, deployment_id="other")
    await create(store.commands, target="arm")

    clock.advance(30 * SECOND)

    assert await waiting == []


async def test_who_waits_gets_what_becomes_due_in_the_meantime(store: Store, clock: VirtualClock) -> None:
    delayed = await create(store.commands, delay=7 * SECOND)
    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await waits_until(clock, clock.now() + 7 * SECOND)

    clock.advance(7 * SECOND)

    assert [one.command_id for one in await waiting] == [delayed]


async def test_who_waits_already_gets_what_is_delayed_at_its_time(store: Store, clock: VirtualClock) -> None:
    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await waits_until(clock, clock.now() + 30 * SECOND)
    command_id = await create(store.commands, delay=2 * SECOND)
    [taken] = await after(2 * SECOND, waiting, clock)
    assert taken.command_id == command_id

    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await waits_until(clock, clock.now() + 30 * SECOND)
    await store.commands.release(command_id, taken.token, delay=3 * SECOND)
    [again] = await after(3 * SECOND, waiting, clock)
    assert (again.command_id, again.attempt) == (command_id, 2)


async def test_of_two_who_wait_for_one_command_the_second_gets_it_at_the_end_of_the_firsts_lease(store: Store, clock: VirtualClock) -> None:
    waiting = [asyncio.create_task(lease(store.commands, wait=30 * SECOND, lease_for=4 * SECOND)) for _ in range(2)]
    await waits_until(clock, clock.now() + 30 * SECOND)
    command_id = await create(store.commands)
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [one.command_id for one in done.pop().result()] == [command_id]

    taken = await after(4 * SECOND, rest.pop(), clock)

    assert [(one.command_id, one.attempt) for one in taken] == [(command_id, 2)]


async def test_who_waits_gets_what_a_worker_did_not_finish(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands)
    await take(store.commands, lease_for=4 * SECOND)
    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await waits_until(clock, clock.now() + 4 * SECOND)

    clock.advance(4 * SECOND)

    assert [(one.command_id, one.attempt) for one in await waiting] == [(command_id, 2)]


async def test_who_waits_for_names_is_not_content_with_others(store: Store, clock: VirtualClock) -> None:
    waiting = asyncio.create_task(lease(store.commands, names=["pack"], wait=30 * SECOND))
    await create(store.commands, "pick")
    await waits_until(clock, clock.now() + 30 * SECOND)

    command_id = await create(store.commands, "pack")

    assert [one.command_id for one in await waiting] == [command_id]
    assert (await take(store.commands)).command == "pick"


async def test_who_gave_up_waiting_takes_nothing(store: Store, clock: VirtualClock) -> None:
    waiting = asyncio.create_task(lease(store.commands, wait=30 * SECOND))
    await waits_until(clock, clock.now() + 30 * SECOND)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    command_id = await create(store.commands)

    assert (await take(store.commands)).command_id == command_id


async def test_who_follows_a_command_hears_of_its_end_and_of_its_state_after_a_while(store: Store, clock: VirtualClock) -> None:
    commands = store.commands
    command_id = await create(commands)
    taken = await take(commands)
    following = asyncio.create_task(commands.wait_command(command_id, 30 * SECOND))
    await waits_until(clock, clock.now() + 30 * SECOND)
    clock.advance(30 * SECOND)
    assert (await following).state == DISPATCHED

    following = asyncio.create_task(commands.wait_command(command_id, 300 * SECOND))
    await commands.complete(command_id, taken.token, Succeeded())
    assert (await following).state == SUCCEEDED
    assert (await commands.wait_command(command_id, 0)).state == SUCCEEDED

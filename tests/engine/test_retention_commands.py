"""Commands that are over go when they are old enough, with all that is kept of them. Source: the research on commands, 5.7."""

from __future__ import annotations

from datetime import timedelta

from perdure import App, CommandRetry, Engine, Retention, Store, VirtualClock
from perdure.commands.contract import Failed, Lease, Succeeded
from perdure.commands.states import CommandState
from perdure.commands.tables import TABLES
from perdure.limits import SWEEP_CHUNK, SWEEP_COMMANDS
from tests.engine.keeping import DAY

KEEP = Retention(commands=timedelta(days=1))
ONCE = CommandRetry(max_attempts=1)


async def rows(store: Store) -> int:
    return sum([await store.access.reader.count(table) for table in TABLES])


async def leased(store: Store) -> Lease:
    [lease] = await store.commands.lease("acme")
    return lease


async def test_what_is_over_goes_when_it_is_old_enough_and_its_key_may_be_used_again(store: Store, clock: VirtualClock) -> None:
    """Section 5.8: a key led to a command that was gone."""
    commands = store.commands
    async with Engine(store, App("none"), retention=KEEP) as engine:
        made = [await commands.create_command("acme", "work", params=b"1", idempotency_key=f"k{n}") for n in range(2 * SWEEP_COMMANDS)]
        for _ in made:
            lease = await leased(store)
            assert await commands.complete(lease.command_id, lease.token, Succeeded(result=b"2"))
        clock.advance(DAY - 1)
        assert (await engine.sweep()).commands == 0
        clock.advance(1)
        await engine.sweep()

        assert await rows(store) == 0
        assert not (await commands.create_command("acme", "work", params=b"3", idempotency_key="k0")).duplicate


async def test_what_is_open_and_dead_letters_stay(store: Store, clock: VirtualClock) -> None:
    commands = store.commands
    async with Engine(store, App("none"), retention=KEEP) as engine:
        dead = (await commands.create_command("acme", "work", retry=ONCE)).command_id
        lease = await leased(store)
        await commands.complete(dead, lease.token, Failed(code="broken", retryable=True))
        waiting = (await commands.create_command("acme", "work")).command_id
        clock.advance(2 * DAY)
        assert (await engine.sweep()).commands == 0

        assert {one.command_id for one in (await commands.list_commands()).commands} == {dead, waiting}
        await commands.redrive(dead)
        assert (await engine.sweep()).commands == 1
        assert await commands.get_command_status(dead) is None


async def test_a_long_history_goes_in_pages(store: Store, clock: VirtualClock) -> None:
    commands = store.commands
    async with Engine(store, App("none"), retention=KEEP) as engine:
        long = (await commands.create_command("acme", "work")).command_id
        for _ in range(SWEEP_CHUNK):
            await commands.increment_attempt(long)
        await commands.cancel(long)
        clock.advance(DAY)
        await engine.sweep()
        assert await rows(store) == 0


async def test_the_sweep_begins_by_itself_when_something_is_old_enough(store: Store, clock: VirtualClock) -> None:
    commands = store.commands
    made = (await commands.create_command("acme", "work")).command_id
    await commands.cancel(made)
    async with Engine(store, App("none"), retention=KEEP) as engine:
        assert await engine._sweeper.next_due() == clock.now() + DAY
        status = await commands.get_command_status(made)
        assert status is not None
        assert status.state == CommandState.CANCELLED

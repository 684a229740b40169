"""Contract 2: which command is given to whom, in what order, and for how long.

Groups of the seed's own tests (research on commands, section 3): V3, V4, V5, V8, V10, V13, and section 6 (4), (5), (7).
"""

from __future__ import annotations

import asyncio
import random
from contextlib import nullcontext

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandRegistry, Progress, Renewal, Stopped, Succeeded
from perdure.errors import LeaseLost, PerdureError, UsageError
from perdure.store import Store
from tests.contracts.commands import (
    DISPATCHED,
    LEASE,
    MINUTE,
    OOPS,
    PENDING,
    check,
    create,
    kept_apart,
    kinds,
    lease,
    state_of,
    take,
)


@pytest.fixture
def commands(store: Store) -> CommandRegistry:
    return store.commands


async def order(commands: CommandRegistry, **changes: object) -> list[str]:
    """Take everything that waits, in calls of a few."""
    found: list[str] = []
    while taken := await lease(commands, max_leases=2, **changes):
        found += [one.command_id for one in taken]
    return found


# --- order -------------------------------------------------------------------------------------------------------


async def test_of_equal_priority_the_oldest_comes_first(commands: CommandRegistry) -> None:
    """Section 5.1: the order of the queue was lost."""
    ids = [await create(commands) for _ in range(7)]

    assert await order(commands) == ids


async def test_the_lowest_priority_comes_first_and_of_equal_ones_who_has_been_available_for_longest(
    store: Store, clock: VirtualClock
) -> None:
    commands = store.commands
    late = await create(commands, priority=0, delay=2 * SECOND)
    last = await create(commands, priority=limits.PRIORITY_MAX)
    soon = await create(commands, priority=0, delay=SECOND)
    first = await create(commands, priority=-limits.PRIORITY_MAX)
    clock.advance(2 * SECOND)
    newest = await create(commands, priority=0)
    await check(store)

    assert await order(commands) == [first, soon, late, newest, last]


async def test_a_delayed_command_is_given_out_at_its_time_and_not_before(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands, delay=5 * SECOND)

    clock.advance(5 * SECOND - 1)
    assert await lease(store.commands) == []
    clock.advance(1)
    assert (await take(store.commands)).command_id == command_id
    await check(store)


async def test_any_mixture_is_given_out_in_one_order(store: Store, clock: VirtualClock) -> None:
    chance = random.Random(5)
    made: list[tuple[int, int, int, str]] = []
    for number in range(40):
        priority, delay = chance.choice([0, 0, 1, -1]), chance.choice([0, 0, SECOND, 3 * SECOND])
        made.append((priority, clock.now() + delay, number, await create(store.commands, priority=priority, delay=delay)))
        clock.advance(chance.choice([0, 0, SECOND]))
    clock.advance(3 * SECOND)

    assert await order(store.commands) == [command_id for *_, command_id in sorted(made)]


# --- who -----------------------------------------------------------------------------------------------------------


async def test_each_target_and_each_deployment_has_a_queue_of_its_own(commands: CommandRegistry) -> None:
    """V3, V10, section 1.5 (10): also when somebody asks for ten."""
    queues = [("site", None), ("site", "arm"), ("site", "leg"), ("depot", None), ("depot", "arm")]
    ids = {queue: await create(commands, deployment_id=queue[0], target=queue[1]) for queue in queues}

    assert await lease(commands, deployment_id="nobody", max_leases=10) == [], "V13: an unknown deployment has nothing to do"
    assert await lease(commands, target="nobody", max_leases=10) == []
    for (deployment_id, target), command_id in ids.items():
        [taken] = await lease(commands, deployment_id=deployment_id, target=target, max_leases=10)
        assert (taken.command_id, taken.deployment_id, taken.target) == (command_id, deployment_id, target)


async def test_names_that_look_alike_when_joined_never_cross(commands: CommandRegistry) -> None:
    """V9, R8, section 5.8: `:` and `/` are characters like any other."""
    first = await create(commands, "a:b/c", deployment_id="x:y", target="z")
    second = await create(commands, "c", deployment_id="x", target="y:z:a:b")
    third = await create(commands, "a:b/c", deployment_id="x", target="y:z")

    assert [one.command_id for one in await lease(commands, deployment_id="x:y", target="z", max_leases=9)] == [first]
    assert [one.command_id for one in await lease(commands, deployment_id="x", target="y:z:a:b", max_leases=9)] == [second]
    assert [one.command_id for one in await lease(commands, deployment_id="x", target="y:z", max_leases=9)] == [third]


async def test_who_names_what_it_can_do_gets_nothing_else(store: Store) -> None:
    """Section 5.4: an old replica killed new commands."""
    ids = {name: await create(store.commands, name) for name in ("new", "pick", "pack", "pick 2")}

    assert [one.command_id for one in await lease(store.commands, names=["pack", "pick", "pack"], max_leases=10)] == [
        ids["pick"],
        ids["pack"],
    ]
    assert await lease(store.commands, names=["pick"], max_leases=10) == []
    assert {one.command for one in await lease(store.commands, max_leases=10)} == {"new", "pick 2"}
    await check(store)


async def test_several_names_are_one_queue(commands: CommandRegistry) -> None:
    ids = [await create(commands, name, priority=priority) for name, priority in [("b", 1), ("a", 1), ("b", 0), ("a", 0), ("c", -1)]]

    taken = await lease(commands, names=["a", "b"], max_leases=3)

    assert [one.command_id for one in taken] == [ids[2], ids[3], ids[0]]


async def test_at_most_as_many_as_were_asked_for(commands: CommandRegistry) -> None:
    for _ in range(5):
        await create(commands)

    assert [len(await lease(commands, max_leases=count)) for count in (1, 3, limits.COMMAND_LEASES_MAX)] == [1, 3, 1]


@pytest.mark.parametrize(("workers", "leases"), [(1, 3), (1, 10), (3, 1), (10, 1), (4, 5), (10, 4)])
async def test_section_5_1_so_many_workers_times_so_many_leases_run_at_once(store: Store, workers: int, leases: int) -> None:
    """The most serious defect: of 10 workers with one lease each, two ran."""
    for _ in range(workers * leases + 3):
        await create(store.commands)

    taken = await asyncio.gather(*(lease(store.commands, max_leases=leases, worker=f"w{n}") for n in range(workers)))

    assert [len(one) for one in taken] == [leases] * workers
    assert len({one.command_id for some in taken for one in some}) == workers * leases
    assert len(await lease(store.commands, max_leases=100)) == 3
    await check(store)


async def test_section_5_1_work_that_never_ends_hides_nothing_behind_it(commands: CommandRegistry) -> None:
    stuck = [await create(commands) for _ in range(20)]
    assert len(await lease(commands, max_leases=20)) == len(stuck)

    for _ in range(5):
        command_id = await create(commands)
        assert (await take(commands)).command_id == command_id


async def test_params_come_with_the_lease_up_to_their_sum(store: Store) -> None:
    megabyte = b'"' + b"x" * (limits.COMMAND_PARAMS_MAX - 2) + b'"'
    most = limits.COMMAND_LEASE_BYTES_MAX // limits.COMMAND_PARAMS_MAX
    for _ in range(most + 1):
        await create(store.commands, params=megabyte)

    taken = await lease(store.commands, max_leases=100)

    assert [one.params for one in taken] == [megabyte] * most
    assert len(await lease(store.commands, max_leases=100)) == 1
    await check(store)


async def test_bytes_that_are_kept_apart_do_not_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_LEASE_BYTES_MAX", 100)
    monkeypatch.setattr(limits, "COMMAND_PARAMS_MAX", 100)
    commands, blobs = store.commands, [await kept_apart(store, bytes(101 + n)) for n in range(3)]
    for blob in blobs:
        await create(commands, params=blob)

    taken = await lease(commands, max_leases=10)

    assert [one.params for one in taken] == blobs


# --- how long ---------------------------------------------------------------------------------------------------------


async def test_a_command_that_somebody_has_is_given_to_nobody_else_until_its_lease_ends(store: Store, clock: VirtualClock) -> None:
    """V4, V5, section 1.5 (5): then with the next attempt, in lease and envelope. S8: after a minute, if nothing else was said."""
    commands = store.commands
    command_id = await create(commands)
    first = await take(commands, worker="one")
    assert (first.attempt, first.lease_expires_at) == (1, clock.now() + LEASE)
    clock.advance(LEASE - 1)
    assert await lease(commands) == []

    clock.advance(1)
    second = await take(commands, worker="two")

    assert (second.command_id, second.attempt) == (command_id, 2)
    assert second.token > first.token
    envelope = await commands.get_command_metadata(command_id)
    assert envelope is not None
    assert envelope.attempt == 2
    assert await kinds(commands, command_id) == ["created", "leased", "lease-expired", "leased"]
    await check(store)


async def test_what_comes_after_the_lease_counts_while_nobody_else_has_it(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands)
    taken = await take(store.commands, lease_for=SECOND)
    clock.advance(2 * SECOND)

    assert await store.commands.complete(command_id, taken.token, Succeeded(result=b"7"))

    assert await store.commands.get_result(command_id) == b"7"
    await check(store)


async def test_what_comes_after_the_lease_does_not_count_when_it_was_taken_back(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands)
    taken = await take(store.commands, lease_for=SECOND)
    clock.advance(SECOND)
    assert await store.commands.expire_due(clock.now()) == 1

    with pytest.raises(LeaseLost, match="nobody has it"):
        await store.commands.complete(command_id, taken.token, Succeeded())

    assert await state_of(store.commands, command_id) == PENDING
    await check(store)


async def test_a_lease_is_renewed_from_now_on_with_progress(store: Store, clock: VirtualClock) -> None:
    """Section 5.5: long work needed a long lease."""
    commands = store.commands
    command_id = await create(commands, deadline=clock.now() + 10 * MINUTE)
    taken = await take(commands)
    for step in range(5):
        clock.advance(50 * SECOND)
        renewal = await commands.renew(command_id, taken.token, progress=Progress(fraction=step / 10, note=f"step {step}"))
        assert renewal == Renewal(lease_expires_at=clock.now() + LEASE, deadline=taken.deadline, cancel_requested=False)
        await check(store)

    await commands.renew(command_id, taken.token, lease_for=2 * SECOND)

    found = await commands.get_command_status(command_id)
    assert found is not None
    assert found.progress == Progress(fraction=0.4, note="step 4"), "what is not said again stays"
    assert found.lease_expires_at == clock.now() + 2 * SECOND
    assert await lease(commands) == []


async def test_progress_is_that_of_the_present_attempt(commands: CommandRegistry) -> None:
    command_id = await create(commands)
    taken = await take(commands)
    await commands.renew(command_id, taken.token, progress=Progress(fraction=0.9))
    await commands.release(command_id, taken.token)

    await take(commands)

    found = await commands.get_command_status(command_id)
    assert found is not None
    assert found.progress is None


async def test_what_is_given_back_waits_again_with_the_next_attempt_and_is_no_failure(store: Store, clock: VirtualClock) -> None:
    """V13; section 5.2, release: never redelivered with the same number."""
    commands = store.commands
    command_id = await create(commands)
    for attempt in range(1, 6):
        taken = await take(commands)
        assert (taken.command_id, taken.attempt) == (command_id, attempt)
        await commands.release(command_id, taken.token, error="shutting down")
        await check(store)

    found = await commands.get_command_status(command_id)
    assert found is not None
    assert (found.state, found.failures, found.attempt) == (PENDING, 0, 6)
    event = (await commands.history(command_id, limit=100))[-1]
    assert (event.kind, event.attempt, event.actor, event.detail) == ("released", 5, "w", "shutting down")


async def test_what_is_given_back_for_later_waits_so_long(store: Store, clock: VirtualClock) -> None:
    command_id = await create(store.commands)
    await store.commands.release(command_id, (await take(store.commands)).token, delay=9 * SECOND)
    await check(store)

    clock.advance(9 * SECOND - 1)
    assert await lease(store.commands) == []
    clock.advance(1)
    assert (await take(store.commands)).attempt == 2


# --- fencing, section 5.3, section 6 (2) --------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["again", "released", "failed", "expired", "set", "done", "cancelled"])
async def test_a_token_that_is_not_the_present_one_changes_nothing(store: Store, clock: VirtualClock, then: str) -> None:
    commands = store.commands
    command_id = await create(commands)
    stale = (await take(commands, lease_for=SECOND)).token
    clock.advance(SECOND)
    token = (await take(commands)).token
    if then == "released":
        await commands.release(command_id, token)
    elif then == "failed":
        await commands.complete(command_id, token, OOPS)
    elif then == "expired":
        clock.advance(LEASE)
        await commands.expire_due(clock.now())
    elif then == "set":
        await commands.update_command_state(command_id, PENDING)
    elif then == "done":
        await commands.complete(command_id, token, Succeeded(result=b"1"))
    elif then == "cancelled":
        await commands.cancel(command_id)
        await commands.release(command_id, token)
    found, events = await commands.get_command_status(command_id), await kinds(commands, command_id)
    assert found is not None

    for wrong in {stale, token - 1, token + 1, 1} if then == "again" else {stale, token + 1, 1}:
        with pytest.raises(LeaseLost, match=f"token {wrong} is not the present one"):
            await commands.renew(command_id, wrong, progress=Progress(fraction=1.0))
        with pytest.raises(LeaseLost):
            await commands.release(command_id, wrong)
        for outcome in (Succeeded(result=b"2"), OOPS):
            if found.completed_at is None:
                with pytest.raises(LeaseLost):
                    await commands.complete(command_id, wrong, outcome)
            else:
                assert await commands.complete(command_id, wrong, outcome) is False

    assert await commands.get_command_status(command_id) == found
    assert await kinds(commands, command_id) == events
    assert await commands.get_result(command_id) == (b"1" if then == "done" else None)
    await check(store)


async def test_the_holder_is_refused_as_soon_as_somebody_set_its_command_aside(store: Store) -> None:
    """Section 5.3, release against re-lease: who is late does not take the command from who has it now."""
    command_id = await create(store.commands)
    first = (await take(store.commands)).token
    await store.commands.release(command_id, first)
    second = (await take(store.commands, worker="two")).token

    with pytest.raises(LeaseLost, match="to two"):
        await store.commands.release(command_id, first)

    assert await state_of(store.commands, command_id) == DISPATCHED
    assert await store.commands.complete(command_id, second, Succeeded())


@pytest.mark.parametrize(("token", "refusal"), [(0, UsageError), (1, LeaseLost)])
async def test_a_token_that_nobody_was_given_is_nobodys(commands: CommandRegistry, token: int, refusal: type[PerdureError]) -> None:
    command_id = await create(commands)
    with pytest.raises(refusal):
        await commands.complete(command_id, token, Succeeded())
    await commands.cancel(command_id)

    with pytest.raises(refusal) if token == 0 else nullcontext():
        assert await commands.complete(command_id, token, Stopped()) is False


async def test_tokens_grow_over_all_commands(commands: CommandRegistry) -> None:
    tokens: list[int] = []
    for _ in range(5):
        command_id = await create(commands)
        tokens.append((await take(commands)).token)
        await commands.complete(command_id, tokens[-1], OOPS)
    assert tokens == sorted(set(tokens))

"""Contract 2: idempotency keys, history, lists, and tenants apart.

Groups of the seed's own tests (research on commands, section 3): R7, V8, V9, and section 6 (8).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import limits
from perdure.blob import Blob
from perdure.clock import VirtualClock
from perdure.commands.contract import CommandEvent, CommandFilter, CommandRegistry, Progress, Succeeded
from perdure.errors import CommandNotFound, IdempotencyConflict, LeaseLost
from perdure.identity import TenantId
from perdure.store import Store
from tests.contracts.commands import (
    CANCELLED,
    FAILED,
    MINUTE,
    OOPS,
    PENDING,
    PENDING_UPLOAD,
    SUCCEEDED,
    Reopen,
    bring_to,
    check,
    create,
    kept_apart,
    kinds,
    lease,
    take,
)

THOUSAND = 1_000


@pytest.fixture
def commands(store: Store) -> CommandRegistry:
    return store.commands


# --- idempotency keys, section 5.8 ---------------------------------------------------------------------------------


async def test_the_same_key_and_params_are_the_same_command(store: Store, reopen: Reopen, clock: VirtualClock) -> None:
    first = await store.commands.create_command("site", "pick", deadline=clock.now() + 5, idempotency_key="k", params=b"1")
    assert first.duplicate is False
    clock.advance(MINUTE)
    store = await reopen()

    again = await store.commands.create_command("site", "pick", deadline=clock.now() - MINUTE, idempotency_key="k", params=b"1", priority=3)

    assert (again.command_id, again.duplicate) == (first.command_id, True)
    assert await kinds(store.commands, first.command_id) == ["created"]
    assert len((await store.commands.list_commands()).commands) == 1
    await check(store)


@pytest.mark.parametrize("state", [PENDING_UPLOAD, PENDING, SUCCEEDED, FAILED])
async def test_the_state_is_the_present_one(commands: CommandRegistry, clock: VirtualClock, state: Any) -> None:
    """Replay of a command that waits for its params says so, so that they can be given."""
    command_id = await bring_to(commands, state, clock, idempotency_key="k")

    again = await commands.create_command("site", "pick", idempotency_key="k")

    assert (again.command_id, again.state, again.duplicate) == (command_id, state, True)
    if state == PENDING_UPLOAD:
        await commands.set_params(again.command_id, b"1")
        assert (await take(commands)).params == b"1"


@pytest.mark.parametrize(
    "other",
    [None, b"2", b"1 ", b'"1"', Blob(sha256="a" * 64, size=1), Blob(sha256="b" * 64, size=1)],
    ids=["none", "2", "1 ", "text", "a", "b"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["data", "blob"])
async def test_the_same_key_and_other_params_are_a_conflict(store: Store, apart: bool, other: Any) -> None:
    first = await kept_apart(store, b"c") if apart else b"1"
    command_id = await create(store.commands, idempotency_key="k", params=first)

    with pytest.raises(IdempotencyConflict, match=command_id):
        await create(store.commands, idempotency_key="k", params=other)

    assert await kinds(store.commands, command_id) == ["created"]
    await check(store)


async def test_params_that_come_later_are_told_apart_by_their_size(commands: CommandRegistry) -> None:
    await create(commands, idempotency_key="k", initial_state=PENDING_UPLOAD, request_size_bytes=5)

    with pytest.raises(IdempotencyConflict):
        await create(commands, idempotency_key="k", initial_state=PENDING_UPLOAD, request_size_bytes=6)


async def test_a_key_belongs_to_its_tenant_deployment_target_and_name(store: Store) -> None:
    """V8, section 1.5 (7): it was global."""
    places: list[dict[str, Any]] = [
        {},
        {"tenant_id": "acme"},
        {"deployment_id": "depot"},
        {"target": "arm"},
        {"target": "leg"},
        {"deployment_id": "depot", "target": "arm"},
    ]
    ids = [await create(store.commands, idempotency_key="k", **place) for place in places]
    ids.append(await create(store.commands, "pack", idempotency_key="k"))
    ids += [await create(store.commands, idempotency_key=None) for _ in range(2)]

    assert len(set(ids)) == len(ids)
    await check(store, "default", "acme")


async def test_keys_that_look_alike_when_joined_are_apart(commands: CommandRegistry) -> None:
    """V9."""
    parts = [("a:b", "c", "d"), ("a", "b:c", "d"), ("a", "b", "c:d"), ("a/b", "c", "d"), ("a", "b/c", "d")]

    ids = {await create(commands, name, deployment_id=deployment_id, idempotency_key=key) for deployment_id, name, key in parts}

    assert len(ids) == len(parts)


async def test_of_a_thousand_at_once_with_one_key_one_is_made(store: Store) -> None:
    """Section 3.1, section 1.5 (7): the race made two live commands."""
    made = await asyncio.gather(*(store.commands.create_command("site", "pick", idempotency_key="k", params=b"1") for _ in range(THOUSAND)))

    assert len({one.command_id for one in made}) == 1
    assert sorted(one.duplicate for one in made) == [False, *[True] * (THOUSAND - 1)]
    assert len(await lease(store.commands, max_leases=100)) == 1
    await check(store)


# --- history, section 5.9 ---------------------------------------------------------------------------------------------


async def test_the_history_says_who_when_which_attempt_and_why(commands: CommandRegistry, clock: VirtualClock) -> None:
    start = clock.now()
    command_id = await create(commands, actor="ann")
    clock.advance(1)
    one = await take(commands, worker="one")
    clock.advance(1)
    await commands.release(command_id, one.token, error="busy")
    two = await take(commands, worker="two")
    clock.advance(1)
    await commands.complete(command_id, two.token, OOPS)
    clock.advance(MINUTE)
    three = await take(commands, worker="three")
    await commands.increment_attempt(command_id, actor="bob")
    await commands.cancel(command_id, reason="enough", actor="bob")
    await commands.complete(command_id, three.token, Succeeded())
    late = start + 3 + MINUTE

    expected = [
        CommandEvent(at=start, kind="created", attempt=1, actor="ann", detail=""),
        CommandEvent(at=start + 1, kind="leased", attempt=1, actor="one", detail=""),
        CommandEvent(at=start + 2, kind="released", attempt=1, actor="one", detail="busy"),
        CommandEvent(at=start + 2, kind="leased", attempt=2, actor="two", detail=""),
        CommandEvent(at=start + 3, kind="attempt-failed", attempt=2, actor="two", detail="oops"),
        CommandEvent(at=late, kind="leased", attempt=3, actor="three", detail=""),
        CommandEvent(at=late, kind="attempt-raised", attempt=4, actor="bob", detail=""),
        CommandEvent(at=late, kind="cancel-requested", attempt=4, actor="bob", detail="enough"),
        CommandEvent(at=late, kind="succeeded", attempt=4, actor="three", detail=""),
    ]
    assert await commands.history(command_id) == expected
    for limit in (1, 2, 4):
        pages: list[CommandEvent] = []
        while page := await commands.history(command_id, after=len(pages), limit=limit):
            assert len(page) <= limit
            pages += page
        assert pages == expected


async def test_there_is_nothing_after_the_end_of_a_history(commands: CommandRegistry) -> None:
    command_id = await create(commands)

    assert await commands.history(command_id, after=1) == []
    assert await commands.history(command_id, after=limits.SEQUENCE_MAX) == []


# --- lists ------------------------------------------------------------------------------------------------------------


async def listed(commands: CommandRegistry, limit: int = 100, **changes: Any) -> list[str]:
    """Return what a list shows, page by page."""
    found: list[str] = []
    after = None
    while True:
        page = await commands.list_commands(after=after, limit=limit, **changes)
        assert len(page.commands) <= limit
        found += [one.command_id for one in page.commands]
        if page.next is None:
            return found
        after = page.next


@pytest.mark.parametrize("limit", [1, 3, 12, 13, 1000])
async def test_a_list_shows_every_command_once_the_newest_first(commands: CommandRegistry, limit: int) -> None:
    ids = [await create(commands, deployment_id=f"d{number % 2}") for number in range(12)]

    assert await listed(commands, limit) == ids[::-1]
    assert await listed(commands, limit, matching=CommandFilter(deployment_id="d1")) == ids[1::2][::-1]
    assert await listed(commands, limit, matching=CommandFilter(deployment_id="none")) == []
    assert await listed(commands, limit, tenant_id="other") == []


async def test_what_is_made_or_changed_between_two_pages_moves_nothing(commands: CommandRegistry) -> None:
    ids = [await create(commands) for _ in range(6)]
    page = await commands.list_commands(limit=3)
    await create(commands)
    await take(commands)

    rest = await commands.list_commands(limit=3, after=page.next)

    assert [one.command_id for one in [*page.commands, *rest.commands]] == ids[::-1]


async def test_a_list_shows_what_was_asked_for(commands: CommandRegistry, clock: VirtualClock) -> None:
    ids = {}
    for target in ("arm", None):
        for name in ("pick", "pack"):
            for state in (PENDING, CANCELLED, FAILED):
                ids[target, name, state] = await bring_to(commands, state, clock, name=name, target=target)
    dead = await create(commands, "drop")
    taken = await take(commands, names=["drop"])
    await commands.complete(dead, taken.token, OOPS)
    clock.advance(MINUTE)
    for _ in range(2):
        await commands.complete(dead, (await take(commands, names=["drop"])).token, OOPS)
        clock.advance(MINUTE)

    def named(**wanted: Any) -> set[str]:
        matches = {key for key in ids if all(value in key for value in wanted.values())}
        return {ids[key] for key in matches}

    async def found(**wanted: Any) -> set[str]:
        return set(await listed(commands, matching=CommandFilter(**wanted)))

    assert await found() == {*ids.values(), dead}
    assert await found(target="arm") == named(target="arm")
    assert await found(command="pick") == named(command="pick")
    assert await found(state=CANCELLED) == named(state=CANCELLED)
    assert await found(state=FAILED, target="arm", command="pack") == {ids["arm", "pack", FAILED]}
    assert await found(dead=True) == {dead}
    assert await found(dead=False) == set(ids.values())
    assert await found(state=FAILED, dead=True, deployment_id="site") == {dead}
    assert await found(target="leg") == set()


async def test_a_list_finds_what_is_rare_among_many(store: Store) -> None:
    """A page looks at so many rows and says where to go on."""
    rare = await create(store.commands, "rare")
    await asyncio.gather(*(create(store.commands) for _ in range(limits.READ_PAGE + 3)))
    first = await create(store.commands, "rare")

    assert await listed(store.commands, 1, matching=CommandFilter(command="rare")) == [first, rare]


# --- tenants ----------------------------------------------------------------------------------------------------------


async def test_a_command_of_another_tenant_is_not_there(store: Store) -> None:
    """Section 1.5 (11): any tenant that knew a lease could release it. R7: whose it is was told differently by what was asked."""
    commands, acme = store.commands, TenantId("acme")
    made = await commands.create_command("site", "pick", tenant_id=acme, params=b"1")
    command_id = made.command_id
    status = await commands.get_command_status(command_id, tenant_id=acme)
    [listed_one] = (await commands.list_commands(tenant_id=acme)).commands
    assert status is not None
    assert [one.tenant_id for one in (made, status, listed_one)] == [acme] * 3
    assert await lease(commands, max_leases=10) == []
    taken = await take(commands, tenant_id=acme)

    assert await commands.get_command_status(command_id) is None
    assert await commands.get_command_metadata(command_id) is None
    assert await commands.get_params(command_id) is None
    for call in (
        commands.renew(command_id, taken.token, progress=Progress(fraction=1)),
        commands.release(command_id, taken.token),
        commands.complete(command_id, taken.token, Succeeded()),
        commands.cancel(command_id),
        commands.redrive(command_id),
        commands.history(command_id),
        commands.set_params(command_id, b"2"),
        commands.increment_attempt(command_id),
        commands.update_command_state(command_id, FAILED),
        commands.wait_command(command_id, 0),
    ):
        with pytest.raises(CommandNotFound):
            await call
    assert (await commands.list_commands()).commands == []
    assert await commands.complete(command_id, taken.token, Succeeded(result=b"1"), tenant_id=acme)
    assert await commands.get_result(command_id) is None
    await check(store, "default", "acme")


async def test_the_token_of_one_command_is_none_of_another(commands: CommandRegistry) -> None:
    for _ in range(2):
        await create(commands)
    one, two = await lease(commands, max_leases=2)

    with pytest.raises(LeaseLost):
        await commands.release(one.command_id, two.token)
    with pytest.raises(LeaseLost):
        await commands.complete(two.command_id, one.token, Succeeded())


async def test_a_history_has_a_limit_and_its_end_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMAND_EVENTS_MAX", 5)
    made = (await store.commands.create_command("site", "pick")).command_id
    for _ in range(10):
        [lease] = await store.commands.lease("site")
        await store.commands.release(made, lease.token)
    await store.commands.cancel(made)

    assert [event.kind for event in await store.commands.history(made)] == ["created", *["leased", "released"] * 2, "cancelled"]

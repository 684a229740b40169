"""Contract 2: defects that are known of the seed's system and have no test elsewhere, each with what holds here instead.

Those of section 5 of the research on commands are named by their sections. Of its 13 fixed bugs, section 1.5, (2), (6), (8), (9) and a
part of (12) are here, by their places in the list; beside them are, in this folder unless another is named,
(1) test_command_registry.py, (3) and (4) push/test_outcomes.py, (5) and (10) test_command_registry_leases.py,
(7) test_command_registry_lists.py and test_command_registry_nodes.py, (11) test_command_registry_lists.py and
server/test_commands_refused.py, the large params and results of (12) blobs/test_references.py, (13) worker/test_network.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.commands.contract import CommandRegistry, CommandRetry, Failed, Succeeded
from perdure.commands.queueing import End, nobody
from perdure.commands.registry import Commands
from perdure.commands.tables import COMMAND
from perdure.commands.writes import GiveBack
from perdure.core.backend import Backend, Found, Wanted
from perdure.core.table import Key
from perdure.core.view import View
from perdure.errors import CommandNotFound, IllegalTransition, LeaseLost, RejectedError
from perdure.identity import DEFAULT_TENANT
from perdure.store import Store
from tests.blobs.test_flows import Lose
from tests.contracts.commands import (
    DISPATCHED,
    EXPIRED,
    LEASE,
    MINUTE,
    OOPS,
    PENDING,
    PENDING_UPLOAD,
    SUCCEEDED,
    Reopen,
    check,
    create,
    kept_apart,
    kinds,
    lease,
    state_of,
    take,
)
from tests.crash.test_every_call import Failing

YEAR = 365 * 86_400 * SECOND


@pytest.fixture
def commands(store: Store) -> CommandRegistry:
    return store.commands


async def test_section_1_5_2_a_result_and_the_end_of_its_command_are_one(store: Store) -> None:
    """The result was stored, and the command stayed DISPATCHED; V17: nothing is left to be cleaned up after the end."""

    class Refusing(Exception):
        pass

    def refuse(_view: View, _end: End) -> None:
        raise Refusing

    command_id = await create(store.commands, params=b"1")
    token = (await take(store.commands)).token
    with pytest.raises(Refusing):
        await Commands(store.access, ended=refuse).complete(command_id, token, Succeeded(result=b"7"))

    assert await state_of(store.commands, command_id) == DISPATCHED
    assert await store.commands.get_result(command_id) is None
    await check(store)
    assert await store.commands.complete(command_id, token, Succeeded(result=b"7"))
    await check(store)


async def test_who_waits_is_told_of_each_end_once_with_what_it_gets(store: Store, clock: VirtualClock) -> None:
    told: list[End] = []
    commands = Commands(store.access, ended=lambda _view, end: told.append(end))
    done, failed, late = await create(commands), await create(commands), await create(commands, deadline=clock.now() + SECOND)
    one, two, _ = await lease(commands, max_leases=3)

    for _ in range(2):
        await commands.complete(done, one.token, Succeeded(result=b"7"))
        await commands.complete(failed, two.token, Failed(code="x", message="no", details=b"[1]"))
    clock.advance(SECOND)
    await commands.expire_due(clock.now())

    assert [(end.command_id, end.outcome) for end in told] == [(done, "ok"), (failed, "error"), (late, "error")]
    assert [end.response for end in told[:2]] == [b"7", b'{"state":"FAILED","code":"x","message":"no","details":[1]}']


async def test_section_1_5_6_giving_back_what_is_over_changes_nothing(commands: CommandRegistry) -> None:
    """The attempt was raised, and the state forced to PENDING."""
    command_id = await create(commands)
    token = (await take(commands)).token
    await commands.complete(command_id, token, Succeeded())
    found = await commands.get_command_status(command_id)

    with pytest.raises(LeaseLost, match="SUCCEEDED"):
        await commands.release(command_id, token)

    assert await commands.get_command_status(command_id) == found


async def test_section_1_5_8_a_deadline_that_nobody_looked_at_for_a_year_has_passed(
    store: Store, reopen: Reopen, clock: VirtualClock
) -> None:
    """What said when it is due was gone by then."""
    command_id = await create(store.commands, deadline=clock.now() + MINUTE)
    clock.advance(YEAR)

    store = await reopen()

    assert await store.commands.expire_due(clock.now()) == 1
    assert await state_of(store.commands, command_id) == EXPIRED
    await check(store)


class Watched(Failing):
    """A backend that fails at nothing, and notes which commands are read for a transaction."""

    def __init__(self, real: Backend) -> None:
        super().__init__("nothing", 1, real)
        self.read: list[Key[Any]] = []

    async def prefetch(self, wanted: Wanted, *, locked: bool) -> Found:
        return self._noted(await self._real.prefetch(wanted, locked=locked))

    def read_now(self, wanted: Wanted) -> Found | None:
        found = self._real.read_now(wanted)
        return None if found is None else self._noted(found)

    def _noted(self, found: Found) -> Found:
        self.read += [key for key in found.rows if key.table is COMMAND]
        return found


async def test_section_1_5_9_a_release_looks_at_its_command_and_no_other(store: Store) -> None:
    """It was by the lease, and looked at every command there was."""
    command_id = await create(store.commands)
    token = (await take(store.commands)).token
    await asyncio.gather(*(create(store.commands) for _ in range(999)))
    key = COMMAND.key(DEFAULT_TENANT, command_id)
    watched = store.access.writer._backend = Watched(store.access.writer._backend)

    await store.commands.release(command_id, token)

    assert list(GiveBack(key=key, token=token, delay=0, error="", ended=nobody).reads()) == [key]
    assert watched.read == [key]
    assert await state_of(store.commands, command_id) == PENDING


async def test_section_5_2_a_lease_whose_answer_was_lost_is_given_again_when_it_ends(
    store: Store, reopen: Reopen, clock: VirtualClock
) -> None:
    command_id = await create(store.commands)
    await take(store.commands)

    store = await reopen()
    clock.advance(LEASE)

    again = await take(store.commands)
    assert (again.command_id, again.attempt) == (command_id, 2)


@pytest.mark.parametrize("lost", [0, 1])
async def test_section_5_2_an_entry_without_its_command_is_told_and_never_anothers_work(store: Store, lost: int) -> None:
    """Leases that a call had given out before it came to such an entry were lost. V7: only a hand can bring it about here."""
    commands = store.commands
    arm = [await create(commands, target="arm") for _ in range(2)]
    leg = await create(commands, target="leg")
    await store.access.writer.run(Lose(COMMAND.key(DEFAULT_TENANT, arm[lost])))

    for _ in range(2):
        with pytest.raises(CommandNotFound, match=arm[lost]):
            await lease(commands, target="arm", max_leases=2)

    other = await commands.get_command_status(arm[1 - lost])
    assert other is not None
    assert (other.state, other.attempt) == (PENDING, 1)
    assert await kinds(commands, other.command_id) == ["created"]
    assert (await take(commands, target="leg")).command_id == leg


async def test_section_5_3_of_a_late_result_and_the_end_of_the_lease_one_comes_first(store: Store, clock: VirtualClock) -> None:
    for _ in range(10):
        command_id = await create(store.commands)
        token = (await take(store.commands, lease_for=SECOND)).token
        clock.advance(SECOND)

        counts, _ = await asyncio.gather(
            store.commands.complete(command_id, token, Succeeded(result=b"1")),
            store.commands.expire_due(clock.now()),
            return_exceptions=True,
        )

        state = await state_of(store.commands, command_id)
        assert (counts is True) == (state == SUCCEEDED)
        assert counts is True or (isinstance(counts, LeaseLost) and state == PENDING)
        if state == PENDING:
            await store.commands.cancel(command_id)
    await check(store)


async def test_section_5_4_an_unknown_name_is_given_back_and_not_failed(commands: CommandRegistry) -> None:
    """During a release, an old replica ended new commands for good."""
    command_id = await create(commands, "new")
    old = await take(commands)

    await commands.release(command_id, old.token, error="unknown name")

    assert (await take(commands, names=["new"])).command_id == command_id
    assert await kinds(commands, command_id) == ["created", "leased", "released", "leased"]


@pytest.mark.parametrize("how", ["lost", "failed", "given back"])
async def test_section_5_4_what_failed_waits_behind_what_came_meanwhile(store: Store, clock: VirtualClock, how: str) -> None:
    """It kept its old place, and a command that broke its worker was the first one again and again."""
    first = await create(store.commands, retry=CommandRetry(initial=0))
    taken = await take(store.commands, lease_for=SECOND)
    clock.advance(SECOND - 1)
    second = await create(store.commands)
    clock.advance(1)
    if how == "failed":
        await store.commands.complete(first, taken.token, OOPS)
    elif how == "given back":
        await store.commands.release(first, taken.token)

    assert [one.command_id for one in await lease(store.commands, max_leases=2)] == [second, first]
    await check(store)


async def test_section_5_5_an_hour_of_work_with_short_leases_is_one_attempt(store: Store, clock: VirtualClock) -> None:
    """The right to tell of an end lasted as long as the longest work, and so less than that and its way. Section 1.5 (12)."""
    command_id = await create(store.commands)
    taken = await take(store.commands, lease_for=30 * SECOND)
    for _ in range(180):
        clock.advance(20 * SECOND)
        assert await store.commands.expire_due(clock.now()) == 0
        await store.commands.renew(command_id, taken.token, lease_for=30 * SECOND)

    assert await store.commands.complete(command_id, taken.token, Succeeded())
    assert await kinds(store.commands, command_id) == ["created", "leased", "succeeded"], "a renewal is no event"
    await check(store)


async def test_section_5_7_params_and_result_can_be_read_a_year_later(store: Store, reopen: Reopen, clock: VirtualClock) -> None:
    """Their links ended after an hour. Section 1.5 (12)."""
    command_id = await create(store.commands, params=b'{"n":1}')
    await store.commands.complete(command_id, (await take(store.commands)).token, Succeeded(result=b"[2]"))
    clock.advance(YEAR)

    store = await reopen()

    assert await store.commands.get_params(command_id) == b'{"n":1}'
    assert await store.commands.get_result(command_id) == b"[2]"


@pytest.mark.parametrize("apart", [False, True], ids=["data", "blob"])
async def test_section_5_7_sizes_are_those_of_the_bytes(store: Store, apart: bool) -> None:
    """They were those of their Base64."""
    params, result = (await kept_apart(store, bytes(5_000_000)), await kept_apart(store, bytes(7))) if apart else (b'{"n":1}', b"[2]")

    command_id = await create(store.commands, params=params)
    later = await create(store.commands, initial_state=PENDING_UPLOAD)
    await store.commands.set_params(later, params)
    for taken in await lease(store.commands, max_leases=2):
        assert await store.commands.complete(taken.command_id, taken.token, Succeeded(result=result))

    for each in (command_id, later):
        found = await store.commands.get_command_status(each)
        assert found is not None
        assert (found.request_size_bytes, found.response_size_bytes) == ((5_000_000, 7) if apart else (7, 3))


async def test_section_5_9_nobody_changes_what_was_asked_for_or_answered(commands: CommandRegistry) -> None:
    command_id = await create(commands, params=b"1")
    token = (await take(commands)).token
    await commands.complete(command_id, token, Succeeded(result=b"2"))

    with pytest.raises(IllegalTransition):
        await commands.set_params(command_id, b"3")
    assert await commands.complete(command_id, token, Succeeded(result=b"4")) is False

    assert (await commands.get_params(command_id), await commands.get_result(command_id)) == (b"1", b"2")


async def test_what_is_rejected_is_rejected_for_good(commands: CommandRegistry) -> None:
    """Whoever gets such an error need not try again: it is one class, and retrying is of no use."""
    command_id = await create(commands)
    await commands.cancel(command_id)

    with pytest.raises(RejectedError):
        await commands.increment_attempt(command_id)


@pytest.mark.parametrize("live", [0, 3])
async def test_section_5_5_a_lease_gives_out_nothing_overdue_however_much_is(store: Store, clock: VirtualClock, live: int) -> None:
    """A pass ended after so many, and the rest was given out; V19."""
    overdue = [await create(store.commands, deadline=clock.now() + MINUTE) for _ in range(2 * limits.COMMAND_DUE_CHUNK + 1)]
    clock.advance(2 * MINUTE)
    fresh = [await create(store.commands) for _ in range(live)]

    given = await store.commands.lease("site", max_leases=10)

    assert [one.command_id for one in given] == fresh
    assert {await state_of(store.commands, each) for each in overdue} == {EXPIRED}
    await check(store)

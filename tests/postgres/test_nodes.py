"""Several nodes on one database: what one changes between another's reading and writing, and who waits for whom."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from perdure.core.backend import Wanted
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.errors import OutcomeUnknown, RejectedError
from tests.core.driving import Look, job
from tests.core.shop import JOB, LETTER, OWNER, PARKED, Act, Create, Drop, Job, Letter, Owner, Park
from tests.core.test_faults_core import Arrive, CountLetters, Follow
from tests.postgres.site import Node, Site, add


@pytest.fixture
async def one(site: Site) -> Node:
    return await site.open()


@pytest.fixture
async def other(site: Site) -> Node:
    return await site.open()


class Raise(Act, frozen=True):
    """Raise the priority of a job."""

    id: int

    def decide(self, view: View) -> int:
        found = view.get(JOB.key(self.id))
        assert found is not None
        view.update(JOB.key(self.id), msgspec.structs.replace(found, priority=found.priority + 1))
        return found.priority + 1


class RaiseUnless(Act, frozen=True):
    """Raise the priority of a job unless there is another one: a decision about an absent row that it does not insert."""

    id: int
    unless: int

    def decide(self, view: View) -> bool:
        found = view.get(JOB.key(self.id))
        assert found is not None
        if view.get(JOB.key(self.unless)) is not None:
            return False
        view.update(JOB.key(self.id), msgspec.structs.replace(found, priority=found.priority + 1))
        return True


class RaiseBeside(Act, frozen=True):
    """Raise the priority of a job, and return whether another one is there."""

    id: int
    other: int

    def decide(self, view: View) -> bool:
        beside = view.get(JOB.key(self.other)) is not None
        found = view.get(JOB.key(self.id))
        assert found is not None
        view.update(JOB.key(self.id), msgspec.structs.replace(found, priority=found.priority + 1))
        return beside


class Declared(Act, frozen=True):
    """A decision that changes nothing, and says before what it reads."""

    id: int

    def reads(self) -> tuple[Read, ...]:
        return (JOB.key(self.id),)

    def decide(self, view: View) -> Job | None:
        return view.get(JOB.key(self.id))


class Remove(Act, frozen=True):
    """Delete a job, if it is there."""

    id: int

    def decide(self, view: View) -> bool:
        if view.get(JOB.key(self.id)) is None:
            return False
        view.delete(JOB.key(self.id))
        return True


# --- what was read has changed when it is written -----------------------------------------------------------


async def test_a_row_that_another_node_changed_meanwhile_is_read_and_decided_again(one: Node, other: Node) -> None:
    await one.run(add("k"))
    one.meanwhile(lambda: other.run(add("k")))

    assert await one.run(add("k")) == 3
    assert await one.reader.get(OWNER.key("k")) == Owner(None, 3)
    assert one.backend.locked == [False, False, True]


async def test_a_row_that_was_only_looked_at_is_looked_at_again_when_another_node_changed_it(one: Node, other: Node) -> None:
    await one.run(job(1))
    one.meanwhile(lambda: other.run(Raise(1)))

    assert await one.run(Follow(2, 1)) == 1


async def test_of_two_nodes_that_insert_the_same_row_the_second_decides_again(one: Node, other: Node) -> None:
    one.meanwhile(lambda: other.run(job(1)))

    with pytest.raises(RejectedError, match="job 1 exists"):
        await one.run(job(1))
    assert await one.reader.counter("jobs") == 1


async def test_a_row_that_another_node_is_about_to_insert_is_waited_for_and_decided_again(site: Site, one: Node) -> None:
    committing = await site.commit_when_waited_for("insert into perdure.job values (1, 'b', 'pending', 0, 0, 0, 1)")

    with pytest.raises(RejectedError, match="job 1 exists"):  # the decision says so, not the database
        await one.run(job(1))
    await committing


async def test_a_row_that_another_node_deleted_meanwhile_is_neither_changed_nor_deleted(one: Node, other: Node) -> None:
    await one.run(job(1))
    one.meanwhile(lambda: other.run(Remove(1)))

    assert await one.run(Remove(1)) is False


async def test_a_row_that_was_absent_is_looked_for_again_when_another_node_made_it(one: Node, other: Node) -> None:
    await one.run(job(1))
    await one.run(Look(1))  # what is in memory and what is absent need not have been so at one moment
    one.meanwhile(lambda: other.run(job(2)))

    assert await one.run(RaiseUnless(1, 2)) is False
    assert await one.reader.get(JOB.key(1)) == Job("a", "pending", 0, 0, 0)


async def test_a_range_with_a_guard_is_looked_at_again_when_another_node_added_to_it(one: Node, other: Node) -> None:
    await one.run(Arrive(1))
    one.meanwhile(lambda: other.run(Arrive(2)))

    assert await one.run(CountLetters(1)) == 2


@pytest.mark.parametrize("look", [Look(1), Declared(1)], ids=["discovered", "declared"])
async def test_a_decision_that_only_reads_sees_what_another_node_has_committed(one: Node, other: Node, look: Any) -> None:
    await one.run(job(1))
    await one.run(look)

    await other.run(Raise(1))

    assert await one.run(look) == Job("a", "pending", 1, 0, 0)
    assert one.backend.locked[2:] == [False, True], "what was in memory was old"


async def test_what_was_found_to_be_old_is_forgotten(one: Node, other: Node) -> None:
    await one.run(job(1))
    await other.run(Remove(1))
    assert await one.run(Look(1)) is None
    one.backend.locked.clear()

    assert await one.run(Look(1)) is None

    assert one.backend.locked == [False], "once is enough"


async def test_what_a_refused_write_was_decided_on_is_forgotten(one: Node, other: Node) -> None:
    await one.run(job(1))
    await one.run(job(2))
    await other.run(Remove(1))
    assert await one.run(RaiseBeside(2, 1)) is False
    one.backend.locked.clear()

    assert await one.run(RaiseBeside(2, 1)) is False

    assert one.backend.locked == [False], "once is enough"


async def test_a_row_that_is_deleted_and_made_again_in_one_transaction_is_a_new_one(one: Node) -> None:
    await one.run(job(1))

    await one.commit(Drop(1), Create(1, "b", 5, 6))

    assert await one.reader.get(JOB.key(1)) == Job("b", "pending", 5, 6, 0), "with another value of what never changes"
    assert await one.run(Raise(1)) == 6


async def test_every_change_of_nodes_that_change_the_same_rows_counts(site: Site) -> None:
    nodes = [await site.open() for _ in range(3)]

    await asyncio.gather(*(node.run(add("k", f"of {n}")) for n, node in enumerate(nodes) for _ in range(20)))

    assert await nodes[0].reader.get(OWNER.key("k")) == Owner(None, 60)


# --- locks ----------------------------------------------------------------------------------------------------


async def test_what_a_batch_has_locked_nobody_changes_before_its_end(site: Site, one: Node) -> None:
    await one.run(job(1))

    await one.database.backend.prefetch(Wanted((JOB.key(1),), ()), locked=True)
    held = await site.is_locked(JOB.key(1))
    await one.database.backend.abandon()

    assert held
    assert not await site.is_locked(JOB.key(1))


KEYS: list[tuple[Key[Any], Key[Any]]] = [
    (JOB.key(1), JOB.key(2)),
    (JOB.key(9), OWNER.key("a")),
    (LETTER.key("k", 7), LETTER.key("l", 1)),
]
"""The first of each is locked before the second, by whoever locks both: nobody waits for somebody who waits for him."""


async def waits_at_the_first(site: Site, first: Key[Any], second: Key[Any], waits: Any) -> None:
    """Check that whoever waits for the first row has not locked the second one yet."""
    holder = await site.connect()
    await holder.execute("begin")
    where = " and ".join(f"{column} = ${n}" for n, column in enumerate(first.table.key_columns, 1))
    await holder.execute(f"select 1 from perdure.{first.table.name} where {where} for update", *first.parts)

    waiting = asyncio.ensure_future(waits())
    await site.blocked()
    held = await site.is_locked(second)
    await holder.execute("rollback")
    await waiting

    assert not held


async def there(node: Node, *keys: Key[Any]) -> None:
    rows = {JOB: Job("a", "pending", 0, 0, 0), OWNER: Owner(None, 0), LETTER: Letter(None, 0)}
    await node.run(Make(tuple(keys), tuple(rows[key.table] for key in keys)))


class Make(Act, frozen=True):
    """Insert rows."""

    keys: tuple[Key[Any], ...]
    rows: tuple[Any, ...]

    def decide(self, view: View) -> None:
        for key, row in zip(self.keys, self.rows, strict=True):
            assert view.get(key) is None
            view.insert(key, row)


class Touch(Act, frozen=True):
    """Read rows and write some of them as they are."""

    read: tuple[Key[Any], ...]
    written: tuple[Key[Any], ...]

    def reads(self) -> tuple[Read, ...]:
        return self.read

    def decide(self, view: View) -> None:
        for key in self.read:
            row = view.get(key)
            assert row is not None
            if key in self.written:
                view.update(key, row)


@pytest.mark.parametrize(("first", "second"), KEYS, ids=repr)
async def test_rows_are_locked_in_one_order_when_they_are_read(site: Site, one: Node, first: Key[Any], second: Key[Any]) -> None:
    await there(one, first, second)
    backend = one.database.backend

    await waits_at_the_first(site, first, second, lambda: backend.prefetch(Wanted((second, first), ()), locked=True))
    await backend.abandon()


@pytest.mark.parametrize(("first", "second"), KEYS, ids=repr)
@pytest.mark.parametrize("written", [(0,), (1,), (0, 1)], ids=["first", "second", "both"])
async def test_rows_are_locked_in_one_order_when_they_are_written(
    site: Site, one: Node, first: Key[Any], second: Key[Any], written: tuple[int, ...]
) -> None:
    await there(one, first, second)
    touch = Touch((second, first), tuple((first, second)[n] for n in written))

    await waits_at_the_first(site, first, second, lambda: one.run(touch))


async def test_a_range_is_read_behind_the_locks_so_that_it_has_what_they_waited_for(site: Site, one: Node, other: Node) -> None:
    """With the state of before, a decision would know the guard's new version and miss what came with it."""
    await other.run(Park("k", 1))
    parking = await site.connect()
    await parking.execute(
        "begin; update perdure.owner set parked = 2, rev = 2; insert into perdure.letter values ('k', 2, null, 9000000000000000000, 1)"
    )
    backend = one.database.backend

    reading = asyncio.ensure_future(
        backend.prefetch(Wanted((OWNER.key("k"),), (Scan(PARKED, ("k",), 9, guard=OWNER.key("k")),)), locked=True)
    )
    await site.blocked()
    await parking.execute("commit")
    found = await reading
    await backend.abandon()

    assert found.rows[OWNER.key("k")] == (2, Owner(None, 2))
    [(_, page)] = found.pages
    assert page.keys == (LETTER.key("k", 1), LETTER.key("k", 2))


async def test_two_nodes_that_read_what_the_other_writes_both_come_to_an_end(one: Node, other: Node) -> None:
    await there(one, JOB.key(1), JOB.key(2))
    touching = [(one, Touch((JOB.key(1), JOB.key(2)), (JOB.key(1),))), (other, Touch((JOB.key(2), JOB.key(1)), (JOB.key(2),)))]

    for _ in range(20):
        assert await asyncio.gather(*(node.run(touch) for node, touch in touching)) == [None, None]


async def test_an_incarnation_waits_for_what_the_one_before_has_under_way(site: Site, one: Node, other: Node) -> None:
    """Its outcome is read then, and no sooner."""
    await one.run(add("k"))
    holder = await site.connect()
    await holder.execute("begin; select 1 from perdure.owner for update")
    writing = asyncio.ensure_future(one.run(add("k")))
    await site.blocked()
    row = one.database.backend._row
    assert row is not None

    settling = asyncio.ensure_future(other.database.settle(OutcomeUnknown(node=row.node, batch=row.batch + 1, cause="cut")))
    await site.blocked(2)
    await holder.execute("rollback")

    assert await settling, "it was committed after all"
    assert await writing == 2

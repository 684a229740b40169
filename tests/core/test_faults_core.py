"""What only another node's change at the worst moment shows, and what only a caller who waits for ever would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from perdure.core.backend import BatchConflict
from perdure.core.table import Scan
from perdure.core.view import View
from perdure.core.write import Write
from perdure.core.writer import Writer
from perdure.errors import RejectedError
from tests.core.driving import Broken, Fault, job, jobs, started, together
from tests.core.memory import MemoryBackend
from tests.core.shop import JOB, LETTER, LINE, OWNER, PARKED, Act, Job, Letter, Line, Note, Owner, Stumble


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


class Follow(Act, frozen=True):
    """Make a job with the priority of another."""

    id: int
    of: int

    def decide(self, view: View) -> int:
        other = view.get(JOB.key(self.of))
        assert other is not None
        assert view.get(JOB.key(self.id)) is None
        view.insert(JOB.key(self.id), Job("a", "pending", other.priority, 0, 0))
        return other.priority


class CountLetters(Act, frozen=True):
    """Make a job with as many attempts as letters are parked under a key."""

    id: int

    def decide(self, view: View) -> int:
        letters = view.scan(Scan(PARKED, ("k",), 10, guard=OWNER.key("k")))
        assert view.get(JOB.key(self.id)) is None
        view.insert(JOB.key(self.id), Job("a", "pending", 0, 0, len(letters)))
        return len(letters)


class Arrive(Act, frozen=True):
    """Park a letter, as everybody does: with the guard of its range."""

    id: int

    def decide(self, view: View) -> None:
        held = view.get(OWNER.key("k"))
        assert view.get(LETTER.key("k", self.id)) is None
        view.insert(LETTER.key("k", self.id), Letter(None, view.tick()))
        if held is None:
            view.insert(OWNER.key("k"), Owner(None, 1))
        else:
            view.update(OWNER.key("k"), Owner(None, held.parked + 1))


async def while_another_node(backend: MemoryBackend, write: Write[int], change: Callable[[], None]) -> int:
    """Run `write`; between its decision and its commit another node commits `change`."""
    writer = await started(backend)
    changes = [change]

    def before(call: str) -> None:
        if call == "apply" and changes:
            changes.pop()()

    backend.before = before
    return await writer.run(write)


async def test_a_decision_on_a_row_that_another_node_changed_meanwhile_is_made_again(backend: MemoryBackend) -> None:
    rows = backend.database.rows
    rows[JOB.key(1)] = (1, Job("a", "pending", 0, 0, 0))

    def change() -> None:
        rows[JOB.key(1)] = (2, Job("a", "pending", 5, 0, 0))

    assert await while_another_node(backend, Follow(2, 1), change) == 5
    assert rows[JOB.key(2)] == (1, Job("a", "pending", 5, 0, 0))


async def test_a_range_with_a_guard_is_looked_at_again_when_another_node_added_to_it(backend: MemoryBackend) -> None:
    await (await started(backend)).run(Arrive(1))
    rows = backend.database.rows

    def change() -> None:
        rows[LETTER.key("k", 2)] = (1, Letter(None, 10))
        rows[OWNER.key("k")] = (2, Owner(None, 2))

    assert await while_another_node(backend, CountLetters(1), change) == 2
    assert msgspec.structs.asdict(rows[JOB.key(1)][1])["attempts"] == 2


async def test_nothing_that_a_rejected_transaction_did_stays(backend: MemoryBackend) -> None:
    sent: list[str] = []
    writer = Writer(backend, on_signals=sent.extend)
    await writer.start()
    await writer.run(job(1))
    database = backend.database
    before = dict(database.rows), +database.counters

    told = await together(writer, [Stumble(1, "a"), Note(1), Broken()])

    assert [type(error) for error in told] == [RejectedError, int, ZeroDivisionError]
    line = database.rows.pop(LINE.key(1))
    assert line == (1, Line("line 1"))
    assert (database.rows, +database.counters, database.last_tick) == (*before, told[1])
    assert sent == ["queue/a"]


async def test_of_a_batch_in_halves_everybody_hears(backend: MemoryBackend) -> None:
    writer = Writer(backend, on_signals=lambda _topics: None)
    await writer.start()
    backend.before = Fault("apply", BatchConflict("another node"), 1, 2, 3, 4, 5, 6)
    callers = [asyncio.create_task(writer.run(job(id))) for id in range(5)]
    await asyncio.sleep(0)

    await writer.close()
    await asyncio.sleep(0)

    assert [caller.done() for caller in callers] == [True] * 5
    assert jobs(backend) == set(range(5))


async def test_the_backend_is_closed_behind_the_last_batch(backend: MemoryBackend) -> None:
    writer = await started(backend)
    callers = [asyncio.create_task(writer.run(job(id))) for id in range(3)]
    await asyncio.sleep(0)
    at_close: list[int] = []
    backend.before = lambda call: at_close.append(len(jobs(backend))) if call == "close" else None

    await writer.close()

    assert at_close == [3]
    await asyncio.gather(*callers)

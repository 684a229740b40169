"""What two open stores on one file show only in decisions that write nothing, and in rows beside the one that is meant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from perdure.clock import VirtualClock
from perdure.core.view import View
from perdure.core.writer import Writer
from tests.core.driving import Look, job
from tests.core.shop import JOB, LETTER, Act, Job, Letter
from tests.sqlite.shop import open_shop


class Raise(Act, frozen=True):
    """Raise the priority of a job."""

    id: int

    def decide(self, view: View) -> None:
        found = view.get(JOB.key(self.id))
        assert found is not None
        view.update(JOB.key(self.id), msgspec.structs.replace(found, priority=found.priority + 1))


class Write(Act, frozen=True):
    """Write letters, or the owner of one of them."""

    keys: tuple[tuple[str, int], ...]
    owner: int | None = None

    def decide(self, view: View) -> None:
        for key in self.keys:
            if view.get(LETTER.key(*key)) is None:
                view.insert(LETTER.key(*key), Letter(self.owner, 0))
            else:
                view.update(LETTER.key(*key), Letter(self.owner, 0))


@pytest.fixture
async def writers(tmp_path: Path) -> AsyncIterator[tuple[Writer, Writer]]:
    clock = VirtualClock()
    opened = []
    for _ in range(2):
        database = await open_shop(tmp_path / "shop.db", clock=clock)
        writer = Writer(database.backend, on_signals=lambda _topics: None)
        await writer.start()
        opened.append(writer)
    yield opened[0], opened[1]
    for writer in opened:
        await writer.close()


async def test_a_decision_that_only_reads_sees_what_another_process_has_committed(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    await one.run(job(1))
    await one.run(Look(1))

    await other.run(Raise(1))

    assert await one.run(Look(1)) == Job("a", "pending", 1, 0, 0)


async def test_a_change_of_one_row_leaves_its_neighbours(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    await one.run(Write((("k", 1), ("k", 2), ("l", 1), ("l", 2))))

    await other.run(Write((("k", 1),), owner=7))

    seen = [await one.run(Letters(key, id)) for key in "kl" for id in (1, 2)]
    assert seen == [Letter(7, 0), Letter(None, 0), Letter(None, 0), Letter(None, 0)]


class Letters(Act, frozen=True):
    """A decision that reads one letter."""

    key: str
    id: int

    def decide(self, view: View) -> Letter | None:
        return view.get(LETTER.key(self.key, self.id))

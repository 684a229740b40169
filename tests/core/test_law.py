"""The core's law: one batch of n transactions is n batches of one, results and tables alike."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from perdure.core.write import Transaction, Write
from perdure.core.writer import Writer
from perdure.errors import PerdureError
from tests.core.conftest import Make, Maker
from tests.core.shop import random_transaction
from tests.core.subjects import Subject

Outcome = tuple[Any, str | None]
GATE = 1_000
REFUSALS = 40
SERVERS_SHARE = 4  # a round trip takes its time: a server gets a fourth of the work
SOAK = int(os.environ.get("PERDURE_SOAK_LAW", "100000"))
KINDS: dict[str, tuple[str, dict[str, bool]]] = {
    "memory": ("memory", {}),  # it has to wait for what a decision discovers: the decision is made again
    "memory-at-once": ("memory", {"at_once": True}),
    "sqlite": ("sqlite", {}),
    "postgres": ("postgres", {}),
    "postgres-locked": ("postgres", {"locked": True}),
}


class Subjects(Maker):
    """Makes subjects, as many as a test wants at a time."""

    def __init__(self, request: pytest.FixtureRequest, kind: str) -> None:
        name, options = KINDS[kind]
        super().__init__(request, name)
        self.make: Make = partial(self, **options)
        self.share = SERVERS_SHARE if name == "postgres" else 1


@pytest.fixture(params=KINDS)
async def subjects(request: Any) -> AsyncIterator[Subjects]:
    subjects = Subjects(request, request.param)
    yield subjects
    await subjects.leave()


def _told(error: Exception | None) -> str | None:
    if error is None:
        return None
    assert isinstance(error, PerdureError), error
    return f"{error.code}: {error}" if error.code != "transaction-refused" else error.code


async def _as_one_batch(subject: Subject, transactions: list[tuple[Write[Any], ...]], signals: set[str]) -> list[Outcome]:
    """Queue all before the writer starts, so that they become one batch."""
    writer = Writer(subject, on_signals=signals.update)
    writer._row = subject.writer_row or await subject.fence()
    told: list[tuple[Any, Exception | None]] = []
    for writes in transactions:
        writer.submit(Transaction(writes), lambda results, error: told.append((results, error)))
    await writer._process(writer._take())
    subject.writer_row = writer._row
    assert len(told) == len(transactions), "everybody hears"
    return [(results, _told(error)) for results, error in told]


async def _law(subjects: Subjects, seed: int, sizes: list[int]) -> int:
    rng = random.Random(seed)
    together, apart = await subjects.make(), await subjects.make()
    total = 0
    for size in sizes:
        transactions = [random_transaction(rng) for _ in range(size)]
        signals_together: set[str] = set()
        signals_apart: set[str] = set()
        one = await _as_one_batch(together, transactions, signals_together)
        many = [outcome for writes in transactions for outcome in await _as_one_batch(apart, [writes], signals_apart)]
        assert one == many, f"seed {seed}"
        assert signals_together == signals_apart, f"seed {seed}"
        assert await together.state() == await apart.state(), f"seed {seed}"
        total += size
    await subjects.leave()
    return total


async def test_one_batch_of_n_is_n_batches_of_one(subjects: Subjects) -> None:
    done, seed = 0, 0
    while done < GATE // subjects.share:
        seed += 1
        done += await _law(subjects, seed, [random.Random(seed).choice((1, 3, 10, 40)) for _ in range(6)])


@pytest.mark.soak
async def test_one_batch_of_n_is_n_batches_of_one_at_length(subjects: Subjects) -> None:
    done, seed = 0, 1_000_000
    while done < SOAK // subjects.share:
        seed += 1
        done += await _law(subjects, seed, [random.Random(seed).choice((1, 3, 10, 40)) for _ in range(6)])


async def test_every_database_and_a_dictionary_come_to_the_same_results(subjects: Subjects, request: pytest.FixtureRequest) -> None:
    dictionaries = Subjects(request, "memory")
    for seed in range(20 // subjects.share):
        rng = random.Random(seed)
        second = await subjects.make()
        first = await dictionaries.make(ticks=second.ticks)
        for size in (1, 10, 40):
            transactions = [random_transaction(rng) for _ in range(size)]

            assert await _as_one_batch(first, transactions, set()) == await _as_one_batch(second, transactions, set())
        await subjects.leave()


async def test_the_law_holds_when_the_database_refuses_rows(subjects: Subjects) -> None:
    for seed in range(REFUSALS // subjects.share):
        rng = random.Random(seed)
        together, apart = await subjects.make(), await subjects.make()
        for subject in (together, apart):
            await subject.refuse_lines()
        transactions = [random_transaction(rng) for _ in range(40)]
        one = await _as_one_batch(together, transactions, set())
        many = [outcome for writes in transactions for outcome in await _as_one_batch(apart, [writes], set())]
        assert [error for _, error in one].count("transaction-refused") == [error for _, error in many].count("transaction-refused")
        assert one == many
        await subjects.leave()

"""The core's law: one batch of n transactions is n batches of one, results and tables alike."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.backends.sqlite.database import SqliteDatabase
from perdure.core.backend import Backend
from perdure.core.write import Transaction, Write
from perdure.core.writer import Writer
from perdure.errors import PerdureError
from tests.core.memory import MemoryBackend
from tests.core.shop import LINE, random_transaction
from tests.sqlite.shop import counters_of, open_shop, rows_of, tick_of

Outcome = tuple[Any, str | None]
GATE = 1_000
REFUSED = frozenset(range(0, 2000, 10))
SOAK = int(os.environ.get("PERDURE_SOAK_LAW", "100000"))


class InMemory:
    """A dictionary under the law."""

    def __init__(self, *, at_once: bool) -> None:
        self.backend = MemoryBackend(at_once=at_once)

    def state(self) -> Any:
        database = self.backend.database
        return {key: row for key, (_, row) in database.rows.items()}, +database.counters, database.last_tick

    def refuse_lines(self) -> None:
        self.backend.refuse = lambda key: key.table is LINE and key.parts[0] in REFUSED

    async def close(self) -> None:
        await self.backend.close()


class OnSqlite:
    """SQLite under the law."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.backend = database.backend
        self._connection = database._file.writing

    def state(self) -> Any:
        return rows_of(self._connection), counters_of(self._connection), tick_of(self._connection)

    def refuse_lines(self) -> None:
        self._connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON line WHEN new.n % 10 = 0 BEGIN SELECT raise(ABORT, 'refused'); END"
        )

    async def close(self) -> None:
        await self.backend.close()


Subject = InMemory | OnSqlite
Make = Callable[[], Awaitable[Subject]]


async def _in_memory() -> Subject:
    """A backend that has to wait for what a decision discovers: the decision is made again."""
    return InMemory(at_once=False)


async def _in_memory_at_once() -> Subject:
    return InMemory(at_once=True)


async def _on_sqlite() -> Subject:
    return OnSqlite(await open_shop())


@pytest.fixture(params=[_in_memory, _in_memory_at_once, _on_sqlite], ids=["memory", "memory-at-once", "sqlite"])
def make(request: pytest.FixtureRequest) -> Make:
    subject: Make = request.param
    return subject


def _told(error: Exception | None) -> str | None:
    if error is None:
        return None
    assert isinstance(error, PerdureError), error
    return f"{error.code}: {error}" if error.code != "transaction-refused" else error.code


async def _as_one_batch(backend: Backend, transactions: list[tuple[Write[Any], ...]], signals: set[str]) -> list[Outcome]:
    """Queue all before the writer starts, so that they become one batch."""
    writer = Writer(backend, on_signals=signals.update)
    writer._row = await backend.fence()
    told: list[tuple[Any, Exception | None]] = []
    for writes in transactions:
        writer.submit(Transaction(writes), lambda results, error: told.append((results, error)))
    await writer._process(writer._take())
    assert len(told) == len(transactions), "everybody hears"
    return [(results, _told(error)) for results, error in told]


async def _law(make: Make, seed: int, sizes: list[int]) -> int:
    rng = random.Random(seed)
    together, apart = await make(), await make()
    total = 0
    for size in sizes:
        transactions = [random_transaction(rng) for _ in range(size)]
        signals_together: set[str] = set()
        signals_apart: set[str] = set()
        one = await _as_one_batch(together.backend, transactions, signals_together)
        many = [outcome for writes in transactions for outcome in await _as_one_batch(apart.backend, [writes], signals_apart)]
        assert one == many, f"seed {seed}"
        assert signals_together == signals_apart, f"seed {seed}"
        assert together.state() == apart.state(), f"seed {seed}"
        total += size
    await together.close()
    await apart.close()
    return total


async def test_one_batch_of_n_is_n_batches_of_one(make: Make) -> None:
    done, seed = 0, 0
    while done < GATE:
        seed += 1
        done += await _law(make, seed, [random.Random(seed).choice((1, 3, 10, 40)) for _ in range(6)])


@pytest.mark.soak
async def test_one_batch_of_n_is_n_batches_of_one_at_length(make: Make) -> None:
    done, seed = 0, 1_000_000
    while done < SOAK:
        seed += 1
        done += await _law(make, seed, [random.Random(seed).choice((1, 3, 10, 40)) for _ in range(6)])


async def test_sqlite_and_a_dictionary_come_to_the_same_results() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        first, second = await _in_memory(), await _on_sqlite()
        for size in (1, 10, 40):
            transactions = [random_transaction(rng) for _ in range(size)]

            assert await _as_one_batch(first.backend, transactions, set()) == await _as_one_batch(second.backend, transactions, set())
        await second.close()


async def test_the_law_holds_when_the_database_refuses_rows(make: Make) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        together, apart = await make(), await make()
        for subject in (together, apart):
            subject.refuse_lines()
        transactions = [random_transaction(rng) for _ in range(40)]
        one = await _as_one_batch(together.backend, transactions, set())
        many = [outcome for writes in transactions for outcome in await _as_one_batch(apart.backend, [writes], set())]
        assert [error for _, error in one].count("transaction-refused") == [error for _, error in many].count("transaction-refused")
        assert one == many
        await together.close()
        await apart.close()

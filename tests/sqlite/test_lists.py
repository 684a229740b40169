"""Reading lists from either end, and rows with fields that never change."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from perdure.backends.sqlite.database import SqliteDatabase
from perdure.core.table import Scan
from perdure.core.writer import Writer
from tests.core.shop import JOB, READY, Create, Drop, Job, Take
from tests.sqlite.shop import open_shop

Shop = tuple[SqliteDatabase, Writer]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    database = await open_shop()
    writer = Writer(database.backend, on_signals=lambda _topics: None)
    await writer.start()
    yield database, writer
    await writer.close()


async def test_a_row_that_is_removed_and_made_anew_in_one_batch_has_its_new_fixed_fields(shop: Shop) -> None:
    database, writer = shop
    await writer.commit(Create(1, "a", 0, 0))
    await writer.commit(Drop(1), Create(1, "b", 7, 0))

    assert await database.reader.get(JOB.key(1)) == Job("b", "pending", 7, 0, 0)


async def test_what_an_index_looks_at_is_written_when_it_changes(shop: Shop) -> None:
    database, writer = shop
    await writer.commit(Create(1, "a", 0, 0))
    await writer.commit(Take("a", 1, None, None, declared=True))

    assert await database.reader.get(JOB.key(1)) == Job("a", "taken", 0, 0, 1)
    assert await database.reader.scan(Scan(READY, ("a",), 3)) == []


async def test_a_list_is_read_backwards_from_one_place_down_to_another(shop: Shop) -> None:
    database, writer = shop
    await writer.commit(*(Create(id, "a", id // 2, 0) for id in range(6)))

    down = await database.reader.scan(Scan(READY, ("a",), 3, backwards=True))
    within = await database.reader.scan(Scan(READY, ("a",), 9, after=(2, 0, 5), upto=(1,), backwards=True))

    assert [key.parts[0] for key, _ in down] == [5, 4, 3]
    assert [key.parts[0] for key, _ in within] == [4, 3, 2]

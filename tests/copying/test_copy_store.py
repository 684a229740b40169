"""A store that is moved is the same store at another place."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from perdure import Address, Engine, VirtualClock, copy_store, limits, open_store
from perdure.core.transfer import size_of
from perdure.core.view import View
from perdure.engine import verification
from perdure.errors import CopyRefused, StoreBusy
from perdure.identity import SYSTEM_RANDOMNESS
from perdure.store import connection
from perdure.streams.tables import VALUE, ValueRow
from perdure.tables import TABLES
from tests.copying.conftest import Place
from tests.copying.rows import EACH, fill
from tests.engine.orders import Approve, Comment, Ledger, eventually, make_app
from tests.engine.orders import Place as PlaceOrder

OWN = {"migration", "store", "writer", "counter", "shard"}
START = 1_700_000_000_000_000


class NextTick:
    """The next tick that a store gives out; it is noted."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> int:
        view.count("tests", 1)
        return view.tick()


class PutNul:
    """Text with a NUL character in a row, which no door lets pass."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        key = VALUE.key("default", "a\0b")
        assert view.get(key) is None
        view.insert(key, ValueRow(1, view.now))


async def chunks_of(url: str) -> dict[str, list[list[tuple[Any, ...]]]]:
    """Return every row of every table, as it is stored, in the chunks that it comes in."""
    database = await connection(url, VirtualClock(), SYSTEM_RANDOMNESS, create=False)()
    found: dict[str, list[list[tuple[Any, ...]]]] = {table.name: [] for table in TABLES}
    try:
        async with database.exporting(TABLES, alone=False) as export:
            for table in TABLES:
                after = None
                while rows := await export.rows(table, after):
                    found[table.name].append(rows)
                    after = rows[-1][: len(table.key_columns)]
        return found
    finally:
        await database.backend.close()
        await database.close()


async def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, as it is stored."""
    return {table: [row for chunk in chunks for row in chunk] for table, chunks in (await chunks_of(url)).items()}


async def counters(url: str) -> dict[str, int]:
    async with open_store(url, clock=VirtualClock(0)) as store:
        return {table.name: await store.access.reader.counter(f"rows of {table.name}") for table in TABLES}


async def test_the_tables_that_move_are_all_that_a_store_has(target: str) -> None:
    async with open_store(target, clock=VirtualClock()) as store:
        info = await store.info()

    assert {table.name for table in TABLES} == set(info.rows) - OWN
    assert len(TABLES) == len({table.name for table in TABLES})


async def test_every_row_of_every_table_arrives_with_its_version(source: str, target: str) -> None:
    before = await contents(source)

    digests = await copy_store(source, target)

    assert await contents(target) == before
    assert await contents(source) == before, "the source stays as it was"
    assert {table: rows for table, (rows, _) in digests.items()} == {table.name: EACH for table in TABLES}


async def test_the_same_rows_have_the_same_hash_wherever_they_are(place: Place) -> None:
    source, between = place("file"), place("postgres")
    await fill(source)

    assert await copy_store(source, between) == await copy_store(between, place("file"))


async def test_a_copy_of_a_copy_is_the_store_that_it_began_with(source: str, place: Place) -> None:
    back = place("file")

    there = await copy_store(source, between := place("postgres"))

    assert await copy_store(between, back) == there
    assert await contents(back) == await contents(source)


async def test_counters_arrive_and_the_next_tick_is_greater_than_any_before(place: Place, target: str, request: Any) -> None:
    source = place("postgres")
    tick = await fill(source)
    async with open_store(source, clock=VirtualClock()) as store:  # a second writer, with counts of its own
        [later] = await store.commit(NextTick())

    await copy_store(source, target, clock=VirtualClock(START))

    assert await counters(target) == {table.name: EACH for table in TABLES}
    async with open_store(target, clock=VirtualClock(0)) as store:  # whose clock is far behind
        [after] = await store.commit(NextTick())
        assert (await store.info()).writers == 1
    assert after > later > tick


async def test_a_writer_that_was_not_closed_leaves_its_counts_and_ticks(source: str, target: str) -> None:
    store = await open_store(source, clock=VirtualClock())
    [tick] = await store.commit(NextTick())

    await copy_store(source, target)

    await store.close()
    async with open_store(target, clock=VirtualClock(0)) as copied:
        [after] = await copied.commit(NextTick())
    assert after > tick
    assert await counters(target) == {table.name: EACH for table in TABLES}


async def test_processes_go_on_where_they_were(place: Place, target: str) -> None:
    clock, ledger = VirtualClock(), Ledger()
    source = place("file")
    async with open_store(source, clock=clock) as store, Engine(store, make_app(ledger)) as engine:
        await engine.deliver(PlaceOrder("1", total=500), id="placed")
        await engine.deliver(Comment("2", "early"), id="parked")
        await engine.deliver(PlaceOrder("3"), id="done", wait=True)
        await eventually(lambda: _waits(engine, "placed"))

    await copy_store(source, target, clock=clock)

    async with open_store(target, clock=clock) as store, Engine(store, make_app(ledger)) as engine:
        assert (await engine.deliver(PlaceOrder("3"), id="done", wait=True))["order_id"] == "3"
        await engine.deliver(Approve("1"), id="approved", to=Address.key("order:1"))
        receipt = await engine.deliver(PlaceOrder("1", total=500), id="placed", wait=True)
        await engine.deliver(PlaceOrder("2"), id="second", wait=True)
        await eventually(lambda: _is_done(engine, "parked"))
        assert receipt["status"] == "approved"
    async with open_store(target, clock=clock) as store:
        assert await verification.verify(store) == []
    assert Counter(ledger.effects) == Counter({"charge 1": 1, "charge 3": 1, "settle 1": 1, "charge 2": 1})


async def _waits(engine: Engine, message_id: str) -> bool:
    found = await engine.explain(message_id)
    return found.process_id is not None and (await engine.process(found.process_id)).status == "waiting"


async def _is_done(engine: Engine, message_id: str) -> bool:
    return (await engine.explain(message_id)).status == "done"


async def test_a_chunk_is_bounded_in_rows_and_in_bytes(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COPY_ROWS", 5)
    monkeypatch.setattr(limits, "COPY_BYTES", 150)
    chunks = [chunk for table in (await chunks_of(source)).values() for chunk in table]

    await copy_store(source, target)

    assert await contents(target) == await contents(source)
    assert max(len(chunk) for chunk in chunks) == 5, "the rows are the bound of some"
    assert all(sum(map(size_of, chunk[:-1])) < 150 for chunk in chunks)
    assert any(len(chunk) < 5 and sum(map(size_of, chunk)) >= 150 for chunk in chunks), "the bytes are the bound of some"


async def test_what_is_written_meanwhile_is_not_in_a_copy_of_one_moment(place: Place) -> None:
    url = place("postgres")
    await fill(url)
    database = await connection(url, VirtualClock(), SYSTEM_RANDOMNESS, create=False)()

    async with database.exporting(TABLES, alone=False) as export, open_store(url, clock=VirtualClock()) as store:
        before = await export.contents()
        await store.streams.cas("new", None, 1)
        [table] = [table for table in TABLES if table.name == "value"]
        rows = await export.rows(table, None)
        after = await export.contents()

    assert len(rows) == EACH
    assert before == after
    await database.backend.close()
    await database.close()


async def test_text_with_a_nul_character_is_refused_where_it_cannot_be_held(place: Place) -> None:
    source, file, server = place("file"), place("file"), place("postgres")
    async with open_store(source, clock=VirtualClock()) as store:
        await store.commit(PutNul())

    await copy_store(source, file)

    with pytest.raises(CopyRefused, match=r"no text with a NUL character; value \('default', 'a.x00b'\) has one in key"):
        await copy_store(source, server)


async def test_nobody_writes_into_the_source_meanwhile(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SQLITE_BUSY_MS", 1)
    async with open_store(source, clock=VirtualClock()) as store:
        await store.streams.cas("before", None, 1)
        database = await connection(source, VirtualClock(), SYSTEM_RANDOMNESS, create=False)()
        try:
            async with database.exporting(TABLES, alone=True) as export:
                writing = asyncio.ensure_future(store.streams.cas("new", None, 1))
                [table] = [table for table in TABLES if table.name == "value"]
                for _ in range(20):
                    assert len(await export.rows(table, None)) == EACH + 1
                assert not writing.done() or isinstance(writing.exception(), StoreBusy)
            await asyncio.gather(writing, return_exceptions=True)
        finally:
            await database.backend.close()
            await database.close()

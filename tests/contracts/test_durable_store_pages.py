"""Contract 4, DurableStore: pages of entries and of names, and truncation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure import limits
from perdure.errors import HistoryCompacted, SequenceConflict
from perdure.store import Store
from perdure.streams.contract import DurableStore
from perdure.streams.store import Streams
from perdure.streams.writes import Truncate
from tests.contracts.conversations import CountingReader

Reopen = Callable[[], Awaitable[Store]]


@pytest.fixture
def streams(store: Store) -> DurableStore:
    return store.streams


async def _filled(streams: DurableStore, count: int, stream: str = "audit") -> list[bytes]:
    payloads = [b"%d" % number for number in range(count)]
    for start in range(0, count, limits.STREAM_BATCH_MAX):
        await streams.append_batch(stream, payloads[start : start + limits.STREAM_BATCH_MAX], start)
    return payloads


# --- reading -----------------------------------------------------------------------------------------------


async def test_any_size_of_page_gives_the_same_entries(streams: DurableStore) -> None:
    payloads = await _filled(streams, 256)

    for page in (1, 7, 64, 255, 256, 257):
        found: list[bytes] = []
        while entries := await streams.read_from("audit", len(found), page):
            assert [entry.seq for entry in entries] == list(range(len(found), len(found) + len(entries)))
            found += [entry.payload for entry in entries]
        assert found == payloads


async def test_a_walk_in_pages_reads_each_row_once(store: Store) -> None:
    await _filled(store.streams, 200)
    reader = CountingReader(store.access.reader)
    streams = Streams(store.access._replace(reader=reader))

    offset = 0
    while entries := await streams.read_from("audit", offset, 32):
        offset = entries[-1].seq + 1

    assert reader.rows["stream_event"] == 200
    reader.rows.clear()
    assert await streams.read_from("audit", 200, 32) == []
    assert await streams.read_from("audit", 10_000, 32) == []
    assert reader.rows["stream_event"] == 0


async def test_a_short_page_is_legal_and_an_empty_one_is_the_end(store: Store) -> None:
    payloads = await _filled(store.streams, 20)
    streams = Streams(store.access._replace(reader=CountingReader(store.access.reader, page=3)))

    found: list[bytes] = []
    while entries := await streams.read_from("audit", len(found), 10):
        found += [entry.payload for entry in entries]

    assert found == payloads


async def test_a_page_has_no_more_entries_than_the_limit_of_pages(streams: DurableStore) -> None:
    await _filled(streams, limits.PAGE_MAX + 5)

    assert len(await streams.read_from("audit", 0, 10**9)) == limits.PAGE_MAX
    assert len(await streams.read_from("audit", 0)) == limits.PAGE_DEFAULT


async def test_nothing_is_asked_for_and_nothing_comes(streams: DurableStore) -> None:
    await _filled(streams, 3)

    assert await streams.read_from("audit", 0, 0) == []
    assert await streams.read_from("audit", 3) == []
    assert await streams.read_from("unknown", 0) == []
    assert await streams.list_streams(limit=0) == []


async def test_one_entry_is_read_exactly(streams: DurableStore) -> None:
    await _filled(streams, 3)

    assert [entry and (entry.seq, entry.payload) for entry in [await streams.read_at("audit", seq) for seq in range(4)]] == [
        (0, b"0"),
        (1, b"1"),
        (2, b"2"),
        None,
    ]
    assert await streams.read_at("unknown", 0) is None


# --- names -------------------------------------------------------------------------------------------------

NAMES = [
    "a",
    "a%",
    "a_",
    "aB",
    "ab",
    "ab:1",
    "ab:10",
    "ab:2",
    "abc",
    "ac",
    "a\u007e",
    "aé",
    "aéx",
    "a\uffff",
    "a\U0001f600",
    "a\U0010ffff",
    "b",
]
PREFIXES = ["", "a", "a%", "a_", "ab", "ab:", "ab:1", "aé", "a\uffff", "a\U0010ffff", "c", "B"]


async def test_names_come_in_the_order_of_their_bytes_under_any_prefix(streams: DurableStore, reopen: Reopen) -> None:
    for name in reversed(NAMES):
        await streams.append(name, b"", 0)

    streams = (await reopen()).streams

    ordered = sorted(NAMES, key=str.encode)
    for prefix in PREFIXES:
        under = [name for name in ordered if name.startswith(prefix)]
        assert await streams.list_streams(prefix) == under
        for after in NAMES:
            assert await streams.list_streams(prefix, after) == [name for name in under if name.encode() > after.encode()]
        for page in (1, 2, 5):
            found: list[str] = []
            while names := await streams.list_streams(prefix, found[-1] if found else None, page):
                assert len(names) <= page
                found += names
            assert found == under


async def test_the_longest_name_is_listed_under_its_prefix(streams: DurableStore) -> None:
    name = "\U0010ffff" * (limits.STREAM_NAME_MAX // 4)
    await streams.append(name, b"", 0)

    assert await streams.list_streams("\U0010ffff") == [name]
    assert await streams.list_streams(name) == [name]
    assert await streams.list_streams(name, name) == []


# --- truncation --------------------------------------------------------------------------------------------


async def test_entries_before_a_truncation_answer_that_they_are_gone(store: Store, streams: DurableStore, reopen: Reopen) -> None:
    payloads = await _filled(streams, 200)

    await streams.truncate("audit", 150)

    assert (await store.info()).rows["stream_event"] == 50
    streams = (await reopen()).streams
    for seq in (0, 149):
        with pytest.raises(HistoryCompacted, match=f"stream/default/audit: entry {seq} was truncated; the stream begins at 150"):
            await streams.read_from("audit", seq)
        with pytest.raises(HistoryCompacted):
            await streams.read_at("audit", seq)
    with pytest.raises(HistoryCompacted):
        await streams.read_from("audit", 0, 0)
    assert [entry.payload for entry in await streams.read_from("audit", 150)] == payloads[150:]


async def test_sequences_go_on_after_a_truncation_to_nothing(streams: DurableStore) -> None:
    await _filled(streams, 5)

    await streams.truncate("audit", 5)

    assert await streams.read_from("audit", 5) == []
    with pytest.raises(HistoryCompacted):
        await streams.read_from("audit", 4)
    with pytest.raises(SequenceConflict):
        await streams.append("audit", b"x", 0)
    assert await streams.append("audit", b"x", 5) == 5
    assert await streams.list_streams() == ["audit"]


async def test_truncating_less_or_again_changes_nothing(streams: DurableStore) -> None:
    await _filled(streams, 5)
    await streams.truncate("audit", 3)

    for before in (0, 1, 3):
        await streams.truncate("audit", before)
    await streams.truncate("unknown", 0)

    assert [entry.seq for entry in await streams.read_from("audit", 3)] == [3, 4]
    assert await streams.list_streams() == ["audit"]


async def test_truncating_beyond_the_end_is_refused(streams: DurableStore) -> None:
    await _filled(streams, 5)

    for stream, end in (("audit", 5), ("unknown", 0)):
        with pytest.raises(SequenceConflict) as caught:
            await streams.truncate(stream, 6)
        assert caught.value.found == end
    assert len(await streams.read_from("audit", 0)) == 5


async def test_an_interrupted_truncation_holds_and_the_next_one_clears_up(store: Store, streams: DurableStore) -> None:
    count = 3 * limits.TRUNCATE_CHUNK
    await _filled(streams, count)
    await store.commit(Truncate("default", "audit", count))
    assert (await store.info()).rows["stream_event"] > 0
    with pytest.raises(HistoryCompacted):
        await streams.read_from("audit", count - 1)

    await streams.truncate("audit", 0)

    assert (await store.info()).rows["stream_event"] == 0


async def test_a_reader_that_a_truncation_overtakes_never_sees_a_gap(streams: DurableStore) -> None:
    count = 4 * limits.TRUNCATE_CHUNK
    payloads = await _filled(streams, count)

    async def walk() -> int:
        offset = 0
        while True:
            try:
                entries = await streams.read_from("audit", offset, 10)
            except HistoryCompacted:
                return offset
            assert [entry.payload for entry in entries] == payloads[offset : offset + len(entries)]
            if not entries:
                assert offset == count
                return offset
            offset += len(entries)
            await asyncio.sleep(0)

    await asyncio.gather(*(walk() for _ in range(5)), streams.truncate("audit", count - 5))

    assert [entry.payload for entry in await streams.read_from("audit", count - 5)] == payloads[-5:]

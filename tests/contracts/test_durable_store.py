"""Contract 4, DurableStore: streams and values of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import limits
from perdure.clock import SECOND, VirtualClock
from perdure.errors import InvalidIdentifier, PayloadTooLarge, SequenceConflict, TransactionTooLarge, UsageError, ValueConflict
from perdure.store import Store
from perdure.streams.contract import DurableStore, StreamEntry

Reopen = Callable[[], Awaitable[Store]]


@pytest.fixture
def streams(store: Store) -> DurableStore:
    return store.streams


async def _payloads(streams: DurableStore, stream: str, offset: int = 0, *, tenant_id: str = "default") -> list[bytes]:
    return [entry.payload for entry in await streams.read_from(stream, offset, limits.PAGE_MAX, tenant_id=tenant_id)]


# --- append ----------------------------------------------------------------------------------------------


async def test_an_append_returns_its_sequence_and_is_read_in_order(streams: DurableStore, clock: VirtualClock, reopen: Reopen) -> None:
    begun = clock.now()
    assert await streams.append("audit", b"login", 0) == 0
    clock.advance(SECOND)
    assert await streams.append("audit", b"logout", 1) == 1

    streams = (await reopen()).streams

    assert await streams.read_from("audit", 0) == [
        StreamEntry(seq=0, at=begun, payload=b"login"),
        StreamEntry(seq=1, at=begun + SECOND, payload=b"logout"),
    ]


@pytest.mark.parametrize("expected", [0, 1, 3, 100, limits.SEQUENCE_MAX])
async def test_an_append_elsewhere_conflicts_behind_and_ahead_and_writes_nothing(streams: DurableStore, expected: int) -> None:
    await streams.append_batch("audit", [b"a", b"b"], 0)

    for call in (streams.append("audit", b"c", expected), streams.append_batch("audit", [b"c", b"d"], expected)):
        with pytest.raises(SequenceConflict) as caught:
            await call
        assert (caught.value.stream, caught.value.expected, caught.value.found) == ("stream/default/audit", expected, 2)
    assert await _payloads(streams, "audit") == [b"a", b"b"]


async def test_a_new_stream_begins_at_0(streams: DurableStore) -> None:
    with pytest.raises(SequenceConflict):
        await streams.append("audit", b"x", 1)

    assert await streams.list_streams() == []


async def test_of_many_appends_with_one_sequence_exactly_one_wins(streams: DurableStore) -> None:
    outcomes = await asyncio.gather(*(streams.append("audit", b"%d" % number, 0) for number in range(50)), return_exceptions=True)

    assert outcomes.count(0) == 1
    assert sum(isinstance(outcome, SequenceConflict) and outcome.found == 1 for outcome in outcomes) == 49
    assert len(await _payloads(streams, "audit")) == 1


async def test_appends_to_many_streams_share_commits(store: Store, streams: DurableStore) -> None:
    before = store.access.writer.commits

    await asyncio.gather(*(streams.append(f"s-{number}", b"x", 0) for number in range(100)))

    assert store.access.writer.commits - before <= 5


async def test_a_batch_is_appended_whole_or_not_at_all(store: Store, streams: DurableStore, reopen: Reopen) -> None:
    before = store.access.writer.commits
    assert await streams.append_batch("audit", [b"a", b"b", b"c"], 0) == 0
    assert store.access.writer.commits - before == 1
    with pytest.raises(PayloadTooLarge):
        await streams.append_batch("audit", [b"d", b"x" * (limits.STREAM_ENTRY_MAX + 1)], 3)
    with pytest.raises(TransactionTooLarge):
        await streams.append_batch("audit", [b"x" * limits.STREAM_ENTRY_MAX] * 5, 3)
    with pytest.raises(TransactionTooLarge):
        await streams.append_batch("audit", [b""] * (limits.STREAM_BATCH_MAX + 1), 3)
    with pytest.raises(UsageError, match="at least one"):
        await streams.append_batch("audit", [], 3)

    streams = (await reopen()).streams

    assert await _payloads(streams, "audit") == [b"a", b"b", b"c"]
    assert await streams.append_batch("audit", [b""] * limits.STREAM_BATCH_MAX, 3) == 3
    assert await streams.append("audit", b"e", 3 + limits.STREAM_BATCH_MAX) == 3 + limits.STREAM_BATCH_MAX


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(range(256)), b"x" * limits.STREAM_ENTRY_MAX], ids=len)
async def test_a_payload_is_any_bytes_up_to_the_limit(streams: DurableStore, reopen: Reopen, payload: bytes) -> None:
    await streams.append("audit", payload, 0)

    streams = (await reopen()).streams

    assert await _payloads(streams, "audit") == [payload]


# --- values ----------------------------------------------------------------------------------------------


async def test_a_value_is_set_if_it_is_what_was_expected(streams: DurableStore, reopen: Reopen) -> None:
    assert await streams.read_value("cursor") is None
    await streams.cas("cursor", None, 42)
    await streams.cas("cursor", 42, 45)

    streams = (await reopen()).streams

    assert await streams.read_value("cursor") == 45
    for old in (42, None, 0):
        with pytest.raises(ValueConflict) as caught:
            await streams.cas("cursor", old, 46)
        assert (caught.value.key, caught.value.expected, caught.value.found) == ("value/default/cursor", old, 45)
    assert await streams.read_value("cursor") == 45


async def test_absent_and_0_are_different(streams: DurableStore) -> None:
    with pytest.raises(ValueConflict) as caught:
        await streams.cas("cursor", 0, 0)
    assert (caught.value.expected, caught.value.found) == (0, None)
    await streams.cas("cursor", None, 0)
    with pytest.raises(ValueConflict):
        await streams.cas("cursor", None, 1)

    assert await streams.read_value("cursor") == 0


async def test_a_cas_from_0_to_0_does_not_brick_a_cursor(streams: DurableStore) -> None:
    await streams.cas("cursor", None, 0)
    await streams.cas("cursor", 0, 0)
    await streams.cas("cursor", 0, 0)

    await streams.cas("cursor", 0, 42)

    assert await streams.read_value("cursor") == 42


async def test_a_value_is_removed_and_made_again(streams: DurableStore, reopen: Reopen) -> None:
    await streams.cas("cursor", None, None)
    await streams.cas("cursor", None, 7)
    await streams.cas("cursor", 7, None)
    streams = (await reopen()).streams
    assert await streams.read_value("cursor") is None
    with pytest.raises(ValueConflict):
        await streams.cas("cursor", 7, 8)

    await streams.cas("cursor", None, 9)

    assert await streams.read_value("cursor") == 9


async def test_of_many_who_set_a_value_at_once_one_wins(streams: DurableStore) -> None:
    for first in (100, 200):
        old = await streams.read_value("cursor")
        outcomes = await asyncio.gather(*(streams.cas("cursor", old, first + number) for number in range(30)), return_exceptions=True)
        assert outcomes.count(None) == 1
        assert await streams.read_value("cursor") == first + outcomes.index(None)


@pytest.mark.parametrize("value", [-(2**63), -1, 2**63 - 1])
async def test_a_value_has_64_bits_with_sign(streams: DurableStore, reopen: Reopen, value: int) -> None:
    await streams.cas("cursor", None, value)

    assert await (await reopen()).streams.read_value("cursor") == value


# --- names -----------------------------------------------------------------------------------------------


async def test_tenants_do_not_see_one_anothers_streams_and_values(streams: DurableStore) -> None:
    for tenant in ("a", "b"):
        await streams.append("audit", tenant.encode(), 0, tenant_id=tenant)
        await streams.cas("cursor", None, ord(tenant), tenant_id=tenant)

    for tenant in ("a", "b"):
        assert await _payloads(streams, "audit", tenant_id=tenant) == [tenant.encode()]
        assert await streams.read_value("cursor", tenant_id=tenant) == ord(tenant)
        assert await streams.list_streams(tenant_id=tenant) == ["audit"]
    assert await _payloads(streams, "audit") == []
    assert await streams.read_value("cursor") is None
    assert await streams.list_streams() == []


@pytest.mark.parametrize("name", ["a/b:c?d=e#f", "100%", "_", "'; drop table stream; --", "päyment", "\U0010ffff", "x" * 256])
async def test_a_name_holds_any_other_character(streams: DurableStore, name: str) -> None:
    await streams.append(name, b"x", 0)
    await streams.cas(name[:64], None, 1)

    assert await _payloads(streams, name) == [b"x"]
    assert await _payloads(streams, name[:-1] + "~") == []
    assert await streams.list_streams(name) == [name]
    assert await streams.read_value(name[:64]) == 1


@pytest.mark.parametrize("name", ["", "a\0b", "line\nbreak", "\ud800", "x" * (limits.STREAM_NAME_MAX + 1), 7, None])
async def test_a_name_that_breaks_the_rules_is_refused(store: Store, streams: DurableStore, name: Any) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: streams.append(name, b"x", 0),
        lambda: streams.append_batch(name, [b"x"], 0),
        lambda: streams.append("audit", b"x", 0, tenant_id=name),
        lambda: streams.read_from(name, 0),
        lambda: streams.read_at(name, 0),
        lambda: streams.truncate(name, 0),
        lambda: streams.cas(name, None, 1),
        lambda: streams.read_value(name),
        lambda: streams.list_streams(tenant_id=name),
    ]
    if name != "":
        calls += [lambda: streams.list_streams(name)]
    if name is not None:
        calls += [lambda: streams.list_streams(after=name)]

    for call in calls:
        with pytest.raises(InvalidIdentifier):
            await call()
    rows = (await store.info()).rows
    assert (rows["stream"], rows["stream_event"], rows["value"]) == (0, 0, 0)


async def test_bad_arguments_are_refused_before_anything_is_written(store: Store, streams: DurableStore) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: streams.append("audit", "text", 0),  # type: ignore[arg-type]
        lambda: streams.append("audit", bytearray(b"x"), 0),  # type: ignore[arg-type]
        lambda: streams.append("audit", b"x", -1),
        lambda: streams.append("audit", b"x", False),
        lambda: streams.append("audit", b"x", limits.SEQUENCE_MAX + 1),
        lambda: streams.append("audit", b"x", 0.0),  # type: ignore[arg-type]
        lambda: streams.read_from("audit", -1),
        lambda: streams.read_from("audit", 0, -1),
        lambda: streams.read_at("audit", -1),
        lambda: streams.truncate("audit", -1),
        lambda: streams.list_streams(limit=-1),
        lambda: streams.cas("cursor", None, 2**63),
        lambda: streams.cas("cursor", None, True),
        lambda: streams.cas("cursor", "1", 2),  # type: ignore[arg-type]
    ]

    for call in calls:
        with pytest.raises(UsageError, match="expected"):
            await call()
    rows = (await store.info()).rows
    assert (rows["stream"], rows["stream_event"], rows["value"]) == (0, 0, 0)

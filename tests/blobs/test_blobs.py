"""Blobs: streamed in and out in parts, named by their SHA-256, once for each tenant. Source: commands.md, "Payloads"."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from perdure import Store, VirtualClock, limits
from perdure.blob import Blob
from perdure.blobs.tables import UPLOADS
from perdure.errors import BlobMismatch, BlobNotFound, InvalidIdentifier, Overloaded, PayloadTooLarge, UploadLost, UsageError
from perdure.uploads import SweepParts
from tests.blobs.bytes import HOUR, Cut, held, noise, pieces, put, rows, sha256, whole

PART = limits.BLOB_PART


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
async def test_what_is_put_comes_back(store: Store, reopen: Callable[[], Awaitable[Store]], size: int) -> None:
    data = noise(size)
    blob = await store.blobs.put("acme", pieces(data), content_type="image/png")
    store = await reopen()

    assert blob == Blob(sha256=sha256(data), size=size, content_type="image/png")
    assert await store.blobs.stat("acme", blob.sha256) == blob
    assert await whole(store.blobs.open("acme", blob.sha256)) == data


async def test_pieces_of_any_size_become_parts_of_one_size(store: Store) -> None:
    data = noise(2 * PART + 7)
    blob = await store.blobs.put("acme", pieces(data, len(data)))

    assert [len(part) async for part in store.blobs.open("acme", blob.sha256)] == [PART, PART, 7]


async def test_of_other_bytes_than_were_expected_nothing_is_kept(store: Store, clock: VirtualClock) -> None:
    data = noise(2 * PART)
    with pytest.raises(BlobMismatch, match="SHA-256"):
        await store.blobs.put("acme", pieces(data), expected_sha256=sha256(data[1:]))
    with pytest.raises(BlobMismatch, match=f"expected {len(data) - 1:,} bytes, {len(data):,} came"):
        await store.blobs.put("acme", pieces(data), expected_size=len(data) - 1)
    await store.blobs.sweep(clock.now())

    assert await rows(store) == {}
    expected = await store.blobs.put("acme", pieces(data), expected_sha256=sha256(data), expected_size=len(data))
    assert expected.sha256 == sha256(data)


async def test_the_limit_may_be_reached_and_not_exceeded(store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOB_MAX", 2 * PART + 5)
    most = noise(limits.BLOB_MAX)
    assert (await put(store, most)).size == limits.BLOB_MAX
    before = await rows(store)
    with pytest.raises(PayloadTooLarge):
        await put(store, most + b"1")
    with pytest.raises(PayloadTooLarge):
        await store.blobs.put("acme", pieces(b"1"), expected_size=limits.BLOB_MAX + 1)
    await store.blobs.sweep(clock.now())

    assert await rows(store) == before


async def test_sixty_four_mebibytes_go_through_in_the_memory_of_a_few_parts(store: Store) -> None:
    piece = noise(PART // 2)

    async def many() -> object:
        for _ in range(limits.BLOB_MAX // len(piece)):
            yield piece

    tracemalloc.start()
    try:
        blob = await store.blobs.put("acme", many())  # type: ignore[arg-type]
        size = 0
        async for part in store.blobs.open("acme", blob.sha256):
            size += len(part)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size == blob.size == limits.BLOB_MAX
    # A store in memory keeps all of it, outside of what Python counts; the statements of a batch hold a part several times.
    assert most < 16 * PART


async def test_nothing_is_to_be_seen_before_all_is_there(store: Store) -> None:
    data, seen = noise(3 * PART), []

    async def look() -> None:
        seen.append((await store.blobs.stat("acme", sha256(data)), await rows(store)))

    await store.blobs.put("acme", held(data, PART, look))

    assert seen == [(None, {"blob_part": 2, "blob_upload": 1})]


async def test_a_cut_upload_leaves_parts_that_the_next_sweep_removes(store: Store, clock: VirtualClock) -> None:
    with pytest.raises(Cut):
        await store.blobs.put("acme", pieces(noise(9 * PART), cut=True))
    assert await rows(store) == {"blob_part": 9, "blob_upload": 1}

    assert await store.blobs.next_due() == clock.now()
    assert await store.blobs.sweep(clock.now()) == 1
    assert await rows(store) == {}
    assert await store.blobs.next_due() is None


async def test_an_upload_that_is_called_off_goes_when_its_time_is_over(store: Store, clock: VirtualClock) -> None:
    stored = asyncio.Event()

    async def for_ever() -> None:
        stored.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(store.blobs.put("acme", held(noise(2 * PART), PART, for_ever)))
    await stored.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await store.blobs.sweep(clock.now() + HOUR - 1) == 0
    assert await store.blobs.sweep(clock.now() + HOUR) == 1
    assert await rows(store) == {}


async def test_an_upload_that_rested_for_too_long_ends_and_leaves_nothing(store: Store, clock: VirtualClock) -> None:
    async def rest() -> None:
        clock.advance(HOUR)
        await store.blobs.sweep(clock.now())

    with pytest.raises(UploadLost):
        await store.blobs.put("acme", held(noise(3 * PART), PART, rest))
    with pytest.raises(UploadLost):
        await store.blobs.put("acme", held(noise(2 * PART + 1), PART, rest))
    assert await rows(store) == {}


async def test_an_upload_of_which_a_part_was_swept_never_becomes_a_blob(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep takes a few parts at a time, and the upload may go on in between."""

    async def rest() -> None:
        clock.advance(HOUR)
        assert await store.access.writer.run(SweepParts(of=UPLOADS, now=clock.now())) == (0, True)

    with pytest.raises(UploadLost):
        await store.blobs.put("acme", held(noise(9 * PART), PART, rest))
    await store.blobs.sweep(clock.now())

    assert await rows(store) == {}


async def test_an_upload_that_goes_on_keeps_its_time(store: Store, clock: VirtualClock) -> None:
    data = noise(4 * PART)

    async def slowly() -> object:
        for offset in range(0, len(data), PART):
            yield data[offset : offset + PART]
            clock.advance(HOUR - 1)
            await store.blobs.sweep(clock.now())

    assert (await store.blobs.put("acme", slowly())).sha256 == sha256(data)  # type: ignore[arg-type]


async def test_the_same_content_is_stored_once_for_each_tenant(store: Store, clock: VirtualClock) -> None:
    data = noise(2 * PART + 1)
    for tenant in ("acme", "acme", "other"):
        await put(store, data, tenant=tenant)
    await store.blobs.sweep(clock.now())

    assert await rows(store) == {"blob": 2, "blob_part": 6}
    assert await whole(store.blobs.open("acme", sha256(data))) == data


async def test_two_uploads_of_the_same_content_at_once_are_one_blob(store: Store, clock: VirtualClock) -> None:
    data, both = noise(3 * PART), asyncio.Barrier(2)

    first, second = await asyncio.gather(*(store.blobs.put("acme", held(data, PART, both.wait)) for _ in range(2)))
    await store.blobs.sweep(clock.now())

    assert first == second
    assert await rows(store) == {"blob": 1, "blob_part": 3}
    assert await whole(store.blobs.open("acme", first.sha256)) == data


async def test_a_tenant_sees_only_its_own(store: Store) -> None:
    blob = await put(store, noise(10), tenant="acme")

    assert await store.blobs.stat("other", blob.sha256) is None
    with pytest.raises(BlobNotFound):
        await whole(store.blobs.open("other", blob.sha256))


async def test_what_nobody_refers_to_goes_an_hour_after_it_was_put_last(store: Store, clock: VirtualClock) -> None:
    data = noise(PART + 1)
    await put(store, data)
    clock.advance(HOUR - 1)
    await put(store, data)
    assert await store.blobs.sweep(clock.now() + 1) == 1  # the parts of the second upload
    clock.advance(HOUR - 1)
    await store.blobs.sweep(clock.now())
    assert await rows(store) == {"blob": 1, "blob_part": 2}
    clock.advance(1)
    assert await store.blobs.sweep(clock.now()) == 2
    assert await rows(store) == {}


async def test_who_reads_what_is_removed_meanwhile_hears_of_it(store: Store, clock: VirtualClock) -> None:
    blob = await put(store, noise(3 * PART))
    reading = store.blobs.open("default", blob.sha256)
    await anext(reading)
    clock.advance(HOUR)
    await store.blobs.sweep(clock.now())

    with pytest.raises(BlobNotFound, match="removed while it was read"):
        await anext(reading)


async def test_only_so_many_are_under_way_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOB_STREAMS_MAX", 2)
    blob = await put(store, noise(PART))
    first, second = (store.blobs.open("default", blob.sha256) for _ in range(2))
    await anext(first)
    await anext(second)
    with pytest.raises(Overloaded):
        await put(store, b"1")
    await first.aclose()  # type: ignore[attr-defined]

    assert (await put(store, b"1")).size == 1
    await second.aclose()  # type: ignore[attr-defined]


async def test_what_cannot_be_is_refused_before_anything_is_stored(store: Store) -> None:
    with pytest.raises(InvalidIdentifier):
        await store.blobs.put("no tenant", pieces(b"1"))
    with pytest.raises(InvalidIdentifier):
        await store.blobs.put("acme", pieces(b"1"), expected_sha256="A" * 64)
    with pytest.raises(InvalidIdentifier):
        await store.blobs.put("acme", pieces(b"1"), content_type="a\nb")
    with pytest.raises(InvalidIdentifier):
        await store.blobs.stat("acme", "1")

    async def texts() -> object:
        yield "text"

    with pytest.raises(UsageError, match="found str"):
        await store.blobs.put("acme", texts())  # type: ignore[arg-type]
    assert await rows(store) == {}

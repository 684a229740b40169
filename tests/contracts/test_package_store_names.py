"""What a deploy door needs beyond the seed: packages by the beginnings of their hashes, archives that replace only what was seen, and what would be collected."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest

from perdure.clock import VirtualClock
from perdure.errors import ArchiveConflict, InvalidContentHash, PackageAmbiguous, PackageMissing, StoreCorrupt
from perdure.store import Store
from tests.contracts.packages import DAY, V1, V2, Damage, check, noise, put, record, versions

ONE, OTHER = "ab" * 4 + "0" * 56, "ab" * 4 + "f" * 56


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- beginnings of hashes ------------------------------------------------------------------------------------------------


async def test_the_beginning_of_a_hash_names_a_package_that_no_other_begins_like(store: Store) -> None:
    await put(store, record(ONE), record(OTHER), record(V1), record(V1, "invoice"))

    assert await store.packages.find_package(V1[:8]) == V1
    assert await store.packages.find_package(V1) == V1
    assert await store.packages.find_package(ONE[:9]) == ONE
    assert await store.packages.find_package(OTHER[:63]) == OTHER
    with pytest.raises(PackageAmbiguous, match=f"{ONE} and {OTHER}"):
        await store.packages.find_package(ONE[:8])


async def test_nothing_is_found_between_and_beside_what_is_stored(store: Store) -> None:
    await put(store, record(ONE), record(OTHER))

    for absent in ("ab" * 4 + "1", "00000000", "ffffffff", "aaaaaaaa", ONE[:63] + "1", V1):
        with pytest.raises(PackageMissing, match=absent):
            await store.packages.find_package(absent)


@pytest.mark.parametrize("text", ["", "abababa", "ABABABAB", "abababag", "abababab\n", "0" * 65, 7])
async def test_what_is_no_beginning_of_a_hash_is_refused(store: Store, text: str) -> None:
    with pytest.raises(InvalidContentHash, match="8 to 64 lower-case hex digits"):
        await store.packages.find_package(text)


# --- replacing what was seen ------------------------------------------------------------------------------------------------


async def test_an_archive_replaces_only_the_one_that_was_seen(store: Store) -> None:
    first, second, third = (record(archive=text) for text in (b"first", b"second", b"third"))

    fresh = await store.packages.deploy(first, replaces=None)
    with pytest.raises(ArchiveConflict, match=V1):
        await store.packages.deploy(second, replaces=None)
    with pytest.raises(ArchiveConflict, match=V1):
        await store.packages.deploy(second, replaces=sha256(b"another"))
    seen = await store.packages.deploy(second, replaces=sha256(b"first"))
    whatever = await store.packages.deploy(third)

    assert (fresh.freshly_stored, seen.freshly_stored, whatever.freshly_stored) == (True, True, True)
    assert (await store.packages.get_package(V1)).archive == b"third"
    assert len(await store.packages.deployments("order")) == 3, "what was refused is not in the log"
    await check(store)


async def test_the_same_bytes_replace_nothing_and_conflict_with_nothing(store: Store) -> None:
    await store.packages.deploy(record(archive=b"first"))

    again = await store.packages.deploy(record(archive=b"first"), replaces=None)

    assert not again.freshly_stored


async def test_an_archive_that_is_gone_is_not_replaced(store: Store) -> None:
    with pytest.raises(ArchiveConflict):
        await store.packages.deploy(record(archive=b"second"), replaces=sha256(b"first"))

    assert await store.packages.list_package_info() == []
    await check(store)


async def test_of_two_that_replace_the_same_archive_one_is_refused(store: Store) -> None:
    await store.packages.deploy(record(archive=b"first"))
    found = await asyncio.gather(
        *(store.packages.deploy(record(archive=noise(3_000, seed=n)), replaces=sha256(b"first")) for n in range(2)), return_exceptions=True
    )

    assert sorted(type(one).__name__ for one in found) == ["ArchiveConflict", "Deployed"]
    await check(store)


async def test_a_damaged_archive_comes_back_when_it_is_deployed_again(store: Store) -> None:
    archive = noise(5_000)
    await store.packages.deploy(record(archive=archive))
    await store.commit(Damage(V1))
    with pytest.raises(StoreCorrupt):
        await store.packages.get_package(V1)

    await store.packages.deploy(record(archive=archive), replaces=sha256(archive))

    assert (await store.packages.get_package(V1)).archive == archive


# --- what would go --------------------------------------------------------------------------------------------------------------


async def test_a_dry_run_says_what_a_collection_removes_and_removes_nothing(store: Store, clock: VirtualClock) -> None:
    old, *_ = await versions(store, 5)
    await put(store, record(old, "invoice"), record(V2, "invoice", after=DAY))
    clock.advance(40 * DAY // timedelta(microseconds=1))

    told = await store.packages.collect(keep_last=1, older_than=30 * DAY, dry_run=True)
    there = await store.packages.list_package_info()
    log = await store.packages.deployments("order")
    gone = await store.packages.collect(keep_last=1, older_than=30 * DAY)

    assert (len(there), {entry.action for entry in log}) == (7, {"deployed"})
    assert told == gone
    assert [one.workflow_types for one in told][:1] == [("invoice", "order")]
    assert len(told) == 4

"""Contract 5: archives in parts, what an upload that was cut leaves, and that lists read no archive. Source: packages.md, "Deploy"."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from perdure import Store, VirtualClock, limits
from perdure.core.table import Key, RowT, Scan
from perdure.errors import PackageMissing, StoreBusy, StoreCorrupt, StoreUnavailable, UploadLost
from perdure.packages.store import Packages
from perdure.packages.tables import PART, UPLOADS
from perdure.packages.writes import Put
from perdure.store import PINS
from perdure.uploads import AddPart, SweepParts
from tests.contracts.packages import (
    DAY,
    HOUR_US,
    V1,
    V2,
    V3,
    Damage,
    check,
    default,
    hash_of,
    many,
    names,
    noise,
    put,
    record,
    rows,
    swept,
    versions,
)

MANY = 1_000
PART_SIZE = limits.PACKAGE_PART
LARGE = noise(3 * PART_SIZE + 1)
LISTED = {"package": 1, "package_part": 4, "package_type": 1, "package_route": 1}


async def test_an_archive_is_compressed_where_that_makes_it_smaller(store: Store) -> None:
    source = b"def handler(self):\n    return None\n" * 100_000
    await put(store, record(V1, archive=source), record(V2, archive=LARGE, after=DAY))

    small, large = await store.packages.list_package_info()
    stored = {one.content_hash: (one.size, one.stored) for one in (small, large)}
    assert stored[V1][0] == len(source)
    assert stored[V1][1] < len(source) // 100
    assert stored[V2] == (len(LARGE), len(LARGE))
    await check(store)


# --- uploads -------------------------------------------------------------------------------------------------------------------


class Doing:
    """A store's writer; `then` is called before the n-th transaction of a kind, or from there on, and may raise. `parts` counts uploads."""

    def __init__(self, real: Any, kind: type, nth: int, then: Callable[[], Any], *, every: bool) -> None:
        self._real, self._kind, self._left, self._then, self._every = real, kind, nth, then, every
        self.parts = 0

    async def run(self, write: Any, *, size: int = 0) -> Any:
        [result] = await self.commit(write, size=size)
        return result

    async def commit(self, *writes: Any, size: int = 0) -> Any:
        self.parts += isinstance(writes[0], AddPart)
        if isinstance(writes[0], self._kind):
            self._left -= 1
            if (self._left == 0 or (self._every and self._left < 0)) and (waited := self._then()) is not None:
                await waited
        return await self._real.commit(*writes, size=size)


def doing(store: Store, kind: type, nth: int, then: Callable[[], Any], *, every: bool = False) -> tuple[Packages, Doing]:
    writer = Doing(store.access.writer, kind, nth, then, every=every)
    return Packages(store.access._replace(writer=writer), pins=PINS), writer  # type: ignore[arg-type]  # it is all that is needed


def fail() -> None:
    raise StoreUnavailable("the store is away")


async def test_nothing_is_to_be_seen_of_an_archive_before_all_of_it_is_there(store: Store) -> None:
    await put(store, record(V1))
    seen: list[Any] = []

    async def look() -> None:
        seen.append((await names(store), await default(store), await rows(store)))

    packages, _ = doing(store, AddPart, 4, look)
    await packages.put_package(record(V2, archive=LARGE))

    [(listed, routed, found)] = seen
    assert (listed, routed) == ([V1], V1)
    assert found["package_part"] == 4
    assert found["package_upload"] == 1
    assert await names(store) == sorted([V1, V2])


async def test_a_put_that_failed_leaves_parts_that_the_next_sweep_removes(store: Store, clock: VirtualClock) -> None:
    packages, _ = doing(store, AddPart, 3, fail)
    with pytest.raises(StoreUnavailable):
        await packages.put_package(record(archive=LARGE))
    assert await rows(store) == {"package_part": 2, "package_upload": 1}

    assert await store.packages.next_due() == clock.now()
    assert await store.packages.sweep(clock.now()) == 1
    assert await rows(store) == {}
    assert await store.packages.next_due() is None


async def test_an_upload_that_is_called_off_goes_when_its_time_is_over(store: Store, clock: VirtualClock) -> None:
    stored = asyncio.Event()

    async def for_ever() -> None:
        stored.set()
        await asyncio.Event().wait()

    packages, _ = doing(store, AddPart, 3, for_ever)
    task = asyncio.ensure_future(packages.put_package(record(archive=LARGE)))
    await stored.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await store.packages.next_due() == clock.now() + HOUR_US
    assert await store.packages.sweep(clock.now() + HOUR_US - 1) == 0
    assert await store.packages.sweep(clock.now() + HOUR_US) == 1
    assert await rows(store) == {}


@pytest.mark.parametrize(("kind", "nth"), [(AddPart, 4), (Put, 1)], ids=["part", "end"])
@pytest.mark.parametrize("whole", [True, False])
async def test_an_upload_that_rested_for_too_long_ends_and_leaves_nothing(
    store: Store, clock: VirtualClock, kind: type, nth: int, *, whole: bool
) -> None:
    """The sweep takes a few parts at a time, and the upload may go on in between."""

    async def rest() -> None:
        clock.advance(HOUR_US)
        if whole:
            await store.packages.sweep(clock.now())
        else:
            assert await store.access.writer.run(SweepParts(of=UPLOADS, now=clock.now())) == (0, True)

    packages, _ = doing(store, kind, nth, rest)
    with pytest.raises(UploadLost):
        await packages.put_package(record(archive=LARGE))
    assert await swept(store) == {}


async def test_an_upload_that_goes_on_keeps_its_time(store: Store, clock: VirtualClock) -> None:
    async def slowly() -> None:
        clock.advance(HOUR_US - 1)
        await store.packages.sweep(clock.now())

    packages, _ = doing(store, AddPart, 2, slowly, every=True)
    await packages.put_package(record(archive=LARGE))

    assert (await store.packages.get_package(V1)).archive == LARGE


async def test_the_same_archive_is_uploaded_once(store: Store) -> None:
    packages, writer = doing(store, AddPart, 0, fail)
    for each in (record(archive=LARGE), record(archive=LARGE), record(V1, "invoice", archive=LARGE)):
        await packages.put_package(each)

    assert writer.parts == 4
    assert (await swept(store))["package_part"] == 4
    await check(store)


async def test_what_went_while_the_same_was_put_again_is_uploaded_again(store: Store) -> None:
    await put(store, record(archive=LARGE))
    packages, writer = doing(store, Put, 1, lambda: store.packages.delete_package("order", V1))
    await packages.put_package(record(archive=LARGE))

    assert writer.parts == 4
    assert (await store.packages.get_package(V1)).archive == LARGE
    await check(store)


async def test_two_puts_of_the_same_archive_at_once_are_one(store: Store) -> None:
    await asyncio.gather(*(put(store, record(V1, name, archive=LARGE)) for name in ("order", "order", "invoice")))

    assert await swept(store) == {**LISTED, "package_type": 2, "package_route": 2, "package_log": 3}
    assert (await store.packages.get_package(V1)).archive == LARGE
    await check(store)


async def test_what_is_replaced_or_removed_leaves_no_parts(store: Store) -> None:
    await put(store, record(archive=LARGE), record(archive=noise(PART_SIZE + 1, seed=2)))
    assert (await rows(store))["package_part"] == 6
    assert await store.packages.sweep(store.access.clock.now()) == 1
    assert await rows(store) == {**LISTED, "package_part": 2, "package_log": 2}
    await store.packages.delete_package("order", V1)
    assert await swept(store) == {"package_route": 1, "package_log": 3}


# --- reads ---------------------------------------------------------------------------------------------------------------------------


class Looking:
    """A store's reader that counts the rows that it returns, by table; `then` is called before the n-th part."""

    def __init__(self, real: Any, nth: int = 0, then: Callable[[], Any] | None = None) -> None:
        self._real, self._left, self._then = real, nth, then
        self.read: Counter[str] = Counter()
        self.calls = 0

    async def get(self, key: Key[RowT]) -> RowT | None:
        self.calls += 1
        self.read[key.table.name] += 1
        if key.table is PART:
            self._left -= 1
            if self._left == 0 and self._then is not None:
                await self._then()
        found: RowT | None = await self._real.get(key)
        return found

    async def get_all(self, keys: Sequence[Key[RowT]]) -> list[RowT | None]:
        self.calls += 1
        self.read.update(key.table.name for key in keys)
        found: list[RowT | None] = await self._real.get_all(keys)
        return found

    async def scan(self, scan: Scan[RowT]) -> list[tuple[Key[RowT], RowT]]:
        self.calls += 1
        found: list[tuple[Key[RowT], RowT]] = await self._real.scan(scan)
        self.read[scan.index.table.name] += len(found)
        return found


def looking(store: Store, nth: int = 0, then: Callable[[], Any] | None = None) -> tuple[Packages, Looking]:
    reader = Looking(store.access.reader, nth, then)
    return Packages(store.access._replace(reader=reader), pins=PINS), reader  # type: ignore[arg-type]  # it is all that is needed


async def test_of_a_thousand_versions_only_what_is_asked_for_is_read_and_no_archive(store: Store) -> None:
    await many(store, MANY)
    packages, reader = looking(store)

    found = await packages.list_package_info()
    while page := await packages.list_package_info(after=found[-1].place):
        found += page
    assert len(found) == MANY
    assert found == sorted(found, key=lambda one: (one.workflow_type, one.content_hash))
    assert reader.read == {"package_type": MANY, "package": MANY, "package_route": MANY // limits.PAGE_DEFAULT}
    assert reader.calls == 3 * MANY // limits.PAGE_DEFAULT + 1

    await packages.list_package_info(workflow_type="order", limit=7)
    await packages.route_of("order")
    await packages.list_package_routes()
    await packages.deployments("order", limit=5)
    await packages.pins(hash_of(1))
    assert reader.read["package_part"] == 0
    assert reader.read["package"] == MANY + 7


async def test_pages_of_one_type_are_the_oldest_first(store: Store) -> None:
    every = await versions(store, 25)
    await versions(store, 3, "invoice")

    found = await store.packages.list_package_info(workflow_type="order", limit=10)
    while page := await store.packages.list_package_info(workflow_type="order", after=found[-1].place, limit=10):
        found += page

    assert [one.content_hash for one in found] == every
    assert [one.routed for one in found] == [False] * 24 + [True]


async def test_a_page_is_full_also_when_a_package_goes_while_it_is_read(store: Store) -> None:
    every = await versions(store, 5)
    packages, reader = looking(store)
    real = reader._real.get_all

    class Going:
        async def get_all(self, keys: Any) -> Any:
            await store.packages.delete_package("order", every[1])
            return await real(keys)

        def __getattr__(self, name: str) -> Any:
            return getattr(store.access.reader, name)

    reader._real = Going()
    found = await packages.list_package_info(workflow_type="order", limit=3)

    assert [one.content_hash for one in found] == [every[0], every[2], every[3]]


@pytest.mark.parametrize("then", ["replaced", "removed"])
async def test_who_reads_while_an_archive_is_put_again_sees_one_of_both_whole(store: Store, then: str) -> None:
    new, old = noise(2 * PART_SIZE, seed=2), record(archive=LARGE)
    await put(store, old)

    async def meanwhile() -> None:
        if then == "replaced":
            await put(store, record(archive=new, after=DAY))
        else:
            await store.packages.delete_package("order", V1)
        await swept(store)

    if then == "replaced":
        assert await looking(store, 2, meanwhile)[0].list_packages() == [record(archive=new, after=DAY)]
        await put(store, old)
        assert (await looking(store, 2, meanwhile)[0].get_package(V1)).archive == new
    else:
        with pytest.raises(PackageMissing):
            await looking(store, 2, meanwhile)[0].get_package(V1)
        await put(store, old, record(V2))
        assert [one.content_hash for one in await looking(store, 2, meanwhile)[0].list_packages()] == [V2]


async def test_an_archive_that_is_replaced_at_each_look_is_not_waited_for_endlessly(store: Store) -> None:
    await put(store, record(archive=b"0"))
    packages, reader = looking(store)
    count = 0

    async def again() -> None:
        nonlocal count
        count += 1
        reader._left = 1
        await put(store, record(archive=str(count).encode()))

    reader._left, reader._then = 1, again
    with pytest.raises(StoreBusy, match="again and again"):
        await packages.get_package(V1)
    assert count == limits.PACKAGE_READ_TRIES


@pytest.mark.parametrize("data", [None, b"x", b"\0" * 50])
async def test_a_damaged_archive_is_told_apart_and_hides_no_other(store: Store, data: bytes | None) -> None:
    await put(store, record(V1, archive=LARGE), record(V2, archive=b"a" * 5_000, after=DAY), record(V3, after=2 * DAY))
    for name in (V1, V2):
        await store.commit(Damage(name))
        if data is not None:
            await store.commit(Damage(name, data))

    for name in (V1, V2):
        with pytest.raises(StoreCorrupt, match=f"package {name}: its archive is damaged"):
            await store.packages.get_package(name)
    with pytest.raises(StoreCorrupt):
        await store.packages.list_packages()
    assert (await store.packages.get_package(V3)).archive == record(V3).archive
    assert await names(store, "order") == [V1, V2, V3]
    await put(store, record(V1, archive=b"whole again"))
    assert (await store.packages.get_package(V1)).archive == b"whole again"

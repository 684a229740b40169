"""Contract 5: where the system that the research on packages read is weak, and this store is not. Its section 6 A, by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import Store, TrustPolicy, VirtualClock
from perdure.clock import datetime_of
from perdure.conversations.tables import EVENT, PROCESS, EventRow
from perdure.core.backend import Found
from perdure.core.view import View
from perdure.errors import PackageMissing, PackagePinned, PackageRouted, ProcessTypeRetired, RejectedError
from perdure.packages.archive import unpack
from perdure.packages.contract import Action
from tests.contracts.packages import DAY, V1, V2, V3, Reopen, actions, check, default, names, put, record, rows, start
from tests.deploying.shops import key, shop, signed

HOUR_US = 3_600 * 1_000_000
TYPES = ["invoice", "order", "refund"]


class Refused:
    """A write that is committed with a deploy, and cannot be."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        raise RejectedError("this cannot be written")


async def test_weak_spot_a1_archive_and_routes_are_one_commit(store: Store, reopen: Reopen) -> None:
    await store.packages.put_package_with_routes(record(V1), TYPES)
    before = await rows(store)
    seen: list[tuple[list[str], set[str]]] = []

    async def look() -> None:
        listed = [one.content_hash for one in await store.packages.list_packages()]
        seen.append((listed, {route.content_hash for route in await store.packages.list_package_routes()}))

    with watching(store, look):
        with pytest.raises(RejectedError):
            await store.packages.deploy(record(V2, after=DAY), TYPES, also=[Refused()])
        await store.packages.put_package_with_routes(record(V3, after=DAY), TYPES)

    assert {(tuple(listed), *sorted(routes)) for listed, routes in seen} == {((V1,), V1), ((V1, V3), V3)}, "both old or both new"
    store = await reopen()
    left = await rows(store)
    assert {name: left[name] - before[name] for name in ("package", "package_type", "package_route")} == {
        "package": 1,
        "package_type": 1,
        "package_route": 0,
    }, "nothing is left of what was refused"
    await check(store)


class watching:  # noqa: N801  # it is used as a function
    """Call something behind each batch that the writer has tried."""

    def __init__(self, store: Store, look: Callable[[], Any]) -> None:
        self._writer, self._look = store.access.writer, look

    def __enter__(self) -> None:
        self._real = self._writer._backend
        self._writer._backend = Watched(self._real, self._look)  # type: ignore[assignment]  # it is all that is needed

    def __exit__(self, *_error: object) -> None:
        self._writer._backend = self._real


class Watched:
    """A backend, and what is called behind each of its commits; `read` counts the rows that it has returned, by table."""

    def __init__(self, real: Any, look: Callable[[], Any] | None = None) -> None:
        self._real, self._look = real, look
        self.read: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _counted(self, found: Found | None) -> Found | None:
        if found is not None:
            self.read.update(key.table.name for key in found.rows)
        return found

    async def prefetch(self, wanted: Any, *, locked: bool) -> Found | None:
        return self._counted(await self._real.prefetch(wanted, locked=locked))

    def read_now(self, wanted: Any) -> Found | None:
        return self._counted(self._real.read_now(wanted))

    async def apply(self, batch: Any) -> None:
        await self._real.apply(batch)
        if self._look is not None:
            await self._look()


@pytest.mark.parametrize("archive", [shop(1), signed(shop(1), 1), signed(shop(1), 1, 2)], ids=["unsigned", "signed", "signed twice"])
async def test_weak_spot_a6_what_was_stored_is_read_again_as_the_same_package(store: Store, reopen: Reopen, archive: bytes) -> None:
    trust = TrustPolicy([key(1)], required=archive != shop(1))
    taken = unpack(archive, trust=trust)
    await put(store, record(taken.identity, "Order", archive=archive))
    store = await reopen()

    stored = (await store.packages.get_package(taken.identity)).archive

    assert stored == archive, "nothing is stamped or written anew"
    assert unpack(stored, identity=taken.identity, trust=trust) == taken


async def test_weak_spot_a7_a_type_is_retired_and_its_last_version_goes(store: Store, clock: VirtualClock, reopen: Reopen) -> None:
    await put(store, record(V1), record(V2, after=DAY))
    assert await store.packages.rollback("order", "ann") == V1, "nobody has to type a hash"
    with pytest.raises(PackageRouted):
        await store.packages.unload(V1)

    await store.packages.retire("order", "ann")
    with pytest.raises(ProcessTypeRetired):
        await start(store, "p")
    await store.packages.unload(V1)
    clock.advance(365 * 24 * HOUR_US)
    assert [one.content_hash for one in await store.packages.collect(keep_last=0, older_than=DAY)] == [V2]

    store = await reopen()
    assert await names(store) == []
    assert [action for action, _, _ in await actions(store)] == [
        Action.DEPLOYED,
        Action.DEPLOYED,
        Action.ROLLED_BACK,
        Action.RETIRED,
        Action.UNLOADED,
        Action.COLLECTED,
    ]


class Said:
    """Let a process have a history."""

    def __init__(self, process_id: str, events: int) -> None:
        self._key, self._events = PROCESS.key("acme", process_id), events

    def reads(self) -> tuple[Any, ...]:
        return (self._key,)

    def decide(self, view: View) -> None:
        row = view.get(self._key)
        assert row is not None
        for seq in range(row.head, row.head + self._events):
            view.insert(EVENT.key("acme", row.stream_no, seq), EventRow(view.now, b"x" * 100))


async def test_weak_spot_a9_an_unload_reads_no_history_and_no_process_that_needs_another(store: Store) -> None:
    await put(store, record(V1), record(V2, after=DAY))
    for n in range(40):
        await start(store, f"p{n}", V2)
        await store.commit(Said(f"p{n}", 25))
    assert await store.access.reader.count(EVENT) == 1_000
    real = store.access.writer._backend
    store.access.writer._backend = watched = Watched(real)  # type: ignore[assignment]  # it is all that is needed
    try:
        await store.packages.unload(V1)
    finally:
        store.access.writer._backend = real

    assert watched.read["package"] > 0, "this counts what is read"
    assert set(watched.read) <= {"package", "package_type", "package_route", "package_rule", "package_part", "package_log"}


async def test_weak_spot_a10_who_still_runs_on_a_version_is_asked_for_by_the_version(store: Store, reopen: Reopen) -> None:
    await put(store, record(V1), record(V2, after=DAY))
    for tenant, process_id, package in (("a", "one", V1), ("b", "two", V1), ("a", "three", V2), ("a", "four", None)):
        await start(store, process_id, package or V2, tenant_id=tenant, status="waiting")

    store = await reopen()
    found = {name: await store.packages.pins(name) for name in (V1, V2)}

    assert [(one.tenant_id, one.process_id) for one in found[V1].holders] == [("a", "one"), ("b", "two")]
    assert found[V2].counts == {"waiting": 2}


async def test_weak_spot_a12_the_log_keeps_who_when_and_what_was_before(store: Store, clock: VirtualClock, reopen: Reopen) -> None:
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("ann", lambda: store.packages.put_package(record(V1), actor="ann", built_with={"commit": "c0ffee"})),
        ("bob", lambda: store.packages.put_package(record(V2, after=DAY), actor="bob")),
        ("cat", lambda: store.packages.put_package_route("order", V1, actor="cat")),
        ("dan", lambda: store.packages.rollback("order", "dan")),
        ("eve", lambda: store.packages.set_route("order", V1, tenant="acme", actor="eve")),
        ("fay", lambda: store.packages.retire("order", "fay")),
        ("gus", lambda: store.packages.unload(V1, "gus")),
    ]
    times = []
    for _, step in steps:
        clock.advance(HOUR_US)
        times.append(datetime_of(clock.now()))
        await step()

    store = await reopen()
    told = list(reversed(await store.packages.deployments("order")))
    by_retirement = [entry for entry in told if entry.actor == "fay"]
    others = [entry for entry in told if entry.actor != "fay"]

    assert [(one.actor, one.content_hash, one.previous_hash) for one in others] == [
        ("ann", V1, None),
        ("bob", V2, V1),
        ("cat", V1, V2),
        ("dan", V2, V1),
        ("eve", V1, None),
        ("gus", V1, None),
    ]
    assert {one.previous_hash for one in by_retirement} >= {V2}
    assert [one.at for one in others] == [*times[:5], times[6]]
    assert others[0].built_with == {"commit": "c0ffee"}
    assert await default(store) is None


async def test_weak_spot_a3_whoever_may_go_on_keeps_its_version(store: Store, reopen: Reopen) -> None:
    """Paused, failed and stranded processes are in no memory, and are looked for all the same."""
    for n, status in enumerate(("paused", "failed", "stranded", "stuck")):
        await put(store, record(V1), record(V2, after=DAY))
        await start(store, f"p{n}", V1, status=status)
        store = await reopen()
        with pytest.raises(PackagePinned) as refused:
            await store.packages.unload(V1)
        assert status in refused.value.counts


async def test_weak_spot_a3_what_is_gone_cannot_be_started(store: Store) -> None:
    await put(store, record(V1), record(V2, after=timedelta(days=1)))
    await store.packages.unload(V1)
    before = await rows(store)

    with pytest.raises(PackageMissing):
        await start(store, "p", V1)

    assert await store.access.reader.count(PROCESS) == 0
    assert await rows(store) == before

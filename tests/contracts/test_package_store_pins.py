"""Contract 5: who needs a package, and how it goes when nobody does. Source: packages.md, "Pins"; research on packages, 6 A 3, 7 and 10."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import Store, VirtualClock, limits
from perdure.conversations.tables import ProcessStatus
from perdure.errors import PackageMissing, PackagePinned, PackageRouted, PinHolder
from perdure.packages.contract import Action, Unloaded
from perdure.packages.routes import By
from perdure.packages.tables import PACKAGE
from perdure.packages.writes import NotUnloaded, Unload
from perdure.store import PINS
from tests.contracts.packages import (
    DAY,
    V1,
    V2,
    V3,
    Become,
    Reopen,
    Start,
    actions,
    check,
    default,
    hash_of,
    names,
    put,
    record,
    start,
    swept,
    versions,
)

NEEDS = [status for status in ProcessStatus if status not in {ProcessStatus.ENDED, ProcessStatus.REMOVED}]
DAY_US = 86_400 * 1_000_000


@pytest.fixture
async def old(store: Store) -> Store:
    """A version that no route leads to any more, and the one that does."""
    await put(store, record(V1), record(V2, after=DAY))
    return store


# --- pins ---------------------------------------------------------------------------------------------------------------


async def test_whoever_may_still_run_a_version_is_counted_and_named(old: Store, reopen: Reopen) -> None:
    for n, status in enumerate(ProcessStatus):
        await start(old, f"p{n}", V1, status=status, tenant_id="b")
    await start(old, "p", V1, tenant_id="a", process_type="invoice")
    await start(old, "other", V2)

    store = await reopen()
    found = await store.packages.pins(V1)

    assert found.counts == {status.value: 1 + (status == ProcessStatus.RUNNABLE) for status in NEEDS}
    assert found.total == len(NEEDS) + 1
    assert found.holders[0] == PinHolder("a", "p", "invoice", "runnable")
    assert [one.process_id for one in found.holders[1:]] == [f"p{n}" for n, status in enumerate(ProcessStatus) if status in NEEDS]
    assert not found.more
    assert (await store.packages.pins(V3)).total == 0


async def test_local_code_needs_no_package(store: Store) -> None:
    await start(store, "local", None)
    assert (await store.packages.pins(V1)).total == 0


async def test_the_first_hundred_are_named_and_all_are_counted(old: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_PAGE", 50)
    await old.commit(*(Start(f"p{n:03}", V1) for n in range(130)))

    found = await old.packages.pins(V1)
    assert (found.total, found.more) == (130, False)
    assert [one.process_id for one in found.holders] == [f"p{n:03}" for n in range(100)]
    monkeypatch.setattr(limits, "LIST_ROWS_MAX", 100)
    assert ((await old.packages.pins(V1)).total, (await old.packages.pins(V1)).more) == (100, True)
    with pytest.raises(PackagePinned, match="over 100 processes need it") as refused:
        await old.packages.unload(V1)
    assert refused.value.more


# --- unload ---------------------------------------------------------------------------------------------------------------


async def test_what_nobody_needs_is_unloaded_with_its_archive_and_all_its_types(old: Store, reopen: Reopen) -> None:
    await old.packages.deploy(record(V1), ["invoice", "refund"], routes=[])

    gone = await old.packages.unload(V1, "ann")

    assert gone == Unloaded(content_hash=V1, workflow_types=("invoice", "order", "refund"), size=len(record(V1).archive))
    store = await reopen()
    assert await names(store) == [V2]
    with pytest.raises(PackageMissing):
        await store.packages.get_package(V1)
    for name in gone.workflow_types:
        assert (await store.packages.deployments(name))[0].action == Action.UNLOADED
        assert (await store.packages.deployments(name))[0].actor == "ann"
    assert await swept(store) == {"package": 1, "package_part": 1, "package_type": 1, "package_route": 1, "package_log": 8}
    await check(store)


@pytest.mark.parametrize("status", NEEDS)
async def test_a_process_that_is_not_over_or_can_be_restarted_keeps_its_version(old: Store, status: ProcessStatus) -> None:
    await start(old, "p", V1, status=status)

    with pytest.raises(PackagePinned, match=f"1 process needs it .1 {status}, 'p' of tenant 'acme' among them") as refused:
        await old.packages.unload(V1)

    assert refused.value.code == "package-pinned"
    assert refused.value.counts == {status: 1}
    assert refused.value.holders == (PinHolder("acme", "p", "order", status),)
    assert await names(old) == [V1, V2]
    assert (await old.packages.get_package(V1)).archive == record(V1).archive


@pytest.mark.parametrize("status", [ProcessStatus.ENDED, ProcessStatus.REMOVED])
async def test_a_version_goes_after_the_last_process_that_needed_it(old: Store, status: ProcessStatus) -> None:
    for name in ("first", "last"):
        await start(old, name, V1)
    await old.commit(Become("first", status))
    with pytest.raises(PackagePinned, match="'last'"):
        await old.packages.unload(V1)
    await old.commit(Become("last", status))

    await old.packages.unload(V1)

    assert await names(old) == [V2]


async def test_what_a_rule_leads_to_stays(old: Store) -> None:
    await old.packages.put_package_route("invoice", V1)
    await old.packages.set_route("order", V1, weight=1)
    await old.packages.set_route("refund", V1, tenant="acme")
    for left in (["invoice", "order", "refund"], ["order", "refund"], ["refund"]):
        with pytest.raises(PackageRouted, match="lead to it; route them elsewhere, or retire them") as refused:
            await old.packages.unload(V1)
        assert (refused.value.workflow_types, refused.value.code) == (tuple(left), "package-routed")
        match left[0]:
            case "invoice":
                await old.packages.retire("invoice")
            case "order":
                await old.packages.set_route("order", V1, weight=0)
            case _:
                await old.packages.set_route("refund", None, tenant="acme")

    await old.packages.unload(V1)
    assert await names(old) == [V2]
    await check(old)


async def test_the_first_hundred_types_are_named(old: Store) -> None:
    await old.packages.put_package_with_routes(record(V1), [f"type {n:03}" for n in range(120)])
    with pytest.raises(PackageRouted, match="'type 004', …") as refused:
        await old.packages.unload(V1)
    assert refused.value.workflow_types == tuple(f"type {n:03}" for n in range(100))


async def test_what_is_not_stored_cannot_be_unloaded(old: Store) -> None:
    with pytest.raises(PackageMissing):
        await old.packages.unload(V3)
    await old.packages.unload(V1)
    with pytest.raises(PackageMissing):
        await old.packages.unload(V1)


async def test_who_starts_after_an_unload_is_refused(old: Store) -> None:
    await old.packages.unload(V1)
    with pytest.raises(PackageMissing):
        await start(old, "p", V1)
    await put(old, record(V1))
    assert await start(old, "p", V1) == V1


async def test_a_word_that_a_package_is_to_go_does_no_harm(old: Store) -> None:
    """Whoever has said it may have died."""
    write = Unload(content_hash=V1, pins=PINS, by=By("ann"))
    assert await old.commit(write) == (NotUnloaded.ANNOUNCED,)

    assert await start(old, "p", V1) == V1, "it is there as long as it is there"
    row = await old.access.reader.get(PACKAGE.key(V1))
    assert row is not None
    assert not row.unloading, "who needs it has taken the word back"
    with pytest.raises(PackagePinned):
        await old.packages.unload(V1)
    await old.commit(Become("p", ProcessStatus.ENDED))
    assert (await old.packages.unload(V1)).content_hash == V1


# --- collect ----------------------------------------------------------------------------------------------------------------


async def test_what_is_old_unrouted_and_unpinned_is_collected(store: Store, clock: VirtualClock) -> None:
    every = await versions(store, 8)
    await start(store, "p", every[1])
    await store.packages.put_package_route("refund", every[2])
    clock.advance(30 * DAY_US)

    gone = await store.packages.collect(older_than=30 * DAY, actor="nightly")

    assert [one.content_hash for one in gone] == [every[0], every[3], every[4]]
    assert await names(store, "order") == [every[n] for n in (1, 2, 5, 6, 7)]
    assert [entry for entry in await actions(store) if entry[0] == Action.COLLECTED] == [
        (Action.COLLECTED, every[n], None) for n in (0, 3, 4)
    ]
    assert (await store.packages.deployments("order"))[0].actor == "nightly"
    assert await store.packages.collect(older_than=30 * DAY) == []
    await check(store)


async def test_nothing_is_collected_before_its_time(store: Store, clock: VirtualClock) -> None:
    await store.packages.deploy(record(V1), routes=[])
    clock.advance(DAY_US)
    assert await store.packages.collect(keep_last=0, older_than=DAY + timedelta(microseconds=1)) == []
    await store.packages.deploy(record(V1), routes=[])
    clock.advance(DAY_US - 1)
    assert await store.packages.collect(keep_last=0, older_than=DAY) == [], "it was put again"
    clock.advance(1)
    assert [one.content_hash for one in await store.packages.collect(keep_last=0, older_than=DAY)] == [V1]


@pytest.mark.parametrize("rule", [{}, {"weight": 1}, {"tenant": "acme"}], ids=["default", "weight", "tenant"])
@pytest.mark.parametrize("ends", ["elsewhere", "retired"])
async def test_what_a_rule_has_led_to_is_in_use_until_then(old: Store, clock: VirtualClock, rule: dict[str, Any], ends: str) -> None:
    await old.packages.set_route("order", V1, **rule)
    clock.advance(10 * DAY_US)
    if ends == "retired":
        await old.packages.retire("order")
    elif rule.get("tenant"):
        await old.packages.set_route("order", None, tenant="acme")
    else:
        await old.packages.set_route("order", V2)

    clock.advance(DAY_US - 1)
    assert V1 not in [one.content_hash for one in await old.packages.collect(keep_last=0, older_than=DAY)]
    clock.advance(1)
    assert V1 in [one.content_hash for one in await old.packages.collect(keep_last=0, older_than=DAY)]


async def test_the_last_versions_of_each_type_stay_by_the_time_of_their_deployer(store: Store, clock: VirtualClock) -> None:
    await put(store, record(V1, after=2 * DAY), record(V2), record(V3, after=DAY))
    await store.packages.retire("order")
    clock.advance(DAY_US)

    assert [one.content_hash for one in await store.packages.collect(keep_last=2, older_than=DAY)] == [V2]
    assert await store.packages.collect(keep_last=2, older_than=DAY) == []
    assert [one.content_hash for one in await store.packages.collect(keep_last=1, older_than=DAY)] == [V3]
    assert [one.content_hash for one in await store.packages.collect(keep_last=0, older_than=DAY)] == [V1]


async def test_a_package_that_is_among_the_last_of_one_of_its_types_stays_for_all(store: Store, clock: VirtualClock) -> None:
    await store.packages.deploy(record(V1), ["invoice"], routes=[])
    await store.packages.deploy(record(V2, after=DAY), routes=[])
    clock.advance(DAY_US)

    assert await store.packages.collect(keep_last=1, older_than=DAY) == []
    await store.packages.deploy(record(V3, "invoice", after=DAY), routes=[])
    assert [one.content_hash for one in await store.packages.collect(keep_last=1, older_than=DAY)] == [V1]


async def test_what_can_be_rolled_back_to_stays_with_the_last_versions(store: Store, clock: VirtualClock) -> None:
    every = await versions(store, 5)
    clock.advance(365 * DAY_US)
    await store.packages.collect(older_than=DAY)

    assert await store.packages.rollback("order") == every[3]
    assert await default(store) == every[3]


async def test_many_versions_are_collected_page_by_page(store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_PAGE", 7)
    for n in range(30):
        await store.packages.deploy(record(hash_of(n), f"type {n % 4}", after=n * DAY), routes=[])
    clock.advance(DAY_US)

    gone = await store.packages.collect(keep_last=2, older_than=DAY)

    assert [one.content_hash for one in gone] == [hash_of(n) for n in range(22)]
    assert len(await names(store)) == 8

"""Contract 5: what is put comes back, in order; what is deleted is gone. Source: seed 5; research on packages, 4.1 and appendix A."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure import Store, limits
from perdure.clock import datetime_of
from perdure.errors import PackageMissing
from perdure.packages.contract import Action, PackageRouteRecord
from tests.contracts.packages import (
    AT,
    DAY,
    V1,
    V2,
    V3,
    Reopen,
    actions,
    check,
    default,
    hash_of,
    names,
    noise,
    put,
    record,
    replace,
    rows,
    swept,
)

MICROSECOND = timedelta(microseconds=1)
FIRST, LAST = (when.replace(tzinfo=UTC) for when in (datetime.min, datetime.max))  # noqa: DTZ901  # they have one right after


# --- put and list: the seed's own scenarios ------------------------------------------------------------------------


async def test_packages_are_listed_in_the_order_of_their_deploys_whatever_order_they_came_in(store: Store, reopen: Reopen) -> None:
    late, early, middle = record(V1, after=2 * DAY), record(V2), record(V3, "invoice", after=DAY)
    await put(store, late, early, middle)

    store = await reopen()

    assert await store.packages.list_packages() == [early, middle, late]
    await check(store)


async def test_a_package_that_is_put_again_replaces_its_row(store: Store) -> None:
    await put(store, record(), record(V2, after=DAY))
    again = record(archive=b"other bytes of the same hash", after=2 * DAY)
    await put(store, again)

    assert await store.packages.list_packages() == [record(V2, after=DAY), again]
    await check(store)


async def test_a_put_points_the_route_again_also_after_a_rollback(store: Store) -> None:
    await put(store, record(V1), record(V2))
    await store.packages.put_package_route("order", V1)
    await put(store, record(V2))

    assert await store.packages.list_package_routes() == [PackageRouteRecord(workflow_type="order", content_hash=V2)]
    assert len(await store.packages.list_packages()) == 2


async def test_an_archive_of_several_types_is_stored_once_and_all_their_routes_lead_to_it(store: Store, reopen: Reopen) -> None:
    await store.packages.put_package_with_routes(record(), ["invoice", "order", "refund"])

    store = await reopen()

    assert await store.packages.list_packages() == [record()], "it is listed for the type of the record alone"
    assert [route.workflow_type for route in await store.packages.list_package_routes()] == ["invoice", "order", "refund"]
    assert {route.content_hash for route in await store.packages.list_package_routes()} == {V1}


async def test_a_route_that_is_pointed_elsewhere_leaves_the_archives_alone(store: Store) -> None:
    await put(store, record(V1), record(V2, after=DAY))
    await store.packages.put_package_route("order", V1)

    assert await default(store) == V1
    assert await store.packages.list_packages() == [record(V1), record(V2, after=DAY)]


async def test_a_delete_removes_its_target_alone_and_what_is_not_there_is_no_error(store: Store, reopen: Reopen) -> None:
    await put(store, record(V1), record(V2, after=DAY), record(V3, "invoice", after=2 * DAY))

    await store.packages.delete_package("order", V1)
    await store.packages.delete_package("order", V1)
    await store.packages.delete_package("order", V3)
    await store.packages.delete_package("nothing", hash_of("never stored"))

    store = await reopen()
    assert await store.packages.list_packages() == [record(V2, after=DAY), record(V3, "invoice", after=2 * DAY)]
    assert await swept(store) == {"package": 2, "package_part": 2, "package_type": 2, "package_route": 2, "package_log": 4}
    await check(store)


async def test_routes_are_listed_by_type_and_need_no_archive(store: Store, reopen: Reopen) -> None:
    for name in ("b", "a", "é", "Z", "aa"):
        await store.packages.put_package_route(name, hash_of(name))

    store = await reopen()

    assert [route.workflow_type for route in await store.packages.list_package_routes()] == ["Z", "a", "aa", "b", "é"]
    assert await store.packages.list_packages() == []


# --- order ------------------------------------------------------------------------------------------------------------


async def test_equal_times_are_in_the_order_of_type_then_hash(store: Store) -> None:
    made = [record(name, each) for each in ("b", "B", "ß", "a") for name in (V3, V1, V2)]
    await put(store, *made)

    assert await store.packages.list_packages() == sorted(made, key=lambda one: (one.workflow_type.encode(), one.content_hash))


async def test_a_microsecond_makes_an_order(store: Store) -> None:
    first, second = sorted([V1, V2], reverse=True)
    await put(store, record(first, after=MICROSECOND), record(second, after=2 * MICROSECOND), record(V3))

    assert [one.content_hash for one in await store.packages.list_packages()] == [V3, first, second]
    assert [one.deployed_at.microsecond for one in await store.packages.list_packages()] == [0, 1, 2]


async def test_times_come_back_in_utc_and_are_ordered_as_instants(store: Store) -> None:
    tokyo = AT.astimezone(timezone(timedelta(hours=9)))
    await put(store, record(V2), replace(record(V1), deployed_at=tokyo - MICROSECOND))

    found = await store.packages.list_packages()

    assert [one.content_hash for one in found] == [V1, V2]
    assert [one.deployed_at.utcoffset() for one in found] == [timedelta(0)] * 2
    assert found[0].deployed_at == AT - MICROSECOND


@pytest.mark.parametrize("when", [FIRST, LAST, datetime_of(-1), datetime_of(0)])
async def test_any_time_comes_back(store: Store, when: datetime) -> None:
    await put(store, record(after=when - AT))

    [found] = await store.packages.list_packages()
    assert found.deployed_at == when


async def test_a_package_that_is_put_again_moves_in_the_order_also_back_in_time(store: Store) -> None:
    await put(store, record(V1), record(V2, after=DAY), record(V1, after=2 * DAY))
    assert [one.content_hash for one in await store.packages.list_packages()] == [V2, V1]
    await put(store, record(V1, after=-DAY))
    assert [one.content_hash for one in await store.packages.list_packages()] == [V1, V2]


@pytest.mark.parametrize("odd", ["a:b", "a/b", "a$b", "a b", "日本", "😀", "e\u0301", "é", "%", "'", '"', "\\", "a" * 256])
async def test_any_type_is_a_type_of_its_own(store: Store, odd: str) -> None:
    await put(store, record(V1, odd), record(V2, odd + "~" if len(odd) < 256 else odd[:-1]), record(V3, "a"))

    assert [one.content_hash for one in await store.packages.list_packages() if one.workflow_type == odd] == [V1]
    assert await default(store, odd) == V1
    assert await names(store, odd) == [V1]


async def test_types_that_differ_in_case_or_form_alone_stay_apart(store: Store) -> None:
    for name in ("order", "Order", "e\u0301", "é"):
        await put(store, record(hash_of(name), name))

    assert {route.workflow_type: route.content_hash for route in await store.packages.list_package_routes()} == {
        name: hash_of(name) for name in ("order", "Order", "e\u0301", "é")
    }


# --- put ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "archive",
    [b"\0", bytes(range(256)) * 3, bytes(5 * limits.PACKAGE_PART), noise(limits.PACKAGE_PART), noise(2 * limits.PACKAGE_PART + 1)],
    ids=["one byte", "every byte", "zeros", "a part", "three parts"],
)
async def test_every_byte_comes_back(store: Store, reopen: Reopen, archive: bytes) -> None:
    await put(store, record(archive=archive))
    store = await reopen()

    assert (await store.packages.get_package(V1)).archive == archive
    assert [one.archive for one in await store.packages.list_packages()] == [archive]
    await check(store)


async def test_the_largest_archive_comes_back(store: Store) -> None:
    archive = noise(limits.PACKAGE_ARCHIVE_MAX)
    await put(store, record(archive=archive))

    assert (await store.packages.get_package(V1)).archive == archive
    assert (await rows(store))["package_part"] == limits.PACKAGE_ARCHIVE_MAX // limits.PACKAGE_PART


async def test_a_group_is_routed_whatever_its_list_says(store: Store) -> None:
    await put(store, record(V3, "other"), record(V3, "order"))

    await store.packages.put_package_with_routes(record(V1), [])
    assert await default(store) == V3, "an empty list touches no route"
    await store.packages.put_package_with_routes(record(V1), ["refund", "refund", "invoice"])
    assert await default(store) == V3, "the list need not hold the type of the record"

    assert [await default(store, each) for each in ("refund", "invoice", "other")] == [V1, V1, V3]
    assert await actions(store, "refund") == [(Action.DEPLOYED, V1, None)], "a repeat is harmless"
    assert (await actions(store))[1:] == [(Action.STORED, V1, None)] * 2


async def test_what_is_put_for_one_type_leaves_others_alone(store: Store) -> None:
    await put(store, record(V1, "order"), record(V2, "invoice"))
    await put(store, record(V3, "order"))

    assert await default(store, "invoice") == V2
    assert await names(store, "invoice") == [V2]


async def test_an_archive_is_stored_once_for_each_hash_and_replaced_for_all_its_types(store: Store) -> None:
    await put(store, record(V1, "order"), record(V1, "invoice", after=DAY))
    assert (await swept(store))["package_part"] == 1

    await put(store, record(V1, "order", archive=b"new", after=2 * DAY))

    assert [(one.workflow_type, one.archive) for one in await store.packages.list_packages()] == [("invoice", b"new"), ("order", b"new")]
    assert (await swept(store))["package_part"] == 1
    await check(store)


async def test_what_is_put_is_not_changed_by_what_comes_back(store: Store) -> None:
    given = record()
    await put(store, given)
    [first], [second] = await store.packages.list_packages(), await store.packages.list_packages()

    assert first == second == given
    assert first is not second


# --- delete -----------------------------------------------------------------------------------------------------------------


async def test_a_hash_that_another_type_has_survives_a_delete_with_its_archive(store: Store) -> None:
    await put(store, record(V1, "order"), record(V1, "invoice"))
    await store.packages.delete_package("order", V1)

    assert await store.packages.list_packages() == [record(V1, "invoice")]
    assert (await store.packages.get_package(V1)).workflow_types == ("invoice",)
    await store.packages.delete_package("invoice", V1)
    with pytest.raises(PackageMissing, match=V1):
        await store.packages.get_package(V1)
    await check(store)


async def test_a_route_survives_the_delete_of_its_archive(store: Store, reopen: Reopen) -> None:
    await put(store, record(V1))
    await store.packages.delete_package("order", V1)
    store = await reopen()

    assert await default(store) == V1
    assert await store.packages.list_packages() == []


async def test_what_was_deleted_can_be_put_again(store: Store) -> None:
    await put(store, record(V1))
    await store.packages.delete_package("order", V1)
    await swept(store)
    await put(store, record(V1, after=DAY))

    assert await store.packages.list_packages() == [record(V1, after=DAY)]
    assert await actions(store) == [(Action.DEPLOYED, V1, None), (Action.DELETED, V1, None), (Action.DEPLOYED, V1, V1)]
    await check(store)


# --- by hash -------------------------------------------------------------------------------------------------------------------


async def test_a_package_is_got_by_its_hash_with_all_its_types(store: Store) -> None:
    await put(store, record(V1, "order", after=DAY), record(V1, "invoice"), record(V2, "order"))

    found = await store.packages.get_package(V1)

    assert found.content_hash == V1
    assert found.archive == record(V1).archive
    assert found.workflow_types == ("invoice", "order")
    assert found.deployed_at == AT + DAY


async def test_what_is_not_stored_is_missing(store: Store) -> None:
    await store.packages.put_package_route("order", V1)
    with pytest.raises(PackageMissing, match="is not stored") as missing:
        await store.packages.get_package(V1)
    assert missing.value.code == "package-missing"
    assert missing.value.content_hash == V1

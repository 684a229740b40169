"""Contract 5: packages of several types, clocks that go back, stores that are closed, and changes that are cut.

Research on packages, 4.4 and appendix A, "Engine level": a crash at each step of a route, an unload and a collection converges.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perdure import Store, VirtualClock, open_store
from perdure.core.backend import CommitUnknown
from perdure.errors import LeaseLost, PackageMissing, PackagePinned, PerdureError, StoreUnavailable
from perdure.packages.contract import Action
from tests.contracts.packages import DAY, HOUR_US, V1, V2, V3, Reopen, actions, check, default, names, put, record, rows, start, swept
from tests.crash.test_every_call import Failing
from tests.stores import Stores, stores

# --- packages of several types -------------------------------------------------------------------------------------------


async def test_a_process_of_one_type_keeps_all_types_of_its_package_also_after_a_restart(store: Store, reopen: Reopen) -> None:
    await store.packages.deploy(record(V1), ["invoice", "order"])
    await store.packages.deploy(record(V2, after=DAY), ["invoice", "order"])
    await start(store, "p", V1, process_type="invoice", status="waiting")

    store = await reopen()

    with pytest.raises(PackagePinned) as refused:
        await store.packages.unload(V1)
    assert [one.process_type for one in refused.value.holders] == ["invoice"]
    assert (await names(store, "order"), await names(store, "invoice")) == ([V1, V2], [V1, V2])
    assert await start(store, "o", V1) == V1, "a refused unload takes nothing away"


async def test_a_deploy_brings_types_together_again_that_were_routed_apart(store: Store) -> None:
    await store.packages.deploy(record(V1), ["invoice", "order"])
    await put(store, record(V3, "invoice"))
    await store.packages.deploy(record(V2, after=DAY), ["invoice", "order"], routes=["order"])
    assert (await default(store, "order"), await default(store, "invoice")) == (V2, V3)

    done = await store.packages.deploy(record(V1, after=2 * DAY), ["invoice", "order"])

    assert (done.freshly_stored, done.routes_changed) == (False, ("order", "invoice"))
    assert (await default(store, "order"), await default(store, "invoice")) == (V1, V1)


# --- time, and the end ----------------------------------------------------------------------------------------------------


async def test_a_clock_that_goes_back_between_deploys_turns_nothing_round(store: Store, clock: VirtualClock, reopen: Reopen) -> None:
    await put(store, record(V1, after=DAY))
    clock.advance(-24 * HOUR_US)
    await put(store, record(V2))
    store = await reopen()

    assert await default(store) == V2, "it came last"
    assert await actions(store) == [(Action.DEPLOYED, V1, None), (Action.DEPLOYED, V2, V1)]
    assert [one.content_hash for one in await store.packages.list_packages()] == [V2, V1], "as their deployers' clocks said"
    assert await store.packages.rollback("order") == V1
    clock.advance(-24 * HOUR_US)
    assert await store.packages.collect(keep_last=0, older_than=DAY) == []
    await check(store)


async def test_a_store_that_is_closed_takes_no_package(store: Store) -> None:
    await put(store, record(V1))
    await store.close()

    for call in (
        store.packages.put_package(record(V2)),
        store.packages.deploy(record(V2)),
        store.packages.put_package_route("order", V2),
        store.packages.rollback("order"),
        store.packages.unload(V1),
    ):
        with pytest.raises(StoreUnavailable):
            await call


# --- changes that are cut ---------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What there is to see of the type and its versions."""

    stored: list[str]
    rules: list[Any]
    logged: int


async def seen(store: Store) -> Seen:
    return Seen(await names(store, "order"), await store.packages.route_of("order"), (await rows(store)).get("package_log", 0))


async def _before(store: Store) -> None:
    await put(store, record(V1), record(V2, after=DAY), record(V3, after=2 * DAY))
    await store.packages.set_route("order", V2, tenant="acme")
    await store.packages.set_route("order", V2, weight=10)


CHANGES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "route": lambda store: store.packages.put_package_route("order", V1),
    "retire": lambda store: store.packages.retire("order"),
    "unload": lambda store: store.packages.unload(V1),
    "collect": lambda store: store.packages.collect(keep_last=0, older_than=0 * DAY),
}
TRIED = [*(("file", change, ("apply", "applied")) for change in CHANGES), ("postgres", "unload", ("applied",))]
"""On a server a run takes ten times as long, so there it is the one that is of two transactions, behind each."""


async def _run(made: Stores, prepared: str, change: str, failing: tuple[str, int]) -> tuple[bool, Seen]:
    """Let one call of the writer fail while something is changed; return whether there was one, and what is left."""
    clock, failed = VirtualClock(), False
    with made.copy(prepared) as url:
        try:
            async with open_store(url, clock=clock) as store:
                store.access.writer._backend = Failing(*failing, store.access.writer._backend)
                await CHANGES[change](store)
        except LeaseLost:
            raise
        except (PerdureError, CommitUnknown):
            failed = True
        async with open_store(url, clock=clock) as store:
            left = await seen(store)
            await check(store)
            assert (await swept(store))["package_part"] == len(left.stored), "the archives that are listed, and no others"
            if V1 in left.stored:
                assert await start(store, "p", V1) == V1, "what is there can be started"
            else:
                with pytest.raises(PackageMissing):
                    await start(store, "p", V1)
    return failed, left


@pytest.mark.parametrize(("kind", "change", "calls"), TRIED)
async def test_whichever_call_fails_a_change_is_made_or_not(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, change: str, calls: tuple[str, ...]
) -> None:
    made = stores(request, kind, tmp_path)
    with made.new() as prepared:
        async with open_store(prepared, clock=VirtualClock()) as store:
            await _before(store)
            before = await seen(store)
        with made.copy(prepared) as url:
            async with open_store(url, clock=VirtualClock()) as store:
                await CHANGES[change](store)
                after = await seen(store)
        assert before != after
        for call in calls:
            found = []
            for nth in itertools.count(1):
                failed, left = await _run(made, prepared, change, (call, nth))
                if not failed:
                    break
                found.append(left)
            assert [left for left in found if left not in (before, after)] == []
            assert found, "there is a call that can fail"
            if call == "applied":
                assert after in found, "what was committed stands, though its caller did not hear of it"

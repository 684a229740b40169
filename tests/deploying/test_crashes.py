"""A deploy that is cut at any call of the writer: archive, schemas, routes and log, with all signatures, or none of it; and again, all of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import perdure
from perdure.clock import VirtualClock
from perdure.errors import LeaseLost, PerdureError
from perdure.store import open_store
from tests.contracts.packages import check
from tests.crash.test_every_call import CALLS, Failing
from tests.deploying.shops import Seen, identity, key, seen, shop, signed, signers
from tests.stores import DURABLE, Stores, stores

OLD, NEW = signed(shop(1), 1), signed(shop(2), 2)
OTHERS = signed(shop(2), 3)  # somebody else's signature of the same package, who only stores it
BEFORE = Seen(archives=2, schemas=1, routes=dict.fromkeys(("Order", "Refund"), identity(OLD)), logged=4)
AFTER = Seen(archives=2, schemas=1, routes=dict.fromkeys(("Order", "Refund"), identity(NEW)), logged=6)


async def _run(made: Stores, call: str, nth: int) -> tuple[bool, Seen, set[str]]:
    """Let one call of the writer fail while a version is deployed; return whether there was one, and what is left."""
    clock, failed = VirtualClock(), False
    with made.new() as url:
        async with open_store(url, clock=clock) as store:
            await perdure.deploy(store, OLD, load=False)
            await perdure.deploy(store, OTHERS, load=False, routes=())
        try:
            async with open_store(url, clock=clock) as store:
                store.access.writer._backend = Failing(call, nth, store.access.writer._backend)
                await perdure.deploy(store, NEW, load=False)
        except LeaseLost:
            raise
        except PerdureError:
            failed = True
        async with open_store(url, clock=clock) as store:
            left, keys = await seen(store), await signers(store, NEW)
            await check(store)
            await perdure.deploy(store, NEW, load=False)
            assert (await seen(store)).routes == AFTER.routes
            assert await signers(store, NEW) == {key(2), key(3)}
            await check(store)
    return failed, left, keys


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", DURABLE)
async def test_whichever_call_fails_there_is_all_of_a_deploy_or_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, call: str
) -> None:
    made, found = stores(request, kind, tmp_path), []
    for nth in itertools.count(1):
        failed, *left = await _run(made, call, nth)
        if not failed:
            break
        found.append(tuple(left))

    assert [left for left in found if left not in ((BEFORE, {key(3)}), (AFTER, {key(2), key(3)}))] == []
    assert found

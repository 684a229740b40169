"""Contract 1: races of nodes that do not lock, commits of unknown outcome, and batches.

`n` numbers holes in the tests of the seed's system.
Source: the list of them in the research on routing.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.clock import VirtualClock
from perdure.core.access import Access
from perdure.core.backend import CommitUnknown
from perdure.core.signals import Signals
from perdure.core.view import View
from perdure.core.write import Write
from perdure.core.writer import Writer
from perdure.errors import StoreUnavailable
from perdure.routing.registry import Registry
from perdure.routing.tables import KEY, KEYS_COUNTER, REGISTRY_EVENT
from perdure.routing.writes import add_tag, bind_key, find_owner, park_under, release, remove_tag, take_parked, unbind_key
from perdure.store import Store
from tests.contracts.registry import ACME, NEW, ORDER, P1, P2, Do, process
from tests.core.memory import MemoryBackend, MemoryDatabase


async def _node(database: MemoryDatabase, name: str) -> tuple[MemoryBackend, Access]:
    clock = VirtualClock()
    backend = MemoryBackend(database, node=name, clock=clock)
    signals = Signals(clock)
    writer = Writer(backend, on_signals=signals.publish)
    await writer.start()
    return backend, Access(writer, backend, signals, clock, os.urandom)


def deliver(view: View, key: str = ORDER) -> bool:
    """Park a message unless somebody has the key; return whether it was parked."""
    if find_owner(view, ACME, key) is not None:
        return False
    park_under(view, ACME, key)
    return True


async def test_no_message_is_lost_between_parking_on_one_node_and_binding_on_another() -> None:
    """Absence is a row: without it, a message could be parked behind the back of the one who binds."""
    database = MemoryDatabase()
    nodes = [(await _node(database, name))[1] for name in ("n1", "n2")]
    parked, taken, given = 0, 0, 0

    def bind_and_take(view: View) -> int:
        bind_key(view, ACME, ORDER, P1)
        row = view.get(KEY.key(ACME, ORDER))
        assert row is not None
        if row.parked:
            take_parked(view, ACME, ORDER, row.parked)
        return row.parked

    for number in range(60):
        work: list[Write[Any]] = [
            Do(deliver),
            Do(deliver),
            Do(bind_and_take) if number % 2 else Do(lambda view: unbind_key(view, ACME, ORDER, P1.process_id)),
        ]
        first, second, third = await asyncio.gather(*(nodes[(number + place) % 2].writer.run(write) for place, write in enumerate(work)))
        parked += first + second
        given += 2 - first - second
        taken += third if number % 2 else 0

    row = await nodes[0].reader.get(KEY.key(ACME, ORDER))
    assert parked == taken + (0 if row is None else row.parked)
    assert parked > 0
    assert given > 0


async def test_n13_of_nodes_that_do_not_lock_one_wins_too() -> None:
    database = MemoryDatabase()
    nodes = [Registry((await _node(database, name))[1]) for name in ("n1", "n2", "n3")]

    owners = await asyncio.gather(
        *(node.register_if_absent(ACME, ORDER, process(f"p{place}-{n}")) for n in range(9) for place, node in enumerate(nodes))
    )

    assert len({owner.process_id for owner in owners}) == 1
    assert await nodes[0].len() == 1


@pytest.mark.parametrize("happened", [False, True], ids=["lost", "happened"])
@pytest.mark.parametrize("method", ["register", "register_if_absent", "replace", "remove", "remove_if", "register_correlated", "release"])
async def test_a_change_whose_commit_was_in_doubt_is_made_once(method: str, happened: bool) -> None:
    backend, access = await _node(MemoryDatabase(), "n1")
    registry = Registry(access)
    await registry.register(ACME, ORDER, P2)
    doubts = 1

    def doubt(call: str) -> None:
        nonlocal doubts
        if call == "commit" and doubts:
            doubts -= 1
            raise CommitUnknown("the connection was cut")

    if happened:
        backend.after = doubt
    else:
        backend.before = doubt
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "register": lambda: registry.register(ACME, ORDER, P1),
        "register_if_absent": lambda: registry.register_if_absent(ACME, ORDER, process("p2", package_hash=NEW)),
        "replace": lambda: registry.replace(ACME, ORDER, P2.process_id, P1),
        "remove": lambda: registry.remove(ACME, ORDER),
        "remove_if": lambda: registry.remove_if(ACME, ORDER, P2.process_id),
        "register_correlated": lambda: registry.register_correlated(ACME, "t", P1.process_id, P1),
        "release": lambda: registry.release(ACME, P2.process_id),
    }

    assert await calls[method]() in (None, True, 1, process("p2", package_hash=NEW))

    assert doubts == 0
    assert await access.reader.count(REGISTRY_EVENT) == 2
    assert await registry.verify(ACME) == []


@pytest.mark.parametrize("seed", range(10))
async def test_a_batch_of_changes_is_as_many_batches_of_one(seed: int) -> None:
    rng = random.Random(seed)
    work = [_random_decision(rng) for _ in range(60)]
    together, apart = MemoryDatabase(), MemoryDatabase()
    _, one = await _node(together, "n1")
    _, many = await _node(apart, "n1")

    at_once = await asyncio.gather(*(one.writer.run(Do(decide)) for decide in work))
    in_turn = [await many.writer.run(Do(decide)) for decide in work]

    assert at_once == in_turn
    assert {key: row for key, (_, row) in together.rows.items()} == {key: row for key, (_, row) in apart.rows.items()}
    assert together.counters[KEYS_COUNTER] == apart.counters[KEYS_COUNTER]


def _random_decision(rng: random.Random) -> Callable[[View], Any]:
    name, identity = rng.choice("abc"), process(f"p{rng.randrange(3)}")
    choices: list[Callable[[View], Any]] = [
        lambda view: bind_key(view, ACME, name, identity),
        lambda view: unbind_key(view, ACME, name, identity.process_id),
        lambda view: add_tag(view, ACME, name, identity),
        lambda view: remove_tag(view, ACME, name, identity.process_id),
        lambda view: release(view, ACME, identity.process_id, at_most=2),
        lambda view: deliver(view, name),
    ]
    return rng.choice(choices)


async def test_a_closed_store_is_a_typed_error_for_every_call(store: Store) -> None:
    registry = Registry(store.access)
    await store.close()

    outcomes = await asyncio.gather(
        registry.register(ACME, ORDER, P1), registry.lookup(ACME, ORDER), registry.len(), registry.verify(ACME), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4

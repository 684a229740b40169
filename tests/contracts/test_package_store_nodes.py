"""Contract 5: two open stores on one database, and what comes between their reading and their writing.

Research on packages, appendix A, "Durability" and "Concurrency": puts of the same and of different versions at once; a deploy,
an unload, a route and a start, in every order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Store, VirtualClock, limits, open_store
from perdure.conversations.tables import PROCESS, ProcessStatus
from perdure.errors import PackageMissing, PackagePinned, PackageRouted, RouteConflict, StoreBusy
from perdure.packages.contract import Action
from tests.contracts.packages import (
    DAY,
    V1,
    V2,
    Become,
    Start,
    actions,
    check,
    default,
    hash_of,
    names,
    noise,
    put,
    record,
    rows,
    start,
    swept,
)
from tests.postgres.site import Meanwhile
from tests.stores import DURABLE, store_url

Nodes = tuple[Store, Store]
LARGE = noise(limits.PACKAGE_PART + 1)
MANY = 24


@pytest.fixture(params=DURABLE)
async def nodes(request: Any, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = store_url(request, request.param, tmp_path)
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        yield one, other


async def test_what_one_puts_the_other_has(nodes: Nodes) -> None:
    one, other = nodes
    await put(one, record(V1, archive=LARGE))
    assert (await other.packages.get_package(V1)).archive == LARGE
    await put(other, record(V2, after=DAY))
    assert await default(one) == V2
    await one.packages.unload(V1)
    assert await names(other) == [V2]
    await check(other)


async def test_writers_of_the_same_version_make_one_of_it(nodes: Nodes) -> None:
    await asyncio.gather(*(put(nodes[n % 2], record(V1, archive=LARGE)) for n in range(8)))

    assert await swept(nodes[0]) == {"package": 1, "package_part": 2, "package_type": 1, "package_route": 1, "package_log": 8}
    assert (await nodes[1].packages.get_package(V1)).archive == LARGE
    await check(nodes[1])


async def test_writers_of_one_hash_with_other_bytes_leave_one_of_them_whole(nodes: Nodes) -> None:
    archives = [noise(limits.PACKAGE_PART + n, seed=n) for n in range(1, 7)]
    await asyncio.gather(*(put(nodes[n % 2], record(V1, archive=archive)) for n, archive in enumerate(archives)))

    assert (await nodes[0].packages.get_package(V1)).archive in archives
    assert (await swept(nodes[0]))["package_part"] == 2
    await check(nodes[1])


async def test_of_many_versions_at_once_the_route_leads_to_the_one_that_was_committed_last(nodes: Nodes) -> None:
    await asyncio.gather(*(put(nodes[n % 2], record(hash_of(n))) for n in range(MANY)))

    told = await actions(nodes[0])
    assert {name for _, name, _ in told} == {hash_of(n) for n in range(MANY)}
    assert await default(nodes[1]) == told[-1][1]
    assert [previous for _, _, previous in told] == [None, *(name for _, name, _ in told[:-1])], "each saw the one before it"
    await check(nodes[0])


async def test_of_two_who_expect_the_same_route_one_changes_it(nodes: Nodes) -> None:
    await put(nodes[0], record(V1))

    done = await asyncio.gather(
        *(nodes[n % 2].packages.put_package_route("order", hash_of(n), expected=V1) for n in range(8)), return_exceptions=True
    )

    assert sum(one is None for one in done) == 1
    assert sum(isinstance(one, RouteConflict) for one in done) == 7
    assert await default(nodes[0]) == hash_of(done.index(None))


async def test_who_lists_while_others_put_sees_whole_versions(nodes: Nodes) -> None:
    one, other = nodes
    archives = {archive: when * DAY for when, archive in enumerate([LARGE, b"small", noise(limits.PACKAGE_PART + 5, seed=2)])}
    await put(one, record(V1, archive=LARGE), record(V2))
    done = asyncio.Event()

    async def write() -> None:
        for _ in range(4):
            for archive, after in archives.items():
                await put(one, record(V1, archive=archive, after=after))
        done.set()

    async def read() -> int:
        looks = 0
        while not done.is_set():
            try:
                found = {each.content_hash: each for each in await other.packages.list_packages()}
            except StoreBusy:
                continue
            assert found[V2] == record(V2)
            assert found[V1] == record(V1, archive=found[V1].archive, after=archives[found[V1].archive]), "never the half of two"
            looks += 1
        return looks

    _, looks = await asyncio.gather(write(), read())
    assert looks
    await check(other)


# --- a start and an unload ------------------------------------------------------------------------------------------------


async def began(store: Store, process_id: str, content_hash: str) -> bool:
    """Start a process, and tell whether its package was there."""
    try:
        await start(store, process_id, content_hash)
    except PackageMissing:
        return False
    return True


async def gone(store: Store, content_hash: str) -> bool:
    """Unload a package, and tell whether nobody needed it."""
    try:
        await store.packages.unload(content_hash)
    except (PackagePinned, PackageRouted):
        return False
    return True


async def test_no_process_is_left_without_its_package_whoever_comes_first(nodes: Nodes) -> None:
    rng = random.Random(5)
    for n in range(MANY):
        name = hash_of(n)
        await nodes[0].packages.deploy(record(name), routes=[])
        work = [began(nodes[rng.randrange(2)], f"p{n} {each}", name) for each in range(rng.randrange(1, 4))]
        work.insert(rng.randrange(len(work) + 1), gone(nodes[rng.randrange(2)], name))

        await asyncio.gather(*work)

        needs = (await nodes[0].packages.pins(name)).total
        assert not needs or name in await names(nodes[0], "order"), "what is needed is stored"
    await check(nodes[1])


class Between:
    """Two nodes on a server; what the first one commits next is held between its reading and its writing."""

    def __init__(self, one: Store, other: Store) -> None:
        self.one, self.other = one, other
        self.backend = Meanwhile(one.access.writer._backend)
        one.access.writer._backend = self.backend

    def nth(self, nth: int, then: Callable[[], Awaitable[Any]]) -> None:
        """Let something happen before the n-th write from now on."""

        async def wait() -> None:
            if nth > 1:
                self.nth(nth - 1, then)
            else:
                await then()

        self.backend.then = wait


@pytest.fixture
async def between(postgres_url: str, clock: VirtualClock) -> AsyncIterator[Between]:
    async with open_store(postgres_url, clock=clock) as one, open_store(postgres_url, clock=clock) as other:
        await one.packages.deploy(record(V1), routes=[])
        await put(one, record(V2))
        yield Between(one, other)


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_start_that_comes_between_the_look_and_the_removal_is_seen(between: Between, nth: int) -> None:
    """At 1 the word is about to be given, at 2 it was: the start takes it back."""
    between.nth(nth, lambda: start(between.other, "p", V1))

    with pytest.raises(PackagePinned, match="'p'"):
        await between.one.packages.unload(V1)

    assert (await between.one.packages.get_package(V1)).archive == record(V1).archive
    assert between.backend.then is None


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("rule", ["default", "weight", "tenant", "seed"])
async def test_a_rule_that_comes_between_the_look_and_the_removal_is_seen(between: Between, nth: int, rule: str) -> None:
    packages = between.other.packages
    then: dict[str, Callable[[], Awaitable[Any]]] = {
        "default": lambda: packages.set_route("order", V1),
        "weight": lambda: packages.set_route("order", V1, weight=1),
        "tenant": lambda: packages.set_route("order", V1, tenant="acme"),
        "seed": lambda: packages.put_package_route("order", V1),
    }
    between.nth(nth, then[rule])

    with pytest.raises(PackageRouted, match="'order'"):
        await between.one.packages.unload(V1)

    assert V1 in await names(between.one)


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_put_that_comes_between_the_look_and_the_removal_is_not_undone(between: Between, nth: int) -> None:
    between.nth(nth, lambda: put(between.other, record(V1)))
    with pytest.raises(PackageRouted):
        await between.one.packages.unload(V1)
    assert await default(between.one) == V1
    await check(between.one)


async def test_an_unload_that_comes_between_the_look_of_a_start_and_its_commit_is_seen(between: Between) -> None:
    between.nth(1, lambda: between.other.packages.unload(V1))

    with pytest.raises(PackageMissing):
        await start(between.one, "p", V1)

    assert await between.one.access.reader.get(PROCESS.key("acme", "p")) is None


async def test_two_unloads_at_once_are_one(between: Between) -> None:
    between.nth(2, lambda: between.other.packages.unload(V1))
    with pytest.raises(PackageMissing):
        await between.one.packages.unload(V1)
    assert [entry for entry in await actions(between.one) if entry[0] == Action.UNLOADED] == [(Action.UNLOADED, V1, None)]


async def test_whoever_is_needed_for_a_moment_again_and_again_is_given_up(between: Between) -> None:
    count = 0

    async def for_a_moment() -> None:
        nonlocal count
        count += 1
        await between.other.commit(Start(f"p{count}", V1))
        await between.other.commit(Become(f"p{count}", ProcessStatus.ENDED))
        between.nth(2, for_a_moment)

    between.nth(2, for_a_moment)
    with pytest.raises(StoreBusy, match="again and again"):
        await between.one.packages.unload(V1)
    assert count > 1
    assert V1 in await names(between.one)


# --- a start and a route ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["put_package", "tenant", "weight", "retire"])
async def test_a_start_that_commits_after_a_change_of_its_route_follows_it(between: Between, way: str) -> None:
    """Every start that commits after the deploy has the new version, on every node, whatever it had read before."""
    packages = between.other.packages
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "put_package": lambda: packages.put_package(record(V1)),
        "tenant": lambda: packages.set_route("order", V1, tenant="acme"),
        "weight": lambda: packages.set_route("order", V1, weight=10_000),
        "retire": lambda: packages.retire("order"),
    }
    between.nth(1, ways[way])
    begun = asyncio.gather(start(between.one, "p"), return_exceptions=True)

    [found] = await begun

    assert found == V1 if way != "retire" else getattr(found, "code", "") == "process-type-retired"
    assert between.backend.then is None


async def test_a_start_that_commits_after_the_first_deploy_of_its_type_follows_it(between: Between) -> None:
    """It had read that there is no such route, and would have started local code."""
    between.nth(1, lambda: put(between.other, record(V1, "new")))

    assert await start(between.one, "p", process_type="new") == V1


async def test_starts_of_one_package_on_two_nodes_do_not_get_in_each_others_way(between: Between) -> None:
    """The package's row is read, not written: a batch that another node's start comes into is not decided again."""
    before = len(between.backend.locked)
    between.nth(1, lambda: start(between.other, "there", V2))

    await start(between.one, "here", V2)

    assert between.backend.locked[before:] == [False]
    assert (await between.one.packages.pins(V2)).total == 2


async def test_flips_under_starts_leave_every_process_on_a_version_that_was_routed(nodes: Nodes) -> None:
    await put(nodes[0], record(V1))
    stop = asyncio.Event()

    async def flip() -> None:
        for n in range(12):
            await put(nodes[n % 2], record([V1, V2][n % 2]))
        stop.set()

    async def begin(node: int) -> list[str | None]:
        found: list[str | None] = []
        while not stop.is_set():
            found.append(await start(nodes[node], f"p{node}-{len(found)}"))
        return found

    _, *started = await asyncio.gather(flip(), begin(0), begin(1))

    assert all(name in (V1, V2) for some in started for name in some)
    assert {name for some in started for name in some} == {V1, V2}
    assert (await rows(nodes[0]))["package"] == 2

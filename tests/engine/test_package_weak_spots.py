"""Processes on packages, where the system that the research on packages read is weak, and this one is not. Its section 6 A, by number."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Store, TrustPolicy, VirtualClock
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.errors import PackageMissing, PackagePinned
from perdure.packages.contract import PackageRecord
from perdure.packages.routes import point_of
from perdure.packages.signing import public_key, sign
from tests.contracts.packages import AT
from tests.engine.nodes import two_nodes
from tests.engine.orders import reaches
from tests.engine.shop import ONE, THREE, TWO, Placed, lose, pay, place, reply, run, send, version
from tests.packages.built import archive_of, deploy

NODE = App("node")
HOUR = 3600 * SECOND
SEED = bytes(range(32))
FAILS = """
@app.process
class Fails(perdure.Process):
    @perdure.on(Placed, start=True)
    async def placed(self, placed: Placed) -> None:
        await self.step(int, "no number")
"""
FIRST = version(1, FAILS)


async def why(engine: Engine, process_id: str) -> str:
    await reaches(engine, process_id, "stranded")
    return (await engine.process(process_id)).note.partition(":")[0]


async def forge(store: Store, content_hash: str, archive: bytes) -> None:
    """Put other bytes under the hash of a package, as no deploy does."""
    await store.packages.put_package(PackageRecord(workflow_type="Order", content_hash=content_hash, archive=archive, deployed_at=AT))


@pytest.fixture
def postgres(postgres_url: str, unhurried: None) -> str:
    del unhurried
    return postgres_url


# --- 2: every node has every package, and an unload knows the processes of all of them --------------------------------------


async def test_weak_spot_a2_a_deploy_at_one_node_runs_at_the_other_and_survives_it(postgres: str, clock: VirtualClock) -> None:
    async with two_nodes(postgres, NODE, clock) as nodes:
        here, there = nodes.id_on(nodes.a), nodes.id_on(nodes.b)
        await deploy(nodes.a.store, ONE)
        for name in (here, there):
            await nodes.a.deliver(Placed(name), id=f"placed {name}", to=Address.start("Order", key=name, id=name))
            await nodes.comes_to(name, "waiting")
        await deploy(nodes.a.store, TWO)

        with pytest.raises(PackagePinned) as refused:
            await nodes.a.store.packages.unload(ONE.identity)
        assert {one.process_id for one in refused.value.holders} == {here, there}

        await nodes.kill(nodes.b)
        await nodes.b.versions.close()  # of this interpreter, which goes on
        await nodes.take_over(nodes.b, nodes.a)
        await pay(nodes.a, there)
        assert await reply(nodes.a, f"placed {there}") == f"paid {there} on version 1"


# --- 3 and 4: whoever may go on keeps its version, over a restart, too ---------------------------------------------------------


async def test_weak_spot_a3_no_unload_strands_what_is_paused_failed_or_stranded(store: Store) -> None:
    await deploy(store, FIRST)
    async with Engine(store, NODE) as engine:
        for name in ("paused", "stranded"):
            await place(engine, name)
            await reaches(engine, name, "waiting")
        await engine.pause("paused")
        await engine.deliver(Placed("f"), id="f", to=Address.start("Fails", id="failed"))
        await reaches(engine, "failed", "failed")
    await deploy(store, TWO)
    await store.packages.retire("Fails")
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:  # nothing is signed
        await pay(engine, "stranded")
        await reaches(engine, "stranded", "stranded")
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        with pytest.raises(PackagePinned) as refused:
            await engine.store.packages.unload(FIRST.identity)
        assert refused.value.counts == {"failed": 1, "paused": 1, "stranded": 1}


async def test_weak_spot_a3_what_has_lost_its_package_is_not_changed_by_a_restart_that_is_refused(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        await engine.cancel("o")
        await reaches(engine, "o", "ended")
        await deploy(store, TWO)
        await store.packages.unload(ONE.identity)  # it is over, and nothing needs its code
        before = await engine.process("o")

        for asked in (engine.restart_from("cancel", "o"), engine.fork("cancel", "o", id="copy")):
            with pytest.raises(PackageMissing):
                await asked

        assert await engine.process("o") == before
        await deploy(store, ONE, route=False)
        await engine.restart_from("cancel", "o")
        await reaches(engine, "o", "waiting")


async def test_weak_spot_a4_a_paused_process_is_paused_after_a_restart_and_keeps_its_version(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        await engine.pause("o", reason="look at it")
    await deploy(store, TWO)
    async with Engine(store, NODE) as engine:
        assert [(one.process_id, one.note) for one in await engine.processes(status="paused")] == [("o", "paused: look at it")]
        await pay(engine, "o")
        assert await run(engine, "hello", "a", id="h") == "hello a from 2"
        assert (await engine.process("o")).status == "paused"
        assert (await store.packages.pins(ONE.identity)).counts == {"paused": 1}
        await engine.resume("o")
        assert await reply(engine, "placed o") == "paid o on version 1"


# --- 5, 6 and 13: one hash is one behaviour, whoever has put what under it -----------------------------------------------------


async def test_weak_spot_a5_other_code_under_a_hash_is_not_run(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await forge(store, ONE.identity, archive_of(TWO))
    async with Engine(store, NODE) as engine:
        await pay(engine, "o")
        assert await why(engine, "o") == "package-identity-mismatch"
        assert not engine.versions.loaded
        await forge(store, ONE.identity, archive_of(ONE))
        assert await reply(engine, "placed o") == "paid o on version 1"


async def test_weak_spot_a5_a_hash_means_the_same_after_an_unload(store: Store) -> None:
    await deploy(store, ONE)
    await deploy(store, TWO)
    await store.packages.unload(ONE.identity)
    await forge(store, ONE.identity, archive_of(THREE))
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        assert await why(engine, "o") == "package-identity-mismatch"


async def test_weak_spot_a6_a_package_that_was_signed_after_it_was_stored_is_loaded_again(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await deploy(store, msgspec.structs.replace(ONE, signatures=(sign(ONE.identity, SEED),)))
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"


async def test_weak_spot_a13_whose_packages_are_run_is_asked_at_each_load(store: Store) -> None:
    signed = msgspec.structs.replace(ONE, signatures=(sign(ONE.identity, SEED),))
    await deploy(store, signed)
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED[::-1])])) as engine:  # the key was taken away
        await pay(engine, "o")
        assert await why(engine, "o") == "package-untrusted"
        assert not engine.versions.loaded
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        assert await reply(engine, "placed o") == "paid o on version 1"


# --- 7, 8, 10 and 11 ------------------------------------------------------------------------------------------------------------


async def test_weak_spot_a7_a_version_goes_with_its_last_process(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
        for process_type in ("Order", "Counter", "hello", "sleeper", "parent"):
            await store.packages.retire(process_type)
        with pytest.raises(PackagePinned):
            await store.packages.unload(ONE.identity)
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 1"
        await engine.cancel("o")
        await reaches(engine, "o", "ended")
        await store.packages.unload(ONE.identity)
        assert await store.packages.list_packages() == []


async def test_weak_spot_a8_of_many_versions_only_those_that_run_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = [version(number) for number in range(12)]
    for package in packages:
        await deploy(store, package)
    async with Engine(store, NODE) as engine:
        await place(engine, "o")
        await reaches(engine, "o", "waiting")
    await store.packages.put_package_route("hello", packages[3].identity)
    read: list[str] = []
    get, listed = store.packages.get_package, store.packages.list_packages

    async def counted(content_hash: str) -> Any:
        read.append(content_hash)
        return await get(content_hash)

    async def every() -> Any:
        read.append("all")
        return await listed()

    monkeypatch.setattr(store.packages, "get_package", counted)
    monkeypatch.setattr(store.packages, "list_packages", every)
    async with Engine(store, NODE) as engine:
        assert (read, engine.versions.loaded) == ([], ())
        await pay(engine, "o")
        assert await reply(engine, "placed o") == "paid o on version 11"
        assert await run(engine, "hello", "a", id="h") == "hello a from 3"
        assert read == list(engine.versions.loaded) == [packages[11].identity, packages[3].identity]


async def test_weak_spot_a10_what_still_runs_on_a_version_is_listed(store: Store) -> None:
    for package, names in ((ONE, "ab"), (TWO, "c")):
        await deploy(store, package)
        async with Engine(store, NODE) as engine:
            for name in names:
                await place(engine, name)
                await reaches(engine, name, "waiting")
    async with Engine(store, NODE) as engine:
        found = await store.packages.pins(ONE.identity)
        assert ([one.process_id for one in found.holders], found.counts) == (["a", "b"], {"waiting": 2})
        assert {one.process_id: one.package_hash for one in await engine.processes()} == {
            "a": ONE.identity,
            "b": ONE.identity,
            "c": TWO.identity,
        }


async def test_weak_spot_a11_a_share_of_new_processes_starts_on_the_next_version(store: Store) -> None:
    await deploy(store, ONE)
    await deploy(store, TWO, route=False)
    await store.packages.set_route("hello", TWO.identity, weight=5_000)
    names = [f"h{number}" for number in range(30)]
    async with Engine(store, NODE) as engine:
        said = await asyncio.gather(*(run(engine, "hello", "a", id=name) for name in names))
        before = {name: text[-1] for name, text in zip(names, said, strict=True)}
        assert before == {name: "2" if point_of("hello", name) < 5_000 else "1" for name in names}
        assert set(before.values()) == {"1", "2"}
        stored = await inspection.processes(store)
        assert {one.process_id: one.package_hash for one in stored} == {
            name: {"1": ONE, "2": TWO}[number].identity for name, number in before.items()
        }


async def test_weak_spot_a11_a_version_is_chosen_for_what_a_process_starts(store: Store, clock: VirtualClock) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await send(engine, "parent", "child", id="p")
        await reaches(engine, "p", "waiting")
        await deploy(store, TWO)
        await lose(store, TWO)
        clock.advance(HOUR)
        assert await reply(engine, "p") == "hello child from 1", "the route is not asked"

"""Hostile archives that were put into the store behind every door: an engine runs nothing of them, and says why by process."""

from __future__ import annotations

from perdure import App, Engine, Store, TrustPolicy
from perdure.packages.contract import PackageRecord
from perdure.packages.signing import public_key
from tests.contracts.packages import AT, hash_of
from tests.engine.orders import reaches
from tests.engine.shop import ONE, run, send
from tests.packages.built import deploy
from tests.packages.hostile import IDENTITY, KINDS, SEED, evil, forged

NODE = App("node")
TRUST = TrustPolicy([public_key(SEED)], required=False)


async def put(store: Store, process_type: str, archive: bytes, content_hash: str) -> None:
    await store.packages.put_package(PackageRecord(workflow_type=process_type, content_hash=content_hash, archive=archive, deployed_at=AT))


async def test_nothing_of_a_hostile_archive_is_run_and_its_processes_say_why(store: Store) -> None:
    expected = {}
    for kind, (made, code) in KINDS.items():
        archive = made()
        if kind != "a byte too large":  # that the store does not take
            await put(store, kind, archive, hash_of(kind))
            expected[kind] = code
    await put(store, "another hash", evil(), hash_of("another hash"))
    await put(store, "forged", forged(), IDENTITY)
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TRUST) as engine:
        for kind in (*expected, "another hash", "forged"):
            await send(engine, kind, id=kind)
            await reaches(engine, kind, "stranded")
        assert {one.process_id: one.note.partition(":")[0] for one in await engine.processes(status="stranded", limit=100)} == {
            **expected,
            "another hash": "package-identity-mismatch",
            "forged": "package-untrusted",
        }
        assert engine.versions.loaded == ()
        assert await run(engine, "hello", "a", id="h") == "hello a from 1", "nobody else is affected"

"""Processes whose version cannot be loaded: they are stranded, visible with the reason, and go on when that has changed."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from perdure import Address, App, Engine, Store, VirtualClock
from perdure.clock import SECOND
from perdure.core.table import Read
from perdure.core.view import View
from perdure.engine.leaving import Wake
from perdure.errors import IllegalTransition, PackageMissing, PackageUntrusted
from perdure.packages.archive import Package
from perdure.packages.signing import TrustPolicy, public_key, sign
from perdure.packages.tables import PACKAGE, PART
from tests.engine import gate
from tests.engine.orders import reaches
from tests.engine.shop import ONE, TWO, Placed, lose, pay, place, reply, run, send
from tests.packages.built import built, deploy

NODE = App("node")
SEED = bytes(range(32))


async def waiting(store: Store, *packages: Package) -> None:
    """Let one order of each package wait, named by its number, with no engine that has them in memory."""
    async with Engine(store, NODE) as engine:
        for number, package in enumerate(packages, 1):
            await deploy(store, package)
            await place(engine, f"o{number}")
            await reaches(engine, f"o{number}", "waiting")


async def stranded(engine: Engine) -> dict[str, str]:
    """Return what is stranded, and why."""
    return {one.process_id: one.note for one in await engine.processes(status="stranded")}


async def test_exactly_the_processes_of_a_missing_package_are_stranded_and_a_deploy_revives_them(store: Store) -> None:
    await waiting(store, ONE, TWO)
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        await pay(engine, "o1")
        await pay(engine, "o2")
        assert await reply(engine, "placed o2") == "paid o2 on version 2"
        await reaches(engine, "o1", "stranded")
        [(name, why)] = (await stranded(engine)).items()
        assert name == "o1"
        assert why.startswith(f"package-missing: package {ONE.identity}")

        await deploy(store, ONE, route=False)  # nothing is restarted

        assert await reply(engine, "placed o1") == "paid o1 on version 1"
        assert await stranded(engine) == {}


async def test_what_is_stranded_at_a_stop_is_tried_at_the_next_start(store: Store) -> None:
    await waiting(store, ONE)
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        await pay(engine, "o1")
        await reaches(engine, "o1", "stranded")
    async with Engine(store, NODE) as engine:
        assert list(await stranded(engine)) == ["o1"]
    await deploy(store, ONE, route=False)
    async with Engine(store, NODE) as engine:
        assert await reply(engine, "placed o1") == "paid o1 on version 1"


async def test_a_process_that_has_not_begun_is_stranded_and_begins_later(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        await send(engine, "hello", "a", id="h")
        await reaches(engine, "h", "stranded")
        assert (await stranded(engine))["h"].startswith("package-untrusted")

        await deploy(store, msgspec.structs.replace(ONE, signatures=(sign(ONE.identity, SEED),)))

        assert await reply(engine, "h") == "hello a from 1"


async def test_who_waits_for_a_reply_hears_that_the_process_is_stranded(store: Store) -> None:
    await waiting(store, ONE)
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        await pay(engine, "o1")
        await reaches(engine, "o1", "stranded")
        with pytest.raises(PackageMissing):
            await engine.deliver(Placed("o1"), id="placed o1", to=Address.start("Order", key="o1", id="o1"), wait=True)


async def test_who_starts_a_process_and_waits_hears_that_its_version_cannot_be_loaded(store: Store) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE, trust=TrustPolicy([public_key(SEED)])) as engine:
        start = Address.start("Order", key="o", id="o")
        with pytest.raises(PackageUntrusted):
            await engine.deliver(Placed("o"), id="placed o", to=start, wait=True)
        await reaches(engine, "o", "stranded")
        with pytest.raises(PackageUntrusted):
            await engine.deliver(Placed("o"), id="placed o", to=start, wait=True)

        await deploy(store, msgspec.structs.replace(ONE, signatures=(sign(ONE.identity, SEED),)))
        await reaches(engine, "o", "waiting")


async def test_a_requirement_that_is_not_met_strands_and_is_tried_when_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = built({"needy.py": NEEDY}, entry="needy", name="needy", requires=("no-such-distribution>=1",))
    await deploy(store, needs)
    async with Engine(store, NODE) as engine:
        await send(engine, "needy", id="n")
        await reaches(engine, "n", "stranded")
        assert (await stranded(engine))["n"].startswith("package-requirement-unmet")
        assert await engine.retry_stranded(needs.identity) == 0

        monkeypatch.setattr("perdure.packages.requirements._version_of", lambda _name: "1.5")

        assert await engine.retry_stranded(needs.identity) == 1
        assert await reply(engine, "n") == "here"


NEEDY = """\
import perdure

app = perdure.App("needy")


@app.process
async def needy(p: perdure.Process) -> str:
    return "here"
"""


async def test_resume_and_restart_look_for_the_package_before_they_write(store: Store) -> None:
    await waiting(store, ONE, ONE)
    async with Engine(store, NODE) as engine:
        await engine.pause("o1")
        await lose(store, ONE)
        for asked in (engine.resume("o1"), engine.restart_from("receive", "o2"), engine.fork("receive", "o2", id="copy")):
            with pytest.raises(PackageMissing):
                await asked
        assert [one.status for one in await engine.processes()] == ["paused", "waiting"]
        await deploy(store, ONE, route=False)
        await engine.resume("o1")
        await pay(engine, "o1")
        assert await reply(engine, "placed o1") == "paid o1 on version 1"


async def test_a_stranded_process_can_be_cancelled_by_force_and_not_paused(store: Store) -> None:
    await waiting(store, ONE)
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        await pay(engine, "o1")
        await reaches(engine, "o1", "stranded")
        with pytest.raises(IllegalTransition, match="stranded"):
            await engine.pause("o1")
        assert await engine.cancel("o1", force=True)
        await reaches(engine, "o1", "ended")


async def test_a_version_that_fails_is_tried_once_for_all_of_its_processes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await waiting(store, ONE, ONE, ONE)
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        looks: list[str] = []
        get = store.packages.get_package

        async def counted(content_hash: str) -> object:
            looks.append(content_hash)
            return await get(content_hash)

        monkeypatch.setattr(store.packages, "get_package", counted)
        for number in (1, 2, 3):
            await pay(engine, f"o{number}")
            await reaches(engine, f"o{number}", "stranded")
        assert looks == [ONE.identity]
        await deploy(store, TWO)  # another package changes nothing for these
        assert await run(engine, "hello", "a", id="h") == "hello a from 2"
        assert looks == [ONE.identity, TWO.identity]
        assert len(await stranded(engine)) == 3


async def test_an_import_that_hangs_holds_up_nobody_else(store: Store) -> None:
    gate.opened.set()
    slow = built({"slow.py": SLOW}, entry="slow", name="slow")
    await waiting(store, ONE)
    await deploy(store, slow)
    async with Engine(store, NODE) as engine:
        await send(engine, "slow", id="s")
        await reaches(engine, "s", "waiting")
    gate.opened.clear()
    await store.access.writer.run(Wake("default", "s"))
    async with Engine(store, NODE) as engine:  # it starts, though a process that it owns is to run
        await pay(engine, "o1")
        assert await reply(engine, "placed o1") == "paid o1 on version 1"
        assert (await engine.process("s")).status == "runnable"
        gate.opened.set()
        await reaches(engine, "s", "waiting")


SLOW = """\
import perdure
from tests.engine import gate

gate.opened.wait(60)
app = perdure.App("slow")


@app.process
async def slow(p: perdure.Process) -> None:
    await p.sleep(3600)
"""


async def test_a_timer_wakes_a_process_that_is_then_stranded(store: Store, clock: VirtualClock) -> None:
    await deploy(store, ONE)
    async with Engine(store, NODE) as engine:
        await send(engine, "sleeper", 60.0, id="s")
        await reaches(engine, "s", "waiting")
    await lose(store, ONE)
    async with Engine(store, NODE) as engine:
        clock.advance(60 * SECOND)
        await reaches(engine, "s", "stranded")
        await deploy(store, ONE, route=False)
        assert await reply(engine, "s") == "awake on version 1"


async def test_a_damaged_archive_strands_and_putting_it_again_revives(store: Store) -> None:
    await waiting(store, ONE)
    row = await store.access.reader.get(PACKAGE.key(ONE.identity))
    assert row is not None
    await store.access.writer.run(Damage(row.upload_id))
    async with Engine(store, NODE) as engine:
        await pay(engine, "o1")
        await reaches(engine, "o1", "stranded")
        assert (await stranded(engine))["o1"].startswith("store-corrupt")
        await lose(store, ONE)
        await deploy(store, ONE, route=False)
        assert await reply(engine, "placed o1") == "paid o1 on version 1"


class Damage(msgspec.Struct, frozen=True):
    """Write other bytes over the first part of an archive."""

    upload_id: str

    def reads(self) -> Iterable[Read]:
        yield PART.key(self.upload_id, 0)

    def decide(self, view: View) -> None:
        if view.get(PART.key(self.upload_id, 0)) is not None:  # not damaged yet
            view.delete(PART.key(self.upload_id, 0))

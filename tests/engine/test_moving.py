"""Moving a process to another version: when its open turn replays there, and never when not."""

from __future__ import annotations

import pytest

from perdure import Address, App, Engine, Process, Store, VirtualClock
from perdure.clock import SECOND as SECONDS
from perdure.conversations.tables import EVENTS, PROCESS, PROCESS_STATE
from perdure.core.table import Scan
from perdure.engine.verification import verify
from perdure.errors import (
    InvalidContentHash,
    PackageMissing,
    PackagePinned,
    ProcessEnded,
    ProcessIncompatible,
    ProcessNotFound,
)
from perdure.identity import RegistryKey, TenantId
from tests.engine.moves import (
    ENDS,
    FAILS,
    FIRST,
    MORE_KINDS,
    NARROWER,
    OTHER_FIELDS,
    OTHER_STEP,
    RAISES,
    SECOND,
    UPCAST,
    open_ticket,
    pay,
    record,
    ticket,
)
from tests.engine.orders import reaches
from tests.engine.shop import ONE, Paid, lose, reply, send, version
from tests.packages.built import deploy

NODE = App("node")
TENANT = TenantId("default")


async def waits(store: Store, *others: object) -> None:
    """Let one ticket of the first version wait."""
    await deploy(store, FIRST)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")
    for other in others:
        await deploy(store, other, route=False)  # type: ignore[arg-type]  # packages


async def all_of(store: Store, name: str) -> list[object]:
    """Return every row of a process that a move writes."""
    key = PROCESS.key("default", name)
    row = await store.access.reader.get(key)
    assert row is not None
    events = await store.access.reader.scan(Scan(EVENTS, ("default", row.stream_no), 100))
    return [row, await store.access.reader.get(PROCESS_STATE.key("default", name)), events]


async def test_a_waiting_turn_goes_on_on_the_other_version(store: Store) -> None:
    await waits(store, SECOND)
    async with Engine(store, NODE) as engine:
        assert await engine.move("t", SECOND.identity, actor="ann")
        await reaches(engine, "t", "waiting")
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert (await engine.process("t")).package_hash == SECOND.identity
        assert (await record(engine, "t"))[-3:][
            0
        ] == f"it was moved from package {FIRST.identity[:16]} to package {SECOND.identity[:16]} by ann"
    assert await verify(store) == []


async def test_a_process_that_was_moved_goes_on_there_after_a_restart_and_replays(store: Store) -> None:
    await waits(store, SECOND)
    async with Engine(store, NODE) as engine:
        await engine.move("t", SECOND.identity)
    async with Engine(store, NODE) as engine:
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert engine.versions.loaded == (SECOND.identity,)
        assert (await engine.export_process("t")).package_hash == SECOND.identity


async def test_a_turn_that_diverges_is_refused_and_nothing_is_changed(store: Store) -> None:
    await waits(store, OTHER_STEP)
    async with Engine(store, NODE) as engine:
        before = await all_of(store, "t")
        with pytest.raises(ProcessIncompatible, match="diverges at step note") as refused:
            await engine.move("t", OTHER_STEP.identity)
        assert (refused.value.verdict, refused.value.step, refused.value.target) == ("diverges", "note", OTHER_STEP.identity)
        assert await all_of(store, "t") == before
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 1"


async def test_fields_are_rewritten_by_upcasters_as_found_and_as_saved(store: Store) -> None:
    await waits(store, UPCAST)
    async with Engine(store, NODE) as engine:
        await engine.move("t", UPCAST.identity)
        state = await store.access.reader.get(PROCESS_STATE.key("default", "t"))
        assert state is not None
        assert (state.found, state.saved) == (b'{"total":0}', b'{"total":10}')
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 4"
        assert (await engine.process("t")).fields == {"total": 10}


async def test_fields_of_an_idle_process_are_rewritten_too(store: Store) -> None:
    await waits(store, UPCAST)
    async with Engine(store, NODE) as engine:
        await pay(engine, "t")
        await reply(engine, "opened t")
        await reaches(engine, "t", "idle")
        assert await engine.move("t", UPCAST.identity)
        assert (await engine.process("t")).fields == {"total": 10}
        await pay(engine, "t", id="again")
        assert await reply(engine, "again") == "later t on version 4"
    assert await verify(store) == []


async def test_fields_that_the_other_version_cannot_read_are_refused_with_the_place(store: Store) -> None:
    await waits(store, NARROWER)
    async with Engine(store, NODE) as engine:
        before = await all_of(store, "t")
        with pytest.raises(ProcessIncompatible, match="durable fields cannot be read") as refused:
            await engine.move("t", NARROWER.identity)
        assert (refused.value.verdict, refused.value.path) == ("undecodable", "$.count")
        assert await all_of(store, "t") == before


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt", "__import__('asyncio').CancelledError"])
async def test_code_that_raises_what_would_end_the_program_is_refused(error: str, store: Store) -> None:
    ends = ticket(10, fields=f"count: int = 0\n\ndef __post_init__(self):\n    if self.count:\n        raise {error}")
    await waits(store, ends)
    async with Engine(store, NODE) as engine:
        with pytest.raises(ProcessIncompatible, match="diverges: it has raised "):
            await engine.move("t", ends.identity)


async def test_code_that_makes_other_fields_of_the_record_is_refused(store: Store) -> None:
    await waits(store, OTHER_FIELDS)
    async with Engine(store, NODE) as engine:
        with pytest.raises(ProcessIncompatible, match="the durable fields were committed as"):
            await engine.move("t", OTHER_FIELDS.identity)


async def test_what_cannot_be_moved_is_said_and_the_same_version_again_changes_nothing(store: Store) -> None:
    await waits(store, ONE)
    async with Engine(store, NODE) as engine:
        before = await all_of(store, "t")
        with pytest.raises(ProcessIncompatible, match="it has no process type 'Ticket'"):
            await engine.move("t", ONE.identity)
        with pytest.raises(ProcessIncompatible, match=r"the app's own code.*no process type"):
            await engine.move("t", None)
        with pytest.raises(PackageMissing):
            await engine.move("t", SECOND.identity)
        with pytest.raises(InvalidContentHash):
            await engine.move("t", "nothing")
        with pytest.raises(ProcessNotFound):
            await engine.move("other", FIRST.identity)
        assert not await engine.move("t", FIRST.identity)
        assert await all_of(store, "t") == before
        await engine.cancel("t")
        await reaches(engine, "t", "ended")
        with pytest.raises(ProcessEnded):
            await engine.move("t", SECOND.identity)


async def test_a_package_that_is_deployed_after_a_refusal_is_found_at_once(store: Store) -> None:
    await waits(store)
    async with Engine(store, NODE) as engine:
        with pytest.raises(PackageMissing):
            await engine.move("t", SECOND.identity)
        await deploy(store, SECOND, route=False)
        assert await engine.move("t", SECOND.identity)


async def _nothing(*_: object) -> None:
    """Try nothing, and find it good."""


async def test_a_stuck_process_goes_on_where_it_fits(store: Store) -> None:
    await waits(store, OTHER_STEP, SECOND)
    await deploy(store, FIRST)
    async with Engine(store, NODE) as engine:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("perdure.engine.moving._tried", _nothing)
            await engine.move("t", OTHER_STEP.identity)
        await reaches(engine, "t", "stuck")
        await pay(engine, "t")

        await engine.move("t", SECOND.identity)

        assert await reply(engine, "opened t") == "paid t on version 2"


async def test_a_stranded_process_goes_on_on_a_version_that_is_there(store: Store) -> None:
    await waits(store, SECOND)
    await lose(store, FIRST)
    async with Engine(store, NODE) as engine:
        await pay(engine, "t")
        await reaches(engine, "t", "stranded")
        await engine.move("t", SECOND.identity)
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert (await engine.process("t")).note == ""


async def test_a_paused_process_stays_so_and_resumes_on_the_other_version(store: Store) -> None:
    await waits(store, SECOND)
    async with Engine(store, NODE) as engine:
        await engine.pause("t", reason="holiday")
        await engine.move("t", SECOND.identity)
        await pay(engine, "t")
        assert ((await engine.process("t")).status, (await engine.process("t")).note) == ("paused", "paused: holiday")
        await engine.resume("t")
        assert await reply(engine, "opened t") == "paid t on version 2"


async def test_pins_keys_and_tags_move_with_a_process_and_the_version_before_can_go(store: Store) -> None:
    await waits(store, SECOND)
    async with Engine(store, NODE) as engine:
        await store.packages.put_package_route("Ticket", SECOND.identity)
        with pytest.raises(PackagePinned):
            await store.packages.unload(FIRST.identity)
        await engine.move("t", SECOND.identity)
        assert (await store.packages.unload(FIRST.identity)).content_hash == FIRST.identity
        assert [one.process_id for one in (await store.packages.pins(SECOND.identity)).holders] == ["t"]
        identity = await store.processes.lookup(TENANT, RegistryKey("t"))
        assert identity is not None
        assert identity.package_hash == SECOND.identity
        assert [one.package_hash for one in await store.processes.lookup_correlated(TENANT, "tickets")] == [SECOND.identity]
        assert await store.processes.verify(TENANT) == []


async def test_a_process_is_moved_from_local_code_to_a_package_and_back(store: Store, clock: VirtualClock) -> None:
    app = App("local")

    @app.process
    async def sleeper(p: Process, seconds: float) -> str:
        await p.sleep(seconds)
        return "awake here"

    async with Engine(store, app) as engine:
        for name in "ab":
            await send(engine, "sleeper", 60.0, id=name)
            await reaches(engine, name, "waiting")
        await deploy(store, ONE, route=False)
        for name in "ab":
            await engine.move(name, ONE.identity, actor="ann")
        await engine.move("b", None, actor="bob")
        clock.advance(60 * SECONDS)
        assert [await reply(engine, name) for name in "ab"] == ["awake on version 1", "awake here"]
        assert (await record(engine, "b"))[:2] == [
            f"it was moved from local code to package {ONE.identity[:16]} by ann",
            f"it was moved from package {ONE.identity[:16]} to local code by bob",
        ]


async def test_code_that_waits_for_nothing_any_more_goes_on_at_once(store: Store) -> None:
    """Nothing has to come for it: the move itself lets it go on."""
    await waits(store, ENDS)
    async with Engine(store, NODE) as engine:
        await engine.move("t", ENDS.identity)
        assert await reply(engine, "opened t") == "closed on version 6"


async def test_code_that_raises_where_a_process_waits_is_refused(store: Store) -> None:
    await waits(store, RAISES)
    async with Engine(store, NODE) as engine:
        with pytest.raises(ProcessIncompatible, match="it waits, and this code raises where it did: ValueError"):
            await engine.move("t", RAISES.identity)


async def test_an_idle_process_takes_what_it_could_not_take_before(store: Store) -> None:
    await waits(store, MORE_KINDS)
    async with Engine(store, NODE) as engine:
        await pay(engine, "t")
        await reaches(engine, "t", "idle")
        await engine.deliver_encoded("Extra", b'{"id":"t"}', id="extra", to=Address.key("t"))
        assert (await engine.explain("extra")).status == "queued"
        await engine.move("t", MORE_KINDS.identity)
        assert await reply(engine, "extra") == "extra t"
    assert await verify(store) == []


async def test_a_failed_process_is_restarted_on_the_version_that_it_was_moved_to(store: Store) -> None:
    await deploy(store, FAILS)
    await deploy(store, SECOND, route=False)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "failed")
        await engine.move("t", SECOND.identity)
        assert (await engine.process("t")).status == "failed"
        await engine.restart_from("note", "t")
        await pay(engine, "t")
        assert await reply(engine, "opened t~2") == "paid t on version 2"
    assert await verify(store) == []


async def test_a_process_that_waits_for_its_place_is_moved_and_begins_on_the_other_version(store: Store) -> None:
    one, two = (version(number, NARROW.format(version=number)) for number in (1, 2))
    await deploy(store, one)
    await deploy(store, two, route=False)
    async with Engine(store, NODE) as engine:
        await send(engine, "narrow", id="a")
        await reaches(engine, "a", "waiting")
        await send(engine, "narrow", id="b")
        await engine.move("b", two.identity)
        assert [(one.process_id, one.status, one.events) for one in await engine.processes(type="narrow")][1] == ("b", "idle", 0)
        for name in "ab":
            await engine.deliver(Paid(name), id=f"paid {name}", to=Address.process(name))
        assert [await reply(engine, name) for name in "ab"] == ["through on version 1", "through on version 2"]
    assert await verify(store) == []


NARROW = """
@app.process(flow=perdure.Flow(concurrency=1))
async def narrow(p: perdure.Process) -> str:
    await p.receive(Paid)
    return "through on version {version}"
"""

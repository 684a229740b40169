"""What happens while a process is moved: messages, crashes, steps under way, other changes, and other nodes."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import Address, App, Engine, Store, VirtualClock
from perdure.deploying.moving import Moving
from perdure.engine import inspection
from perdure.engine.leaving import MarkStuck, Strand
from perdure.engine.moving import MoveProcess
from perdure.engine.notes import ToLoad
from perdure.engine.verification import verify
from perdure.errors import IllegalTransition, PackageMissing, StoreBusy
from perdure.packages.archive import Package
from tests.engine.crashes import crash_at_each_commit
from tests.engine.moves import CAREFUL, FIRST, LATER, MORE_KINDS, SECOND, SLOW, open_ticket, pay, record
from tests.engine.nodes import happens, two_nodes
from tests.engine.orders import eventually, reaches
from tests.engine.shop import lose, reply
from tests.packages.built import deploy

NODE = App("node")
Between = Callable[[Engine], Awaitable[object]]


async def deployed(store: Store) -> None:
    await deploy(store, FIRST)
    await deploy(store, SECOND, route=False)


def between_look_and_move(engine: Engine, monkeypatch: pytest.MonkeyPatch, happens: Between, *, times: int = 1) -> list[object]:
    """Let something happen after each look, before the move is committed; return what was committed."""
    committed: list[object] = []
    run = engine._owner.run

    async def meddled(write: object, notes_of: object, **given: object) -> object:
        if isinstance(write, MoveProcess):
            committed.append(write)
            if len(committed) <= times:
                await happens(engine)
        return await run(write, notes_of, **given)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(engine._owner, "run", meddled)
    return committed


async def test_a_message_that_comes_meanwhile_is_handled_and_the_process_is_looked_at_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(store)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")

        async def paid(engine: Engine) -> None:
            await pay(engine, "t")
            assert await reply(engine, "opened t") == "paid t on version 1"

        committed = between_look_and_move(engine, monkeypatch, paid)
        assert await engine.move("t", SECOND.identity)

        assert len(committed) == 2
        await pay(engine, "t", id="again")
        assert await reply(engine, "again") == "later t on version 2"
    assert await verify(store) == []


async def test_a_message_that_only_waits_is_no_reason_to_look_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deployed(store)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")
        await engine.pause("t")
        committed = between_look_and_move(engine, monkeypatch, lambda engine: pay(engine, "t"))
        await engine.move("t", SECOND.identity)
        await engine.resume("t")
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert len(committed) == 1


async def test_one_that_changes_at_every_look_is_left_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deployed(store)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")

        async def meddle(engine: Engine) -> None:
            if not await engine.pause("t"):
                await engine.resume("t")
                await reaches(engine, "t", "waiting")

        between_look_and_move(engine, monkeypatch, meddle, times=100)
        with pytest.raises(StoreBusy, match="changed at each of 5 looks"):
            await engine.move("t", SECOND.identity)
        assert (await engine.process("t")).package_hash == FIRST.identity


async def test_a_package_that_goes_meanwhile_is_missed_in_the_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await deployed(store)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")
        between_look_and_move(engine, monkeypatch, lambda _engine: lose(store, SECOND))
        with pytest.raises(PackageMissing):
            await engine.move("t", SECOND.identity)
        assert (await engine.process("t")).package_hash == FIRST.identity


async def test_a_step_that_may_be_repeated_begins_again_on_the_other_version(store: Store) -> None:
    await deploy(store, SLOW[0])
    await deploy(store, SLOW[1], route=False)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        module = await module_of(engine, SLOW[0])
        await eventually(lambda: _is(module.begun))
        await engine.move("t", SLOW[1].identity)
        await pay(engine, "t")
        other = await module_of(engine, SLOW[1])
        await eventually(lambda: _is(other.begun))
        other.gate.set()
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert module.over == ["called off"]
        assert [text for text in await record(engine, "t") if "slow" in text] == ['step slow returned "slow"']


async def module_of(engine: Engine, package: Package) -> Any:
    """Return the module of a version, which the engine has loaded or loads."""
    async with engine.versions.using("Ticket", package.identity) as made:
        assert made is not None
        return sys.modules[made.target.__module__]


async def _is(found: object) -> bool:
    return bool(found)


async def test_a_step_that_runs_at_most_once_is_not_torn_out_of_its_process(store: Store) -> None:
    await deploy(store, CAREFUL[0])
    await deploy(store, CAREFUL[1], route=False)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        module = await module_of(engine, CAREFUL[0])
        await eventually(lambda: _is(module.begun))
        with pytest.raises(IllegalTransition, match="step slow, which runs at most once, may be under way"):
            await engine.move("t", CAREFUL[1].identity)
        module.gate.set()
        await reaches(engine, "t", "waiting")
        await engine.move("t", CAREFUL[1].identity)
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert module.over == ["done"]


async def test_a_crash_after_any_commit_leaves_it_moved_or_not_and_it_goes_on() -> None:
    async def drive(engine: Engine) -> list[object]:
        await deployed(engine.store)
        if not await engine.processes():
            await open_ticket(engine, "t")
        await eventually(lambda: _still(engine))
        await engine.move("t", SECOND.identity)
        await pay(engine, "t")
        moved = [text for text in await record(engine, "t") if "moved" in text]
        return [await reply(engine, "opened t"), (await engine.process("t")).package_hash, len(moved)]

    async def look(store: Store) -> object:
        return await verify(store)

    assert await crash_at_each_commit(lambda: App("node"), drive, look) > 6


async def _still(engine: Engine) -> bool:
    return [one.status for one in await engine.processes()] in (["waiting"], ["idle"])


async def test_a_process_in_the_memory_of_an_engine_is_moved_from_a_command_line(store: Store) -> None:
    await deployed(store)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")
        moving = Moving(store, actor="ann")
        assert await moving.move("t", SECOND.identity, tenant="default")
        await moving.close()
        await reaches(engine, "t", "waiting")
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 2"
        assert not [text for text in await record(engine, "t") if "again" in text]


async def test_a_process_of_another_node_goes_on_there_on_the_other_version(postgres_url: str, clock: VirtualClock) -> None:
    async with two_nodes(postgres_url, NODE, clock) as nodes:
        await deployed(nodes.a.store)
        name = nodes.id_on(nodes.b)
        await open_ticket(nodes.b, name)
        await nodes.comes_to(name, "waiting")
        await happens(lambda: ("default", name) in nodes.b._owner.residents, nodes)

        assert await nodes.a.move(name, SECOND.identity)

        await nodes.comes_to(name, "waiting")
        await happens(lambda: _package(nodes.b, name) == SECOND.identity, nodes)  # before anything comes for it
        await pay(nodes.a, name)
        assert await reply(nodes.b, f"opened {name}") == f"paid {name} on version 2"
        assert not [text for text in await record(nodes.a, name) if "could not" in text]


def _package(engine: Engine, name: str) -> str | None:
    resident = engine._owner.residents.get(("default", name))
    return None if resident is None else resident.package


async def test_an_idle_process_of_another_node_takes_what_it_could_not_take_before(postgres_url: str, clock: VirtualClock) -> None:
    async with two_nodes(postgres_url, NODE, clock) as nodes:
        await deployed(nodes.a.store)
        await deploy(nodes.a.store, MORE_KINDS, route=False)
        name = nodes.id_on(nodes.b)
        await open_ticket(nodes.b, name)
        await pay(nodes.b, name)
        await nodes.comes_to(name, "idle")
        await nodes.b.deliver_encoded("Extra", b'{"id":"t"}', id="extra", to=Address.key(name))
        await nodes.a.move(name, MORE_KINDS.identity)
        assert await reply(nodes.b, "extra") == "extra t"


async def test_what_the_code_before_says_of_a_process_that_was_moved_does_not_stop_it(store: Store) -> None:
    await deployed(store)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")
    moving = Moving(store)
    await moving.move("t", SECOND.identity, tenant="default")
    await moving.close()
    process = await inspection.process(store, "t")
    await store.access.writer.run(MarkStuck("default", "t", process.open_message or "", "it does not fit", FIRST.identity))
    await store.access.writer.run(Strand("default", "t", "package-missing", FIRST.identity))
    assert (await inspection.process(store, "t")) == process
    async with Engine(store, NODE) as engine:
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 2"


async def test_an_engine_that_has_stopped_begins_nothing(store: Store) -> None:
    async with Engine(store, NODE) as engine:
        pass
    engine._owner.reviving.begin(ToLoad("default", "t", "Ticket", FIRST.identity))
    assert not engine._owner._tasks


async def test_a_step_that_ran_at_most_once_and_is_over_holds_nothing_up(store: Store) -> None:
    await deploy(store, LATER[0])
    await deploy(store, LATER[1], route=False)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        module = await module_of(engine, LATER[0])
        await eventually(lambda: _is(module.begun))
        assert await engine.move("t", LATER[1].identity)
        assert [text for text in await record(engine, "t") if "quick" in text][-1] == 'step quick returned "quick"'

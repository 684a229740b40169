"""Moving processes to versions with an interpreter of their own, between them, and from them: nothing of it depends on where code runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure import App, Engine, Store, VirtualClock, limits, open_store
from perdure.conversations.tables import PROCESS_STATE
from perdure.deploying.moving import Moving
from perdure.engine.verification import verify
from perdure.errors import ProcessIncompatible
from perdure.packages.archive import Package
from tests.engine.moves import FIRST, SECOND, UPCAST_APART, open_ticket, pay, ticket
from tests.engine.orders import reaches
from tests.engine.shop import reply
from tests.packages.built import deploy

NODE = App("node")
APART = ticket(2, apart=True)
AGAIN = ticket(3, apart=True)
OTHER_STEP = ticket(4, step="noted", apart=True)
ENDS = ticket(5, before="__import__('os')._exit(9)", apart=True)
HANGS = ticket(6, before="__import__('threading').Event().wait()", apart=True)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
async def one() -> AsyncIterator[Store]:
    """A store of one kind: what is refused has nothing to do with stores."""
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as opened:
        yield opened


async def waits(store: Store, first: Package, *others: Package) -> None:
    """Let one ticket of the first version wait, and store the others."""
    await deploy(store, first)
    async with Engine(store, NODE) as engine:
        await open_ticket(engine, "t")
        await reaches(engine, "t", "waiting")
    for other in others:
        await deploy(store, other, route=False)


async def test_a_waiting_turn_goes_on_there_on_another_such_version_and_back_here(store: Store, environments: Path) -> None:
    await waits(store, FIRST, APART, AGAIN, SECOND)
    async with Engine(store, NODE, environments=environments) as engine:
        for target in (APART, AGAIN, SECOND, AGAIN):
            assert await engine.move("t", target.identity, actor="ann")
            await reaches(engine, "t", "waiting")
            assert (await engine.process("t")).package_hash == target.identity
        assert set(engine.versions.apart) == {APART.identity, AGAIN.identity}
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 3"
        assert await engine.move("t", APART.identity)
        await pay(engine, "t", id="later")
        assert await reply(engine, "later") == "later t on version 2"
    assert await verify(store) == []


async def test_a_process_on_such_a_version_is_moved_to_another_after_a_restart(store: Store, environments: Path) -> None:
    await waits(store, FIRST, APART, AGAIN)
    for target in (APART, AGAIN):
        moving = Moving(store, actor="ann", environments=environments)
        assert [tried.moved async for tried in moving.move_all(target.identity, "Ticket")] == [True]
        assert [tried async for tried in moving.move_all(target.identity, "Ticket")] == []
        await moving.close()
    async with Engine(store, NODE, environments=environments) as engine:
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 3"
        assert list(engine.versions.apart) == [AGAIN.identity]


async def test_fields_are_rewritten_there_as_found_and_as_saved(store: Store, environments: Path) -> None:
    await waits(store, FIRST, UPCAST_APART)
    async with Engine(store, NODE, environments=environments) as engine:
        await engine.move("t", UPCAST_APART.identity)
        state = await store.access.reader.get(PROCESS_STATE.key("default", "t"))
        assert state is not None
        assert (state.found, state.saved) == (b'{"total":0}', b'{"total":10}')
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 4"


NARROWER = ticket(7, fields="count: str = ''", before="self.count += '1'", apart=True)
TOO_LARGE = ticket(
    8,
    fields="count: int = 0\nmore: str = ''\n\ndef __post_init__(self):\n    if self.count:\n        self.more = 'x' * 2_000_000",
    apart=True,
)


@pytest.mark.parametrize(
    ("target", "verdict", "reason"),
    [
        (OTHER_STEP, "diverges", "diverges at step note"),
        (NARROWER, "undecodable", r"undecodable at \$.count: the durable fields cannot be read any more"),
        (TOO_LARGE, "diverges", "it has raised PayloadTooLarge: durable fields of Ticket"),
        (ENDS, "diverges", "its interpreter has ended: it ended with status 9"),
        (HANGS, "diverges", "its interpreter has ended: it has not answered within 1 s"),
    ],
    ids=["other-step", "narrower", "too-large", "ends", "hangs"],
)
async def test_what_cannot_go_on_there_is_refused_and_nothing_is_changed(
    target: Package, verdict: str, reason: str, one: Store, environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waits(one, FIRST, target)
    before = await one.access.reader.get(PROCESS_STATE.key("default", "t"))
    async with Engine(one, NODE, environments=environments) as engine:
        monkeypatch.setattr(limits, "APART_CALL_SECONDS", 1.0)
        with pytest.raises(ProcessIncompatible, match=reason) as refused:
            await engine.move("t", target.identity)
        assert (refused.value.verdict, refused.value.target) == (verdict, target.identity)
        assert await one.access.reader.get(PROCESS_STATE.key("default", "t")) == before
        assert (await engine.process("t")).package_hash == FIRST.identity
        await pay(engine, "t")
        assert await reply(engine, "opened t") == "paid t on version 1"

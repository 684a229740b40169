"""What is over is kept for as long as retention says, and removed without a trace of a second effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from perdure import (
    Address,
    Engine,
    ProcessId,
    ProcessIdentity,
    RegistryKey,
    Retention,
    Store,
    Swept,
    TenantId,
    VirtualClock,
)
from perdure.conversations.conversation import DurableConversation
from perdure.conversations.tables import PROCESS, TURNS
from perdure.engine import inspection
from perdure.errors import HistoryCompacted, MessageExpired, ProcessEnded, ProcessNotFound, UsageError
from perdure.operations.contract import OperationId, OperationState
from tests.engine.keeping import DAY, WEEK, Add, Confirm, End, Open, account_app, account_id, events_of, fill, fits, message_row, rows, say
from tests.engine.orders import Ledger, eventually, reaches


@asynccontextmanager
async def keeping(store: Store, ledger: Ledger, retention: Retention = WEEK) -> AsyncIterator[Engine]:
    async with Engine(store, account_app(ledger), retention=retention) as engine:
        yield engine


async def greet(engine: Engine, name: str, id: str) -> str:
    reply: str = await engine.call(engine.app.type_named("greet").target, name, id=id)
    return reply


async def test_an_engine_keeps_everything_unless_it_is_told_otherwise(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with Engine(store, account_app(ledger)) as engine:
        await fill(engine, "a", 3)
        await greet(engine, "Ann", "g")
        clock.advance(36_500 * DAY)

        assert await engine.sweep() == Swept()
        assert await greet(engine, "Ann", "g") == "Hello, ANN!"
        assert await say(engine, Add("a", 1), "a-0") == 1


async def test_a_late_duplicate_is_refused_after_retention_and_has_no_second_effect(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with keeping(store, ledger) as engine:
        await fill(engine, "a", 3)
        clock.advance(DAY)
        await engine.sweep()
        assert await say(engine, Add("a", 1), "a-0") == 1, "the reply stands for as long as the message"
        clock.advance(DAY)
        await engine.sweep()

        with pytest.raises(MessageExpired, match="nothing was done again"):
            await say(engine, Add("a", 1), "a-0")
        with pytest.raises(MessageExpired):
            await say(engine, Add("a", 1_000), "a-0")
        assert ledger.effects == ["add 1"] * 3
        assert await say(engine, Add("a", 1), "a-3") == 4


async def test_a_tombstone_stands_for_as_long_as_is_promised_and_then_goes(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with keeping(store, ledger) as engine:
        await fill(engine, "a", 2)
        clock.advance(2 * DAY)
        await engine.sweep()
        clock.advance(10 * DAY - 1)
        await engine.sweep()
        with pytest.raises(MessageExpired):
            await say(engine, Add("a", 1), "a-0")
        clock.advance(1)
        await engine.sweep()

        assert await message_row(store, "a-0") is None
        assert await store.operations.lookup(_operation("a-0")) == OperationState.UNKNOWN
        assert await say(engine, Add("a", 1), "a-0") == 3, "as new: its tombstone has gone"


def _operation(ref: str) -> OperationId:
    return OperationId(tenant_id="default", scope="message", value=ref)  # type: ignore[arg-type]


async def test_a_tombstone_keeps_nothing_of_what_was_said(store: Store, clock: VirtualClock) -> None:
    async with keeping(store, Ledger()) as engine:
        await fill(engine, "a", 2)
        clock.advance(2 * DAY)
        await engine.sweep()

        row = await message_row(store, "a-0")
        assert row is not None
        assert (row.status, row.payload, row.digest, row.headers) == ("expired", b"", b"", None)
        assert await store.operations.lookup(_operation("a-0")) == OperationState.EXPIRED, "never taken for unknown"
        explained = await engine.explain("a-0")
        assert (explained.status, explained.reply) == ("expired", None)
        assert "kept no longer" in explained.text


async def test_dead_letters_and_parked_messages_are_never_removed(store: Store, clock: VirtualClock) -> None:
    async with keeping(store, Ledger()) as engine:
        await engine.deliver(Add("nobody", 1), id="parked")
        await engine.deliver(Add("nobody", 1), id="late", to=Address.key("other"), expires_after=timedelta(hours=1))
        clock.advance(DAY)
        await eventually(lambda: _has_status(engine, "late", "dead"))
        clock.advance(10_000 * DAY)
        await engine.sweep()
        await engine.sweep()

        assert (await engine.explain("parked")).status == "parked"
        assert [letter.message_id for letter in await inspection.dead_letters(store)] == ["late"]
        assert (await engine.deliver(Add("nobody", 1), id="late", to=Address.key("other"))).status == "dead"


async def _has_status(engine: Engine, message_id: str, status: str) -> bool:
    return (await engine.explain(message_id)).status == status


async def test_a_finished_process_goes_as_a_whole_and_its_id_is_refused_while_its_tombstone_stands(
    store: Store, clock: VirtualClock
) -> None:
    ledger = Ledger()
    async with keeping(store, ledger) as engine:
        await greet(engine, "Ann", "g")
        clock.advance(3 * DAY)
        swept = await engine.sweep()

        assert (swept.processes, swept.messages) == (1, 1)
        assert await inspection.processes(store) == []
        with pytest.raises(ProcessNotFound, match="has been removed"):
            await inspection.timeline(store, "g")
        with pytest.raises(MessageExpired):
            await greet(engine, "Ann", "g")
        with pytest.raises(ProcessEnded):
            await engine.deliver(Open("b"), id="other", to=Address.process("g"))
        assert await fits(store)
        clock.advance(10 * DAY)
        await engine.sweep()
        assert await store.access.reader.get(PROCESS.key("default", "g")) is None
        assert await greet(engine, "Ann", "g") == "Hello, ANN!"
        assert ledger.effects == ["Ann", "Ann"], "a new process: nothing is known of the first any more"


async def test_nobody_can_ask_anything_of_a_process_that_was_removed(store: Store, clock: VirtualClock) -> None:
    async with keeping(store, Ledger()) as engine:
        await greet(engine, "Ann", "g")
        clock.advance(3 * DAY)
        await engine.sweep()

        for ask in (engine.cancel, engine.pause, engine.resume):
            with pytest.raises(ProcessNotFound):
                await ask("g")
        for again in (engine.restart_from, engine.fork):
            with pytest.raises(ProcessNotFound):
                await again("note", "g")
        with pytest.raises(ProcessEnded):
            await store.processes.register(
                TenantId("default"),
                RegistryKey("k"),
                ProcessIdentity(tenant_id=TenantId("default"), process_id=ProcessId("g"), process_type="greet", package_hash=None),
            )
        assert await fits(store)


async def test_the_id_of_a_removed_process_starts_nothing_while_its_tombstone_stands(store: Store, clock: VirtualClock) -> None:
    here = Address.start("Account", id="one")
    async with keeping(store, Ledger()) as engine:
        await engine.deliver(Open("a"), id="1", to=here, wait=True)
        await engine.deliver(End("a"), id="2", to=Address.process("one"), wait=True)
        clock.advance(3 * DAY)
        await engine.sweep()

        with pytest.raises(ProcessEnded, match="removed"):
            await engine.deliver(Open("a"), id="3", to=here)
        clock.advance(10 * DAY)
        await engine.sweep()
        assert await engine.deliver(Open("a"), id="3", to=here, wait=True) == "a"


async def test_finished_turns_of_a_living_process_are_compacted_and_it_goes_on(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with keeping(store, ledger) as engine:
        await fill(engine, "a", 100)
        process_id = await account_id(engine, "a")
        before = await inspection.timeline(store, process_id, limit=1_000)
        clock.advance(DAY)
        await engine.sweep()

        info = await inspection.process(store, process_id)
        after = await inspection.timeline(store, process_id)
        assert after == before[info.first_event :]
        assert {entry.message_id for entry in after} == {"a-99"}, "the last turn stays"
        assert await events_of(store, process_id) == list(range(info.first_event, info.events))
        assert await rows(store, TURNS, "default", process_id) == 1
        assert await say(engine, Add("a", 1), "a-100") == 101
        assert (await inspection.process(store, process_id)).events == info.events + 4, "sequences go on"
        assert await fits(store)
    async with keeping(store, ledger) as engine:
        assert await say(engine, Add("a", 1), "a-101") == 102


async def test_whoever_asks_for_what_is_gone_hears_so(store: Store, clock: VirtualClock) -> None:
    async with keeping(store, Ledger()) as engine:
        await fill(engine, "a", 5)
        process_id = await account_id(engine, "a")
        early = await DurableConversation.recover(process_id, store)
        clock.advance(DAY)
        await engine.sweep()
        info = await inspection.process(store, process_id)

        with pytest.raises(HistoryCompacted):
            await inspection.timeline(store, process_id, after=0)
        assert await inspection.timeline(store, process_id, after=info.first_event - 1) == await inspection.timeline(store, process_id)
        late = await DurableConversation.recover(process_id, store)
        await early.refresh()
        assert (early.expected_seq, early.state.open) == (late.expected_seq, late.state.open) == (info.events, {})
        with pytest.raises(HistoryCompacted):
            await late.export_lce1()


async def test_what_is_open_is_never_removed(store: Store, clock: VirtualClock) -> None:
    ledger = Ledger()
    async with keeping(store, ledger) as engine:
        await fill(engine, "a", 2)
        await engine.deliver(Add("a", 5_000), id="waits")
        await engine.deliver(Add("a", 1), id="queued")
        process_id = await account_id(engine, "a")
        await reaches(engine, process_id, "waiting")
        clock.advance(10_000 * DAY)
        await engine.sweep()
        clock.advance(10_000 * DAY)
        await engine.sweep()

        assert [entry.message_id for entry in await inspection.timeline(store, process_id)] == ["waits"] * 3
        await engine.deliver(Confirm("a"), id="yes", to=Address.key("account:a"))
        await eventually(lambda: _has_status(engine, "queued", "done"))
        assert (await inspection.process(store, process_id)).fields == {"total": 5_003}
        clock.advance(DAY)
        await engine.sweep()
        clock.advance(DAY)
        await engine.sweep()
        assert (await engine.explain("yes")).status == "expired", "what a turn has received goes with it"


async def test_an_engine_sweeps_by_itself_when_something_is_old_enough(store: Store, clock: VirtualClock) -> None:
    async with keeping(store, Ledger()) as engine:
        await fill(engine, "a", 2)
        await say(engine, End("a"), "end")
        for _ in range(16):
            clock.advance(DAY)
            await eventually(lambda: _looked(clock))

        async def all_gone() -> bool:
            return await message_row(store, "a-0") is None and await inspection.processes(store) == []

        await eventually(all_gone)


async def _looked(clock: VirtualClock) -> bool:
    due = clock.next_alarm()
    return due is not None and due > clock.now()


async def test_a_paused_sweep_removes_nothing_until_it_is_resumed(store: Store, clock: VirtualClock) -> None:
    async with keeping(store, Ledger()) as engine:
        await fill(engine, "a", 2)
        await say(engine, End("a"), "end")
        engine.pause_sweeps()
        clock.advance(5 * DAY)
        sweep = asyncio.ensure_future(engine.sweep())
        await say(engine, Open("b"), "open-b")
        assert (await engine.explain("a-0")).status == "done"
        assert len(await inspection.processes(store)) == 2
        engine.resume_sweeps()
        await sweep
        assert (await engine.explain("a-0")).status == "expired"
        assert [one.process_id for one in await inspection.processes(store)] == [await account_id(engine, "b")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": timedelta(0)},
        {"turns": timedelta(days=-1)},
        {"tombstones": timedelta(days=200 * 366)},
        {"messages": timedelta(days=1), "turns": timedelta(days=2)},
        {"messages": 5},
        {"tombstones": None},
    ],
)
def test_a_retention_that_makes_no_sense_is_refused(wrong: dict[str, timedelta]) -> None:
    with pytest.raises(UsageError, match="Retention"):
        Retention(**wrong)


def test_messages_go_with_their_turns_when_only_they_have_an_age() -> None:
    assert Retention(messages=timedelta(days=2)).ages.turns == 2 * DAY

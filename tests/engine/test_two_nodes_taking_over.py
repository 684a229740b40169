"""Two engines on one database, of which one dies, stands still or gives back: the other goes on, and nothing is done twice or forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import asyncpg
import pytest

from perdure import Address, App, Process, VirtualClock, limits, open_store, step_info
from perdure.clock import SECOND
from perdure.conversations.writes import shard_of
from perdure.engine import inspection
from perdure.engine.engine import Engine
from perdure.engine.leaving import TakeOut
from perdure.errors import StepOutcomeUnknown
from perdure.messages.tables import INBOX
from tests.engine.nodes import NEVER, Nodes, comes, happens, leases_of, two_nodes
from tests.engine.orders import Approve, Comment, Ledger, Place, make_app
from tests.engine.test_two_nodes import place

MANY = 12


@pytest.fixture
def url(postgres_url: str, unhurried: None) -> str:
    del unhurried
    return postgres_url


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


class Gated:
    """Steps that wait until they are let go, and how often each began, with its attempts."""

    def __init__(self) -> None:
        self.app = App("gated")
        self.began: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.blocked: set[str] | None = None  # by the gate; all of them when not given

        @self.app.process
        async def job(p: Process, name: str) -> str:
            await p.step(self.quick, f"{name} first", name="first")
            await p.step(self.slow, name, name="slow")
            return name

        @self.app.process
        async def once(p: Process, name: str) -> str:
            try:
                return await p.step(self.slow, name, name="slow", at_most_once=True)
            except StepOutcomeUnknown:
                return "unknown"

        self.job, self.once = job, once

    async def quick(self, name: str) -> None:
        self.began[name] += 1

    async def slow(self, name: str) -> str:
        self.began[name] += 1
        if self.blocked is None or name in self.blocked:
            await self.gate.wait()
        return name


async def test_turns_of_a_node_that_died_go_on_and_who_waits_elsewhere_is_answered(url: str, clock: VirtualClock) -> None:
    gated = Gated()
    async with two_nodes(url, gated.app, clock) as nodes:
        names = [nodes.id_on(nodes.a) for _ in range(MANY)]
        calls = [asyncio.create_task(nodes.b.call(gated.job, name, id=name)) for name in names]
        await happens(lambda: all(gated.began[name] for name in names), nodes)

        await nodes.kill(nodes.a)
        gated.gate.set()
        await nodes.take_over(nodes.a, nodes.b)

        assert await asyncio.gather(*calls) == names
        assert gated.began == {**dict.fromkeys(names, 2), **{f"{name} first": 1 for name in names}}, "only what was not recorded"
        assert await nodes.run("select distinct attempts from perdure.turn") == [(2,)]


async def test_a_step_that_runs_at_most_once_is_not_run_again_by_who_takes_over(url: str, clock: VirtualClock) -> None:
    gated = Gated()
    async with two_nodes(url, gated.app, clock) as nodes:
        name = nodes.id_on(nodes.a)
        call = asyncio.create_task(nodes.b.call(gated.once, name, id=name))
        await happens(lambda: gated.began[name], nodes)

        await nodes.kill(nodes.a)
        gated.gate.set()
        await nodes.take_over(nodes.a, nodes.b)

        assert await call == "unknown"
        assert gated.began[name] == 1


async def test_turns_of_shards_that_are_given_back_go_on_elsewhere_and_count_no_attempt(url: str, clock: VirtualClock) -> None:
    gated = Gated()
    async with open_store(url, clock=clock) as first, Engine(first, gated.app, max_concurrency=MANY) as a:
        names = [f"p{number}" for number in range(4 * MANY)]
        calls = [asyncio.create_task(a.call(gated.job, name, id=name)) for name in names]
        while sum(gated.began[name] for name in names) < MANY:  # the others are queued, or their steps are long
            await first.access.reader.counter("")
        async with open_store(url, clock=clock) as second, Engine(second, gated.app, max_concurrency=MANY):
            await leases_of(a)._round()
            gated.gate.set()
            await second.ownership._round()  # type: ignore[attr-defined]  # a look of the test's

            assert await asyncio.gather(*calls) == names
            connection = await asyncpg.connect(url)
            attempts = await connection.fetch("select distinct attempts from perdure.turn")
            await connection.close()
            assert [tuple(row) for row in attempts] == [(1,)]


async def test_a_clean_stop_hands_everything_to_the_other_node_and_counts_no_attempt(url: str, clock: VirtualClock) -> None:
    gated = Gated()
    async with two_nodes(url, gated.app, clock, max_concurrency=4) as nodes:
        names = [nodes.id_on(nodes.a) for _ in range(MANY)]
        calls = [asyncio.create_task(nodes.b.call(gated.job, name, id=name)) for name in names]
        await happens(lambda: sum(gated.began[name] for name in names) >= 4, nodes)

        await nodes.a.close()
        gated.gate.set()
        await nodes.look(nodes.b)

        assert await asyncio.gather(*calls) == names
        assert await nodes.run("select distinct attempts from perdure.turn") == [(1,)]


async def test_timers_and_mail_of_a_node_that_died_come_at_the_other(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        for order in ("timer", "mail"):
            await place(nodes, order, total=500)
        await nodes.kill(nodes.a)
        await nodes.b.deliver(Approve("mail"), id="m", to=Address.key("order:mail"))
        await nodes.take_over(nodes.a, nodes.b)

        assert await nodes.b.deliver(Place("mail", 500), id="place mail", wait=True) == {"order_id": "mail", "status": "approved"}
        clock.advance(4 * 86_400 * SECOND)

        assert await nodes.b.deliver(Place("timer", 500), id="place timer", wait=True) == {"order_id": "timer", "status": "expired"}
        assert sorted(ledger.effects) == ["charge mail", "charge timer", "settle mail", "settle timer"]


async def test_a_fan_out_goes_on_though_the_node_that_leads_it_dies(
    url: str, clock: VirtualClock, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.engine.orders import Broadcast

    monkeypatch.setattr(limits, "FAN_OUT_CHUNK", 2)
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        for number in range(MANY):
            at = nodes.a if number % 2 else nodes.b
            await place(nodes, f"o{number}", at=at)
            await at.deliver(Comment(f"o{number}", "all"), id=f"join {number}", wait=True)
        ledger.effects.clear()
        await nodes.kill(nodes.a)

        await nodes.b.deliver(Broadcast("comment:all", "x"), id="x")
        await nodes.take_over(nodes.a, nodes.b)

        await happens(lambda: len(ledger.effects) >= MANY, nodes)
        assert len(set(ledger.effects)) == len(ledger.effects) == MANY


async def test_word_that_is_committed_after_its_shard_was_gained_is_heard(
    url: str, clock: VirtualClock, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POSTGRES_POLL_MS", 1_000 * NEVER)  # nobody else commits anything that would let it look
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        process_id = await place(nodes, "o")
        await nodes.kill(nodes.a)
        locked = await asyncpg.connect(url)
        transaction = locked.transaction()
        await transaction.start()
        await locked.execute("select 1 from perdure.process where process_id = $1 for update", process_id)

        leases, calls = leases_of(nodes.b), list[asyncio.Task[Any]]()
        rows = leases._session.rows

        async def after_the_claim(sql: str, values: Any = ()) -> list[Any]:
            if sql.startswith("select shard"):
                calls.append(asyncio.create_task(nodes.b.deliver(Comment("o", "late"), id="m", wait=True)))
                await comes(partial(somebody_waits, nodes))
            return await rows(sql, values)

        leases._session.rows = after_the_claim  # type: ignore[method-assign]  # a message is decided on before the answer has come
        await nodes.take_over(nodes.a, nodes.b)
        assert nodes.b._owner.shards.mine("default", process_id)
        for _ in range(20):  # as long as it takes to look at what is open: it is not there yet
            await inspection.processes(nodes.b.store)
        await transaction.commit()
        await locked.close()

        assert [await call for call in calls] == [1]


async def somebody_waits(nodes: Nodes) -> bool:
    return bool(await nodes.run("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"))


async def test_word_for_another_node_is_not_taken_out_by_one_that_has_lost_the_shard(url: str, clock: VirtualClock, ledger: Ledger) -> None:
    async with two_nodes(url, make_app(ledger), clock) as nodes:
        foreign = next(iter(leases_of(nodes.b).shards))
        nodes.b._owner._listening.close()  # it hears of what the other one commits, and would look by itself
        key = INBOX.key("default", foreign, 64 * 1_000)
        await nodes.run(
            "insert into perdure.inbox (tenant_id, shard, tick, process_id) values ('default', $1, $2, 'p')", foreign, 64 * 1_000
        )

        await nodes.a.store.access.writer.run(TakeOut(nodes.a._owner.rules, [key]))
        assert await nodes.run("select count(*) from perdure.inbox") == [(1,)]

        await nodes.b.store.access.writer.run(TakeOut(nodes.b._owner.rules, [key]))
        assert await nodes.run("select count(*) from perdure.inbox") == [(0,)]


async def test_what_is_left_for_a_node_that_died_does_not_hold_up_who_looks_for_his_own(
    url: str, clock: VirtualClock, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looks() -> None:
        """It hears of what the other one did, and would look by itself."""

    async with two_nodes(url, make_app(ledger), clock) as nodes:
        look = nodes.b._owner.recovery.look
        monkeypatch.setattr(nodes.b._owner.recovery, "look", looks)
        await nodes.kill(nodes.a)
        await nodes.run(
            "insert into perdure.inbox (tenant_id, shard, tick, process_id) select 'default', s, 64 * n, 'p' from generate_series(1, $1) n, (values (0), (63)) v (s)",
            2 * limits.INBOX_TAKEN,
        )
        pages: list[int] = []
        reader = nodes.b.store.access.reader
        scan: Any = reader.scan

        async def counted(what: Any) -> list[Any]:
            rows: list[Any] = await scan(what)
            pages.append(len(rows))
            return rows

        reader.scan = counted  # type: ignore[method-assign, assignment]  # counts what is read
        await look()

        assert await nodes.run("select shard, count(*) from perdure.inbox group by 1") == [(0, 2 * limits.INBOX_TAKEN)]
        assert sum(pages) == 3 * limits.INBOX_TAKEN, "one page of what is not ours"


async def test_a_turn_that_was_queued_before_its_shard_was_given_away_is_not_run_again_from_what_was_noted_then(
    url: str, clock: VirtualClock
) -> None:
    gated = Gated()
    async with open_store(url, clock=clock) as first, Engine(first, gated.app, max_concurrency=1) as a:
        names = {shard_of("default", name): name for name in (f"p{number}" for number in range(1_000))}
        kept, given = names[0], names[limits.SHARDS - 1]
        gated.blocked = {kept}
        calls = [asyncio.create_task(a.call(gated.job, name, id=name)) for name in (kept, given)]
        while not (gated.began[kept] and a._owner.dispatcher.waits("default", given)):
            await first.access.reader.counter("")
        async with open_store(url, clock=clock) as second, Engine(second, gated.app):
            await leases_of(a)._round()
            await second.ownership._round()  # type: ignore[attr-defined]  # a look of the test's
            assert await calls[1] == given
        await leases_of(a)._round()
        assert a._owner.shards.mine("default", given)

        gated.gate.set()
        assert await calls[0] == kept
        while a._owner.dispatcher.crowded:
            await first.access.reader.counter("")

        assert gated.began == {name: 1 for of in (kept, given) for name in (of, f"{of} first")}


def renewal() -> Any:
    from perdure.core.ownership import Renew

    return Renew()


async def test_a_step_does_not_begin_while_the_lease_may_be_over_and_begins_when_it_is_renewed(url: str, clock: VirtualClock) -> None:
    gated = Gated()
    gated.gate.set()
    async with two_nodes(url, gated.app, clock) as nodes:
        name = nodes.id_on(nodes.a)
        leases = leases_of(nodes.a)
        leases._backend.on_renewed = lambda _asked_at: None  # its commits do not get through in time
        leases._safe_until = 0
        call = asyncio.create_task(nodes.a.call(gated.job, name, id=name))
        await nodes.comes_to(name, "runnable")
        for _ in range(50):
            await nodes.run("select 1")
        assert not gated.began

        leases._backend.on_renewed = leases._on_renewed
        await nodes.a.store.access.writer.run(renewal())

        async def over() -> bool:
            clock.advance(SECOND)
            return call.done() or not await nodes.run("select 1")

        await comes(over)
        assert await call == name
        assert gated.began == {name: 1, f"{name} first": 1}


async def test_a_function_that_waited_for_a_thread_does_not_begin_when_the_lease_is_over(url: str, clock: VirtualClock) -> None:
    import threading

    app, began, gate = App("threads"), [], threading.Event()

    def work(name: str) -> str:
        began.append((name, step_info().attempt))
        gate.wait()
        return name

    @app.process
    async def job(p: Process, name: str) -> str:
        return await p.step(work, name)

    async with two_nodes(url, app, clock, max_threads=1) as nodes:
        names = [nodes.id_on(nodes.a) for _ in range(2)]
        calls = [asyncio.create_task(nodes.b.call(job, name, id=name)) for name in names]
        try:
            await happens(lambda: nodes.a._owner.threads._work_queue.qsize() == 1, nodes)  # the second one
            for lease in leases_of(nodes.a)._leases.values():
                lease.held = False  # what the loop has not heard of yet
        finally:
            gate.set()
        first = began[0][0]

        await happens(lambda: nodes.a._owner.threads._work_queue.qsize() == 0, nodes)
        assert [name for name, _ in began] == [first]
        await nodes.kill(nodes.a)
        await nodes.take_over(nodes.a, nodes.b)
        assert await asyncio.gather(*calls) == names

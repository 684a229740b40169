"""Decisions made by hand, in the one order of events that shows whether a promise is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perdure import Address, Engine, ProcessId, ProcessIdentity, Store, TenantId, limits
from perdure.codec import JSON
from perdure.conversations.events import StepAttemptFailed
from perdure.conversations.tables import PROCESS, ProcessStatus
from perdure.engine import inspection
from perdure.engine.delivery import Deliver, FanOutChunk
from perdure.engine.flush import Finish, Flush, turn_keys
from perdure.engine.kinds import kind_of
from perdure.engine.leaving import Leave, Resume
from perdure.engine.notes import NO_APP, Envelope, TurnStarted, owns_all
from perdure.engine.operation import Kind, Operation
from perdure.engine.replay import mismatch
from perdure.errors import MailboxFull, SequenceConflict
from perdure.identity import derived_id
from perdure.replies import MailArrived
from tests.engine.conftest import Running
from tests.engine.orders import Approve, Broadcast, Comment, Ledger, Place, eventually, make_app

TENANT = TenantId("default")
START = Address.start("Order", id="o1")
TO = Address.process("o1")


class ByHand:
    """A store whose transactions a test makes itself, in the order that it wants."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rules = msgspec.structs.replace(Engine(store, make_app(Ledger()))._owner.rules, owns=owns_all)  # it has not begun

    async def deliver(self, message: Any, address: Address, *, id: str, process_id: str = "o1") -> list[Any]:
        envelope = Envelope(
            tenant_id=TENANT,
            source="",
            message_id=id,
            digest=id.encode(),
            kind=kind_of(type(message)),
            payload=JSON.encode(message),
            address=address,
            process_id=process_id,
        )
        [(_, notes, _)] = await self.store.commit(Deliver(self.rules, envelope))
        return list(notes)

    async def wait(self, *, head: int, mail_seen: int) -> bool:
        """Commit that the open turn waits, its owner having seen so much mail; return whether it may."""
        flush = Flush(
            rules=self.rules,
            keys=turn_keys(TENANT, "o1", "p"),
            tenant_id=TENANT,
            process_id="o1",
            ref="p",
            head=head,
            now=0,
            events=[],
            effects=[],
            effects_done=0,
            steps=0,
            arm={},
            disarm=[],
            taken=[],
            undecodable=[],
            binds=[],
            fields=None,
            waiting=True,
            awaits="approve",
            mail_seen=mail_seen,
            finish=None,
            next=None,
        )
        [flushed] = await self.store.commit(flush)
        return bool(flushed.waits)

    async def status(self) -> str:
        row = await self.store.access.reader.get(PROCESS.key(TENANT, "o1"))
        assert row is not None
        return row.status


@pytest.fixture
def by_hand(store: Store) -> ByHand:
    return ByHand(store)


async def test_a_turn_waits_only_if_its_owner_has_seen_all_mail(by_hand: ByHand) -> None:
    [started] = await by_hand.deliver(Place("1"), START, id="p")
    assert isinstance(started, TurnStarted)
    await by_hand.deliver(Approve("1"), TO, id="a")

    assert not await by_hand.wait(head=2, mail_seen=0)
    assert await by_hand.status() == ProcessStatus.RUNNABLE

    assert await by_hand.wait(head=2, mail_seen=1)
    assert await by_hand.status() == ProcessStatus.WAITING


async def test_what_a_waiting_turn_asks_for_wakes_it_and_nothing_else_does(by_hand: ByHand) -> None:
    await by_hand.deliver(Place("1"), START, id="p")
    await by_hand.wait(head=2, mail_seen=0)

    [other] = await by_hand.deliver(Comment("1", "x"), TO, id="c")
    assert (other.wakes, await by_hand.status()) == (False, ProcessStatus.WAITING)

    [asked] = await by_hand.deliver(Approve("1"), TO, id="a")
    assert (asked.wakes, await by_hand.status()) == (True, ProcessStatus.RUNNABLE)


async def test_a_turn_that_somebody_else_has_gone_on_with_commits_nothing(by_hand: ByHand) -> None:
    await by_hand.deliver(Place("1"), START, id="p")
    await by_hand.store.commit(Resume(TENANT, "o1"))

    with pytest.raises(SequenceConflict):
        await by_hand.wait(head=2, mail_seen=0)

    assert await by_hand.wait(head=3, mail_seen=0)


async def test_crashes_count_as_attempts_and_clean_stops_do_not(by_hand: ByHand) -> None:
    await by_hand.deliver(Place("1"), START, id="p")

    assert await by_hand.store.commit(Resume(TENANT, "o1")) == (2,)
    assert await by_hand.store.commit(Resume(TENANT, "o1")) == (3,)
    await by_hand.store.commit(Leave(TENANT, "o1"))
    assert await by_hand.store.commit(Resume(TENANT, "o1")) == (3,)


async def test_mail_is_numbered_in_the_order_of_its_acceptance(by_hand: ByHand) -> None:
    await by_hand.deliver(Place("1"), START, id="p")

    notes = [note for number in range(3) for note in await by_hand.deliver(Comment("1", "x"), TO, id=f"c{number}")]

    assert [note.mail.number for note in notes] == [1, 2, 3]


async def test_the_acceptance_of_mail_writes_no_event_of_the_process(by_hand: ByHand) -> None:
    """A conversation has one appender: the owner of its process."""
    await by_hand.deliver(Place("1"), START, id="p")
    before = await by_hand.store.access.reader.get(PROCESS.key(TENANT, "o1"))

    await by_hand.deliver(Comment("1", "x"), TO, id="c")

    after = await by_hand.store.access.reader.get(PROCESS.key(TENANT, "o1"))
    assert before is not None
    assert after is not None
    assert (after.head, after.open_message) == (before.head, "p")
    assert (await by_hand.store.info()).rows["event"] == before.head


async def test_a_full_mailbox_refuses_and_keeps_what_it_has(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAILBOX_MAX", 2)
    await by_hand.deliver(Place("1"), START, id="p")
    for number in range(2):
        await by_hand.deliver(Comment("1", "x"), TO, id=f"c{number}")

    with pytest.raises(MailboxFull) as refused:
        await by_hand.deliver(Comment("1", "x"), TO, id="c2")

    assert refused.value.retryable
    assert (await by_hand.store.info()).rows["message"] == 3


def test_derived_ids_of_different_parts_never_meet() -> None:
    assert len({derived_id(*parts) for parts in [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), ("", "abc")]}) == 5


async def test_who_joins_a_tag_after_the_acceptance_of_a_message_does_not_get_it(running: Running, by_hand: ByHand) -> None:
    ledger = Ledger()
    async with running(make_app(ledger)) as engine:
        for name in "12":
            await engine.deliver(Place(name), id=f"p{name}", wait=True)
        await engine.deliver(Comment("1", "x"), id="c", wait=True)
    members = await by_hand.store.processes.lookup_correlated(TENANT, "comment:x")
    await by_hand.deliver(Broadcast("comment:x", "news"), Address.tag("comment:x"), id="b")
    [late] = [one.process_id for one in await inspection.processes(by_hand.store) if one.process_id != members[0].process_id]
    identity = ProcessIdentity(tenant_id=TENANT, process_id=ProcessId(late), process_type="Order")
    await by_hand.store.processes.register_correlated(TENANT, "comment:x", identity.process_id, identity)

    async with running(make_app(ledger)) as engine:
        await eventually(lambda: _is(engine, "b", "done"))
        assert (await engine.explain("b")).copies == 1
        await engine.deliver(Comment("2", "last"), id="last", wait=True)
        assert [effect for effect in ledger.effects if "hears" in effect] == [f"{members[0].process_id} hears news"]


async def test_a_fan_out_goes_through_all_members_chunk_by_chunk(by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FAN_OUT_CHUNK", 2)
    members = [f"o{number}" for number in range(5)]
    for member in members:
        await by_hand.deliver(Place(member), Address.start("Order", id=member), id=f"p{member}", process_id=member)
        identity = ProcessIdentity(tenant_id=TENANT, process_id=ProcessId(member), process_type="Order")
        await by_hand.store.processes.register_correlated(TENANT, "t", identity.process_id, identity)
    await by_hand.deliver(Broadcast("t", "news"), Address.tag("t"), id="b")

    chunks = [(await by_hand.store.commit(FanOutChunk(by_hand.rules, TENANT, "", "b")))[0] for _ in range(3)]

    assert [more for more, _ in chunks] == [True, True, False]
    assert [note.process_id for _, notes in chunks for note in notes if isinstance(note, MailArrived)] == members
    assert (await inspection.explain(by_hand.store, "b")).copies == 5


@pytest.mark.parametrize("kind", ["receive", "timer", "bind"])
def test_what_is_recorded_of_a_step_is_no_record_of_anything_else(kind: Kind) -> None:
    event = StepAttemptFailed("m", "x", 1, b"", 0)

    assert mismatch(event, 0, Operation("x", "step"), ["x"]) is None
    assert mismatch(event, 0, Operation("x", kind), ["x"]) == f"'x' was recorded as a step, the code asks for a {kind}"


async def _is(engine: Engine, message_id: str, status: str) -> bool:
    return (await engine.explain(message_id)).status == status


def test_the_replies_to_taken_messages_count_in_the_size_of_a_commit() -> None:
    finish = Finish(outcome="ok", response=b"12", root_type="", status="idle")
    flush = Flush(
        rules=NO_APP,
        keys=turn_keys(TENANT, "o1", "p"),
        tenant_id=TENANT,
        process_id="o1",
        ref="p",
        head=0,
        now=0,
        events=[(0, b"123")],
        effects=[],
        effects_done=0,
        steps=0,
        arm={},
        disarm=[],
        taken=[],
        undecodable=[],
        binds=[],
        fields=b"1234",
        waiting=False,
        awaits="",
        mail_seen=0,
        finish=finish,
        next=None,
        answers={"m": b"1" * 100},
    )
    assert flush.size == 2 + 3 + 4 + 100

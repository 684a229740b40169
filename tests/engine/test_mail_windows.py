"""However much mail a process has, a window of it is in memory, and nothing is missed beyond it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, limits, on
from perdure.conversations.tables import PROCESS
from perdure.engine import inspection
from perdure.engine.operation import Operation
from perdure.engine.verification import verify
from perdure.engine.window import Window
from perdure.errors import MailboxFull
from perdure.messages.mail import Mail
from perdure.messages.tables import MAILBOX
from tests.engine.orders import eventually, reaches

WINDOW = 4


class Letter(msgspec.Struct, tag="letter"):
    number: int


class Rare(msgspec.Struct, tag="rare"):
    number: int


class Go(msgspec.Struct, tag="go"):
    pass


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAIL_WINDOW", WINDOW)
    monkeypatch.setattr(limits, "MAIL_LOOK", 2)


def make_app(seen: list[str]) -> App:
    app = App("mail")

    @app.process
    class Reader(Process):
        total: int = 0

        @on(Go, start=True, key=lambda _message: "reader")
        async def go(self, _message: Go) -> None:
            await self.receive(Go)
            for _ in range(3):
                seen.append(f"rare {(await self.receive(Rare)).number}")
            seen.append(f"where {(await self.receive(Letter, where=lambda letter: letter.number == 7)).number}")
            seen.append(f"first {(await self.receive(Letter)).number}")

        @on(Letter, key=lambda _message: "reader")
        async def letter(self, message: Letter) -> int:
            seen.append(f"turn {message.number}")
            self.total += 1
            return self.total

    return app


def most_letters(engine: Engine) -> int:
    return max((len(resident.window.letters) for resident in engine._owner.residents.values()), default=0)


async def fill(engine: Engine) -> str:
    """Queue 20 letters, with three rare ones among the last, for a reader that waits for something else."""
    receipt = await engine.deliver(Go(), id="start")
    assert receipt.process_id is not None
    await reaches(engine, receipt.process_id, "waiting")
    for number in range(20):
        await engine.deliver(Letter(number), id=f"l{number}")
        if number in (11, 14, 19):
            await engine.deliver(Rare(number), id=f"r{number}", to=Address.key("reader"))
    return receipt.process_id


EXPECTED = ["rare 11", "rare 14", "rare 19", "where 7", "first 0", *(f"turn {n}" for n in range(1, 20) if n != 7)]


@pytest.mark.parametrize("restart", [False, True])
async def test_receives_find_what_lies_beyond_the_window_and_then_begin_again_with_the_oldest(store: Store, restart: bool) -> None:
    seen: list[str] = []
    app = make_app(seen)
    engine = Engine(store, app)
    await engine.__aenter__()
    process_id = await fill(engine)
    if restart:
        await engine.close()
        engine = Engine(store, app)
        await engine.__aenter__()
    assert most_letters(engine) <= WINDOW

    await engine.deliver(Go(), id="go", to=Address.process(process_id))
    await eventually(lambda: _has(seen, len(EXPECTED)))
    await reaches(engine, process_id, "idle")

    assert seen == EXPECTED
    assert (await inspection.process(store, process_id)).fields["total"] == 18
    await engine.close()


async def _has(seen: list[str], count: int) -> bool:
    return len(seen) >= count


async def test_turns_go_on_ahead_of_the_disk_through_a_mailbox_longer_than_the_window(store: Store) -> None:
    seen: list[str] = []
    async with Engine(store, make_app(seen)) as engine:
        process_id = await fill(engine)
        most = 0

        async def watched() -> bool:
            nonlocal most
            most = max(most, most_letters(engine))
            return len(seen) >= len(EXPECTED)

        await engine.deliver(Go(), id="go", to=Address.process(process_id))
        for number in range(20, 60):
            await engine.deliver(Letter(number), id=f"l{number}")
        await eventually(watched)
        last = await engine.deliver(Letter(60), id="l60", wait=True)

    assert last == 59
    assert seen == EXPECTED + [f"turn {n}" for n in range(20, 61)]
    assert most <= WINDOW


async def test_a_letter_that_is_waited_for_wakes_a_turn_whose_window_is_full_of_others(store: Store) -> None:
    seen: list[str] = []
    async with Engine(store, make_app(seen)) as engine:
        process_id = await fill(engine)
        await engine.deliver(Go(), id="go", to=Address.process(process_id))
        await eventually(lambda: _has(seen, len(EXPECTED)))

        asks = asyncio.ensure_future(engine.deliver(Letter(99), id="l99", wait=True))

        assert await asks == 19


class Turn:
    """What a window asks of a turn."""

    def __init__(self, *receives: Operation) -> None:
        self.receives = list(receives)
        self.takes_mail = bool(receives)


def test_a_window_reads_on_only_when_something_outside_may_be_asked_for() -> None:
    window, one, other = Window(), Operation("a", "receive"), Operation("b", "receive")
    one.kinds, other.kinds = {"rare": bytes}, {"letter": bytes}
    for number in range(1, 7):
        window.post(Mail(number, "", f"m{number}", "letter", b""))
    assert (len(window.letters), window.more, window.seen) == (4, True, 4)
    assert not window.hides(Turn())  # who awaits no message may wait

    assert window.hides(Turn(one))
    window.move([one])
    window.put([Mail(n, "", f"m{n}", "letter", b"") for n in (5, 6)], last=6, whole=True)

    assert not window.hides(Turn(one))  # there is none before and none after
    assert window.hides(Turn(one, other))  # but letters were passed over
    window.move([one, other])
    assert (list(window.letters), window.seen, window.more) == ([], 0, True)


def test_mail_announced_while_the_mailbox_is_read_is_not_taken_for_read() -> None:
    window = Window()
    window.more = True
    window.post(Mail(3, "", "m3", "letter", b""))

    window.put([Mail(1, "", "m1", "letter", b""), Mail(2, "", "m2", "letter", b"")], last=2, whole=True)

    assert (window.seen, window.more) == (2, True)


async def test_verify_reports_nothing_that_was_committed_between_two_of_its_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Engine(store, make_app([])) as engine:
        await fill(engine)
        reader, meanwhile = store.access.reader, list[Letter]()
        get = reader.get

        async def move_and_get(key: Any) -> Any:
            if key.table is MAILBOX and not meanwhile:
                meanwhile.append(Letter(99))
                await engine.deliver(meanwhile[0], id="meanwhile")
            return await get(key)

        monkeypatch.setattr(reader, "get", move_and_get)

        assert await verify(store) == []
        assert meanwhile


async def test_a_tenant_with_too_much_mail_is_refused_and_others_are_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAIL_BLOCK", 5)
    monkeypatch.setattr(limits, "TENANT_MAIL_MAX", 10)
    async with Engine(store, make_app([])) as engine:
        for tenant in ("default", "b"):
            receipt = await engine.deliver(Go(), id="start", tenant=tenant)
            await eventually(lambda tenant=tenant, one=receipt.process_id: _waits(store, tenant, one))  # type: ignore[misc]
        for number in range(15):  # a block that is free, and the two that there are
            await engine.deliver(Letter(number), id=f"l{number}", tenant="default")

        with pytest.raises(MailboxFull, match="tenant default: 10 messages") as refused:
            await engine.deliver(Letter(15), id="l15", tenant="default")
        assert refused.value.retryable
        await engine.deliver(Letter(15), id="l15", tenant="b")
        assert await verify(store) == []
        await engine.deliver(Go(), id="go", to=Address.key("reader"))  # what it waits for is let in: nothing else would empty the mailbox
        for number in range(3):
            await eventually(lambda number=number: _let_in(engine, Rare(number), f"r{number}"))  # type: ignore[misc]
        await eventually(lambda: _let_in(engine, Letter(7), "l99"))

        assert await verify(store) == []


async def _let_in(engine: Engine, message: object, id: str) -> bool:
    try:
        await engine.deliver(message, id=id, to=Address.key("reader"))
    except MailboxFull:
        return False
    return True


async def _waits(store: Store, tenant: str, process_id: str) -> bool:
    row = await store.access.reader.get(PROCESS.key(tenant, process_id))
    return row is not None and row.status == "waiting"

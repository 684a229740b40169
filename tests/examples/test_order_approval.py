"""An order that a person approves: every branch in virtual time, every commit crashed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from examples.order_approval.cli import main
from examples.order_approval.order import GIVE_UP_AFTER, REMIND_AFTER, Approve, Order, PlaceOrder, Reject, Summary, app
from examples.world import in_world
from perdure import Address, testing
from perdure.clock import SECOND
from perdure.testing import EffectLedger, VirtualEngine
from perdure.testing.crashes import Scenario, Stores
from tests.examples.crashing import admitted, firsts, survives

PLACE = PlaceOrder("7", "ann", 4_900)
KEY = Address.key("order:7")
CHARGED = ["charge 4900 for order 7", "mail: please approve order 7 of 4900"]
REMINDED = [*CHARGED, "mail: order 7 still waits for you"]


@pytest.fixture
def ledger() -> Iterator[EffectLedger]:
    ledger = EffectLedger()
    with in_world(ledger):
        yield ledger


# --- the branches, as scenarios: each is run here, and then crashed at each of its commits ---------------


async def place(engine: VirtualEngine) -> Summary:
    return await engine.call(Order.place, PLACE, id="place 7")


async def approved(engine: VirtualEngine) -> list[object]:
    await engine.deliver(PLACE, id="place 7")
    await engine.advance(timedelta(days=1))
    told = await engine.deliver(Approve("7", "dora"), id="a7", wait=True)
    return [told, await place(engine), await place(engine)]


async def approved_after_the_reminder(engine: VirtualEngine) -> list[object]:
    await engine.deliver(PLACE, id="place 7")
    await engine.advance(REMIND_AFTER + timedelta(hours=1))
    told = await engine.deliver(Approve("7", "dora"), id="a7", wait=True)
    return [told, await place(engine)]


async def rejected(engine: VirtualEngine) -> list[object]:
    await engine.deliver(Reject("7", "dora", "no budget"), id="r7", to=KEY)  # before anybody has placed it: it is kept
    return [await place(engine), await engine.deliver(Reject("7", "dora", "no budget"), id="r7", to=KEY, wait=True)]


async def expired(engine: VirtualEngine) -> list[object]:
    summary = await place(engine)  # nobody decides: the clock goes on by itself
    late = await engine.deliver(Approve("7", "eve"), id="a7", wait=True)
    return [summary, late]


async def declined(engine: VirtualEngine) -> list[object]:
    order = PlaceOrder("8", "cy", 2_000_000)
    return [await engine.call(Order.place, order, id="place 8")]


BRANCHES: list[tuple[Scenario, set[str]]] = [
    (approved, {"charge_card", "ask_approver", "ship"}),
    (approved_after_the_reminder, {"charge_card", "ask_approver", "remind_approver", "ship"}),
    (rejected, {"charge_card", "ask_approver", "refund"}),
    (expired, {"charge_card", "ask_approver", "remind_approver", "refund"}),
    (declined, {"charge_card"}),
]
"""Each branch, and the steps that a crash between their effect and their record repeats."""


async def test_an_approval_in_time_ships_once_and_the_person_is_told(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        told, first, again = await approved(engine)

    assert told == {"status": "approved", "parcel": "", "note": "by dora"}
    assert first == again == Summary("shipped", "parcel-7", "approved by dora")
    assert firsts(ledger) == [*CHARGED, "ship order 7"]


async def test_a_person_who_says_nothing_is_reminded_and_may_still_approve(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        _, summary = await approved_after_the_reminder(engine)

    assert summary == Summary("shipped", "parcel-7", "approved by dora")
    assert firsts(ledger) == [*REMINDED, "ship order 7"]


async def test_a_rejection_gives_the_money_back(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        summary, told = await rejected(engine)

    assert summary == Summary("rejected", "", "dora: no budget")
    assert told == {"status": "rejected", "parcel": "", "note": "dora: no budget"}
    assert firsts(ledger) == [*CHARGED, "refund receipt-7"]


async def test_after_three_days_the_money_goes_back_and_who_comes_late_is_told(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        began = engine.clock.now()
        summary, late = await expired(engine)
        took = timedelta(microseconds=engine.clock.now() - began)

    assert summary == Summary("expired", "", "nobody decided within three days")
    assert late == {"status": "expired", "parcel": "", "note": "nobody decided within three days"}
    assert firsts(ledger) == [*REMINDED, "refund receipt-7"]
    assert GIVE_UP_AFTER <= took < GIVE_UP_AFTER + timedelta(seconds=1), "three days of the engine's clock; nobody has slept"


async def test_a_card_that_is_declined_is_asked_once_and_nobody_is_bothered(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        [summary] = await declined(engine)

    assert summary == Summary("declined", "", "2000000 is over the limit of the card")
    assert [(one.what, one.attempt) for one in ledger.effects] == [("decline 2000000 for order 8", 1)]


async def test_a_bank_that_does_not_answer_is_asked_again() -> None:
    class Down(EffectLedger):
        def note(self, what: str, /) -> None:
            super().note(what)
            if len(self.effects) < 3:
                raise ConnectionError("the bank does not answer")

    with in_world(bank := Down()):
        async with testing.engine(app) as engine:
            await engine.deliver(Approve("7", "dora"), id="a7", to=KEY)
            assert (await place(engine)).status == "shipped"

    assert [one.attempt for one in bank.effects if one.step == "charge_card"] == [1, 2, 3]
    assert len({one.idempotency_key for one in bank.effects if one.step == "charge_card"}) == 1, "the bank can tell that it is one charge"


@pytest.mark.usefixtures("ledger")
async def test_an_order_is_found_and_asked_about_while_it_waits() -> None:
    async with testing.engine(app) as engine:
        await engine.deliver(PLACE, id="place 7")
        await engine.deliver(PlaceOrder("9", "bob", 100), id="place 9")
        await engine.settled()
        found = await engine.processes(type=Order, attributes={"status": "waits for approval", "customer": "ann"})
        waits = await engine.timeline(found[0].process_id)
        now = engine.clock.now()

        assert [(await engine.process(one.process_id)).attributes["order"] for one in found] == ["7"]
        assert await engine.query(Order.summary, key="order:7") == Summary("waits for approval")
        assert [wait.due for wait in waits.waits_for if wait.due] == [now + REMIND_AFTER // timedelta(seconds=1) * SECOND]


@pytest.mark.parametrize(("scenario", "windows"), BRANCHES, ids=lambda value: getattr(value, "__name__", ""))
async def test_killed_before_and_after_each_commit_an_order_ends_like_an_undisturbed_one(
    scenario: Scenario, windows: set[str], ledger: EffectLedger, on: Stores | None
) -> None:
    report = await survives(app, scenario, ledger=ledger, windows=windows, stores=on)

    assert report.commits >= 2


async def test_killed_on_a_server_an_order_ends_like_an_undisturbed_one(ledger: EffectLedger, on_a_server: Stores) -> None:
    report = await survives(app, declined, ledger=ledger, windows={"charge_card"}, stores=on_a_server)

    assert report.commits >= 2


def test_the_readme_admits_every_window_and_no_other() -> None:
    assert admitted("order_approval") == set().union(*(windows for _, windows in BRANCHES))


def test_the_program_goes_on_when_it_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--store", f"sqlite:///{tmp_path / 'store.db'}", "--world", str(tmp_path / "world.db")]

    assert main(place) == 0
    first = capsys.readouterr().out
    assert main(place) == 0
    second = capsys.readouterr().out
    assert main([*place, "approve", "3"]) == 0
    third = capsys.readouterr().out
    assert main([*place, "reject", "3", "--by", "eve"]) == 0
    fourth = capsys.readouterr().out

    assert "order 3: waits for approval\n" in first
    assert second == first.replace(": placed", ": known already")
    assert "order 3: shipped, approved by dora, parcel-3\n" in third
    assert "eve rejects order 3: it is shipped, approved by dora\n" in fourth
    assert fourth.count("ship order 3") == fourth.count("charge 8000 for order 3") == 1
    assert "times" not in fourth

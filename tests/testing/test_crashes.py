"""Crashes at every commit, as a user's test makes them."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from perdure import Address, App, Process, limits, testing
from perdure.errors import NotInTurn, UsageError
from perdure.testing import Crash, EffectLedger, VirtualEngine
from tests.testing.shop import Approve, Place, Shop


@pytest.mark.parametrize("scenario", ["ordering", "transferring", "relaying"])
async def test_whatever_commit_is_crashed_before_or_after_the_outcome_is_that_of_an_undisturbed_run(scenario: str) -> None:
    shop = Shop()

    report = await testing.crashes(shop.app, getattr(shop, scenario), ledger=shop.ledger)

    report.check()
    assert report.commits >= 4
    assert [run.crash for run in report.runs if not run.happened] == []
    assert report.repeated, "a crash between an effect and its record repeats the effect, and the report says where"


WINDOWS = {"charge", "ship"}


async def test_all_windows_of_at_least_once_are_listed_by_the_names_of_their_steps() -> None:
    shop = Shop()

    report = await testing.crashes(shop.app, shop.ordering, ledger=shop.ledger)

    report.check(windows=WINDOWS)
    assert report.windows["ship"] == 1, "it ran once, so there is one commit before which a crash repeats it"
    with pytest.raises(AssertionError, match="at least once, and not listed: step 'ship'"):
        report.check(windows=WINDOWS - {"ship"})
    with pytest.raises(AssertionError, match="listed as at least once, and no crash brought it about: step 'refund'"):
        report.check(windows=WINDOWS | {"refund"})


async def test_what_a_crash_changes_is_reported_with_the_commit_and_both_sides() -> None:
    app, numbers = App("wrong"), itertools.count()

    def draw() -> int:
        return next(numbers)

    @app.process
    async def draws(p: Process) -> int:
        return await p.step(draw)

    async def scenario(engine: VirtualEngine) -> int:
        nonlocal numbers
        numbers = itertools.count()
        return await engine.call(draws, id="d")

    report = await testing.crashes(app, scenario)

    with pytest.raises(AssertionError, match=r"crash before commit \d: the scenario's outcome: 1, undisturbed 0"):
        report.check()
    assert not report.ok


async def test_an_effect_that_only_a_disturbed_run_has_is_a_difference() -> None:
    shop, runs = Shop(), itertools.count()

    async def scenario(engine: VirtualEngine) -> None:
        await engine.call(shop.transfer, "a", "b", 1 + (next(runs) == 1), id="t")

    report = await testing.crashes(shop.app, scenario, ledger=shop.ledger)

    assert any("effect 'b +2': 1, undisturbed nothing" in difference for difference in report.runs[0].differences)


async def test_what_the_undisturbed_scenario_raises_is_raised() -> None:
    async def scenario(engine: VirtualEngine) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await testing.crashes(Shop().app, scenario)


async def test_a_scenario_with_too_many_commits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    monkeypatch.setattr(limits, "CRASHES_MAX", 3)

    with pytest.raises(UsageError, match="make it smaller"):
        await testing.crashes(shop.app, shop.transferring)


async def test_who_waits_for_a_reply_gets_it_from_the_engine_after_the_crash() -> None:
    shop = Shop()

    async with testing.engine(shop.app, auto_advance=False) as engine:
        call = asyncio.ensure_future(engine.call(shop.order.place, Place("1"), id="p1"))
        await engine.settled()
        await engine.crash()
        await engine.crash()
        await engine.deliver(Approve("1"), id="a1", to=Address.key("order:1"))
        await engine.advance(5)
        assert await call == "parcel 1"
    assert shop.ledger.counts == {"charge 1": 1, "ship 1": 1}


@pytest.mark.parametrize("lost", [True, False])
async def test_a_message_is_accepted_again_when_its_commit_was_crashed(lost: bool) -> None:
    shop = Shop()

    async with testing.engine(shop.app) as engine:
        engine.crash_at(Crash(1, lost=lost))
        receipt = await engine.deliver(Place("1"), id="p1")
        assert receipt.duplicate is not lost
        assert engine.commits >= 2
        await engine.settled()
    assert shop.ledger.counts == {"charge 1": 1}


async def test_a_ledger_tells_steps_from_repetitions_of_one_step() -> None:
    ledger, app = EffectLedger(), App("ledger")

    def work() -> None:
        ledger.note("work")

    @app.process
    async def twice(p: Process) -> None:
        await p.step(work)
        await p.step(work)

    async with testing.engine(app) as engine:
        engine.crash_at(Crash(2, lost=True))
        await engine.call(twice, id="t")

    assert ledger.counts == {"work": 2}
    assert ledger.repeated == {"work": 1}
    assert ledger.windows == {"work": 1}
    assert len(ledger.effects) == 3
    with pytest.raises(NotInTurn):
        ledger.note("outside of a step")

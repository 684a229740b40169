"""The nightly report: when it is made, what is in it when shops fail, and that no crash changes it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from examples.nightly_report import __main__ as program
from examples.nightly_report import outside
from examples.nightly_report.outside import Missing, Shop, Summary, Takings
from examples.nightly_report.report import AT_ONCE, app, daily_report, nightly, report_id, shop_report
from examples.world import in_world
from perdure import Between, testing
from perdure.testing import EffectLedger, VirtualEngine
from perdure.testing.crashes import Stores
from tests.examples.crashing import admitted, survives

DAY = date(2026, 1, 1)
EVE = date(2023, 11, 14)  # a test's clock begins in its evening, three hours before 2:30 in Berlin
FINE = Shop(("1.50", "2.00"))
NOBODY = Shop(("9.00",), down=1_000)


@pytest.fixture(autouse=True)
def ledger() -> Iterator[EffectLedger]:
    made = EffectLedger()
    with in_world(made):
        yield made


@pytest.fixture
def shops(monkeypatch: pytest.MonkeyPatch) -> dict[str, Shop]:
    """The shops of the world outside; none before a test adds some."""
    made: dict[str, Shop] = {}
    monkeypatch.setattr(outside, "SHOPS", made)
    return made


async def report(engine: VirtualEngine, day: date = DAY) -> Summary:
    return await engine.call(daily_report, day, id=report_id(day))


def done(ledger: EffectLedger, what: str) -> list[str]:
    return sorted(effect.what for effect in ledger.effects if effect.what.startswith(what))


async def test_a_report_has_the_takings_of_every_shop_and_is_made_once_whoever_asks(shops: dict[str, Shop], ledger: EffectLedger) -> None:
    shops.update(a=FINE, b=Shop(("10.00",)))
    async with testing.engine(app) as engine:
        first = await report(engine)
        again = await report(engine)
        other = await report(engine, DAY + timedelta(days=1))

    assert first == again == Summary(DAY, 1350, [Takings("a", DAY, 2, 350), Takings("b", DAY, 1, 1000)], [])
    assert other.day == DAY + timedelta(days=1)
    assert done(ledger, "mail") == ["mail 2026-01-01: 1350, 0 missing", "mail 2026-01-02: 1350, 0 missing"]
    assert done(ledger, "file")[::2] == ["file a 2026-01-01: 350", "file b 2026-01-01: 1000"]


async def test_a_day_without_shops_has_a_report_too(shops: dict[str, Shop]) -> None:
    async with testing.engine(app) as engine:
        assert await report(engine) == Summary(DAY, 0, [], [])


async def test_a_shop_that_answers_late_is_in_the_report(shops: dict[str, Shop], ledger: EffectLedger) -> None:
    shops.update(a=FINE, b=Shop(("1.00",), down=2))
    async with testing.engine(app) as engine:
        began = engine.clock.now()
        summary = await report(engine)
        waited = engine.clock.now() - began

    assert (summary.cents, summary.missing) == (450, [])
    assert waited > 2_500_000, "one second and then two, a tenth of them at random"
    assert done(ledger, "fetch") == ["fetch a 2026-01-01", "fetch b 2026-01-01"]


@pytest.mark.parametrize(
    ("shop", "reason"),
    [
        (NOBODY, "NoAnswer: no answer, 4 times"),
        (Shop(("1.00",), closed=False), "BooksOpen: the books are not closed"),
        (Shop(("1.00", "lots")), "ValueError: invalid literal for int() with base 10: 'lots'"),
    ],
    ids=["it never answers", "it has no numbers yet", "its numbers are none"],
)
async def test_a_shop_that_fails_is_a_line_of_the_report_and_can_be_found(
    shops: dict[str, Shop], ledger: EffectLedger, shop: Shop, reason: str
) -> None:
    shops.update(a=FINE, b=shop, c=FINE)
    async with testing.engine(app) as engine:
        summary = await report(engine)
        [incomplete] = await engine.processes(type=daily_report, attributes={"missing": Between(1, 1_000)})
        [failed] = await engine.processes(type=shop_report, status="failed")

        assert summary == Summary(DAY, 700, [Takings("a", DAY, 2, 350), Takings("c", DAY, 2, 350)], [Missing("b", reason)])
        assert (incomplete.process_id, incomplete.status) == ("report/2026-01-01", "ended")
        assert failed.note == reason
    assert done(ledger, "file") == ["file a 2026-01-01: 350", "file c 2026-01-01: 350"]
    assert done(ledger, "mail") == ["mail 2026-01-01: 700, 1 missing"]


async def test_the_shop_of_a_failed_part_is_asked_again_by_a_person_and_the_sealed_summary_stands(
    shops: dict[str, Shop], ledger: EffectLedger
) -> None:
    shops.update(a=Shop(("1.00",), closed=False))
    async with testing.engine(app) as engine:
        before = await report(engine)
        [failed] = await engine.processes(type=shop_report)
        shops.update(a=Shop(("1.00",)))
        await engine.restart_from("fetch_sales", failed.process_id)
        await engine.settled()

        assert await report(engine) == before
        assert [one.status for one in await engine.processes(type=shop_report)] == ["ended"]
    assert done(ledger, "file") == ["file a 2026-01-01: 100"]


async def test_no_more_shops_than_said_are_asked_at_the_same_time(shops: dict[str, Shop]) -> None:
    shops.update({f"shop {number}": NOBODY for number in range(10)})
    async with testing.engine(app) as engine:
        await engine.schedules.trigger("nightly")
        await engine.settled()

        assert len(await engine.processes(type=shop_report)) == AT_ONCE


@pytest.mark.parametrize(
    ("noon", "slots"),
    [
        (datetime(2026, 1, 1, 12, tzinfo=UTC), ["2026-01-02T01:30:00Z", "2026-01-03T01:30:00Z", "2026-01-04T01:30:00Z"]),
        (datetime(2026, 3, 27, 12, tzinfo=UTC), ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        (datetime(2026, 10, 23, 12, tzinfo=UTC), ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
    ],
    ids=["in winter", "2:30 is jumped over", "2:30 comes twice"],
)
async def test_every_night_at_half_past_two_in_berlin_the_day_before_is_reported_on(
    shops: dict[str, Shop], ledger: EffectLedger, noon: datetime, slots: list[str]
) -> None:
    shops.update(a=FINE)
    async with testing.engine(app, start=noon) as engine:
        await engine.advance(timedelta(days=3))
        started = [process.process_id for process in await engine.processes(type=nightly)]

    days = [noon.date() + timedelta(days=number) for number in range(3)]
    assert started == [f"nightly/{slot}" for slot in slots]
    assert done(ledger, "mail") == [f"mail {day}: 350, 0 missing" for day in days]


async def test_nights_without_an_engine_are_made_up_for_one_after_the_other(shops: dict[str, Shop], ledger: EffectLedger) -> None:
    shops.update(a=FINE, b=NOBODY)
    async with testing.engine(app, start=datetime(2026, 1, 1, 12, tzinfo=UTC)) as engine:
        engine.clock.advance(timedelta(days=3) // timedelta(microseconds=1))
        await engine.settled()
        at_first = [process.process_id for process in await engine.processes(type=daily_report)]
        await engine.advance(timedelta(minutes=5))

    assert at_first == ["report/2026-01-01"], "the others wait for it"
    mailed = [effect.what for effect in ledger.effects if effect.what.startswith("mail")]
    assert mailed == [f"mail 2026-01-0{day}: 350, 1 missing" for day in (1, 2, 3)]


async def night(engine: VirtualEngine) -> object:
    """A night with everything that goes wrong; then a person asks for the report that it has made."""
    await engine.advance(timedelta(hours=4))
    return await report(engine, EVE)


async def test_killed_at_any_commit_it_comes_to_the_same_report_and_repeats_only_what_the_readme_says(
    shops: dict[str, Shop], ledger: EffectLedger, on: Stores | None
) -> None:
    shops.update(a=FINE, b=Shop(("1.00",), down=1), c=Shop(closed=False), d=NOBODY, e=Shop(("?",)))

    report = await survives(app, night, ledger=ledger, windows=admitted("nightly_report"), in_order=False, stores=on)

    assert report.commits > 20
    assert ledger.counts[f"mail {EVE}: 450, 3 missing"] == 1


def test_the_program_makes_the_report_of_a_day_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], shops: dict[str, Shop]) -> None:
    shops.update(berlin=FINE, rome=Shop(closed=False))
    place = ["--store", f"sqlite:///{tmp_path / 'reports.db'}", "--world", str(tmp_path / "world.db"), "--day", "2026-01-01"]

    statuses = [program.main(place), program.main(place)]

    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("The next one is due at ")]
    shown = [
        "2026-01-01: 3.50",
        "  berlin        3.50 in 2 sales",
        "  rome       missing: BooksOpen: the books are not closed",
        "Outside, in all runs: fetch 1, file 1, list 1, mail 1",
    ]
    assert statuses == [0, 0]
    assert lines == [*shown, *shown]


def test_a_store_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--store", "mysql://no", "--world", str(tmp_path / "world.db")]) == 1
    assert capsys.readouterr().err.startswith("nightly_report: ")

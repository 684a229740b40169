"""When slots are: against an independent model, at the instants that matter, and whatever instant one begins at."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, takewhile

import pytest

from perdure import limits
from perdure.errors import DefinitionError
from perdure.timers.slots import Due, Interval, delay_of, due, instant_of, next_slot, pattern_of, stamp
from tests.timers.calendar import MINUTE, Cron, micros, slots, utc

HOUR = 60 * MINUTE
BERLIN, NEW_YORK, HALF_HOUR = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
EXPRESSIONS = [
    "0 2 * * *",
    "30 2 * * *",
    "30 1 * * *",
    "0,15,30,45 1-3 * * *",
    "59 0,1,2,3 * * 0",
    "5 * * * *",
    "*/20 * * * *",
    "*/30 2 * * *",
    "15 */2 * * *",
    "0 0 29 2 *",
    "0 3 1,15 * 1",
    "0 12 * 3,10,11 0-3",
    "0 3 * * *",
]


@pytest.mark.parametrize("tz", [BERLIN, NEW_YORK, "UTC", "Asia/Kolkata", "Africa/Cairo", "Pacific/Chatham", HALF_HOUR])
@pytest.mark.parametrize(
    "around", [utc(2026, 3, 6), utc(2026, 3, 27), utc(2026, 4, 3), utc(2026, 10, 2), utc(2026, 10, 23), utc(2026, 10, 30)]
)
def test_slots_around_each_switch_of_the_clock_are_those_of_debian_cron(tz: str, around: datetime) -> None:
    end = around + timedelta(days=4)
    # Where the clock moves by half an hour, the library loses slots of expressions with a `*`; see docs/schedules.md.
    expressions = [each for each in EXPRESSIONS if tz != HALF_HOUR or Cron(each).fixed]

    for expression in expressions:
        found = list(takewhile(lambda slot: slot <= micros(end), pattern_of(expression, tz).after(micros(around))))

        assert found == slots(expression, tz, around, end), expression


@pytest.mark.parametrize(
    ("expression", "tz", "day", "expected"),
    [
        ("30 2 * * *", BERLIN, utc(2026, 3, 28, 23), ["2026-03-29T01:00:00Z"]),  # 2:30 does not exist: 3:00
        ("30 2 * * *", BERLIN, utc(2026, 10, 24, 22), ["2026-10-25T00:30:00Z"]),  # 2:30 is there twice: the first
        ("30 2 * * *", NEW_YORK, utc(2026, 3, 8, 5), ["2026-03-08T07:00:00Z"]),
        ("30 1 * * *", NEW_YORK, utc(2026, 11, 1, 4), ["2026-11-01T05:30:00Z"]),
        ("0,30 2,3 * * *", BERLIN, utc(2026, 3, 28, 23), ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]),  # one slot per instant
        ("30 * * * *", BERLIN, utc(2026, 3, 29, 0), ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]),
        ("*/30 2 * * *", BERLIN, utc(2026, 3, 28, 23), []),
        (
            "*/30 2 * * *",
            BERLIN,
            utc(2026, 10, 24, 22),
            ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
        ),
    ],
)
def test_what_happens_in_the_gap_and_in_the_repeated_hour(expression: str, tz: str, day: datetime, expected: list[str]) -> None:
    end = micros(day) + (2 if expression.startswith("30 *") else 20) * HOUR

    found = [stamp(slot) for slot in takewhile(lambda slot: slot < end, pattern_of(expression, tz).after(micros(day)))]

    assert found == expected


@pytest.mark.parametrize("tz", [BERLIN, NEW_YORK, HALF_HOUR])
def test_the_slots_after_an_instant_do_not_depend_on_where_one_begins(tz: str) -> None:
    source = random.Random(7)
    for expression in EXPRESSIONS:
        pattern = pattern_of(expression, tz)
        for month, day in ((3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1)):
            begin = micros(utc(2026, month, day)) - 12 * HOUR
            known = list(islice(pattern.after(begin), 400))
            for _ in range(20):
                instant = begin + source.randrange(36 * HOUR)
                later = [slot for slot in known if slot > instant]
                if later:
                    assert next_slot(expression, tz, instant) == later[0], (expression, stamp(instant))


def test_an_interval_counts_from_the_epoch_and_knows_no_daylight_saving() -> None:
    begin = micros(utc(2026, 3, 28, 23, 7))

    found = [stamp(slot) for slot in islice(pattern_of(f"every {2 * HOUR}", "UTC").after(begin), 3)]

    assert found == ["2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"]


@pytest.mark.parametrize(
    ("expression", "tz"),
    [
        ("", "UTC"),
        ("* * * *", "UTC"),
        ("* * * * * *", "UTC"),
        ("61 * * * *", "UTC"),
        ("@daily", "UTC"),
        ("0 2 * * *", "Europe/Berlim"),
        ("0 2 * * *", "../etc/passwd"),
        ("0 2 * * *", ""),
        ("0 0 30 2 *", "UTC"),
        ("every 1500000", "UTC"),
        ("every 0", "UTC"),
        (f"every {limits.SCHEDULE_INTERVAL_MAX_US + 1_000_000}", "UTC"),
    ],
)
def test_what_has_no_meaning_is_refused(expression: str, tz: str) -> None:
    with pytest.raises(DefinitionError):
        pattern_of(expression, tz)


def test_an_expression_that_matches_nothing_has_no_next_slot() -> None:
    assert next_slot("0 0 31 4 1", "UTC", 0) is not None  # a day or a weekday: Mondays are there
    assert next_slot("0 0 */20 2 1#5", "UTC", micros(utc(2026, 1, 1))) is None


def no_delay(slot: int) -> int:
    return 0


def test_catching_up_keeps_all_the_last_or_none_within_the_window() -> None:
    pattern, now = Interval(HOUR), 1000 * HOUR
    plan = partial(due, pattern, 990 * HOUR, now + 5 * MINUTE, delay=no_delay)

    assert plan(catch_up="all", window=100 * HOUR).fire == tuple(range(990 * HOUR, 1001 * HOUR, HOUR))
    assert plan(catch_up="all", window=3 * HOUR) == Due((998 * HOUR, 999 * HOUR, 1000 * HOUR), 8, 1000 * HOUR)
    assert plan(catch_up="last", window=100 * HOUR).fire == (1000 * HOUR,)
    assert plan(catch_up="last", window=MINUTE).fire == ()
    assert plan(catch_up="none", window=100 * HOUR).fire == ()
    assert due(pattern, 990 * HOUR, now + MINUTE, catch_up="none", window=100 * HOUR, delay=no_delay).fire == (1000 * HOUR,)
    assert due(pattern, 1001 * HOUR, now, catch_up="all", window=HOUR, delay=no_delay).last is None


@pytest.mark.parametrize("expression", ["* * * * *", "*/2 9-17 * * 1-5", f"every {MINUTE}", "0 4 * * *"])
def test_a_year_without_an_engine_is_caught_up_with_a_bounded_number_of_slots(expression: str) -> None:
    begin, now = micros(utc(2026, 1, 1)), micros(utc(2027, 1, 1)) + MINUTE // 2

    found = due(pattern_of(expression, BERLIN), begin, now, catch_up="all", window=limits.SCHEDULE_WINDOW_MAX_US, delay=no_delay)

    if expression == "0 4 * * *":
        assert len(found.fire) == 365
    else:
        assert len(found.fire) == limits.SCHEDULE_CATCH_UP_MAX
    assert found.dropped == 0
    assert list(found.fire) == sorted(set(found.fire))
    assert (next_slot(expression, BERLIN, found.fire[-1]) or 0) > now
    for slot, after in zip(found.fire, found.fire[1:], strict=False):
        assert next_slot(expression, BERLIN, slot) == after


def test_jitter_delays_a_slot_always_by_the_same_and_never_by_more() -> None:
    delays = [delay_of("nightly", slot * HOUR, 10 * MINUTE) for slot in range(1000)]

    assert delays == [delay_of("nightly", slot * HOUR, 10 * MINUTE) for slot in range(1000)]
    assert min(delays) >= 0
    assert max(delays) <= 10 * MINUTE
    assert len(set(delays)) > 900
    assert delay_of("nightly", 0, 0) == 0
    assert delays != [delay_of("hourly", slot * HOUR, 10 * MINUTE) for slot in range(1000)]


def test_a_slot_whose_delay_is_not_over_is_not_due() -> None:
    found = due(Interval(HOUR), 10 * HOUR, 12 * HOUR, catch_up="last", window=HOUR * 99, delay=lambda _slot: MINUTE)

    assert found.fire == (11 * HOUR,)
    assert found.last == 11 * HOUR
    assert found.dropped == 1


def test_instants_and_their_writing() -> None:
    assert stamp(micros(utc(2026, 11, 26, 2))) == "2026-11-26T02:00:00Z"
    assert stamp(micros(utc(2026, 11, 26, 2)) + 5) == "2026-11-26T02:00:00.000005Z"
    assert instant_of(utc(2026, 11, 26)) == micros(utc(2026, 11, 26))

"""What answers mean, and when a target is left alone."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.sending.breaker import Breaker
from perdure.sending.outcomes import Accepted, Ambiguous, Outcome, Refused, outcome_of, retry_after_of

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
OK = Accepted(200)
BROKEN = Ambiguous(reason="status", detail="", status=500)
UNREACHED = Refused(reason="not-connected", detail="", retryable=True)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("0", 0),
        (" 120 ", 120 * SECOND),
        ("9" * 10, limits.SEND_RETRY_AFTER_MAX_US),
        ("9" * 5_000, limits.SEND_RETRY_AFTER_MAX_US),
        (email.utils.formatdate(NOW // SECOND + 30, usegmt=True), 30 * SECOND),
        (email.utils.formatdate(NOW // SECOND - 30, usegmt=True), 0),
        (email.utils.formatdate(NOW // SECOND + 10**7, usegmt=True), limits.SEND_RETRY_AFTER_MAX_US),
        ("Thu, 99 Nov 2026 99:99:99 GMT", None),
    ],
    ids=range(14),
)
def test_a_retry_after_is_seconds_or_a_date_and_bounded(text: str | None, wait: int | None) -> None:
    assert retry_after_of(text, now=NOW) == wait


@given(status=st.integers(0, 999), text=st.none() | st.text())
def test_every_answer_means_something(status: int, text: str | None) -> None:
    outcome = outcome_of(status, text, now=NOW, shown="url")

    assert isinstance(outcome, Accepted) == (200 <= status <= 299)
    assert not (isinstance(outcome, Refused) and status >= 500 and status != 503)


# --- the breaker -------------------------------------------------------------------------------------------


def after(breaker: Breaker, *outcomes: Outcome, now: int = NOW) -> Breaker:
    for outcome in outcomes:
        breaker = breaker.after(outcome, now)
    return breaker


def opened(now: int = NOW) -> Breaker:
    return after(Breaker(), *[BROKEN] * limits.BREAKER_FAILURES, now=now)


def test_a_closed_breaker_lets_everything_through() -> None:
    breaker = after(Breaker(), *[BROKEN] * (limits.BREAKER_FAILURES - 1))

    assert breaker.asked(NOW) == (breaker, True)
    assert breaker.next_at(NOW) == NOW


def test_failures_in_a_row_open_it_and_a_success_between_them_starts_again() -> None:
    almost: list[Outcome] = [BROKEN, UNREACHED] * (limits.BREAKER_FAILURES // 2)

    assert after(Breaker(), *almost, OK, *almost).open_until is None
    assert after(Breaker(), *almost, BROKEN).open_until == NOW + limits.BREAKER_OPEN_US


def test_while_it_is_open_nothing_is_sent() -> None:
    breaker = opened()

    assert breaker.asked(NOW + limits.BREAKER_OPEN_US - 1) == (breaker, False)
    assert breaker.next_at(NOW) == NOW + limits.BREAKER_OPEN_US


def test_then_one_probe_is_let_through() -> None:
    due = NOW + limits.BREAKER_OPEN_US
    probing, yes = opened().asked(due)

    assert yes
    assert probing.asked(due) == (probing, False)
    assert probing.next_at(due) == due + limits.BREAKER_PROBE_US


def test_a_probe_that_succeeds_closes_it() -> None:
    probing, _ = opened().asked(NOW + limits.BREAKER_OPEN_US)

    assert probing.after(OK, NOW + limits.BREAKER_OPEN_US) == Breaker()


def test_each_probe_that_fails_doubles_the_pause_up_to_its_limit() -> None:
    breaker, now, pauses = opened(), NOW, []
    for _ in range(10):
        assert breaker.open_until is not None
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
        breaker, yes = breaker.asked(now)
        assert yes
        breaker = breaker.after(BROKEN, now)

    assert pauses[:7] == [seconds * SECOND for seconds in (5, 10, 20, 40, 80, 160, 300)]
    assert set(pauses[7:]) == {300 * SECOND}
    assert breaker.openings < 10


def test_a_probe_whose_sender_died_is_given_up() -> None:
    due = NOW + limits.BREAKER_OPEN_US
    probing, _ = opened().asked(due)

    again, yes = probing.asked(due + limits.BREAKER_PROBE_US)

    assert yes
    assert again.probe_until == due + 2 * limits.BREAKER_PROBE_US


@pytest.mark.parametrize("status", [400, 401, 404, 408, 422])
def test_a_target_that_refuses_works(status: int) -> None:
    assert after(opened(), Refused(reason="status", detail="", status=status)) == Breaker()


def test_a_refusal_of_ours_says_nothing_of_the_target() -> None:
    ours = Refused(reason="target", detail="")
    probing, _ = opened().asked(NOW + limits.BREAKER_OPEN_US)

    assert after(Breaker(failures=2), ours) == Breaker(failures=2)
    assert probing.after(ours, NOW + limits.BREAKER_OPEN_US) == opened()


@pytest.mark.parametrize("status", [429, 503])
def test_who_says_when_to_come_back_is_left_alone_until_then(status: int) -> None:
    busy = Refused(reason="status", detail="", status=status, retryable=True, retry_after=60 * SECOND)

    assert after(Breaker(), busy).open_until == NOW + 60 * SECOND
    assert after(opened(), busy).open_until == NOW + 60 * SECOND
    assert after(Breaker(), Refused(reason="status", detail="", status=status, retryable=True)) == Breaker(failures=1)


def test_what_was_sent_before_it_opened_does_not_keep_it_open() -> None:
    assert after(opened(), BROKEN, UNREACHED, now=NOW + 1) == opened()
    assert after(opened(), OK, now=NOW + 1) == Breaker()


OUTCOMES = st.sampled_from([OK, BROKEN, UNREACHED, Refused(reason="target", detail=""), Refused(reason="status", detail="", status=404)])


@given(st.lists(st.tuples(st.integers(0, 400 * SECOND), st.none() | OUTCOMES)))
def test_it_is_never_closed_for_good_and_lets_at_most_one_probe_through(steps: list[tuple[int, Outcome | None]]) -> None:
    breaker, now = Breaker(), NOW
    for passed, outcome in steps:
        now += passed
        if outcome is not None:
            breaker = breaker.after(outcome, now)
        breaker, yes = breaker.asked(now)
        assert yes == (breaker.open_until is None or breaker.probe_until == now + limits.BREAKER_PROBE_US)
        if yes and breaker.open_until is not None:
            assert not breaker.asked(now)[1]
        at = breaker.next_at(now)
        assert at - now <= limits.BREAKER_OPEN_MAX_US + limits.BREAKER_PROBE_US
        assert breaker.asked(at)[1]

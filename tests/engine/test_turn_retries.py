"""Retries of steps: durable, numbered, and as many as the policy says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perdure.clock import SECOND
from perdure.conversations.events import StepAttemptFailed, StepCompleted, TimerFired
from perdure.engine.retry import Retry
from perdure.engine.steps import step_info
from perdure.errors import UsageError
from tests.engine.programs import Broken
from tests.engine.turns import Diary, Life, World


class Calls:
    """A step that fails as often as it is told to, and remembers its attempts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.seen: list[tuple[int, str]] = []

    async def call(self) -> str:
        info = step_info()
        self.seen.append((info.attempt, info.idempotency_key))
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_attempts_are_numbered_have_one_key_and_wait_durably_between() -> None:
    calls = Calls(Broken("a"), Broken("b"))
    policy = Retry(max_attempts=3, initial=10, factor=3, jitter=0)

    async def code(p: Diary) -> str:
        return await p.step(calls.call, retry=policy)

    life = Life(World(code, lags=(0,))).run()

    assert life.value == "done"
    assert [attempt for attempt, _ in calls.seen] == [1, 2, 3]
    assert len({key for _, key in calls.seen}) == 1
    assert [type(event) for _, event in life.events] == [StepAttemptFailed, TimerFired, StepAttemptFailed, TimerFired, StepCompleted]
    failed = [(at, event) for at, event in life.events if isinstance(event, StepAttemptFailed)]
    assert [event.due - at for at, event in failed] == [10 * SECOND, 30 * SECOND]
    assert [commit.timers for commit in life.commits if commit.timers] == [{"call": event.due} for _, event in failed]


def test_a_crash_does_not_begin_the_attempts_anew() -> None:
    for crash in range(1, 5):
        calls = Calls(Broken("a"), Broken("b"), Broken("c"))
        policy = Retry(max_attempts=3, initial=10, jitter=0)

        async def code(p: Diary, calls: Calls = calls, policy: Retry = policy) -> str:
            return await p.step(calls.call, retry=policy)

        world = World(code)
        whole = Life(world).run()
        assert str(whole.error) == "c"
        calls.errors, before = [Broken("c")], len(calls.seen)
        life = Life(world, whole.commits[:crash]).run()
        attempts = [attempt for attempt, _ in calls.seen[before:]]
        assert attempts == [[2], [2], [3], [3]][crash - 1] + [3] * (crash < 3)
        assert life.error is None or str(life.error) == "c"


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (None, 1),
        (Retry(max_attempts=1), 1),
        (Retry(max_attempts=4), 4),
        (Retry(max_attempts=4, retry_on=(OSError,)), 1),
        (Retry(max_attempts=4, retry_on=(Broken,)), 4),
        (Retry(max_attempts=4, give_up_on=(Broken,)), 1),
        (Retry(max_attempts=4, retry_on=(Exception,), give_up_on=(Broken, OSError)), 1),
        (Retry(max_attempts=4, retry_on=()), 1),
    ],
)
def test_the_policy_says_which_failures_are_tried_again_and_how_often(policy: Retry | None, attempts: int) -> None:
    calls = Calls(*(Broken(number) for number in range(1, 9)))

    async def code(p: Diary) -> str:
        return await p.step(calls.call, retry=policy)

    life = Life(World(code)).run()
    assert len(calls.seen) == attempts
    assert type(life.error) is Broken
    assert life.error.args == (attempts,), "the last failure is what the code gets"
    assert not life.timers


def test_a_step_that_nobody_waits_for_any_more_is_not_tried_again() -> None:
    calls = Calls(*(Broken(number) for number in range(9)))

    async def code(p: Diary) -> int:
        index, _ = await p.first(p.step(calls.call, retry=Retry(max_attempts=9, initial=60)), p.sleep(1))
        await p.sleep(1000)
        return index

    life = Life(World(code)).run()
    assert (life.value, len(calls.seen)) == (1, 1)


def test_delays_grow_to_the_maximum_and_jitter_only_shortens_them() -> None:
    policy = Retry(max_attempts=1000, initial=1, factor=2, maximum=60, jitter=0.5)
    full = [policy.delay(attempt, lambda: 0.0) for attempt in (1, 2, 3, 7, 999)]
    half = [policy.delay(attempt, lambda: 1.0) for attempt in (1, 2, 3, 7, 999)]
    assert full == [1 * SECOND, 2 * SECOND, 4 * SECOND, 60 * SECOND, 60 * SECOND]
    assert half == [delay // 2 for delay in full]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 1001},
        {"initial": -1.0},
        {"initial": math.nan},
        {"initial": math.inf},
        {"factor": 0.5},
        {"factor": math.nan},
        {"maximum": math.inf},
        {"maximum": math.nan},
        {"maximum": 1e13},
        {"jitter": 1.5},
        {"jitter": math.nan},
    ],
    ids=str,
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Retry"):
        Retry(**wrong)

"""Ordinary asyncio code replays right from every commit: same result, same effects in the same order, nothing mixed up."""

from __future__ import annotations

import pytest

from perdure.conversations.events import StepCompleted, StepFailed
from tests.engine.askers import ASKERS
from tests.engine.programs import NOTES, OWNERS, PROGRAMS, Program, ends_on_a_key, first_of_keys, keys
from tests.engine.turns import LAGS, Life, World

EVERYTHING = (*PROGRAMS, *ASKERS)
SEEDS = range(6)
MORE_SEEDS = range(100, 160)
AT_ONCE = (0,)  # the answers to keys come with the durable commit; when that is, shifts what follows


def world_of(program: Program, *, seed: int, turn: int) -> World:
    lags = AT_ONCE if program in (keys, first_of_keys, ends_on_a_key) else LAGS
    return World(program, seed=seed, letters=NOTES, owners=OWNERS, message=f"m{turn}", lags=lags)


def over(life: Life) -> set[str]:
    """The steps whose outcome is recorded."""
    return {event.name for _, event in life.events if isinstance(event, StepCompleted | StepFailed)}


def crash_everywhere(program: Program, seed: int) -> None:
    world = world_of(program, seed=seed, turn=seed)
    whole = Life(world).run()
    assert whole.over
    for crash in range(len(whole.commits)):
        prefix = whole.commits[:crash]
        life = Life(world, prefix)
        if prefix and not prefix[-1].binds:  # else the answers are there, and the code has gone on
            assert life.commits == prefix, "a replay has nothing to write"
            assert set(life.started) == prefix[-1].running, "started again: what was under way, and no other"
        assert life.run().outcome == whole.outcome, f"seed {seed}, after commit {crash}"


def crash_and_go_on_otherwise(program: Program, seed: int) -> None:
    whole = Life(world_of(program, seed=seed, turn=seed)).run()
    for crash in range(len(whole.commits)):
        world = world_of(program, seed=1000 + 7 * seed + crash, turn=seed)
        life = Life(world, whole.commits[:crash], knows_timers=False)
        recorded, events = over(life), len(life.events)
        assert life.run().over
        assert not recorded & set(life.started), "what is recorded is not run again"
        assert life.events[:events] == whole.events[:events]
        again = Life(world, life.commits[: (crash + len(life.commits)) // 2])
        assert again.run().outcome == life.outcome


@pytest.mark.parametrize("program", EVERYTHING, ids=lambda program: program.__name__)
def test_a_crash_at_any_commit_changes_nothing(program: Program) -> None:
    for seed in SEEDS:
        crash_everywhere(program, seed)


@pytest.mark.parametrize("program", EVERYTHING, ids=lambda program: program.__name__)
def test_after_a_crash_the_world_may_go_on_otherwise(program: Program) -> None:
    """Outcomes come in another order than they would have; what is recorded stands, and holds through a second crash."""
    for seed in SEEDS[:3]:
        crash_and_go_on_otherwise(program, seed)


@pytest.mark.soak
@pytest.mark.parametrize("program", EVERYTHING, ids=lambda program: program.__name__)
def test_many_orders_of_what_happens(program: Program) -> None:
    for seed in MORE_SEEDS:
        crash_everywhere(program, seed)
        crash_and_go_on_otherwise(program, seed)

"""kill -9 at random moments, under load, with duplicates: nothing is lost, nothing is recorded twice, the end is the same."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from examples.github_bot import crash
from examples.github_bot.events import routed
from examples.github_bot.recording import WEBHOOKS, disturbed, read, repeated
from tests.crash.rows import Rows
from tests.stores import DURABLE, Files, Stores, stores

REPEAT = 2
DUPLICATES = 0.5
KILLS_IN_A_ROUND = 3  # a turn that is open at seven crashes counts as poison
ROUNDS = 3
SOAK_ROUNDS = int(os.environ.get("PERDURE_SOAK_KILLS", "50"))
Calm = tuple[int, list[str]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """How many effects an undisturbed run has, and the rows that it leaves."""
    folder = tmp_path_factory.mktemp("calm")
    place = crash.Place(folder)
    report = crash.finished(place, [routed(*hook) for hook in repeated(read(WEBHOOKS), REPEAT)])
    return report.total.effects, Rows(Files(folder).rows(place.url)).comparable()


@pytest.mark.parametrize(("kind", "number"), [*(("file", number) for number in range(ROUNDS)), ("postgres", 0)])
def test_a_job_that_is_killed_at_random_moments_ends_like_an_undisturbed_one(
    request: pytest.FixtureRequest, kind: str, number: int, calm: Calm, tmp_path: Path
) -> None:
    a_round(stores(request, kind, tmp_path), number, calm, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(ROUNDS, ROUNDS + SOAK_ROUNDS))
@pytest.mark.parametrize("kind", DURABLE)
def test_many_rounds_of_kills_end_like_an_undisturbed_run(
    request: pytest.FixtureRequest, kind: str, number: int, calm: Calm, tmp_path: Path
) -> None:
    a_round(stores(request, kind, tmp_path), number, calm, tmp_path)


def a_round(having: Stores, number: int, calm: Calm, folder: Path) -> None:
    with having.new() as url:
        place = crash.Place(folder, url)
        killed_at_random(place, number, calm)
        left = Rows(having.rows(url))
    recorded = left.steps_recorded()
    assert len(recorded) == len(set(recorded)) == calm[0]
    assert left.comparable() == calm[1]


def killed_at_random(place: crash.Place, number: int, calm: Calm) -> None:
    chance = random.Random(number)
    effects, _ = calm
    arriving = disturbed(repeated(read(WEBHOOKS), REPEAT), duplicates=DUPLICATES, shuffle=number)
    deliveries = [routed(*hook) for hook in arriving]
    options = ["--repeat", str(REPEAT), "--duplicates", str(DUPLICATES), "--shuffle", str(number)]

    kills, before = 0, crash.Remains()
    for after in moments(chance, effects):
        killed = crash.killed(place, options, after=after)
        now = crash.remains(place, deliveries)
        assert killed.accepted <= now.messages
        assert before.messages <= now.messages
        assert crash.ran_again(place, before) == 0
        assert set(before.recorded) <= set(now.recorded)
        kills, before = kills + killed.at_work, now
    report = crash.finished(place, deliveries)

    assert kills > 0
    assert crash.ran_again(place, before) == 0
    assert report.total.refused == report.total.failed == 0
    assert report.unrecorded_effects == 0


def moments(chance: random.Random, effects: int) -> list[int]:
    """When to kill, in effects since the last start: somewhere in the work, then often while the rest is being recovered."""
    return [chance.randint(1, effects // 2), *(chance.choice((1, 5, 50, effects // 5)) for _ in range(chance.randrange(KILLS_IN_A_ROUND)))]

"""Random programs on a real engine, disturbed in every way, with messages repeated and in any order: they come to what a simple model says."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings

from tests.testing.cases import Case, cases
from tests.testing.model import Tie
from tests.testing.play import compare

GATE = 200
SOAK = int(os.environ.get("PERDURE_SOAK_PROGRAMS", "10000"))
# Whoever tries whether faults are found needs no smallest program.
PHASES = (Phase.generate,) if "PERDURE_FAULTS" in os.environ else (Phase.generate, Phase.shrink)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def check(case: Case) -> None:
    try:
        asyncio.run(compare(case))
    except Tie:
        reject()


@settings(max_examples=GATE, deadline=None, report_multiple_bugs=False, derandomize=True, suppress_health_check=QUIET, phases=PHASES)
@given(cases)
def test_a_random_program_comes_to_what_the_model_says_however_it_is_disturbed(case: Case) -> None:
    check(case)


@pytest.mark.soak
@settings(
    max_examples=SOAK,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=QUIET,
    phases=(Phase.generate, Phase.shrink),
    database=None,
)
@given(cases)
def test_many_random_programs(case: Case) -> None:
    check(case)

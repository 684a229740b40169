"""Random programs on a real engine, disturbed in every way, with messages repeated and in any order: they come to what a simple model says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings

from tests.stores import stores
from tests.testing.cases import Case, cases
from tests.testing.model import Tie
from tests.testing.play import compare

GATE = 200
GATE_ON_A_SERVER = 40  # each takes some five times as long
SOAK = int(os.environ.get("PERDURE_SOAK_PROGRAMS", "10000"))
# Whoever tries whether faults are found needs no smallest program.
PHASES = (Phase.generate,) if "PERDURE_FAULTS" in os.environ else (Phase.generate, Phase.shrink)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


Made = Callable[[], AbstractContextManager[str | None]]


def in_memory() -> AbstractContextManager[None]:
    return nullcontext()


def on_a_server(request: pytest.FixtureRequest, folder: Path) -> Made:
    return stores(request, "postgres", folder).new


def check(case: Case, made: Made) -> None:
    try:
        with made() as store:
            asyncio.run(compare(case, store))
    except Tie:
        reject()


def gate(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, report_multiple_bugs=False, derandomize=True, suppress_health_check=QUIET, phases=PHASES
    )


SOAKING = settings(
    max_examples=SOAK,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=QUIET,
    phases=(Phase.generate, Phase.shrink),
    database=None,
)


@gate(GATE)
@given(cases)
def test_a_random_program_comes_to_what_the_model_says_however_it_is_disturbed(case: Case) -> None:
    check(case, in_memory)


def test_a_random_program_on_a_server_comes_to_what_the_model_says_too(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = on_a_server(request, tmp_path)
    gate(GATE_ON_A_SERVER)(given(cases)(lambda case: check(case, made)))()


@pytest.mark.soak
@SOAKING
@given(cases)
def test_many_random_programs(case: Case) -> None:
    check(case, in_memory)


@pytest.mark.soak
def test_many_random_programs_on_a_server(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = on_a_server(request, tmp_path)
    SOAKING(given(cases)(lambda case: check(case, made)))()

"""The page about the peers says what the results say: medians, ratios on one database, targets met and missed, what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page
from benchmarks.contenders import CONTENDERS, REMARKS

Made = Callable[..., page.Results]

OURS, OURS_ON_POSTGRESQL = "Perdure on SQLite, defaults", "Perdure on PostgreSQL, defaults"
DBOS, DBOS_TUNED = "DBOS on SQLite, defaults", "DBOS on SQLite, tuned"
ABOUT = {
    "short": False,
    "date": "2026-01-02",
    "machine": "2 cores",
    "processor": "x",
    "memory": "1 GiB",
    "disk": "fast",
    "versions": {"dbos": "3.4.0"},
}


def line(contender: str, clients: int, per_s: float, p50_ms: float | None = 1, round_: int = 1) -> dict[str, Any]:
    us = p50_ms and p50_ms * 1000
    return {"round": round_, "contender": contender, "clients": clients, "per_s": per_s, "p50_us": us, "p99_us": us}


@pytest.fixture
def results(tmp_path: Path) -> Made:
    def made(*lines: dict[str, Any], **about: Any) -> page.Results:
        path = tmp_path / "results.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in ({"about": ABOUT | about}, *lines)))
        return page.read(path)

    return made


def rows(text: str, name: str) -> list[list[str]]:
    """Return the cells of every row that begins with this name."""
    found = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [cells[1:] for cells in found if cells[0] == name]


def test_a_level_has_the_median_of_its_rounds(results: Made) -> None:
    text = page.written(results(*(line(DBOS, 16, rate, ms, n) for n, (rate, ms) in enumerate([(90, 7), (60, 2), (61, 3)], 1))))

    assert rows(text, DBOS)[0] == ["-", "61", "-", "-", "-", "61"]
    assert rows(text, DBOS)[2] == ["-", "3 / 3", "-", "-", "-"]
    assert "Medians of 3 rounds; two rounds of a level differ by 49% at most." in text


def test_a_peer_is_compared_with_ours_on_its_own_database(results: Made) -> None:
    text = page.written(results(line(OURS, 1, 400), line(OURS, 256, 5000), line(DBOS, 1, 50), line("Absurd on PostgreSQL, defaults", 1, 4)))

    assert rows(text, DBOS)[1] == ["8 times", "-", "-", "100 times"]
    assert rows(text, "Absurd on PostgreSQL, defaults")[1] == ["-", "-", "-", "-"], "ours was not measured there"


@pytest.mark.parametrize(
    ("ours", "dbos", "verdict"),
    [(4900, 100, "missed"), (5000, 100, "met"), (9900, 100, "met"), (10_000, 100, "met, the aim as well"), (10_000, 250, "missed")],
)
def test_a_target_is_met_or_missed_by_the_numbers_and_by_the_best_settings_of_a_peer(
    results: Made, ours: int, dbos: int, verdict: str
) -> None:
    text = page.written(results(line(OURS, 256, ours), line(DBOS, 1, 50), line(DBOS_TUNED, 1, dbos)))

    assert rows(text, "best rate on SQLite, beside DBOS on the same database")[0][-1] == verdict
    assert rows(text, "best rate on PostgreSQL, beside DBOS on the same database")[0][1:] == ["-", "not measured"]


def test_a_contender_without_figures_says_why(results: Made) -> None:
    text = page.written(results({"round": 1, "contender": OURS_ON_POSTGRESQL, "clients": 1, "skipped": "not yet\nat all"}))

    assert f"- {OURS_ON_POSTGRESQL}: not yet\n" in text


def test_a_level_in_which_no_call_ended_counts_as_none_per_second(results: Made) -> None:
    text = page.written(results(line(DBOS, 1, 0, None), line(DBOS, 1, 0, None, 2), line(DBOS, 1, 2, 900, 3)))

    assert rows(text, DBOS)[0][0] == "0"
    assert rows(text, DBOS)[2][0] == "900 / 900"


@pytest.mark.parametrize(("cores", "warned"), [(0.1, False), (0.9, True), (None, False)])
def test_a_busy_machine_is_named_at_the_top(results: Made, cores: float | None, warned: bool) -> None:
    text = page.written(results({"round": 1, "busy_cores": cores}, line(OURS, 1, 400)))

    assert ("Measured on a busy machine" in text.partition("##")[0]) is warned


def test_a_trial_run_is_named_at_the_top(results: Made) -> None:
    assert "A trial run" in page.written(results(short=True)).partition("##")[0]


def test_no_two_rows_have_one_name_and_each_system_has_its_remark() -> None:
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS)
    assert {contender.system for contender in CONTENDERS} == set(REMARKS)


def test_where_our_own_time_goes_is_a_table_of_its_own(results: Made) -> None:
    split = {"backend": "sqlite", "clients": 1, "us_each": 2400.4, "cpu_us_each": 1800, "server_cpu_us_each": 0.0, "commits_each": 5.0}
    text = page.written(results(line(OURS, 1, 400), {"round": 1, "split": {**split, "us_of_an_answer": 260.5}}))

    assert rows(text, "sqlite, C = 1") == [["2,400", "1,800", "-", "5.00", "260"]]
    assert page.LIMITS.strip() in text
    assert page.LIMITS.strip() not in page.written(results(line(OURS, 1, 400)))

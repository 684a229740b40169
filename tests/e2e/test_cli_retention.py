"""Sweeping a store from the command line, and reading what was written out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from perdure import Engine, VirtualClock, open_store
from tests.e2e.conftest import Call
from tests.engine.keeping import DAY, account_app, fill
from tests.engine.orders import Ledger


@pytest.fixture
def url(place: str) -> str:
    """A store with an account and a greeting, of long ago."""

    async def make() -> None:
        clock = VirtualClock()
        clock.advance(-1_000 * DAY)
        async with open_store(place, clock=clock) as store, Engine(store, account_app(Ledger())) as engine:
            await fill(engine, "a", 3)
            await engine.call(engine.app.type_named("greet").target, "Ann", id="g")

    asyncio.run(make())
    return place


def test_a_sweep_removes_only_what_has_an_age(call: Call, url: str) -> None:
    status, out, _ = call("store", "sweep", url, "--json")
    assert (status, set(json.loads(out).values())) == (0, {0})

    status, out, _ = call("store", "sweep", url, "--messages", "30d", "--json")
    assert (status, json.loads(out)) == (0, {"events": 11, "messages": 3, "processes": 0, "tombstones": 0, "commands": 0})
    status, out, _ = call("store", "sweep", url, "--processes", "12h")
    assert (status, out.split()[-8:]) == (0, ["messages", "0", "processes", "1", "tombstones", "0", "commands", "0"])
    assert call("store", "verify", url)[0] == 0


def test_what_a_sweep_wrote_out_is_shown(call: Call, url: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "archive")
    assert call("store", "sweep", url, "--processes", "1d", "--archive", folder)[0] == 0

    status, out, _ = call("store", "archive", folder, "--process", "g")
    assert status == 0
    assert [line.split("  ")[4:5] for line in out.splitlines()[:-1]] == [
        ["MessageReceived"],
        ["ProcessingStarted"],
        ["StepCompleted"],
        ["ProcessingFinished"],
    ]
    assert out.splitlines()[-1].strip() == "default  g  ended"
    status, out, _ = call("store", "archive", folder, "--json")
    assert [len(json.loads(line)["events"]) for line in out.splitlines()] == [4]


@pytest.mark.parametrize("age", ["5", "d", "-1d", "1.5d", "5w", "123456d", "0d"])
def test_an_age_that_makes_no_sense_is_refused(call: Call, url: str, age: str) -> None:
    assert call("store", "sweep", url, "--messages", age)[0] == 2


def test_the_timeline_of_a_compacted_process_begins_where_it_is_kept(call: Call, url: str) -> None:
    listed = json.loads(call("processes", "list", "--store", url, "--json")[1])["processes"]
    account = next(one["process_id"] for one in listed if one["process_type"] == "Account")
    call("store", "sweep", url, "--turns", "1d")

    shown = json.loads(call("processes", "timeline", account, "--store", url, "--json")[1])
    assert [event["seq"] for event in shown["events"]] == [11, 12, 13, 14]
    status, _, error = call("processes", "timeline", account, "--store", url, "--after", "3")
    assert (status, "[history-compacted]" in error) == (1, True)

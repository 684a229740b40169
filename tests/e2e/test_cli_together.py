"""Children, awakeables and logs on the command line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from perdure import Engine, VirtualClock, limits, open_store
from tests.e2e.conftest import Call
from tests.e2e.together import Diary, Say, app, contract
from tests.engine.orders import eventually, reaches


@pytest.fixture
def url(place: str) -> str:
    """A store with a contract that waits for two children, which wait for two awakeables each, and a diary with five entries."""

    async def fill() -> None:
        clock = VirtualClock()
        async with open_store(place, clock=clock) as store, Engine(store, app) as engine:
            waiting = asyncio.ensure_future(engine.call(contract, ["ann", "bob"], id="contract"))
            await reaches(engine, "contract", "waiting")
            await eventually(lambda: _wait(engine, 2))
            for number in range(5):
                await engine.call(Diary.say, Say(f"day {number}"), id=f"say-{number}")
            await engine.deliver(Say("lost", fails=True), id="lost")
            await eventually(lambda: _rings(engine, clock))
            waiting.cancel()

    asyncio.run(fill())
    return place


async def _wait(engine: Engine, count: int) -> bool:
    return len([one for one in await engine.children("contract") if one.status == "waiting"]) == count


async def _rings(engine: Engine, clock: VirtualClock) -> bool:
    clock.advance(1_000_000)
    return (await engine.explain("lost")).status == "done"


def answer(call: Call, url: str, *arguments: str) -> Any:
    status, out, error = call(*arguments, "--store", url, "--json")
    assert (status, error) == (0, "")
    return json.loads(out)


def diary(call: Call, url: str) -> str:
    [found] = answer(call, url, "processes", "list", "--type", "Diary")["processes"]
    process_id: str = found["process_id"]
    return process_id


def test_children_are_listed_and_show_their_parent(call: Call, url: str) -> None:
    found = answer(call, url, "processes", "children", "contract")
    first, more = call("processes", "children", "contract", "--limit", "1", "--store", url)[1:]
    second = answer(call, url, "processes", "children", "contract", "--after", found["children"][0]["process_id"])

    assert [(one["process_type"], one["status"], one["parent"]) for one in found["children"]] == [("signs", "waiting", "contract")] * 2
    assert found["next"] is None
    assert found["children"][0]["process_id"] in first
    assert more == f"more: --after {found['children'][0]['process_id']}\n"
    assert [one["process_id"] for one in second["children"]] == [found["children"][1]["process_id"]]
    assert "parent        contract" in call("processes", "show", found["children"][0]["process_id"], "--store", url)[1]
    assert call("processes", "children", diary(call, url), "--store", url)[1] == "no children\n"


def test_a_cancelled_process_takes_its_children_with_it_when_the_engine_is_there(call: Call, url: str) -> None:
    assert call("processes", "cancel", "contract", "--reason", "no deal", "--store", url)[1] == "asked to stop\n"
    assert len(answer(call, url, "processes", "children", "contract")["children"]) == 2

    async def run() -> None:
        async with open_store(url) as store, Engine(store, app) as engine:
            await eventually(lambda: _over(engine))

    async def _over(engine: Engine) -> bool:
        return all(one.status == "ended" for one in await engine.processes(type="signs"))

    asyncio.run(run())
    assert answer(call, url, "processes", "children", "contract")["children"] == []
    assert answer(call, url, "awakeables", "list")["awakeables"] == []


def test_awakeables_are_listed_by_token_and_by_process(call: Call, url: str) -> None:
    found = answer(call, url, "awakeables", "list")
    [child, _] = answer(call, url, "processes", "children", "contract")["children"]
    of_child = answer(call, url, "awakeables", "list", "--process", child["process_id"])["awakeables"]

    assert found["next"] is None
    assert sorted(one["name"] for one in found["awakeables"]) == ["awakeable", "awakeable", "awakeable#2", "awakeable#2"]
    assert sorted(one["name"] for one in of_child) == ["awakeable", "awakeable#2"]
    assert {one["message_id"] for one in of_child} == {child["process_id"]}
    assert found["awakeables"][0]["token"] in call("awakeables", "list", "--store", url)[1]
    assert call("awakeables", "list", "--tenant", "other", "--store", url)[1] == "no awakeables in tenant other\n"


def test_pages_of_awakeables_join_also_where_only_few_rows_are_looked_at(call: Call, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [one["token"] for one in answer(call, url, "awakeables", "list")["awakeables"]]
    first, more = call("awakeables", "list", "--limit", "3", "--store", url)[1:]
    monkeypatch.setattr(limits, "READ_PAGE", 2)
    monkeypatch.setattr(limits, "LIST_ROWS_MAX", 2)

    tokens: list[str] = []
    place: list[str] = []
    while True:
        page = answer(call, url, "awakeables", "list", *place)
        tokens += [one["token"] for one in page["awakeables"]]
        if page["next"] is None:
            break
        place = ["--after", page["next"]]

    assert tokens == whole
    assert all(token in first for token in whole[:3])
    assert more.startswith("more: --after ")


def test_awakeables_are_completed_and_failed_and_the_engine_goes_on(call: Call, url: str) -> None:
    first, second = answer(call, url, "processes", "children", "contract")["children"]
    tokens = {(one["process_id"], one["name"]): one["token"] for one in answer(call, url, "awakeables", "list")["awakeables"]}
    by_mail, by_phone = (tokens[first["process_id"], name] for name in ("awakeable", "awakeable#2"))

    assert call("awakeables", "complete", by_mail, '"on paper"', "--store", url)[1] == "completed\n"
    assert answer(call, url, "awakeables", "complete", by_mail, '"on paper"') == {"token": by_mail}
    assert call("awakeables", "complete", by_phone, '"aloud"', "--store", url)[0] == 0
    assert call("awakeables", "fail", tokens[second["process_id"], "awakeable"], "is ill", "--store", url)[1] == "failed\n"

    async def run() -> list[str]:
        async with open_store(url) as store, Engine(store, app) as engine:
            return await engine.call(contract, ["ann", "bob"], id="contract")

    assert sorted(text.partition(": ")[2] for text in asyncio.run(run())) == ["is ill", "on paper, aloud"]


def test_a_running_engine_hears_at_once_of_what_is_completed_beside_it(call: Call, url: str) -> None:
    async def run() -> list[str]:
        async with open_store(url) as store, Engine(store, app) as engine:
            waiting = asyncio.ensure_future(engine.call(contract, ["ann", "bob"], id="contract"))
            for one in await _tokens():
                await asyncio.to_thread(call, "awakeables", "complete", one, '"x"', "--store", url)
            return await waiting

    async def _tokens() -> list[str]:
        found = await asyncio.to_thread(answer, call, url, "awakeables", "list")
        return [one["token"] for one in found["awakeables"]]

    assert asyncio.run(run()) == ["ann: x, x", "bob: x, x"]


def test_logs_are_named_and_read_by_page(call: Call, url: str) -> None:
    process_id = diary(call, url)

    def entries(*arguments: str) -> list[tuple[int, Any]]:
        return [(one["seq"], one["value"]) for one in answer(call, url, "processes", "log", process_id, *arguments)]

    assert answer(call, url, "processes", "log", process_id) == [{"name": "said", "length": 5}, {"name": "whole", "length": 5}]
    assert entries("said") == [(number, f"day {number}") for number in range(5)], "the entry of the turn that failed is gone"
    assert entries("said", "--limit", "2", "--after", "1") == [(2, "day 2"), (3, "day 3")]
    assert entries("whole", "--last", "1") == [(4, {"type": "say", "text": "day 4", "fails": False})]
    assert entries("said", "--after", "4") == []


def test_logs_are_shown_to_people(call: Call, url: str) -> None:
    process_id = diary(call, url)

    named = call("processes", "log", process_id, "--store", url)
    page = call("processes", "log", process_id, "said", "--limit", "2", "--store", url)

    assert "said" in named[1]
    assert "never" not in named[1]
    assert "day 1" in page[1]
    assert page[2] == "more: --after 1\n"
    assert call("processes", "log", "contract", "--store", url)[1] == "no logs with entries\n"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["processes", "children", "nobody"], 1, "error [process-not-found]: "),
        (["processes", "children", "contract", "--limit", "0"], 2, "error [usage]: limit is 1 to 1000, found 0"),
        (["processes", "log", "nobody"], 1, "error [process-not-found]: "),
        (
            ["processes", "log", "contract", "said"],
            2,
            "error [usage]: process 'contract' has no entries in a log 'said'; it has some in: none",
        ),
        (["awakeables", "list", "--after", "!"], 2, "error [usage]: after='!': expected the `next` of the page before"),
        (["awakeables", "list", "--limit", "1001"], 2, "error [usage]: limit is 1 to 1000, found 1001"),
        (["awakeables", "complete", "pd-0"], 1, "error [awakeable-not-found]: "),
        (["awakeables", "complete", "pd-0", "yes"], 2, "error [usage]: value 'yes' is not JSON; quote text twice"),
        (["awakeables", "fail", "pd-0", "no"], 1, "error [awakeable-not-found]: "),
    ],
)
def test_wrong_questions_get_a_clear_error(call: Call, url: str, arguments: list[str], status: int, text: str) -> None:
    found, out, error = call(*arguments, "--store", url)

    assert (found, out) == (status, "")
    assert error.startswith(text)

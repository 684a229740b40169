"""Lists and queries of processes on the command line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from perdure import Address, Engine, VirtualClock, limits, open_store
from tests.e2e.asked import Open, app
from tests.e2e.conftest import Call, Ran

APP = ("--app", "tests.e2e.asked:app")


@pytest.fixture
def call(call: Call) -> Call:
    return lambda *arguments: call("processes", *arguments)


@pytest.fixture
def url(place: str) -> str:
    """A store with four books, made one second apart."""

    async def fill() -> None:
        clock = VirtualClock()
        async with open_store(place, clock=clock) as store, Engine(store, app) as engine:
            for number, name in enumerate(["one", "two", "7", "over"]):
                await engine.deliver(Open(name, number), id=name, to=Address.start("Book", id=f"b{number}"), wait=True)
                clock.advance(1_000_000)

    asyncio.run(fill())
    return place


def _ids(ran: Ran) -> list[str]:
    assert ran[0] == 0, ran
    return [one["process_id"] for one in json.loads(ran[1])["processes"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["b0", "b1", "b2", "b3"]),
        (["--order", "-created"], ["b3", "b2", "b1", "b0"]),
        (["--type", "Book", "--status", "idle", "--limit", "2"], ["b0", "b1"]),
        (["--type", "Nothing"], []),
        (["--attribute", "name=two"], ["b1"]),
        (["--attribute", "name=7"], []),
        (["--attribute", 'name="7"'], ["b2"]),
        (["--attribute", "size=2"], ["b2"]),
        (["--attribute", "size=2.0", "--attribute", "name^=7"], ["b2"]),
        (["--attribute", "name^=o"], ["b0", "b3"]),
        (["--attribute", "size>=1", "--attribute", "size<=2"], ["b1", "b2"]),
        (["--attribute", "size>=1", "--attribute", "name^=o"], ["b3"]),
        (["--created-after", "1970-01-01T00:00:00Z", "--limit", "1"], ["b0"]),
    ],
)
def test_processes_are_listed_by_what_is_asked_for(call: Call, url: str, options: list[str], expected: list[str]) -> None:
    assert _ids(call("list", "--store", url, "--json", *options)) == expected


def test_pages_join_and_say_how_to_go_on(call: Call, url: str) -> None:
    first = json.loads(call("list", "--store", url, "--json", "--limit", "3")[1])
    status, out, error = call("list", "--store", url, "--limit", "3")
    rest = call("list", "--store", url, "--json", "--limit", "3", "--after", first["next"])

    assert [one["process_id"] for one in first["processes"]] == ["b0", "b1", "b2"]
    assert (status, "b2" in out, error) == (0, True, f"more: --after {first['next']}\n")
    assert _ids(rest) == ["b3"]
    assert json.loads(rest[1])["next"] is None


def test_a_list_goes_on_over_pages_in_which_nothing_is_found(call: Call, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_PAGE", 1)
    monkeypatch.setattr(limits, "LIST_ROWS_MAX", 1)

    assert _ids(call("list", "--store", url, "--json", "--updated-before", "2100-01-01T00:00:00Z")) == ["b0", "b1", "b2", "b3"]


def test_a_process_is_shown_with_its_attributes(call: Call, url: str) -> None:
    shown = json.loads(call("show", "b1", "--store", url, "--json")[1])

    assert (shown["attributes"], shown["keys"], shown["tags"]) == ({"name": "two", "size": 1}, [], [])
    assert "name=two, size=1" in call("show", "b1", "--store", url)[1]


def test_a_query_is_asked_with_its_arguments_and_shown(call: Call, url: str) -> None:
    def ask(*arguments: str) -> Any:
        status, out, error = call("query", *arguments, *APP, "--store", url)
        assert (status, error) == (0, "")
        return out

    assert json.loads(ask("b3", "summary", "--json")) == {"name": "over", "pages": [0, 1, 2]}
    assert ask("b3", "summary") == "name   over\npages  [0, 1, 2]\n"
    assert ask("b3", "pages", "1") == "[1, 2]\n"
    assert json.loads(ask("b3", "pages", "1", "2", "--json")) == [1]
    assert ask("b1", "title") == "two\n"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["query", "nothing", "title", *APP], 1, "error [process-not-found]: "),
        (
            ["query", "b1", "nothing", *APP],
            1,
            "error [query-not-found]: process b1 is of type 'Book', which has no query nothing; it has: broken",
        ),
        (["query", "b1", "pages", "x", *APP], 1, "error [payload-invalid]: "),
        (["query", "b1", "pages", *APP], 2, "error [usage]: query Book.pages: missing a required argument"),
        (["query", "b1", "title", "1", *APP], 2, "error [usage]: query Book.title takes 0 arguments, found 1"),
        (["query", "b1", "broken", *APP], 1, "Error: query broken raised LookupError: no such page"),
        (["query", "b1", "title", "--app", "tests.e2e.asked"], 2, "error [usage]: --app 'tests.e2e.asked': expected MODULE:NAME"),
        (["query", "b1", "title", "--app", "no_such_module:app"], 2, "error [usage]: --app 'no_such_module:app': No module named"),
        (
            ["query", "b1", "title", "--app", "tests.e2e.asked:no_app"],
            2,
            "error [usage]: --app 'tests.e2e.asked:no_app': expected a perdure.App",
        ),
        (["query", "b1", "title"], 2, "Usage: "),
        (["list", "--attribute", "x"], 2, "error [usage]: --attribute 'x': expected NAME=VALUE"),
        (["list", "--attribute", "x=1", "--attribute", "x>=2"], 2, "error [usage]: --attribute 'x>=2': x is asked for twice"),
        (["list", "--attribute", "x y=1"], 2, "error [usage]: attribute 'x y'"),
        (["list", "--attribute", "x=2026-13-01T00:00:00Z"], 2, "error [usage]: --attribute 'x=2026-13-01T00:00:00Z': expected a time"),
        (["list", "--created-after", "yesterday"], 2, "error [usage]: --created-after 'yesterday': expected a time"),
        (["list", "--created-after", "2026-01-01T00:00:00"], 2, "error [usage]: created_after: expected a datetime with a time zone"),
        (["list", "--status", "dead"], 2, "error [usage]: status 'dead': expected one of idle"),
        (["list", "--order", "size"], 2, "error [usage]: order 'size'"),
        (["list", "--after", "x"], 2, "error [usage]: after='x'"),
        (["timeline", "nothing"], 1, "error [process-not-found]: "),
    ],
)
def test_wrong_questions_get_a_clear_error(call: Call, url: str, arguments: list[str], status: int, text: str) -> None:
    found, out, error = call(*arguments, "--store", url)

    assert (found, out) == (status, "")
    assert error.startswith(text), error

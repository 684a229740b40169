"""`perdure commands`, `send`, `call` and `worker`, as people and programs use them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import open_store
from perdure.commands.contract import CommandRetry, Failed, Progress, Succeeded
from tests.client.shop import shop_elsewhere
from tests.e2e.conftest import Call

IDS: dict[str, str] = {}


@pytest.fixture
def url(place: str) -> str:
    """A store with a command in every state that an operator meets."""

    async def fill() -> None:
        async with open_store(place) as store:
            commands = store.commands

            async def new(name: str, *, target: str | None = None, retry: CommandRetry | None = None) -> str:
                made = await commands.create_command(
                    "acme", name, params=b'{"order":"7"}', target=target, actor="token web", retry=retry or CommandRetry()
                )
                IDS[name] = made.command_id
                return made.command_id

            await new("waiting")
            leased = await new("at-work", target="w7")
            [lease] = await commands.lease("acme", target="w7", names=["at-work"], worker="host-1/77")
            await commands.renew(leased, lease.token, progress=Progress(fraction=0.4, note="half of it"))
            await new("done")
            [lease] = await commands.lease("acme", names=["done"], worker="host-1/77")
            await commands.complete(lease.command_id, lease.token, Succeeded(result=b'{"shelf":3}'))
            await new("refused")
            [lease] = await commands.lease("acme", names=["refused"], worker="host-1/77")
            failure = Failed(code="no-stock", message="none \x1b[31mleft", details=b'{"left":0}')
            await commands.complete(lease.command_id, lease.token, failure)
            await new("dead", retry=CommandRetry(max_attempts=1))
            [lease] = await commands.lease("acme", names=["dead"], worker="host-1/77")
            await commands.complete(lease.command_id, lease.token, Failed(code="handler-error", retryable=True))

    asyncio.run(fill())
    return place


def line_of(table: str, name: str) -> str:
    [line] = [line for line in table.splitlines() if IDS[name] in line]
    return line


def test_commands_are_listed_with_what_an_operator_looks_for(call: Call, url: str) -> None:
    status, table, _ = call("commands", "list", "--store", url)

    assert status == 0
    assert "40% half of it" in line_of(table, "at-work")
    assert "host-1/77" in line_of(table, "at-work")
    assert "no-stock" in line_of(table, "refused")
    assert "dead letter, handler-error" in line_of(table, "dead")
    assert "1 of 1 failed" in line_of(table, "dead")


def test_a_list_is_of_what_is_asked_for_and_comes_in_pages(call: Call, url: str) -> None:
    at = ("--store", url, "--json")

    def listed(*options: str) -> list[str]:
        return [one["command"] for one in json.loads(call("commands", "list", *at, *options)[1])["commands"]]

    assert listed() == ["dead", "refused", "done", "at-work", "waiting"]
    assert listed("--dead") == ["dead"]
    assert listed("--state", "failed") == ["dead", "refused"]
    assert listed("--target", "w7") == ["at-work"]
    assert listed("--name", "done", "--deployment", "acme") == ["done"]
    assert listed("--deployment", "other") == []
    page = json.loads(call("commands", "list", *at, "--limit", "3")[1])
    assert listed("--after", page["next"]) == ["at-work", "waiting"]
    assert call("commands", "list", "--store", url, "--limit", "3")[2] == f"more: --after {page['next']}\n"
    assert call("commands", "list", "--store", url, "--tenant", "other")[1] == "no commands in tenant other\n"


def test_a_command_is_shown_with_what_happened_to_it_and_nothing_that_is_not_there(call: Call, url: str) -> None:
    shown = call("commands", "show", IDS["refused"], "--store", url)[1]
    whole = json.loads(call("commands", "show", IDS["refused"], "--store", url, "--json")[1])

    assert "error       no-stock: none \\x1b[31mleft\n" in shown
    assert 'details     {"left":0}\n' in shown
    assert 'params      {"order":"7"}\n' in shown
    assert "deadline" not in shown
    assert "\x1b" not in shown
    assert [one["kind"] for one in whole["history"]] == ["created", "leased", "failed"]
    assert (whole["params"], whole["error"]["details"]) == ({"order": "7"}, {"left": 0})
    done = call("commands", "show", IDS["done"], "--store", url)[1]
    assert 'result      {"shelf":3}\n' in done


def test_a_command_is_cancelled_and_the_answer_says_what_that_meant(call: Call, url: str) -> None:
    def said(name: str, *options: str) -> str:
        status, out, _ = call("commands", "cancel", IDS[name], "--store", url, *options)
        assert status == 0
        return out

    assert said("waiting", "--reason", "no need") == "cancelled\n"
    assert said("at-work") == "host-1/77 has it, and is told at its next renewal\n"
    assert said("done") == "it was over already: SUCCEEDED\n"
    assert json.loads(said("at-work", "--json")) == {"command_id": IDS["at-work"], "state": "DISPATCHED"}
    shown = call("commands", "show", IDS["waiting"], "--store", url)[1]
    assert "no need" in shown
    assert "asked to stop" in call("commands", "list", "--store", url, "--name", "at-work")[1]


def test_a_command_that_was_not_done_is_redriven_once(call: Call, url: str) -> None:
    status, said, _ = call("commands", "redrive", IDS["dead"], "--store", url)
    again = json.loads(call("commands", "redrive", IDS["dead"], "--store", url, "--json")[1])

    assert (status, said) == (0, f"redriven as {again['command_id']}\n")
    failed = call("commands", "list", "--store", url, "--state", "failed")[1]
    assert "handler-error, redriven" in line_of(failed, "dead")
    assert again["command_id"] in call("commands", "show", IDS["dead"], "--store", url)[1]
    assert call("commands", "list", "--store", url, "--dead")[1] == "no commands in tenant default\n"
    refused = call("commands", "redrive", IDS["at-work"], "--store", url)
    assert (refused[0], "[illegal-transition]" in refused[2]) == (1, True)


def test_what_is_over_is_watched_to_its_end_and_the_exit_status_says_which(call: Call, url: str) -> None:
    done = call("commands", "watch", IDS["done"], "--store", url)
    refused = call("commands", "watch", IDS["refused"], "--store", url)
    lines = [json.loads(line) for line in call("commands", "watch", IDS["dead"], "--store", url, "--json")[1].splitlines()]

    assert done[0] == 0
    assert done[1].splitlines()[-1] == "SUCCEEDED"
    assert refused[0] == 1
    assert refused[1].splitlines()[-1] == "FAILED, no-stock: none \\x1b[31mleft"
    assert [one["kind"] for one in lines] == ["created", "leased", "attempt-failed", "failed"]


async def test_a_command_is_watched_while_it_is_done(place: str, tmp_path: Path) -> None:
    if not place.startswith("sqlite:"):
        return  # the loop of the watching program is the same; one kind of store is enough for a process of its own
    async with open_store(place) as store:
        made = await store.commands.create_command("acme", "pick")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "perdure", "commands", "watch", made.command_id, "--store", place),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        first = await asyncio.wait_for(process.stdout.readline(), 30)
        [lease] = await store.commands.lease("acme", worker="w")
        await store.commands.complete(made.command_id, lease.token, Succeeded())
        rest = await asyncio.wait_for(process.stdout.read(), 30)
        status = await process.wait()

    assert b"created" in first
    assert [line.split()[1] for line in rest.decode().splitlines()[:-1]] == ["leased", "succeeded"]
    assert (rest.decode().splitlines()[-1], status) == ("SUCCEEDED", 0)


@pytest.mark.parametrize("command", ["show", "cancel", "redrive", "watch"])
def test_what_is_not_there_is_an_error_with_its_code(call: Call, url: str, command: str) -> None:
    status, out, error = call("commands", command, "cmd_none", "--store", url)

    assert (status, out) == (1, "")
    assert error.startswith("error [command-not-found]: ")


# --- over HTTP ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with shop_elsewhere() as url:
        yield url


def test_a_message_is_sent_once_and_called_for(call: Call, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_URL", server)
    first = call("send", "Place", '{"order": "cli"}', "--id", "c1")
    again = call("send", "Place", '{"order": "cli"}', "--id", "c1", "--json")
    asked = call("call", "Place", '{"order": "cli"}', "--id", "c1")
    other = call("call", "Place", '{"order": "x"}', "--id", "c2", "--key", "cli")

    assert (first[0], first[1].startswith("accepted: ")) == (0, True)
    assert json.loads(again[1])["duplicate"] is True
    assert call("send", "Place", '{"order": "cli"}', "--id", "c1")[1].startswith("accepted, as it was before: ")
    assert (json.loads(asked[1]), json.loads(other[1])) == ({"total": 1}, {"total": 2})


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("send", "Place", "{", "--id", "e1"), 2, "expected JSON"),
        (("send", "Place", "{}", "--id", "e1"), 1, "error [payload-invalid]"),
        (("send", "Unheard", "{}", "--id", "e1"), 2, "error [no-route]"),
        (("send", "Place", "{}", "--id", "e1", "--key", "a", "--tag", "b"), 2, "exclude one another"),
        (("call", "Place", '{"order": "e", "amount": -1}', "--id", "e2"), 1, "error [turn-failed]: LookupError: no such amount"),
        (("call", "Place", '{"order": "e"}', "--id", "e3", "--timeout", "nan"), 2, "--timeout"),
        (("call", "Place", '{"order": "e"}', "--id", "e3", "--timeout", "-1"), 2, "--timeout"),
        (("call", "Place", "NaN", "--id", "e3"), 2, "error [payload-unencodable]"),
    ],
)
def test_what_cannot_be_sent_is_an_error_that_says_why(call: Call, server: str, arguments: tuple[str, ...], status: int, text: str) -> None:
    found = call(*arguments, "--url", server)

    assert (found[0], found[1]) == (status, "")
    assert text in found[2]


def test_a_server_that_is_not_there_is_named_soon(call: Call) -> None:
    status, _, error = call("send", "Place", "{}", "--id", "1", "--url", "http://127.0.0.1:1", "--patience", "0")

    assert status == 1
    assert error.startswith("error [server-unreachable]: POST /v1/tenants/default/messages: no answer from http://127.0.0.1:1")


def test_a_token_comes_from_a_file_or_the_environment_and_is_not_shown(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = call("send", "Place", "{}", "--id", "1", "--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "none"))
    monkeypatch.setenv("PERDURE_TOKEN", "two words-secret")
    malformed = call("send", "Place", "{}", "--id", "1", "--url", "http://127.0.0.1:1")

    assert (missing[0], "none: it cannot be read" in missing[2]) == (2, True)
    assert (malformed[0], "error [usage]: token: " in malformed[2], "secret" in malformed[2]) == (2, True, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module_here:worker", "worker 'no_such_module_here:worker': No module named 'no_such_module_here'"),
        ("json:none", "worker 'json:none': expected a perdure.Worker, found None"),
        ("json:loads", "worker 'json:loads': expected a perdure.Worker, found <function loads"),
        ("", "worker '': expected MODULE:NAME, such as shop.main:worker"),
    ],
)
def test_what_is_no_worker_is_refused(call: Call, name: str, text: str) -> None:
    status, _, error = call("worker", name)

    assert status == 2
    assert text in error

"""The command line, as people and programs use it."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import Address, Engine, VirtualClock, open_store
from perdure.testing import ProcessExport
from tests.e2e.conftest import Call, Ran
from tests.engine.orders import Comment, Ledger, Place, eventually, make_app
from tests.stores import change


@pytest.fixture
def url(place: str) -> str:
    return filled(place)


def filled(url: str) -> str:
    """Put one order, one parked comment and one dead letter into a store."""

    async def fill() -> None:
        clock = VirtualClock()
        async with open_store(url, clock=clock) as store, Engine(store, make_app(Ledger())) as engine:
            await engine.deliver(Comment("1", "late"), id="dead", to=Address.key("nobody"), expires_after=timedelta(seconds=1))
            await engine.deliver(Comment("9", "early"), id="parked")
            await engine.deliver(Place("1"), id="placed", wait=True)
            clock.advance(1_000_001)
            await eventually(lambda: _is(engine, "dead", "dead"))

    asyncio.run(fill())
    return url


def test_a_process_is_exported_for_replay(call: Call, url: str, tmp_path: Path) -> None:
    [one] = _json(call("processes", "list", "--store", url, "--json"))["processes"]
    target = tmp_path / "order.json"

    code, out, _ = call("processes", "export", one["process_id"], str(target), "--store", url)
    assert (code, out) == (0, f"exported to {target}\n")
    [turn] = ProcessExport.from_json(target.read_bytes()).turns
    assert (turn.message, turn.outcome) == ("placed", "ok")

    code, _, error = call("processes", "export", one["process_id"], str(target), "--store", url)
    assert code == 2
    assert "never overwrites" in error
    assert _json(call("processes", "export", one["process_id"], "--store", url))["format"] == 1


async def _is(engine: Engine, message_id: str, status: str) -> bool:
    return (await engine.explain(message_id)).status == status


def _json(ran: Ran) -> Any:
    assert ran[0] == 0, ran
    return json.loads(ran[1])


def test_info_shows_what_is_in_a_store(call: Call, url: str) -> None:
    info = _json(call("store", "info", url, "--json"))
    status, table, _ = call("store", "info", url)
    assert info["rows"]["message"] == 3
    assert info["shards"] == 64
    assert status == 0
    assert "message " in table


def test_verify_finds_nothing_in_a_sound_store_and_says_what_does_not_fit(call: Call, url: str) -> None:
    assert call("store", "verify", url) == (0, "ok: everything fits\n", "")
    change(url, "update registry_key set parked = 7 where key = 'order:9'", "delete from event where seq = (select max(seq) from event)")
    status, out, _ = call("store", "verify", url, "--json")
    found = json.loads(out)
    assert status == 4
    assert {finding["what"] for finding in found} == {"parking", "events"}
    assert any("counts 7 messages, 1 are parked" in finding["detail"] for finding in found)


def test_a_backup_is_a_store(call: Call, tmp_path: Path) -> None:
    url = filled(f"sqlite:///{tmp_path / 'shop.db'}")
    copy = tmp_path / "copy.db"
    assert call("store", "backup", url, str(copy))[0] == 0
    assert _json(call("store", "info", f"sqlite:///{copy}", "--json"))["rows"]["message"] == 3
    status, _, error = call("store", "backup", url, str(copy))
    assert status == 2
    assert "[usage]" in error


def test_processes_are_listed_and_shown(call: Call, url: str) -> None:
    page = _json(call("processes", "list", "--store", url, "--json"))
    [listed], more = page["processes"], page["next"]
    shown = _json(call("processes", "show", listed["process_id"], "--store", url, "--json"))
    happened = _json(call("processes", "timeline", listed["process_id"], "--store", url, "--json"))
    events = happened["events"]
    assert more is None
    assert (happened["status"], happened["waits_for"], happened["next"]) == ("idle", [], None)
    assert (listed["status"], listed["process_type"]) == ("idle", "Order")
    assert (shown["fields"]["status"], shown["keys"]) == ("charged", ["order:1"])
    assert [event["event"] for event in events] == ["MessageReceived", "ProcessingStarted", "StepCompleted", "ProcessingFinished"]
    assert call("processes", "list", "--store", url, "--status", "failed")[1] == "no such processes in tenant default\n"
    for command in (["list"], ["show", listed["process_id"]], ["timeline", listed["process_id"]]):
        status, out, error = call("processes", *command, "--store", url)
        assert (status, error) == (0, "")
        assert listed["process_id"] in out or "charge" in out


def test_messages_are_explained(call: Call, url: str) -> None:
    parked = _json(call("messages", "explain", "parked", "--store", url, "--json"))
    [letter] = _json(call("messages", "dead-letters", "--store", url, "--json"))
    assert parked["text"] == "nobody is at 'key order:9' yet; it is handed over when somebody comes"
    assert (letter["message_id"], letter["reason"]) == ("dead", "expired")
    assert "handled it" in call("messages", "explain", "placed", "--store", url)[1]
    assert "expired" in call("messages", "dead-letters", "--store", url)[1]


def test_a_dead_letter_is_redriven_once(call: Call, url: str) -> None:
    assert _json(call("messages", "redrive", "dead", "--store", url, "--json")) == {"message_id": "dead~2"}
    status, _, error = call("messages", "redrive", "dead", "--store", url)
    assert status == 1
    assert "[illegal-transition]" in error
    assert "'dead~2'" in error


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["messages", "explain", "nothing"], 1, "message-not-found"),
        (["processes", "show", "nothing"], 1, "process-not-found"),
        (["processes", "list", "--limit", "0"], 2, "usage"),
        (["processes", "list", "--tenant", "no spaces"], 2, "invalid-identifier"),
        (["messages", "dead-letters", "--after", "x"], 2, "usage"),
    ],
)
def test_errors_have_a_code_and_a_status_by_kind(call: Call, url: str, arguments: list[str], status: int, code: str) -> None:
    found, out, error = call(*arguments, "--store", url)
    assert (found, out) == (status, "")
    assert error.startswith(f"error [{code}]: ")


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [("mysql://x", 2, "unknown-scheme"), ("sqlite:///missing/none.db", 3, "store-not-found"), ("sqlite:/x", 2, "usage")],
)
def test_a_store_that_is_not_there_is_a_clear_error(call: Call, bad: str, status: int, code: str) -> None:
    found, _, error = call("store", "info", bad)
    assert (found, f"[{code}]" in error) == (status, True), error


def test_what_is_no_store_is_a_clear_error(call: Call, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, and long enough to be taken for one\n" * 100)
    found, _, error = call("store", "info", f"sqlite:///{tmp_path / 'text.db'}")
    assert (found, "[store-corrupt]" in error) == (3, True), error


def test_hostile_text_is_shown_and_not_obeyed(call: Call, place: str) -> None:
    async def fill() -> None:
        async with open_store(place) as store, Engine(store, make_app(Ledger())) as engine:
            await engine.deliver(Place("\x1b[31m[bold]\n"), id="p", wait=True, to=Address.start("Order", id="o"))

    asyncio.run(fill())
    out = call("processes", "timeline", "o", "--store", place)[1]
    assert "\x1b" not in out
    assert "[BOLD]" in out


async def test_a_running_engine_takes_up_what_another_process_redrives(place: str) -> None:
    async with open_store(place) as store, Engine(store, make_app(Ledger())) as engine:
        await engine.deliver(Comment("1", "x"), id="c", expires_after=timedelta(0))
        await eventually(lambda: _is(engine, "c", "dead"))
        await engine.deliver(Place("1"), id="p", wait=True)
        command = [sys.executable, "-m", "perdure", "messages", "redrive", "c", "--store", place]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        assert out == b"redriven as c~2\n"
        await eventually(lambda: _is(engine, "c~2", "done"))


def test_a_process_is_paused_resumed_and_cancelled(call: Call, url: str) -> None:
    [process] = _json(call("processes", "list", "--store", url, "--json"))["processes"]
    id = process["process_id"]

    assert _json(call("processes", "pause", id, "--store", url, "--reason", "audit", "--json")) == {"process_id": id, "first": True}
    assert call("processes", "pause", id, "--store", url)[1] == "it was paused already\n"
    assert "paused: audit" in call("processes", "show", id, "--store", url)[1]
    assert call("processes", "resume", id, "--store", url)[1] == "resumed\n"
    status, _, error = call("processes", "resume", id, "--store", url)
    assert (status, "illegal-transition" in error) == (1, True)

    assert call("processes", "cancel", id, "--store", url, "--reason", "over", "--force")[1] == "asked to stop\n"
    assert call("processes", "cancel", id, "--store", url)[1].startswith("nothing to do")
    assert call("processes", "cancel", "nobody", "--store", url)[0] == 1

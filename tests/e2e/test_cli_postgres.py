"""The command line on a store that a server keeps, and what it says when there is none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from perdure import Engine, VirtualClock, open_store
from tests.e2e.conftest import Call
from tests.engine.orders import Comment, Ledger, Place, make_app
from tests.postgres.server import Server, database_of

SECRET = "geheim"


@pytest.fixture
def url(postgres_url: str) -> str:
    """A store with one order and one parked comment."""

    async def fill() -> None:
        async with open_store(postgres_url, clock=VirtualClock()) as store, Engine(store, make_app(Ledger())) as engine:
            await engine.deliver(Comment("9", "early"), id="parked")
            await engine.deliver(Place("1"), id="placed", wait=True)

    asyncio.run(fill())
    return postgres_url


def test_a_store_on_a_server_is_looked_into_like_any_other(call: Call, url: str) -> None:
    status, out, _ = call("store", "info", url, "--json")
    info = json.loads(out)
    assert status == 0
    assert info["rows"]["message"] == 2
    assert info["engine"].startswith("PostgreSQL ")
    assert info["place"].endswith("?schema=perdure")
    assert call("store", "verify", url) == (0, "ok: everything fits\n", "")
    [one] = json.loads(call("processes", "list", "--store", url, "--json")[1])["processes"]
    assert one["status"] == "idle"
    for command in (["processes", "show"], ["processes", "timeline"], ["processes", "children"], ["processes", "log"]):
        assert call(*command, one["process_id"], "--store", url)[0] == 0, command
    assert "nobody is at" in call("messages", "explain", "parked", "--store", url)[1]
    for listed in (["messages", "dead-letters"], ["awakeables", "list"], ["schedules", "list"]):
        assert call(*listed, "--store", url)[0] == 0, listed
    assert call("processes", "pause", one["process_id"], "--store", url)[0] == 0
    assert call("store", "sweep", url, "--messages", "1s")[0] == 0


def test_the_url_may_come_from_the_environment(call: Call, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_STORE", url)

    assert len(json.loads(call("processes", "list", "--json")[1])["processes"]) == 1


def test_a_backup_of_a_server_is_a_file(call: Call, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"

    assert call("store", "backup", url, str(copy)) == (0, f"copied to {copy}\n", "")

    assert json.loads(call("store", "info", f"sqlite:///{copy}", "--json")[1])["rows"]["message"] == 2
    assert call("store", "verify", f"sqlite:///{copy}")[0] == 0


def test_a_store_is_copied_and_each_table_is_told(call: Call, url: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'copy.db'}"

    status, out, told = call("store", "copy", url, target, "--json")

    assert status == 0
    assert json.loads(out)["message"]["rows"] == 2
    assert "message: 2 rows copied\n" in told
    assert "message: 2 rows, the same in both\n" in told
    assert "message" in call("store", "copy", url, target)[1], "a copy that is done is done again at once"
    assert call("store", "verify", target)[0] == 0


def test_a_copy_that_cannot_be_says_why(call: Call, url: str, tmp_path: Path) -> None:
    status, out, error = call("store", "copy", f"sqlite:///{tmp_path / 'none.db'}", url)

    assert (status, out) == (3, "")
    assert error.startswith("error [store-not-found]: ")
    assert call("store", "copy", url, url)[::2] == (
        2,
        "error [copy-refused]: source and target are the same store; expected a new one as the target\n",
    )


def _host(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def test_what_is_wrong_is_one_line_without_the_password(call: Call, url: str, postgres_server: Server) -> None:
    host, database = _host(postgres_server), database_of(url)
    postgres_server.execute(f"do $$ begin create role stranger login password '{SECRET}'; exception when duplicate_object then end $$")
    wrong = {
        f"postgresql://me:{SECRET}@127.0.0.1:1/x": (3, "no server that can be written to"),
        f"postgresql://me:{SECRET}@nowhere.invalid/x": (3, "no server that can be written to"),
        f"postgresql://nobody:{SECRET}@{host}/{database}": (3, "check user and password of the URL"),
        f"postgresql://postgres:{SECRET}@{host}/none_such": (3, "create it: createdb"),
        f"postgresql://postgres:{SECRET}@{host}/postgres": (3, "no store in this schema; check the URL"),
        f"postgresql://stranger:{SECRET}@{host}/{database}": (3, "see docs/postgres.md for what it needs"),
        f"postgresql://postgres:{SECRET}@{host}/{database}?sslmode=require": (3, "rejected SSL upgrade"),
        f"postgresql://postgres:{SECRET}@{host}/{database}?sslmode=verify-full&sslrootcert=/none": (3, "no such file"),
        f"postgresql://postgres:{SECRET}@{host}/{database}?sslmode=bogus": (2, "sslmode"),
        f"postgresql://postgres:{SECRET}@{host}/{database}?schema=Upper": (2, "expected 1 to 63 of a-z"),
        f"postgresql://postgres:{SECRET}@{host}/{database}?colour=red": (2, "found colour"),
        f"postgresql://postgres:{SECRET}@{host}:5432:1/{database}": (2, "expected host:port"),
        f"postgresql://postgres:{SECRET}@x@{host}/{database}": (2, "write %40"),
        f"postgresql://postgres@{host}/{database}?colour={SECRET}": (2, "found colour"),
    }

    for address, (status, text) in wrong.items():
        for command in (["store", "info", address], ["processes", "list", "--store", address]):
            ran = call(*command)
            assert ran[:2] == (status, ""), (command, ran)
            assert text in ran[2], (command, ran)
            assert ran[2].count("\n") == 1, (command, ran)
            assert ran[2].startswith("error ["), (command, ran)
            assert SECRET not in ran[2], (command, ran)


def test_a_wrong_password_is_told_without_it(call: Call) -> None:
    with Server() as server:
        server.execute("create role clerk login password 'right'")
        (server.folder / "data" / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        server.execute("select pg_reload_conf()")

        ran = call("store", "info", f"postgresql://clerk:{SECRET}@{_host(server)}/postgres")

    assert ran[:2] == (3, "")
    assert ran[2] == (
        f"error [store-unavailable]: postgresql://{_host(server)}/postgres?schema=perdure: password authentication failed for user "
        '"clerk"; check user and password of the URL, and the server\'s pg_hba.conf\n'
    )

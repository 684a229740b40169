"""`perdure deploy`, `route`, `rollback`, `versions`, `retire`, `collect` and `unload`, on a store and through a server: they say the same."""

from __future__ import annotations

import asyncio
import getpass
import json
from pathlib import Path
from typing import Any

import pytest

from perdure import open_store
from perdure.deploying.files import BUILT_WITH
from tests.client.shop import shop_elsewhere
from tests.contracts.packages import Start
from tests.deploying.samples import FLOWS
from tests.deploying.shops import forged, identity, importable, key, shop, signed, without_types
from tests.e2e.conftest import Call, Ran, call
from tests.stores import DURABLE, store_url

__all__ = ["call"]

V1, V2 = shop(1), shop(2)
ONE, TWO = identity(V1), identity(V2)
WHERE = (*DURABLE, "server")


class Shop:
    """The command line of somebody who deploys, and files to deploy."""

    def __init__(self, call: Call, folder: Path, *where: str) -> None:
        self._call = call
        self._folder = folder
        self.where = where

    @property
    def by(self) -> str:
        """Who is in the log."""
        return getpass.getuser() if self.where[0] == "--store" else "token dev"

    def __call__(self, command: str, *arguments: str) -> Ran:
        return self._call(command, *self.where, *arguments)

    def json(self, command: str, *arguments: str) -> Any:
        status, out, error = self(command, "--json", *arguments)
        assert (status, error) == (0, ""), error
        return json.loads(out)

    def file(self, archive: bytes) -> str:
        path = self._folder / f"{len(archive)}-{hash(archive)}.zip"
        path.write_bytes(archive)
        return str(path)

    def deploy(self, archive: bytes, *arguments: str) -> Any:
        return self.json("deploy", self.file(archive), "--no-load", *arguments)


@pytest.fixture(params=WHERE)
def shell(request: pytest.FixtureRequest, call: Call, tmp_path: Path) -> Any:
    if request.param != "server":
        yield Shop(call, tmp_path, "--store", store_url(request, request.param, tmp_path))
        return
    with shop_elsewhere() as url:
        yield Shop(call, tmp_path, "--server", url)


def test_a_package_is_deployed_and_listed(shell: Shop) -> None:
    status, out, error = shell("deploy", shell.file(V1), "--no-load")
    again = shell("deploy", shell.file(V1), "--no-load")
    listed = shell("versions")
    of_type = shell.json("versions", "Order")

    assert (status, error) == (0, "")
    assert out == f"shop {ONE} stored; new processes of Order, Refund start on it\n"
    assert again[1] == f"shop {ONE} was stored before; no route has changed\n"
    assert [line.split()[:2] for line in listed[1].splitlines()[1:]] == [["Order", ONE[:12]], ["Refund", ONE[:12]]]
    assert "100%" in listed[1]
    assert [(one["content_hash"], one["share"], one["processes"]) for one in of_type["versions"]] == [(ONE, 10_000, {})]


def test_a_package_is_tried_first_and_its_warnings_are_told(shell: Shop) -> None:
    archive = asyncio.run(importable(FLOWS + "import os\nos.environ['SHOP'] = 'open'\n"))

    status, out, error = shell("deploy", shell.file(archive))

    assert (status, "Order, hello" in out) == (0, True)
    assert error.startswith("warning [")
    assert "environ" in error


def test_what_a_build_has_left_beside_it_goes_into_the_log(shell: Shop) -> None:
    path = Path(shell.file(V1))
    path.with_name(path.stem + BUILT_WITH).write_text('{"commit": "c0ffee"}')

    shell.json("deploy", str(path), "--no-load")

    assert shell.json("versions", "Order", "--log")["entries"][0]["built_with"] == {"commit": "c0ffee"}


def test_it_is_only_stored_or_routed_in_part(shell: Shop) -> None:
    stored = shell.deploy(V1, "--no-route")
    routed = shell.deploy(V1, "--route", "Refund", "--hash", ONE)

    assert (stored["freshly_stored"], stored["route_changed"]) == (True, False)
    assert (routed["freshly_stored"], routed["routes_changed"]) == (False, ["Refund"])


def test_a_canary_is_weighted_rolled_out_and_rolled_back(shell: Shop) -> None:
    shell.deploy(V1)
    shell.deploy(V2, "--no-route")

    weighted = shell("route", "Order", TWO[:8], "--weight", "5%")
    again = shell("route", "Order", TWO[:8], "--weight", "500")
    acme = shell("route", "Order", TWO[:8], "--tenant", "acme")
    shown = shell("route", "Order", "--show")
    shares = {one["content_hash"]: (one["share"], one["tenants"]) for one in shell.json("versions", "Order")["versions"]}
    away = shell.json("route", "Order", "--tenant", "acme", "--remove")
    rolled_out = shell.json("route", "Order", TWO[:8])
    back = shell("rollback", "Order")

    assert [ran[1] for ran in (weighted, again, acme)] == ["routed\n", "it was so before\n", "routed\n"]
    assert [line.split() for line in shown[1].splitlines()[1:]] == [
        ["tenant", "acme", TWO],
        ["a", "share", "5%", TWO],
        ["the", "others", "95%", ONE],
    ]
    assert shares == {ONE: (9_500, 0), TWO: (500, 1)}
    assert (away["changed"], rolled_out["content_hash"]) == (True, TWO)
    assert back[1] == f"new processes of Order start on {ONE}\n"
    assert len(shell.json("route", "Order", "--show")["rules"]) == 1


def test_the_log_says_who_did_what(shell: Shop) -> None:
    shell.deploy(V1)
    shell.json("retire", "Order")

    listed = shell("versions", "Order", "--log")
    [retired] = shell.json("versions", "Order", "--log", "--limit", "1")["entries"]
    rest = shell.json("versions", "Order", "--log", "--after", str(retired["tick"]))

    assert [line.split()[1] for line in listed[1].splitlines()[1:]] == ["retired", "deployed"]
    assert (retired["actor"], retired["previous_hash"]) == (shell.by, ONE)
    assert [one["action"] for one in rest["entries"]] == ["deployed"]


def test_a_type_is_retired_once(shell: Shop) -> None:
    shell.deploy(V1)

    assert shell("retire", "Order")[1] == "Order is retired\n"
    assert shell("retire", "Order")[1] == "it was retired before\n"
    assert shell("route", "Order", "--show")[1] == "Order has no route: none is started from a package\n"


def test_what_nobody_needs_goes(shell: Shop) -> None:
    shell.deploy(V1)
    shell.deploy(V2)

    kept = shell("collect")
    told = shell.json("collect", "--keep-last", "0", "--older-than", "0s", "--dry-run")
    gone = shell("collect", "--keep-last", "0", "--older-than", "0s")
    shell.deploy(V1, "--no-route")
    unloaded = shell("unload", ONE[:8])

    assert kept[1] == "nothing is old and not needed\n"
    assert [one["content_hash"] for one in told["packages"]] == [ONE]
    assert gone[1].splitlines()[1].split() == [ONE, "Order,", "Refund", f"{len(V1):,}"]
    assert unloaded[1] == f"{ONE} is gone, {len(V1):,} bytes\n"


def test_pages_go_on_where_the_one_before_ended(shell: Shop) -> None:
    shell.deploy(V1)

    _, first, more = shell("versions", "--limit", "1")
    _, second, _ = shell("versions", "--limit", "1", "--after", more.split()[-1])

    assert [text.splitlines()[1].split()[0] for text in (first, second)] == ["Order", "Refund"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("unload", "00000000"), 1, "error [package-missing]"),
        (("unload", ONE), 1, "error [package-routed]: package"),
        (("unload", ONE[:7]), 2, "error [invalid-content-hash]"),
        (("route", "Order", "0" * 64), 1, "error [package-missing]"),
        (("route", "Invoice", ONE, "--weight", "1%"), 1, "error [route-missing]"),
        (("route", "Order"), 2, "expected HASH"),
        (("route", "Order", ONE, "--show"), 2, "--show changes nothing"),
        (("route", "Order", "--remove"), 2, "--tenant with --remove"),
        (("route", "Order", ONE, "--weight", "101%"), 2, "expected basis points"),
        (("route", "Order", ONE, "--weight", "x"), 2, "expected basis points"),
        (("route", "Order", ONE, "--tenant", "acme", "--weight", "1%"), 2, "error [usage]"),
        (("rollback", "Order"), 1, "error [route-missing]"),
        (("retire", "Invoice"), 1, "error [route-missing]"),
        (("versions", "--log"), 2, "--log is of one TYPE"),
        (("versions", "Order", "--log", "--after", "x"), 2, "--after"),
    ],
)
def test_what_is_refused_has_its_code_and_status(shell: Shop, arguments: tuple[str, ...], status: int, says: str) -> None:
    shell.deploy(V1)

    code, out, error = shell(*arguments)

    assert (code, out) == (status, "")
    assert says in error


@pytest.mark.parametrize(
    ("archive", "arguments", "status", "says"),
    [
        (V1[:-1], (), 2, "error [package-archive-malformed]"),
        (without_types(), (), 2, "error [package-without-types]"),
        (V1, ("--hash", TWO), 2, "error [package-identity-mismatch]"),
        (V1, ("--route", "Invoice"), 2, "error [usage]"),
        (V1, ("--route", "Order", "--no-route"), 2, "exclude one another"),
    ],
)
def test_an_archive_that_is_refused_leaves_nothing(shell: Shop, archive: bytes, arguments: tuple[str, ...], status: int, says: str) -> None:
    code, out, error = shell("deploy", shell.file(archive), "--no-load", *arguments)

    assert (code, out) == (status, "")
    assert says in error
    assert shell.json("versions")["versions"] == []


# --- on a store only ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=DURABLE)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_url(request, request.param, tmp_path)


def test_what_still_runs_on_a_version_is_listed(call: Call, url: str, tmp_path: Path) -> None:
    shell = Shop(call, tmp_path, "--store", url)
    shell.deploy(V1)

    async def start() -> None:
        async with open_store(url) as store:
            for number in range(3):
                await store.commit(Start(f"p{number}", ONE))

    asyncio.run(start())

    _, out, _ = shell("versions", "Order")
    refused = shell("retire", "Order"), shell("retire", "Refund"), shell("unload", ONE)

    assert out.splitlines()[1].rstrip().endswith("3 runnable")
    assert "error [package-pinned]" in refused[2][2]
    assert "3 processes need it" in refused[2][2]


def test_a_store_is_made_only_if_that_is_said(call: Call, tmp_path: Path) -> None:
    place = tmp_path / "new.db"
    shell = Shop(call, tmp_path, "--store", f"sqlite:///{place}")

    refused = shell("deploy", shell.file(V1), "--no-load")
    there = place.exists()
    made = shell("deploy", shell.file(V1), "--no-load", "--create")

    assert (refused[0], there) == (3, False)
    assert "`perdure deploy --create`" in refused[2]
    assert (made[0], made[1].split()[:3]) == (0, ["shop", ONE, "stored;"])
    assert shell.json("versions")["versions"] != []


def test_whose_packages_are_taken_is_said_with_the_command(call: Call, url: str, tmp_path: Path) -> None:
    shell = Shop(call, tmp_path, "--store", url)
    arguments = ("--no-load", "--trusted-key", key(1), "--trusted-key", key(2), "--actor", "ann")

    refused = [shell("deploy", shell.file(each), *arguments) for each in (V1, signed(V1, 3), forged(V1, 1))]
    taken = shell("deploy", shell.file(signed(V1, 2)), *arguments)

    assert [(code, "error [package-untrusted]" in error) for code, _, error in refused] == [(2, True)] * 3
    assert taken[0] == 0
    assert [one["actor"] for one in shell.json("versions", "Order", "--log")["entries"]] == ["ann"]


@pytest.mark.parametrize("given", [("--trusted-key", key(1)), ("--actor", "ann"), ("--create",)])
def test_what_a_server_says_itself_is_not_said_to_it(call: Call, tmp_path: Path, given: tuple[str, ...]) -> None:
    shell = Shop(call, tmp_path, "--server", "http://127.0.0.1:1")

    code, _, error = shell("deploy", shell.file(V1), *given)

    assert code == 2
    assert f"{given[0]} is for a store" in error

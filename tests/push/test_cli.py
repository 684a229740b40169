"""`perdure push`, and what `perdure serve` lets be sent to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from perdure import open_store
from perdure.commands.tables import PUSH_ENDPOINT
from perdure.errors import ConfigInvalid
from perdure.server import load_config
from tests.e2e.conftest import Call, call
from tests.push.desk import SECRET

__all__ = ["call"]

URL = "https://hooks.example/in"
GIVEN = {"store": "sqlite:///a.db", "app": "m:app"}


@pytest.fixture
def at(tmp_path: Path) -> tuple[str, str]:
    made = f"sqlite:///{tmp_path / 'store.db'}"

    async def make() -> None:
        async with open_store(made):
            pass

    asyncio.run(make())
    return "--store", made


def secrets_of(store: str, target: str = "") -> str:
    async def read() -> str:
        async with open_store(store, create=False) as opened:
            row = await opened.access.reader.get(PUSH_ENDPOINT.key("default", "site", target))
            assert row is not None
            return row.secrets

    return asyncio.run(read())


def test_an_endpoint_is_set_listed_disabled_and_removed(call: Call, at: tuple[str, str]) -> None:
    code, out, err = call("push", "set", "site", URL + "?key=sesame", *at, "--target", "arm", "--timeout", "5s", "--result-within", "10m")
    assert code == 0
    assert out == f"secret  {secrets_of(at[1], 'arm')}\n"
    assert "not shown again" in err

    [found] = json.loads(call("push", "list", *at, "--json")[1])
    assert (found["deployment_id"], found["target"], found["url"], found["secrets"]) == ("site", "arm", URL, 1)
    assert (found["timeout"], found["result_within"], found["enabled"]) == (5_000_000, 600_000_000, True)
    assert call("push", "disable", "site", *at, "--target", "arm")[1] == "disabled\n"
    assert "disabled" in call("push", "list", *at)[1]
    assert json.loads(call("push", "enable", "site", *at, "--target", "arm", "--json")[1]) == {"changed": True}
    assert call("push", "enable", "site", *at, "--target", "arm")[1] == "it was enabled before\n"
    assert call("push", "remove", "site", *at, "--target", "arm")[1] == "removed\n"
    assert call("push", "remove", "site", *at, "--target", "arm")[1] == "there was none\n"
    assert call("push", "list", *at)[1] == "no endpoints\n"
    code, _, err = call("push", "enable", "site", *at)
    assert (code, "push-endpoint-not-found" in err) == (1, True)


def test_secrets_come_from_the_environment_and_are_rotated(call: Call, at: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    assert call("push", "set", "site", URL, *at, "--secrets-env", "HOOK") == (0, "set\n", "")
    assert secrets_of(at[1]) == SECRET
    made = json.loads(call("push", "rotate", "site", *at, "--json")[1])["secret"]
    assert secrets_of(at[1]) == f"{made} {SECRET}"
    code, out, err = call("push", "set", "site", URL, *at, "--secrets-env", "NONE")

    assert (code, out, "webhook-secret-invalid" in err) == (2, "", True)


def test_a_page_of_endpoints_says_how_to_go_on(call: Call, at: tuple[str, str]) -> None:
    for target in ("arm", "leg", "wrist"):
        call("push", "set", "eu/site", URL, *at, "--target", target)
    found, more = [], list[str]()
    for _ in range(3):
        _, out, err = call("push", "list", *at, "--limit", "1", *more)
        found.append([target for target in ("arm", "leg", "wrist") if target in out])
        more = err.removeprefix("more: ").split()

    assert found == [["arm"], ["leg"], ["wrist"]]
    assert "expected the `next` of the page before" in call("push", "list", *at, "--after", "eu/site")[2]


@pytest.mark.parametrize(
    ("given", "environment"),
    [({"push_allowed": ("10.0.0.0/8", "localhost:8080")}, {}), ({}, {"PERDURE_PUSH_ALLOWED": "10.0.0.0/8 localhost:8080"})],
)
def test_a_server_is_told_what_may_be_sent_to(given: dict[str, Any], environment: dict[str, str]) -> None:
    allowed = load_config({**GIVEN, **given}, environment=environment).allowed

    assert [str(network) for network in allowed.networks] == ["10.0.0.0/8"]
    assert allowed.hosts == {"localhost:8080"}


def test_a_network_that_is_none_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ConfigInvalid, match=r"push_allowed: network '10\.0\.0\.1/8'"):
        load_config({**GIVEN, "push_allowed": ("10.0.0.1/8",)}, environment={})

"""`perdure token`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from perdure import open_store
from perdure.errors import TokenInvalid
from perdure.tokens.contract import TokenInfo
from tests.e2e.conftest import Call, Ran, call
from tests.stores import DURABLE, store_url

__all__ = ["call"]


@pytest.fixture(params=DURABLE)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made = store_url(request, request.param, tmp_path)

    async def make() -> None:
        async with open_store(made):
            pass

    asyncio.run(make())
    return made


def checked(url: str, token: str) -> TokenInfo:
    async def check() -> TokenInfo:
        async with open_store(url, create=False) as store:
            return await store.tokens.check(token)

    return asyncio.run(check())


def _json(ran: Ran) -> Any:
    assert (ran[0], ran[2]) == (0, "")
    return json.loads(ran[1])


def test_a_token_is_made_shown_once_listed_and_revoked(call: Call, url: str) -> None:
    code, out, err = call(
        *("token", "create", "shop", "--store", url, "--tenant", "acme"),
        *("--allow", "deliver", "--allow", "command:work=d/t", "--expires-in", "30d"),
    )
    token = out.splitlines()[0].split()[1]
    info = checked(url, token)
    listed = call("token", "list", "--store", url)[1]

    assert (code, "not shown again" in err) == (0, True)
    assert (info.name, [str(grant) for grant in info.grants]) == ("shop", ["deliver", "command:work=d/t"])
    assert info.expires_at == info.created_at + 30 * 86_400_000_000
    assert info.token_id in listed
    assert token.split("_")[2] not in listed
    assert call("token", "revoke", info.token_id, "--store", url)[:2] == (0, "revoked\n")
    assert call("token", "revoke", info.token_id, "--store", url)[:2] == (0, "it was revoked before\n")
    with pytest.raises(TokenInvalid):
        checked(url, token)


def test_programs_get_one_document(call: Call, url: str) -> None:
    made = _json(call("token", "create", "shop", "--store", url, "--tenant", "*", "--allow", "read", "--json"))
    [listed] = _json(call("token", "list", "--store", url, "--json"))

    assert checked(url, made["token"]).token_id == made["id"] == listed["token_id"]
    assert (listed["grants"], listed["tenant"], listed["expires_at"]) == (["read"], "*", None)


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["create", "shop", "--tenant", "acme"], 2, "--allow"),
        (["create", "shop", "--allow", "read"], 2, "--tenant"),
        (["create", "shop", "--tenant", "acme", "--allow", "fly"], 2, "expected one of"),
        (["create", "shop", "--tenant", "a b", "--allow", "read"], 2, "TenantId"),
        (["create", "shop", "--tenant", "acme", "--allow", "read", "--expires-in", "soon"], 2, "soon"),
        (["revoke", "none"], 1, "token-not-found"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Call, url: str, arguments: list[str], status: int, named: str) -> None:
    code, out, err = call("token", *arguments, "--store", url)

    assert (code, out) == (status, "")
    assert named in err

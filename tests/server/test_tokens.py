"""Tokens in a store of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure import Store, VirtualClock, open_store
from perdure.errors import InvalidIdentifier, TokenInvalid, TokenNotFound, UsageError
from perdure.tokens.contract import WORK, Grant
from perdure.tokens.tables import TOKEN
from tests.stores import KINDS, store_url

READ = [Grant("read")]


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(store_url(request, request.param, tmp_path), clock=VirtualClock()) as opened:
        yield opened


async def test_a_token_says_who_has_it_and_what_it_allows(store: Store) -> None:
    made = await store.tokens.create("shop ü", [Grant("read"), Grant.parse("command:work=d/t/1"), Grant("read")], tenant="acme", lasting=5)

    found = await store.tokens.check(made.text)

    assert found == made.info
    assert (found.name, found.tenant, found.expires_at) == ("shop ü", "acme", found.created_at + 5)
    assert found.grants == (Grant("read"), Grant("command:work", "d", "t/1"))
    assert (found.reaches("acme"), found.reaches("other"), found.reaches("*")) == (True, False, False)
    assert found.allows("command:work", deployment="d", target="t/1")
    assert not found.allows("command:work", deployment="d", target="t")
    assert not found.allows("command:work")
    assert not found.allows("deliver")


async def test_the_secret_is_not_stored(store: Store) -> None:
    made = await store.tokens.create("shop", READ, tenant="*")
    _, token_id, secret = made.text.split("_")

    row = await store.access.reader.get(TOKEN.key(token_id))

    assert row is not None
    assert len(secret) == 64
    assert bytes.fromhex(secret) != row.secret_digest
    assert secret not in repr(row)
    assert secret not in repr(await store.tokens.list_tokens())


@pytest.mark.parametrize("text", ["", "x", "pdt__", "pdt_" + "0" * 32 + "_" + "0" * 64, "pdt_" + "0" * 32 + "_" + "0" * 63 + "é"])
async def test_what_is_no_token_is_invalid(store: Store, text: str) -> None:
    with pytest.raises(TokenInvalid):
        await store.tokens.check(text)


async def test_a_token_without_a_stored_hash_has_no_secret_that_fits(store: Store) -> None:
    with pytest.raises(TokenInvalid):
        await store.tokens.check("pdt_" + "0" * 32 + "_" + "0" * 64)


async def test_a_revoked_token_is_invalid_at_once(store: Store) -> None:
    made = await store.tokens.create("shop", READ, tenant="*")

    first, second = [await store.tokens.revoke(made.info.token_id) for _ in range(2)]

    assert (first, second) == (True, False)
    with pytest.raises(TokenInvalid):
        await store.tokens.check(made.text)
    with pytest.raises(TokenNotFound):
        await store.tokens.revoke("none")


async def test_tokens_are_listed_in_the_order_of_their_making(store: Store) -> None:
    clock = store.access.clock
    assert isinstance(clock, VirtualClock)
    made = []
    for number in range(3):
        made.append((await store.tokens.create(f"n{number}", READ, tenant="*")).info)
        clock.advance(1_000)

    first = await store.tokens.list_tokens(limit=2)
    rest = await store.tokens.list_tokens(after=first[-1].token_id)

    assert first + rest == made
    with pytest.raises(UsageError):
        await store.tokens.list_tokens(limit=0)


@pytest.mark.parametrize(
    "text",
    ["", "moon", "read=d/t", "command:work", "command:work=", "command:work=/", "command:work=/t", "command:work=d/", "Read", "read\n"],
)
def test_what_is_no_capability_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Grant.parse(text)


@pytest.mark.parametrize(
    "grant",
    [Grant("moon"), Grant(WORK), Grant(WORK, "", "t"), Grant(WORK, "d/x", "t"), Grant(WORK, "d", "t\nadmin"), Grant("read", "d")],
)
async def test_a_token_of_what_is_no_capability_is_not_made(store: Store, grant: Grant) -> None:
    with pytest.raises((InvalidIdentifier, UsageError)):
        await store.tokens.create("n", [grant], tenant="*")

    assert await store.tokens.list_tokens() == []


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("command:work=d/t", [("d", "t")]), ("command:work=d", [("d", "")]), ("command:work=d/t/", [("d", "t/")])],
)
async def test_work_is_for_one_target_or_for_what_has_none(store: Store, text: str, allowed: list[tuple[str, str]]) -> None:
    made = await store.tokens.create("n", [Grant.parse(text)], tenant="*")
    info = await store.tokens.check(made.text)

    places = [(deployment, target) for deployment in ("d", "e", "") for target in ("", "t", "t/")]
    assert [place for place in places if info.allows(WORK, deployment=place[0], target=place[1])] == allowed
    assert str(info.grants[0]) == text


async def test_what_is_no_name_tenant_or_duration_is_refused(store: Store) -> None:
    for name, tenant, grants, lasting in (("", "*", READ, None), ("n", "a b", READ, None), ("n", "*", [], None), ("n", "*", READ, 0)):
        with pytest.raises((InvalidIdentifier, UsageError)):
            await store.tokens.create(name, grants, tenant=tenant, lasting=lasting)

    assert await store.tokens.list_tokens() == []

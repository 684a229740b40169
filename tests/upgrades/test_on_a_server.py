"""What a server adds to upgrades: rights, locks that others hold, and transactions of an application's own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from perdure import Joined, RegistryKey, limits
from perdure.backends.migrations import CONTRACT
from perdure.backends.postgres.connection import Lost
from perdure.backends.postgres.migrations import known_migrations
from perdure.errors import SchemaTooNew, StoreBusy, StoreUnavailable, UsageError
from tests.contracts.registry import ACME, P1, P2
from tests.gate.tree import ROOT
from tests.postgres.server import Server, database_of
from tests.upgrades.fleet import NARROWER, WIDER, Release, behind, migration, rows

BOTH = [(101, "expand"), (102, "contract")]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MIGRATION_LOCK_MS", 20)
    monkeypatch.setattr(limits, "POSTGRES_RETRY_MOST_SECONDS", 0.01)


@pytest.fixture
async def beside(postgres_url: str) -> AsyncIterator[Any]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def app_url(postgres_server: Server, postgres_url: str) -> str:
    """The URL of a role that has the rights of `docs/postgres.md` and no more, on a store of the first release."""
    async with Release(postgres_url).open():
        role = f"app_{database_of(postgres_url)}"
    await rows(postgres_url, f"create role {role} login")
    await rows(postgres_url, f"grant usage on schema perdure to {role}")
    await rows(postgres_url, f"grant select, insert, update, delete on all tables in schema perdure to {role}")
    await rows(postgres_url, f"alter default privileges in schema perdure grant select, insert, update, delete on tables to {role}")
    return postgres_url.replace("postgresql://postgres@", f"postgresql://{role}@")


async def test_a_role_that_may_not_change_tables_works_once_the_owner_has_opened_the_store(postgres_url: str, app_url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"the role may not do this.*docs/postgres.md"):
        await Release(app_url, WIDER).opened()
    assert await behind(postgres_url) == []

    async with Release(app_url).open() as old, Release(postgres_url, WIDER).open(), Release(app_url, WIDER).open() as new:
        await old.streams.append("s", b"x", 0)
        await new.streams.append("s", b"y", 1)
        assert await behind(postgres_url) == [(101, "expand")]


async def test_what_is_left_to_the_owner_keeps_no_other_role_from_opening(postgres_url: str, app_url: str) -> None:
    async with Release(postgres_url, WIDER).open():
        pass

    async with Release(app_url, WIDER, NARROWER).open() as store:
        assert await behind(postgres_url) == [(101, "expand")]
        assert (await store.info()).waiting == ("0102_m102",)
        await store.streams.append("s", b"x", 0)
        async with Release(postgres_url, WIDER, NARROWER).open():
            assert await behind(postgres_url) == BOTH
        await store.streams.append("s", b"y", 1)


async def test_people_can_see_who_is_open(postgres_url: str) -> None:
    [said] = re.findall(r"^ *(SELECT node, knows .*);$", (ROOT / "docs/upgrades.md").read_text(), re.MULTILINE)

    async with Release(postgres_url).open(), Release(postgres_url, WIDER).open():
        found = await rows(postgres_url, said)

    assert [knows for _, knows in found] == [len(known_migrations()), 101]
    assert await rows(postgres_url, said) == []


async def test_a_contract_migration_that_takes_too_long_keeps_nobody_from_opening(postgres_url: str) -> None:
    long = migration(102, "set local statement_timeout = 20; select pg_sleep(60)", CONTRACT)
    async with Release(postgres_url, WIDER).open():
        pass

    async with Release(postgres_url, WIDER, long).open():
        assert await behind(postgres_url) == [(101, "expand")]


@pytest.mark.usefixtures("impatient")
async def test_a_migration_does_not_keep_everybody_waiting_for_one_long_transaction(postgres_url: str, beside: Any) -> None:
    async with Release(postgres_url).open() as store:
        await beside.execute("begin; lock table perdure.message in access share mode")  # as a dump does

        with pytest.raises(StoreBusy, match="nothing was written, repeat later"):
            await Release(postgres_url, WIDER).opened()
        await store.streams.append("s", b"x", 0)
        await beside.execute("commit")

        async with Release(postgres_url, WIDER).open():
            assert await behind(postgres_url) == [(101, "expand")]


@pytest.mark.usefixtures("impatient")
async def test_a_contract_migration_that_others_hold_up_is_left(postgres_url: str, beside: Any) -> None:
    async with Release(postgres_url, WIDER).open():
        pass
    await beside.execute("begin; lock table perdure.message in access share mode")

    async with Release(postgres_url, WIDER, NARROWER).open() as store:
        assert await behind(postgres_url) == [(101, "expand")]
        await store.streams.append("s", b"x", 0)
    await beside.execute("commit")

    async with Release(postgres_url, WIDER, NARROWER).open():
        assert await behind(postgres_url) == BOTH


async def test_a_contract_migration_that_is_interrupted_leaves_nothing(postgres_url: str) -> None:
    cut = migration(102, "DROP TABLE later; select pg_terminate_backend(pg_backend_pid())", CONTRACT)
    async with Release(postgres_url, WIDER).open():
        pass

    with pytest.raises((StoreUnavailable, Lost)):
        await Release(postgres_url, WIDER, cut).opened()

    assert await behind(postgres_url) == [(101, "expand")]
    async with Release(postgres_url, WIDER).open() as old:
        assert (await old.info()).rows["later"] == 0


async def test_a_joined_transaction_of_an_old_release_works_until_the_store_is_narrowed(postgres_url: str, beside: Any) -> None:
    async with Release(postgres_url, WIDER).open():
        pass
    with Release(postgres_url).installed():
        joined = Joined(beside)
        async with beside.transaction():
            await joined.processes.register(ACME, RegistryKey("one"), P1)
    async with Release(postgres_url, WIDER, NARROWER).open():
        assert await behind(postgres_url) == BOTH, "no transaction is under way"

    with Release(postgres_url).installed(), pytest.raises(SchemaTooNew, match="0102_m102"):
        async with beside.transaction():
            await joined.processes.register(ACME, RegistryKey("two"), P2)


@pytest.mark.usefixtures("impatient")
async def test_a_joined_transaction_that_is_under_way_is_waited_for(postgres_url: str, beside: Any) -> None:
    async with Release(postgres_url, WIDER).open():
        pass
    nothing = migration(102, "CREATE TABLE unheard (a INT NOT NULL)", CONTRACT)  # waits for nobody by itself

    with Release(postgres_url, WIDER).installed():
        async with beside.transaction():
            joined = Joined(beside)
            await joined.processes.register(ACME, RegistryKey("one"), P1)
            async with Release(postgres_url, WIDER, nothing).open():
                assert await behind(postgres_url) == [(101, "expand")]
    async with Release(postgres_url, WIDER, nothing).open() as store:
        assert await behind(postgres_url) == BOTH
        assert await store.processes.lookup(ACME, RegistryKey("one")) == P1


async def test_a_joined_transaction_of_a_new_release_needs_what_was_added_and_nothing_that_waits(postgres_url: str, beside: Any) -> None:
    async with Release(postgres_url).open():
        with Release(postgres_url, WIDER, NARROWER).installed():
            with pytest.raises(UsageError, match="older version"):
                async with beside.transaction():
                    await Joined(beside).processes.register(ACME, RegistryKey("one"), P1)
            async with Release(postgres_url, WIDER).open(), beside.transaction():
                await Joined(beside).processes.register(ACME, RegistryKey("one"), P1)

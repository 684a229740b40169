"""What a server says no to: the callers hear what it means, nothing of it is written, and the writer goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from perdure import limits
from perdure.errors import StoreBusy, StoreFull
from perdure.identity import RegistryKey
from perdure.store import open_store
from tests.contracts.registry import ACME, P1
from tests.postgres.adding import Add, Told, problems
from tests.postgres.proxy import Proxy

pytestmark = pytest.mark.usefixtures("impatient")
Connection = Any


@pytest.fixture
async def foreign(url: str) -> AsyncIterator[Connection]:
    """A program of somebody else's, connected to the store's database."""
    connection = await asyncpg.connect(url)
    yield connection
    connection.terminate()


async def blocked(connection: Connection) -> None:
    """Return once somebody waits for a lock that this connection holds."""
    while not await connection.fetchval("select count(*) from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))"):
        pass


async def unblocked(connection: Connection) -> None:
    """Return once nobody waits for a lock that this connection holds."""
    while await connection.fetchval("select count(*) from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))"):
        pass


async def fail_with(connection: Connection, code: str) -> None:
    """Let every change of a value fail with this code from now on; '' lets them pass."""
    await connection.execute("drop trigger if exists failing on perdure.value")
    if code:
        await connection.execute(
            "create or replace function perdure.failing() returns trigger language plpgsql as "
            f"$$ begin raise exception 'made up' using errcode = '{code}'; end $$"
        )
        await connection.execute("create trigger failing before insert or update on perdure.value execute function perdure.failing()")


@pytest.fixture
async def failing(foreign: Connection) -> AsyncIterator[Connection]:
    yield foreign
    await fail_with(foreign, "")


# --- errors of the server ---------------------------------------------------------------------------------------


async def test_a_full_disk_is_told_to_its_callers_nothing_is_written_and_the_writer_goes_on(url: str, failing: Connection) -> None:
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        await fail_with(failing, "53100")
        await told.add_together(store, 3)
        await store.processes.register(ACME, RegistryKey("k"), P1)
        await fail_with(failing, "")
        await told.add_together(store, 3)

    assert [type(error) for error in told.errors] == [StoreFull] * 3
    assert await problems(url, told) == []
    assert len(told.sums) == 4


@pytest.mark.parametrize("code", ["53200", "57014"])
async def test_a_server_without_memory_or_time_makes_its_callers_busy(url: str, failing: Connection, code: str) -> None:
    told = Told()
    async with open_store(url) as store:
        await fail_with(failing, code)
        await told.add_together(store, 3)
        await fail_with(failing, "")
        await told.add(store)

    assert [type(error) for error in told.errors] == [StoreBusy] * 3
    assert await problems(url, told) == []


async def test_connections_that_an_administrator_ends_are_made_again(url: str, foreign: Connection) -> None:
    told = Told()
    async with open_store(url) as store:
        for _ in range(5):
            await foreign.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'perdure %'")
            await told.add_together(store, 3)
            assert await store.streams.read_value("sum", tenant_id=ACME) == len(told.sums)

    assert told.errors == []
    assert await problems(url, told) == []


async def test_a_statement_that_an_administrator_cancels_makes_its_callers_busy(url: str, foreign: Connection) -> None:
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        async with foreign.transaction():
            await foreign.execute("select 1 from perdure.value for update")
            adding = asyncio.create_task(told.add(store))
            await blocked(foreign)
            await foreign.execute("select pg_cancel_backend(pid) from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))")
            await adding
        await told.add(store)

    assert [type(error) for error in told.errors] == [StoreBusy]
    assert await problems(url, told) == []


async def test_a_connection_that_an_administrator_ends_while_its_batch_waits_is_settled(url: str, foreign: Connection) -> None:
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        async with foreign.transaction():
            await foreign.execute("select 1 from perdure.value for update")
            adding = asyncio.create_task(told.add(store))
            await blocked(foreign)
            await foreign.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))"
            )
        await adding

    assert told.errors == []
    assert await problems(url, told) == []


# --- locks of others --------------------------------------------------------------------------------------------


async def test_a_foreign_transaction_that_holds_a_row_delays_the_batch_and_nothing_is_lost(url: str, foreign: Connection) -> None:
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        async with foreign.transaction():
            await foreign.execute("select 1 from perdure.value for update")
            adding = asyncio.create_task(told.add_together(store, 3))
            await blocked(foreign)
        await adding

    assert told.errors == []
    assert await problems(url, told) == []


async def test_a_foreign_transaction_that_holds_a_row_for_longer_than_a_statement_may_take_leaves_nothing_waiting_behind_it(
    url: str, foreign: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POSTGRES_STATEMENT_SECONDS", 0.2)
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        async with foreign.transaction():
            await foreign.execute("select 1 from perdure.value for update")
            await told.add(store)
            await store.processes.register(ACME, RegistryKey("k"), P1)
            await unblocked(foreign)
        await told.add(store)

    assert [type(error) for error in told.errors] == [StoreBusy]
    assert await problems(url, told) == []


async def test_a_foreign_change_of_a_row_that_is_in_memory_is_found(url: str, foreign: Connection) -> None:
    async with open_store(url) as store:
        await store.commit(Add())
        await foreign.execute("update perdure.value set value = value + 10, rev = rev + 1")

        assert await store.commit(Add()) == (12,)


async def test_of_a_deadlock_with_a_foreign_transaction_one_gives_way_and_the_batch_is_run_again(url: str, foreign: Connection) -> None:
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        await store.commit(Add("other"))
        transaction = foreign.transaction()
        await transaction.start()
        await foreign.execute("select 1 from perdure.value where key = 'sum' for update")
        both = asyncio.create_task(store.commit(Add("other"), Add()))
        await blocked(foreign)
        try:
            await foreign.execute("select 1 from perdure.value where key = 'other' for update")
        except asyncpg.DeadlockDetectedError:
            await transaction.rollback()
        else:
            await transaction.commit()
        assert await both == (2, 2)
        told.sums.append(2)

        assert await store.commit(Add("other")) == (3,)


# --- a server that does not write any more ------------------------------------------------------------------------


async def test_a_server_that_became_read_only_is_waited_for(url: str, foreign: Connection) -> None:
    told = Told()
    name = await foreign.fetchval("select current_database()")
    async with open_store(url) as store:
        await told.add(store)
        await foreign.execute(f"alter database {name} set default_transaction_read_only = on")
        try:
            await foreign.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'perdure %'")
            adding = asyncio.create_task(told.add_together(store, 3))
            while await foreign.fetchval("select count(*) from pg_stat_activity where application_name like 'perdure %'") == 0:
                pass
            assert not adding.done()
        finally:
            await foreign.execute("set default_transaction_read_only = off")
            await foreign.execute(f"alter database {name} reset default_transaction_read_only")
        await adding

    assert told.errors == []
    assert await problems(url, told) == []


async def test_a_session_that_became_read_only_is_left(url: str, proxy: Proxy) -> None:
    told = Told()
    async with open_store(url) as store:
        await told.add(store)
        backend: Any = store.access.writer._backend
        await backend._session.execute("set default_transaction_read_only = on")
        await told.add_together(store, 3)

    assert told.errors == []
    assert await problems(url, told) == []

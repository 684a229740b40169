"""Messages and operations in a transaction of the application's own: there when it commits, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session as OrmSession

from perdure import Address, Engine, Joined, RegistryKey, Store, open_store
from perdure.engine import verification
from perdure.errors import MessageConflict, NoRoute, StoreNotFound, UsageError, ValueConflict
from perdure.messages.tables import MESSAGE
from perdure.operations.contract import OperationId, OperationState
from tests.contracts.registry import ACME, P1
from tests.engine.orders import Approve, Comment, Ledger, Place, eventually, make_app

ORDERS = "create table if not exists orders (id text primary key)"
INSERT = "insert into orders values ('{}')"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def engine(postgres_url: str, ledger: Ledger) -> AsyncIterator[Engine]:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(ORDERS)
    await connection.close()
    async with open_store(postgres_url) as store, Engine(store, make_app(ledger)) as engine:
        yield engine


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def is_done(engine: Engine, message_id: str) -> bool:
    return await known(engine.store, message_id) and (await engine.explain(message_id)).status == "done"


async def known(store: Store, message_id: str) -> bool:
    return await store.access.reader.get(MESSAGE.key("default", "", message_id)) is not None


async def orders(url: str) -> list[str]:
    async with connected(url) as connection:
        return [row[0] for row in await connection.fetch("select id from orders order by id")]


async def test_a_row_and_a_message_are_committed_together_and_the_turn_runs_once(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        async with connection.transaction():
            await connection.execute(INSERT.format("1"))
            receipt = await Joined(connection, app=engine.app).deliver(Place("1"), id="place-1")
            assert not await known(engine.store, "place-1"), "nobody sees it before the commit"

        await eventually(lambda: is_done(engine, "place-1"))

    assert (receipt.duplicate, receipt.status) == (False, "queued")
    assert await orders(postgres_url) == ["1"]
    assert ledger.effects == ["charge 1"]
    assert (await engine.deliver(Place("1"), id="place-1")).duplicate
    assert await verification.verify(engine.store) == []


async def test_what_is_rolled_back_was_never_there(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(INSERT.format("1"))
        await Joined(connection, app=engine.app).deliver(Place("1"), id="place-1")
        await transaction.rollback()

    assert not await known(engine.store, "place-1")
    assert await orders(postgres_url) == []
    assert not (await engine.deliver(Place("1"), id="place-1")).duplicate
    await eventually(lambda: is_done(engine, "place-1"))
    assert ledger.effects == ["charge 1"]


async def test_a_connection_that_breaks_before_the_commit_leaves_nothing(engine: Engine, postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.transaction().start()
        await Joined(connection, app=engine.app).deliver(Place("1"), id="place-1")
        async with connected(postgres_url) as other:
            await other.execute("select pg_terminate_backend($1)", connection.get_server_pid())

    assert not await known(engine.store, "place-1")
    assert not (await engine.deliver(Place("1"), id="place-1")).duplicate


async def test_one_id_in_two_transactions_at_once_is_one_message(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    async with connected(postgres_url) as one, connected(postgres_url) as two:
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        accepted = await Joined(one, app=engine.app).deliver(Place("1"), id="place-1")
        waiting = asyncio.ensure_future(Joined(two, app=engine.app).deliver(Place("1"), id="place-1"))
        await eventually(lambda: blocked(two.get_server_pid(), postgres_url))
        await first.commit()

        found = await waiting
        await two.execute(INSERT.format("kept"))
        await second.commit()

    await eventually(lambda: is_done(engine, "place-1"))
    assert (accepted.duplicate, found.duplicate) == (False, True)
    assert ledger.effects == ["charge 1"]
    assert await orders(postgres_url) == ["kept"], "the second transaction goes on"
    assert await verification.verify(engine.store) == []


async def blocked(pid: int, url: str) -> bool:
    async with connected(url) as connection:
        return bool(await connection.fetchval("select wait_event_type = 'Lock' from pg_stat_activity where pid = $1", pid))


async def test_one_id_beside_a_transaction_that_is_rolled_back_is_accepted(engine: Engine, postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await Joined(connection, app=engine.app).deliver(Place("1"), id="place-1")
        waiting = asyncio.ensure_future(engine.deliver(Place("1"), id="place-1", wait=True))
        await asyncio.sleep(0)
        await transaction.rollback()

        assert (await waiting)["status"] == "charged"


async def test_a_refusal_is_undone_alone(engine: Engine, postgres_url: str) -> None:
    await engine.deliver(Place("1"), id="place-1", wait=True)
    async with connected(postgres_url) as connection, connection.transaction():
        joined = Joined(connection, app=engine.app)
        await connection.execute(INSERT.format("1"))
        with pytest.raises(MessageConflict):
            await joined.deliver(Place("2"), id="place-1")
        await joined.deliver(Comment("1", "after"), id="comment")

    await eventually(lambda: is_done(engine, "comment"))
    assert await orders(postgres_url) == ["1"]


async def test_many_transactions_at_once_each_count_and_have_ticks_of_their_own(engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    async def place(number: int) -> None:
        async with connected(postgres_url) as connection, connection.transaction():
            joined = Joined(connection, app=engine.app)
            await joined.deliver(Place(f"{number}"), id=f"place-{number}")
            await joined.deliver(Comment(f"{number}", "x"), id=f"comment-{number}")

    await asyncio.gather(*(place(number) for number in range(20)))

    for number in range(20):
        await eventually(lambda: is_done(engine, f"comment-{number}"))  # noqa: B023  # it is awaited before the next
    assert sorted(ledger.effects) == sorted(f"charge {number}" for number in range(20))
    assert await verification.verify(engine.store) == []
    assert (await engine.store.info()).writers == 1, "who joins is no open store"


async def test_transactions_about_different_things_do_not_wait_for_one_another(engine: Engine, postgres_url: str) -> None:
    async with connected(postgres_url) as one, connected(postgres_url) as two:
        async with one.transaction():
            await Joined(one).streams.cas("before", None, 1)
        async with one.transaction():
            await Joined(one, app=engine.app).deliver(Place("1"), id="place-1")
            async with two.transaction():
                await two.execute("set local lock_timeout = 100")
                await Joined(two, app=engine.app).deliver(Place("2"), id="place-2")

            await eventually(lambda: is_done(engine, "place-2"))
            assert not await known(engine.store, "place-1")
        await eventually(lambda: is_done(engine, "place-1"))


async def test_the_rooms_take_part_in_the_transaction(engine: Engine, postgres_url: str) -> None:
    operation = OperationId.of("refund")
    async with connected(postgres_url) as connection, connection.transaction():
        joined = Joined(connection)
        await joined.operations.admit(operation)
        await joined.streams.cas("stock", None, 7)
        with pytest.raises(ValueConflict):
            await joined.streams.cas("stock", 1, 2)
        await joined.processes.register(ACME, RegistryKey("mine"), P1)
        assert await joined.operations.lookup(operation) == OperationState.ADMITTED, "it sees what it has written"
        assert await joined.processes.len() == 1
        assert await engine.store.operations.lookup(operation) == OperationState.UNKNOWN

    assert await engine.store.operations.lookup(operation) == OperationState.ADMITTED
    assert await engine.store.streams.read_value("stock") == 7
    assert await engine.store.processes.len() == 1


# --- the drivers ---------------------------------------------------------------------------------------------


async def _psycopg(url: str, engine: Engine) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(INSERT.format("1").encode())
        await Joined(connection, app=engine.app).deliver(Place("1"), id="place-1")


def _psycopg_sync(url: str, engine: Engine) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(INSERT.format("1").encode())
        joined = Joined(connection, app=engine.app)
        joined.run(joined.deliver(Place("1"), id="place-1"))


async def _sqlalchemy_session(url: str, engine: Engine, driver: str) -> None:
    database = create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
    async with AsyncSession(database) as session, session.begin():
        await session.execute(sqlalchemy.text(INSERT.format("1")))
        await Joined(session, app=engine.app).deliver(Place("1"), id="place-1")
    await database.dispose()


async def _sqlalchemy(url: str, engine: Engine) -> None:
    database = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with database.begin() as connection:
        await Joined(connection, app=engine.app).deliver(Place("1"), id="place-1")
        await connection.execute(sqlalchemy.text(INSERT.format("1")))
    await database.dispose()


def _sqlalchemy_sync(url: str, engine: Engine) -> None:
    database = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with OrmSession(database) as session, session.begin():
        joined = Joined(session, app=engine.app)
        joined.run(joined.deliver(Place("1"), id="place-1"))
        session.execute(sqlalchemy.text(INSERT.format("1")))
    database.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg-sync", "sqlalchemy", "sqlalchemy-sync", "session-asyncpg", "session-psycopg"])
async def test_every_driver_may_bring_its_transaction(driver: str, engine: Engine, ledger: Ledger, postgres_url: str) -> None:
    match driver:
        case "psycopg":
            await _psycopg(postgres_url, engine)
        case "psycopg-sync":
            await asyncio.to_thread(_psycopg_sync, postgres_url, engine)
        case "sqlalchemy":
            await _sqlalchemy(postgres_url, engine)
        case "sqlalchemy-sync":
            await asyncio.to_thread(_sqlalchemy_sync, postgres_url, engine)
        case _:
            await _sqlalchemy_session(postgres_url, engine, driver.removeprefix("session-"))

    await eventually(lambda: is_done(engine, "place-1"))
    assert await orders(postgres_url) == ["1"]
    assert ledger.effects == ["charge 1"]


def test_a_synchronous_transaction_that_is_rolled_back_leaves_nothing(postgres_url: str) -> None:
    asyncio.run(_made(postgres_url))
    with psycopg.connect(postgres_url) as connection:
        joined = Joined(connection)
        joined.run(joined.streams.cas("a", None, 1))
        with pytest.raises(ValueConflict):
            joined.run(joined.streams.cas("a", 5, 6))
        assert joined.run(joined.streams.read_value("a")) == 1
        connection.rollback()

        assert joined.run(joined.streams.read_value("a")) is None


async def _made(url: str) -> None:
    async with open_store(url):
        pass


# --- what is refused -----------------------------------------------------------------------------------------


async def test_what_cannot_be_joined_says_so(engine: Engine, postgres_url: str) -> None:
    with pytest.raises(UsageError, match=r"expected an asyncpg connection, .* found builtins.object"):
        Joined(object())
    async with connected(postgres_url) as connection:
        with pytest.raises(UsageError, match="in no transaction"):
            await Joined(connection).streams.cas("a", None, 1)
        async with connection.transaction(isolation="serializable"):
            with pytest.raises(UsageError, match="read committed, found serializable"):
                await Joined(connection).streams.cas("a", None, 1)
        async with connection.transaction():
            with pytest.raises(StoreNotFound, match="no store in this schema"):
                await Joined(connection, schema="elsewhere").streams.cas("a", None, 1)
            with pytest.raises(UsageError, match="give Joined the app"):
                await Joined(connection).deliver(Place("1"), id="place-1")
            with pytest.raises(NoRoute):
                await Joined(connection, app=engine.app).deliver(Approve("1"), id="a", to=Address.start("Order"))
            with pytest.raises(UsageError, match="await the call"):
                joined = Joined(connection, app=engine.app)
                joined.run(joined.deliver(Place("1"), id="place-1"))
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as automatic:
        with pytest.raises(UsageError, match="in no transaction"):
            await Joined(automatic).streams.cas("a", None, 1)


async def test_two_calls_at_once_on_one_connection_are_refused(engine: Engine, postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connection.transaction():
        joined = Joined(connection, app=engine.app)
        first = asyncio.ensure_future(joined.deliver(Place("1"), id="place-1"))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="one call at a time"):
            await joined.deliver(Place("2"), id="place-2")
        await first


async def test_a_transaction_that_idles_after_a_call_is_ended_by_the_server(engine: Engine, postgres_url: str) -> None:
    setting = "select setting::int from pg_settings where name = 'idle_in_transaction_session_timeout'"
    async with connected(postgres_url) as connection:
        async with connection.transaction():
            await Joined(connection).streams.cas("a", None, 1)
            assert await connection.fetchval(setting) == 5_000
        assert await connection.fetchval(setting) == 0, "only in that transaction"
        async with connection.transaction():
            await connection.execute("set local idle_in_transaction_session_timeout = 700")
            await Joined(connection).streams.cas("b", None, 1)
            assert await connection.fetchval(setting) == 700, "a shorter time stays"

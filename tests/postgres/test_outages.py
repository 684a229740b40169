"""A network that swallows everything: stores can be closed, reads end, and whoever waits for other nodes goes on waiting for them."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import asyncpg
import pytest

from perdure import Engine, limits
from perdure.backends.postgres import backend
from perdure.errors import OutcomeUnknown, StoreUnavailable
from perdure.store import open_store
from tests.contracts.registry import ACME
from tests.engine.orders import Ledger, holds, make_app
from tests.postgres.adding import Add, Told, problems, until
from tests.postgres.proxy import WRITES, Match, Message, Proxy, answered, asked, cut, mute

pytestmark = pytest.mark.usefixtures("impatient")
GUARD = 20.0  # seconds, for what would otherwise wait for the server's answer or for ever

CONNECTED = "select count(*) from pg_stat_activity where application_name like 'perdure%' and datname = current_database()"
READS_A_VALUE = "perdure.value t where"


@pytest.fixture(autouse=True)
def connects_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POSTGRES_CONNECT_SECONDS", 1.0)


async def test_a_store_whose_connections_are_mute_is_closed_all_the_same(url: str, proxy: Proxy) -> None:
    async with asyncio.timeout(GUARD):
        store = await open_store(proxy.url(url))
        await store.commit(Add())
        await store.streams.read_value("sum", tenant_id=ACME)
        for link in proxy.links:
            link.muted = True

        await store.close()

    async with open_store(url) as store:
        assert (await store.info()).writers == 2, "its row could not be folded"


@pytest.mark.parametrize("answer", ["cut", "mute"])
async def test_an_engine_that_stops_in_an_outage_waits_no_longer_than_its_limit(
    url: str, proxy: Proxy, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLOSE_SECONDS", 0)
    async with asyncio.timeout(GUARD), open_store(proxy.url(url)) as store:
        async with Engine(store, make_app(Ledger())):
            monkeypatch.setattr(limits, "POSTGRES_ANSWER_SECONDS", 0.1)
            proxy.refusing = True
            for link in proxy.links:
                link.muted = True
            if answer == "cut":
                proxy.end_all()
            adding = asyncio.create_task(store.commit(Add()))

        with pytest.raises(StoreUnavailable):
            await adding


async def test_a_store_whose_engine_has_stopped_waits_for_its_server_as_before(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "CLOSE_SECONDS", 0)
    monkeypatch.setattr(backend, "_LOG_EVERY", 1)
    async with asyncio.timeout(GUARD), open_store(proxy.url(url)) as store:
        async with Engine(store, make_app(Ledger())):
            pass
        proxy.refusing = True
        proxy.end_all()
        adding = asyncio.create_task(store.commit(Add()))
        await holds(lambda: caplog.text.count("trying again") > 2 or adding.done())
        proxy.refusing = False

        await adding


async def test_what_was_under_way_when_a_store_closes_in_an_outage_is_of_unknown_outcome_and_can_be_settled(url: str, proxy: Proxy) -> None:
    store = await open_store(proxy.url(url))
    await store.commit(Add())
    answer = proxy.at(answered(WRITES), mute)
    adding = asyncio.create_task(store.commit(Add()))
    await answer.seen.wait()
    proxy.refusing = True
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    proxy.end_all()

    with pytest.raises(OutcomeUnknown) as caught:
        await adding
    await closing

    async with open_store(url) as again:
        assert await again.settle(caught.value)
        assert await again.streams.read_value("sum", tenant_id=ACME) == 2


async def test_a_connection_that_breaks_while_a_store_closes_is_no_reason_to_give_up(url: str, proxy: Proxy) -> None:
    heard = Told()
    store = await open_store(proxy.url(url))
    cuts = [proxy.at(match, cut) for match in (asked("perdure.value t on"), asked(WRITES))]
    adding = asyncio.create_task(heard.add(store))
    await asyncio.sleep(0)

    await store.close()
    await adding

    assert all(each.seen.is_set() for each in cuts)
    assert heard.errors == []
    assert await problems(url, heard) == []


async def test_reads_that_wait_when_the_store_closes_are_refused_and_leave_no_connection(url: str, proxy: Proxy) -> None:
    async with asyncio.timeout(GUARD):
        store = await open_store(proxy.url(url))
        swallowed = proxy.at(asked(READS_A_VALUE), mute, times=limits.POSTGRES_READERS)
        reading = [asyncio.create_task(store.streams.read_value("v")) for _ in range(limits.POSTGRES_READERS + 3)]
        await until(lambda: len(swallowed.links) == limits.POSTGRES_READERS)

        await store.close()
        ended = await asyncio.gather(*reading, return_exceptions=True)

    assert {type(error) for error in ended} == {StoreUnavailable}
    for link in list(proxy.links):
        link.end()
    await until(lambda: not proxy.links)
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(GUARD):
        while await connection.fetchval(CONNECTED):
            assert not proxy.links
    await connection.close()


def listens(message: Message) -> bool:
    return message.side == "client" and "LISTEN" in message.sql and message.kind in {"Q", "P"}


def looks(message: Message) -> bool:
    return asked("sum(batch + incarnation)")(message)


@pytest.mark.parametrize("match", [listens, looks])
@pytest.mark.parametrize("harm", [cut, mute])
async def test_whoever_waits_for_other_nodes_hears_of_them_after_the_connection_for_it_was_lost(
    url: str, proxy: Proxy, match: Match, harm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(limits, "POSTGRES_POLL_MS", 5)
    async with asyncio.timeout(GUARD), open_store(proxy.url(url)) as waiting, open_store(url) as other:
        lost = proxy.at(match, harm)
        with waiting.access.signals.listen("anything") as listener:
            await lost.seen.wait()
            await other.commit(Add())
            await listener.wait(None)


async def test_a_wait_that_ends_while_its_connection_is_being_made_leaves_no_error_behind(
    url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that the driver does then comes to light before the garbage is collected."""
    async with open_store(proxy.url(url)) as store:
        accepted = proxy.accepted
        with store.access.signals.listen("anything"):
            await until(lambda: proxy.accepted > accepted)
    await until(lambda: not proxy.links)
    gc.collect()

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []

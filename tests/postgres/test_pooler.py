"""Behind a pooler that gives each transaction another connection, a store keeps its promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from perdure import limits
from perdure.errors import StoreUnavailable
from perdure.identity import RegistryKey
from perdure.operations.contract import Replay, SealedResponse
from perdure.store import open_store
from tests.contracts.operations import ANSWER, RECEIPT, begin, seal, start
from tests.contracts.registry import ACME, P1, P2
from tests.postgres.adding import Told, problems
from tests.postgres.pooler import Pooler
from tests.postgres.proxy import COMMITS, WRITES, Proxy, answered, asked, cut, mute
from tests.postgres.server import Server
from tests.racing.race import problems as problems_of_race
from tests.racing.race import raced_here

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
async def pooler(postgres_server: Server) -> AsyncIterator[Pooler]:
    async with Pooler(postgres_server.port) as pooler:
        yield pooler


@pytest.fixture
def pooled(pooler: Pooler, url: str) -> str:
    return f"{pooler.url(url)}?pooler=transaction"


async def test_a_store_that_knows_nothing_of_the_pooler_says_what_its_url_lacks(pooler: Pooler, url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"unsupported startup parameter: .*; behind a pooler, add pooler=transaction to the URL"):
        await open_store(pooler.url(url))


async def test_a_store_is_made_through_it(pooler: Pooler, postgres_url: str) -> None:
    async with open_store(f"{pooler.url(postgres_url)}?pooler=transaction") as store:
        await store.streams.cas("v", None, 7)

        assert await store.streams.read_value("v") == 7
        assert pooler.transactions > len((await store.info()).migrations)


async def test_every_room_works_through_it(pooled: str) -> None:
    async with open_store(pooled) as store, open_store(pooled) as other:
        await store.processes.register(ACME, RegistryKey("k"), P1)
        await store.processes.register_correlated(ACME, "t", P2.process_id, P2)
        token = await start(store.operations)
        await seal(store.operations, token=token)
        await store.streams.append("log", b"x", 0)

        assert await other.processes.lookup(ACME, RegistryKey("k")) == P1
        assert await other.processes.lookup_correlated(ACME, "t") == [P2]
        assert await begin(other.operations) == Replay(SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json"))
        assert [entry.payload for entry in await other.streams.read_from("log", 0)] == [b"x"]
        assert await other.processes.verify(ACME) == []


async def test_nothing_is_lost_in_a_race_through_it(pooled: str) -> None:
    assert await problems_of_race(pooled, await raced_here(pooled, 4)) == []


@pytest.mark.parametrize("harm", [cut, mute])
@pytest.mark.parametrize(
    "match", [asked(WRITES), answered(WRITES), asked(COMMITS), answered(COMMITS)], ids=["write", "written", "commit", "committed"]
)
async def test_a_batch_whose_connection_to_it_is_lost_is_settled(
    pooler: Pooler, url: str, match: Callable[..., bool], harm: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POSTGRES_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(limits, "POSTGRES_IDLE_MS", 100)
    told = Told()
    async with Proxy(pooler.port) as proxy, open_store(f"{proxy.url(url)}?pooler=transaction") as store:
        await told.add(store)
        # The first commits after this are of batches: nobody reads meanwhile.
        lost = proxy.at(match, harm)  # type: ignore[arg-type]
        await told.add_together(store, 3)
        await told.add(store)
        assert lost.seen.is_set()

    assert told.errors == []
    assert await problems(url, told) == []

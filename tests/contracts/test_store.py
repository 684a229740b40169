"""What any open store promises, whatever is under it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from perdure.clock import VirtualClock
from perdure.conversations.tables import PROCESS, ProcessRow, ProcessStatus
from perdure.core.view import View
from perdure.errors import EngineRunning, NotFoundError, OutcomeUnknown, ProcessEnded, StoreUnavailable, UsageError, ValueConflict
from perdure.identity import RegistryKey
from perdure.store import Store, open_store
from perdure.streams.writes import CompareAndSet
from tests.contracts.registry import ACME, P1

Reopen = Callable[[], Awaitable[Store]]


def put(key: str, old: int | None, new: int) -> CompareAndSet:
    return CompareAndSet(ACME, key, old, new)


class Count:
    """Count one, and return the store's time."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> int:
        view.count("tests", 1)
        return view.now


class End:
    """A process that is over."""

    def reads(self) -> tuple[()]:
        return ()

    def decide(self, view: View) -> None:
        key, now = PROCESS.key(ACME, P1.process_id), view.now
        assert view.get(key) is None
        view.insert(key, ProcessRow(process_type="order", status=ProcessStatus.ENDED, stream_no=1, shard=0, created_at=now, updated_at=now))


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def test_writes_of_one_commit_happen_together_in_order_and_answer_in_order(store: Store) -> None:
    assert await store.commit(put("a", None, 1), put("a", 1, 2), put("b", None, 1)) == (None, None, None)

    assert await store.streams.read_value("a", tenant_id=ACME) == 2


async def test_of_writes_of_one_commit_all_happen_or_none(store: Store, reopen: Reopen) -> None:
    with pytest.raises(ValueConflict):
        await store.commit(put("a", None, 1), put("b", 7, 8))

    again = await reopen()
    assert await again.streams.read_value("a", tenant_id=ACME) is None


async def test_what_was_committed_is_there_after_a_reopening(store: Store, reopen: Reopen) -> None:
    await store.commit(put("a", None, 1), Count())

    again = await reopen()

    assert await again.streams.read_value("a", tenant_id=ACME) == 1
    assert await again.access.reader.counter("tests") == 1


async def test_the_clock_that_was_given_is_the_stores_time(store: Store, clock: VirtualClock) -> None:
    [before] = await store.commit(Count())
    clock.advance(5)

    [after] = await store.commit(Count())

    assert (before, after) == (clock.now() - 5, clock.now())


async def test_a_key_cannot_be_bound_to_a_process_that_is_over(store: Store) -> None:
    await store.processes.register(ACME, RegistryKey("before"), P1)
    await store.commit(End())

    with pytest.raises(ProcessEnded):
        await store.processes.register(ACME, RegistryKey("after"), P1)
    with pytest.raises(ProcessEnded):
        await store.processes.register_correlated(ACME, "tag", P1.process_id, P1)


async def test_a_store_tells_its_format_and_counts(store: Store) -> None:
    await store.commit(put("a", None, 1))

    info = await store.info()

    assert (info.format, info.shards, info.writers) == (1, 64, 1)
    assert (info.rows["store"], info.rows["value"], info.rows["process"]) == (1, 1, 0)
    assert info.data_bytes > 0
    assert info.migrations[0] == "0001_store"
    assert store.shards == 64


async def test_a_sound_store_finds_nothing_wrong_with_itself(store: Store) -> None:
    assert await store.integrity() == []


async def test_a_backup_is_a_store_of_its_own(store: Store, tmp_path: Path) -> None:
    await store.commit(put("a", None, 1))

    await store.backup(tmp_path / "copy.db")
    await store.commit(put("a", 1, 2))

    async with open_store(f"sqlite:///{tmp_path / 'copy.db'}", create=False) as copy:
        assert await copy.streams.read_value("a", tenant_id=ACME) == 1
        await copy.commit(put("a", 1, 3))
    assert await store.streams.read_value("a", tenant_id=ACME) == 2


async def test_a_backup_does_not_stop_the_writer(store: Store, tmp_path: Path) -> None:
    await asyncio.gather(store.backup(tmp_path / "copy.db"), *(store.commit(put(str(n), None, n)) for n in range(50)))

    async with open_store(f"sqlite:///{tmp_path / 'copy.db'}") as copy:
        assert await copy.integrity() == []


async def test_a_backup_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(UsageError, match="never overwrites"):
        await store.backup(tmp_path / "mine.txt")

    assert (tmp_path / "mine.txt").read_text() == "precious"


async def test_a_name_is_held_by_one_until_it_is_given_back(store: Store) -> None:
    await store.exclusive("engine")
    await store.exclusive("other")
    with pytest.raises(EngineRunning):
        await store.exclusive("engine")

    await store.give_back("engine")
    await store.give_back("engine")

    await store.exclusive("engine")


async def test_a_closed_store_holds_no_name(store: Store, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'named.db'}"
    first = await open_store(url)
    second = await open_store(url)
    await first.exclusive("engine")
    with pytest.raises(EngineRunning):
        await second.exclusive("engine")

    await first.close()

    await second.exclusive("engine")
    await second.close()
    assert names(tmp_path) >= {"named.db", "named.db-engine"}


async def test_an_outcome_of_a_writer_that_is_not_known_cannot_be_settled(store: Store) -> None:
    with pytest.raises(NotFoundError, match="another store"):
        await store.settle(OutcomeUnknown(node="somebody", batch=3, cause="test"))
    with pytest.raises(NotFoundError):
        await store.settle(OutcomeUnknown(node="", batch=0, cause="test"))


async def test_a_closed_store_refuses_everything_and_closes_again(store: Store, tmp_path: Path) -> None:
    await store.close()
    await store.close()

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.commit(put("a", None, 1)),
        lambda: store.streams.read_value("a", tenant_id=ACME),
        store.info,
        store.integrity,
        lambda: store.backup(tmp_path / "x.db"),
        lambda: store.exclusive("engine"),
        lambda: store.settle(OutcomeUnknown(node="a", batch=1, cause="test")),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="open it again"):
            await call()


async def test_what_was_accepted_before_the_close_is_done(store: Store) -> None:
    accepted = [asyncio.ensure_future(store.commit(put(str(n), None, n))) for n in range(100)]
    await asyncio.sleep(0)

    await store.close()

    assert await asyncio.gather(*accepted) == [(None,)] * 100


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///{}/a.db"])
def test_a_store_belongs_to_the_event_loop_that_opened_it(url: str, tmp_path: Path) -> None:
    async def opened() -> Store:
        return await open_store(url.format(tmp_path))

    with asyncio.Runner() as runner:
        store = runner.run(opened())
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.commit(put("a", None, 1)),
            lambda: store.streams.read_value("a", tenant_id=ACME),
            store.info,
            lambda: store.exclusive("engine"),
        ]
        for call in calls:

            async def elsewhere(call: Callable[[], Awaitable[object]] = call) -> None:
                with pytest.raises(UsageError, match="belongs to the event loop"):
                    await call()

            with asyncio.Runner() as other:
                other.run(elsewhere())
        runner.run(store.close())


async def test_an_opening_is_awaited_or_entered(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    store = await open_store(url)
    async with store:
        await store.commit(put("a", None, 1))

    async with open_store(url) as again:
        assert await again.streams.read_value("a", tenant_id=ACME) == 1
    with pytest.raises(StoreUnavailable):
        await again.info()

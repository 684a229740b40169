"""Running a turn again from one of its steps, in its own process or in a new one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, Store, TenantId, VirtualClock, on, open_store
from perdure.clock import SECOND
from perdure.engine import inspection
from perdure.errors import IllegalTransition, KeyTaken, ProcessCancelled, ProcessNotFound, StepNotFound, TurnFailed
from tests.engine.conftest import Running
from tests.engine.orders import crash, eventually, reaches


class Book(msgspec.Struct, tag="book"):
    n: int = 0


class Told(msgspec.Struct, tag="told"):
    text: str


class Trip:
    """An app whose trips book a flight, tell an inbox, spawn a guide, book a hotel (which fails while it is full), and pay."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.guides: list[str] = []
        self.full = True
        self.app = App("trips")

        @self.app.process
        class Inbox(Process):
            texts: list[str] = []

            @on(Told, start=True, key=lambda _message: "inbox")
            async def told(self, message: Told) -> None:
                self.texts.append(message.text)

        @self.app.process
        async def guide(p: Process, name: str) -> str:
            return name

        @self.app.process(on_error="fail_process")
        class Journey(Process):
            stage: str = "new"

            @on(Book, start=True, key=lambda message: f"trip:{message.n}")
            async def book(journey, message: Book) -> str:  # noqa: N805  # `self` is the trip
                journey.stage = "flying"
                flight = await journey.step(self.note, "flight", name="flight")
                journey.send(Told(f"have {flight}"), to=Address.start("Inbox", key="inbox"))
                journey.tag("travellers")
                await journey.bind(f"flight:{message.n}")
                self.guides.append(journey.spawn(guide, "ann"))
                journey.stage = "staying"
                hotel = await journey.step(self.book_hotel, name="hotel")
                journey.send(Told(f"have {hotel}"), to=Address.key("inbox"))
                journey.stage = "paying"
                await journey.step(self.note, "paid", name="pay")
                await journey.sleep(timedelta(minutes=1))
                return f"{flight}, {hotel}"

        self.journey = Journey

    async def note(self, what: str) -> str:
        self.effects.append(what)
        return what.upper()

    async def book_hotel(self) -> str:
        if self.full:
            raise ConnectionError("no room")
        self.effects.append("hotel")
        return "HOTEL"

    async def texts(self, engine: Engine) -> list[str]:
        await engine.store.commit()
        [inbox] = [one for one in await inspection.processes(engine.store) if one.process_type == "Inbox"]
        return list((await inspection.process(engine.store, inbox.process_id)).fields["texts"])


async def failed(engine: Engine, trip: Trip) -> str:
    """Let a trip fail for want of a hotel; return its process."""
    with pytest.raises(ConnectionError):
        await engine.call(trip.journey.book, Book(1), id="b")
    [process] = [one for one in await inspection.processes(engine.store) if one.process_type == "Journey"]
    assert process.status == "failed"
    return process.process_id


async def ends(engine: Engine, message_id: str) -> None:
    """Wait for the reply, letting the time of the trip's sleep pass."""
    clock = engine.clock
    assert isinstance(clock, VirtualClock)

    async def sealed() -> bool:
        if any(one.status == "waiting" for one in await inspection.processes(engine.store)):
            clock.advance(60 * SECOND)
        return (await engine.explain(message_id)).status == "done" and (await engine.explain(message_id)).reply is not None

    await eventually(sealed)


async def test_a_failed_process_goes_on_from_the_step_that_failed(running: Running) -> None:
    trip = Trip()
    async with running(trip.app) as engine:
        process_id = await failed(engine, trip)
        trip.full = False

        assert await engine.restart_from("hotel", process_id) == "b~2"

        await ends(engine, "b~2")
        found = await inspection.process(engine.store, process_id)
        assert (found.status, found.fields) == ("idle", {"stage": "paying"})
        assert trip.effects == ["flight", "hotel", "paid"]
        assert await trip.texts(engine) == ["have FLIGHT", "have HOTEL"]
        assert len(set(trip.guides)) == 1, "a spawned process has one id, whoever repeats its name"
        assert sorted(await engine.store.processes.keys_of(_default(), found.process_id)) == ["flight:1", "trip:1"]  # type: ignore[arg-type]
        assert await engine.store.processes.tags_of(_default(), found.process_id) == ["travellers"]  # type: ignore[arg-type]
        with pytest.raises(ConnectionError):
            await engine.call(trip.journey.book, Book(1), id="b")
    assert [one.process_type for one in await inspection.processes(engine.store)].count("guide") == 1


def _default() -> Any:
    return TenantId("default")


async def test_a_turn_can_be_run_again_more_than_once_and_from_an_earlier_step(running: Running) -> None:
    trip = Trip()
    async with running(trip.app) as engine:
        process_id = await failed(engine, trip)
        await engine.restart_from("hotel", process_id)
        await reaches(engine, process_id, "failed")
        trip.full = False
        assert await engine.restart_from("hotel", process_id) == "b~3"
        await ends(engine, "b~3")
        assert trip.effects == ["flight", "hotel", "paid"]
        assert await trip.texts(engine) == ["have FLIGHT", "have HOTEL"]
        assert len(set(trip.guides)) == 1


async def test_from_an_earlier_step_everything_after_it_happens_anew(running: Running) -> None:
    trip = Trip()
    async with running(trip.app) as engine:
        process_id = await failed(engine, trip)
        trip.full = False
        await engine.restart_from("flight", process_id)
        await ends(engine, "b~2")
        assert trip.effects == ["flight", "flight", "hotel", "paid"]
        assert await trip.texts(engine) == ["have FLIGHT", "have FLIGHT", "have HOTEL"]
        assert len(set(trip.guides)) == 2


async def test_an_open_turn_is_closed_and_its_callers_hear_of_it(running: Running) -> None:
    trip = Trip()
    trip.full = False
    async with running(trip.app) as engine:
        call = asyncio.create_task(engine.call(trip.journey.book, Book(1), id="b"))
        await eventually(lambda: _all(trip.effects, "paid"))
        [process] = [one for one in await inspection.processes(engine.store) if one.process_type == "Journey"]
        await reaches(engine, process.process_id, "waiting")

        assert await engine.restart_from("pay", process.process_id) == "b~2"

        with pytest.raises(TurnFailed, match="restarted from 'pay' as 'b~2'"):
            await call
        await ends(engine, "b~2")
        assert trip.effects == ["flight", "hotel", "paid", "paid"]
        assert await trip.texts(engine) == ["have FLIGHT", "have HOTEL"]


async def _all(effects: list[str], *wanted: str) -> bool:
    return set(wanted) <= set(effects)


async def test_a_cancelled_process_that_is_run_again_is_not_cancelled_any_more(running: Running) -> None:
    trip = Trip()
    trip.full = False
    async with running(trip.app) as engine:
        call = asyncio.create_task(engine.call(trip.journey.book, Book(1), id="b"))
        await eventually(lambda: _all(trip.effects, "paid"))
        [process] = [one for one in await inspection.processes(engine.store) if one.process_type == "Journey"]
        await engine.cancel(process.process_id)
        with pytest.raises(ProcessCancelled):
            await call
        await engine.restart_from("pay", process.process_id)
        await ends(engine, "b~2")
        assert (await inspection.process(engine.store, process.process_id)).status == "idle"


async def test_a_fork_goes_on_from_a_step_and_leaves_the_first_as_it_is(running: Running) -> None:
    trip = Trip()
    async with running(trip.app) as engine:
        process_id = await failed(engine, trip)
        trip.full = False

        assert await engine.fork("hotel", process_id, id="copy") == "copy"

        await ends(engine, "copy")
        assert (await inspection.process(engine.store, "copy")).fields == {"stage": "paying"}
        assert (await inspection.process(engine.store, process_id)).status == "failed"
        assert trip.effects == ["flight", "hotel", "paid"]
        assert await trip.texts(engine) == ["have FLIGHT", "have HOTEL"]
        assert len(set(trip.guides)) == 1
        assert await engine.store.processes.tags_of(_default(), "copy") == []  # type: ignore[arg-type]
        with pytest.raises(IllegalTransition, match="taken"):
            await engine.fork("hotel", process_id, id="copy")


async def test_what_cannot_be_run_again_is_refused_with_the_reason(running: Running) -> None:
    trip = Trip()
    async with running(trip.app) as engine:
        process_id = await failed(engine, trip)
        with pytest.raises(StepNotFound, match="no record 'train'; there are: flight, bind, hotel"):
            await engine.restart_from("train", process_id)
        with pytest.raises(ProcessNotFound):
            await engine.restart_from("flight", "nobody")
        [inbox] = [one for one in await inspection.processes(engine.store) if one.process_type == "Inbox"]
        with pytest.raises(IllegalTransition, match="ended well"):
            await engine.restart_from("flight", inbox.process_id)


async def test_a_key_that_another_process_has_by_now_is_not_taken_from_it(running: Running) -> None:
    trip = Trip()
    async with running(trip.app) as engine:
        process_id = await failed(engine, trip)
        trip.full = False
        other = asyncio.create_task(engine.call(trip.journey.book, Book(1), id="other"))
        await eventually(lambda: _all(trip.effects, "paid"))
        with pytest.raises(KeyTaken):
            await engine.restart_from("hotel", process_id)
        assert (await inspection.process(engine.store, process_id)).status == "failed"
        await ends(engine, "other")
        assert await other == "FLIGHT, HOTEL"


@pytest.mark.parametrize("commit", range(1, 10))
async def test_a_crash_at_each_commit_after_a_restart_changes_nothing(clock: VirtualClock, commit: int) -> None:
    trip = Trip()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        engine = Engine(store, trip.app)
        await engine.__aenter__()
        process_id = await failed(engine, trip)
        trip.full = False
        last = store.access.writer.commits + commit
        await engine.restart_from("hotel", process_id)

        async def there() -> bool:
            if (await inspection.process(store, process_id)).status == "waiting":
                clock.advance(60 * SECOND)
            return store.access.writer.commits >= last or (await inspection.process(store, process_id)).status == "idle"

        await eventually(there)
        await crash(engine)
        async with Engine(store, trip.app) as engine:
            await ends(engine, "b~2")
            assert await trip.texts(engine) == ["have FLIGHT", "have HOTEL"]
    assert [*dict.fromkeys(trip.effects)] == ["flight", "hotel", "paid"]
    assert len(set(trip.guides)) == 1


async def test_a_process_is_run_again_from_where_no_app_is(store: Store) -> None:
    trip = Trip()
    async with Engine(store, trip.app) as engine:
        process_id = await failed(engine, trip)
        trip.full = False
        assert await inspection.restart_from(store, "hotel", process_id) == "b~2"
        await ends(engine, "b~2")
        assert trip.effects == ["flight", "hotel", "paid"]

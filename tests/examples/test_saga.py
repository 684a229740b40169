"""A trip that is booked whole or not at all: every way to end, in virtual time, and every commit crashed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.saga.cli import main
from examples.saga.services import reserve
from examples.saga.trip import PATIENT, Booking, BookTrip, Trip, app
from examples.world import in_world
from perdure import step_info, testing
from perdure.errors import ProcessNotFound
from perdure.testing import EffectLedger, VirtualEngine
from perdure.testing.crashes import Scenario, Stores
from tests.examples.crashing import admitted, firsts, survives

LISBON, ATLANTIS, BERMUDA = BookTrip("1", "Lisbon"), BookTrip("2", "Atlantis"), BookTrip("3", "Bermuda")
UNDONE = ["reserve flight-3", "reserve hotel-3", "reserve car-3", "release car-3", "release hotel-3", "release flight-3"]


class World(EffectLedger):
    """Services; where `slow`, they release only when they are asked again."""

    slow = False

    def note(self, what: str, /) -> None:
        super().note(what)
        if self.slow and what.startswith("release") and step_info().attempt == 1:
            raise ConnectionError("no answer")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with in_world(world):
        yield world


async def stuck(engine: VirtualEngine, message: BookTrip) -> str:
    """Begin a trip of which a step has to be tried again; return its process."""
    await engine.deliver(message, id="book")
    await engine.advance(PATIENT.initial / 2)  # whatever failed has failed once
    [one] = await engine.processes(attributes={"trip": message.trip_id})
    return one.process_id


async def trip(engine: VirtualEngine, message: BookTrip) -> Trip:
    return await engine.call(Booking.book, message, id="book")


# --- the ways to end, as scenarios: each is run here, and then crashed at each of its commits ------------


async def booked(engine: VirtualEngine) -> object:
    return await trip(engine, LISBON)


async def sold_out(engine: VirtualEngine) -> object:
    return await trip(engine, ATLANTIS)


async def unanswered(engine: VirtualEngine) -> object:
    return await trip(engine, BERMUDA)  # two hours go by


async def cancelled(engine: VirtualEngine) -> list[Trip]:
    process_id = await stuck(engine, BERMUDA)
    before = await engine.query(Booking.trip, process_id)
    await engine.cancel(process_id, reason="changed plans")
    return [before, await trip(engine, BERMUDA)]


async def cancelled_while_it_is_undone(engine: VirtualEngine) -> list[Trip]:
    process_id = await stuck(engine, ATLANTIS)
    before = await engine.query(Booking.trip, process_id)
    await engine.cancel(process_id)
    return [before, await trip(engine, ATLANTIS)]


RESERVED = {"reserve flight", "reserve hotel", "reserve car"}
RELEASED = {"release car", "release hotel", "release flight"}
WAYS: list[tuple[Scenario, set[str]]] = [
    (booked, RESERVED),
    (sold_out, {"reserve flight", "reserve hotel", "release flight"}),
    (unanswered, RESERVED | RELEASED),
    (cancelled, RESERVED | RELEASED),
    (cancelled_while_it_is_undone, {"reserve flight", "reserve hotel", "release flight", "release flight#2"}),
]
"""Each way to end, and the steps that a crash between their effect and their record repeats."""


async def test_a_trip_that_can_be_had_is_booked(world: World) -> None:
    async with testing.engine(app) as engine:
        assert await booked(engine) == Trip("booked", ["flight-1", "hotel-1", "car-1"])
        [one] = await engine.processes(attributes={"trip": "1"})
        assert one.status == "ended", "nothing is kept open for a trip that is over"

    assert firsts(world) == ["reserve flight-1", "reserve hotel-1", "reserve car-1"]


async def test_when_a_part_is_sold_out_those_before_it_are_released_and_it_is_not(world: World) -> None:
    async with testing.engine(app) as engine:
        assert await sold_out(engine) == Trip("not booked", [], "there is no hotel in Atlantis")

    assert firsts(world) == ["reserve flight-2", "no hotel in Atlantis for trip 2", "release flight-2"]


async def test_when_a_service_never_answers_what_it_may_have_reserved_is_released_first(world: World) -> None:
    async with testing.engine(app) as engine:
        assert await unanswered(engine) == Trip("not booked", [], "no answer about the car in Bermuda")

    assert firsts(world) == UNDONE
    assert [one.attempt for one in world.effects if one.step == "reserve car"] == [*range(1, PATIENT.max_attempts + 1)]


async def test_a_cancelled_trip_is_undone_in_reverse_order_and_its_process_is_over(world: World) -> None:
    async with testing.engine(app) as engine:
        before, after = await cancelled(engine)
        [one] = await engine.processes(attributes={"trip": "3"})

        assert before == Trip("booking", ["flight-3", "hotel-3"])
        assert after == Trip("not booked", [], "cancelled")
        assert (one.status, one.note) == ("ended", "cancelled: changed plans")
        with pytest.raises(ProcessNotFound, match="no process holds the key"):
            await engine.query(Booking.trip, key="trip:3")

    assert firsts(world) == UNDONE


async def test_a_cancellation_does_not_stop_what_is_being_undone(world: World) -> None:
    world.slow = True
    async with testing.engine(app) as engine:
        before, after = await cancelled_while_it_is_undone(engine)

    assert before == Trip("undoing", [], "there is no hotel in Atlantis")
    assert after == Trip("not booked", [], "there is no hotel in Atlantis")
    assert [(one.step, one.attempt) for one in world.effects if one.what == "release flight-2"] == [
        ("release flight", 1),
        ("release flight#2", 1),
        ("release flight#2", 2),
    ]


@pytest.mark.parametrize(("scenario", "windows"), WAYS, ids=lambda value: getattr(value, "__name__", ""))
async def test_killed_before_and_after_each_commit_a_trip_ends_like_an_undisturbed_one(
    scenario: Scenario, windows: set[str], world: World, on: Stores | None
) -> None:
    world.slow = scenario is cancelled_while_it_is_undone

    report = await survives(app, scenario, ledger=world, windows=windows, stores=on)

    assert report.commits >= 4


async def test_killed_on_a_server_a_trip_ends_like_an_undisturbed_one(world: World, on_a_server: Stores) -> None:
    report = await survives(app, booked, ledger=world, windows=RESERVED, stores=on_a_server)

    assert report.commits >= 4


async def test_a_trip_cancelled_in_the_middle_of_a_request_releases_what_was_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def slow_hotel(what: str, trip_id: str, place: str) -> str:
        reference = await reserve(what, trip_id, place)
        if what == "hotel":
            asked.set()
            await asyncio.get_running_loop().create_future()
        return reference

    async def scenario(engine: VirtualEngine) -> None:
        asked.clear()
        receipt = await engine.deliver(LISBON, id="book")
        await asked.wait()
        await engine.cancel(receipt.process_id or "")
        assert await trip(engine, LISBON) == Trip("not booked", [], "cancelled")

    monkeypatch.setattr("examples.saga.trip.reserve", slow_hotel)
    windows = {"reserve flight", "reserve hotel", "release hotel", "release flight"}

    await survives(app, scenario, ledger=world, windows=windows)

    assert firsts(world) == ["reserve flight-1", "reserve hotel-1", "release hotel-1", "release flight-1"]


def test_the_readme_admits_every_window_and_no_other() -> None:
    assert admitted("saga") == set().union(*(windows for _, windows in WAYS))


def test_the_program_goes_on_when_it_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--store", f"sqlite:///{tmp_path / 'store.db'}", "--world", str(tmp_path / "world.db")]
    outputs = []

    for arguments in (place, place, [*place, "cancel", "3"], [*place, "cancel", "3"]):
        assert main(arguments) == 0
        outputs.append(capsys.readouterr().out)

    assert "trip 3 to Bermuda: booking, flight-3, hotel-3, will try again to reserve car\n" in outputs[0]
    assert outputs[1] == outputs[0]
    assert "trip 3 to Bermuda: not booked, cancelled\n" in outputs[2]
    assert "release car-3\n  release hotel-3\n  release flight-3\n" in outputs[2]
    assert "trip 3: is over, or was cancelled already\n" in outputs[3]
    assert outputs[3].count("release car-3") == outputs[3].count("reserve flight-1") == 1

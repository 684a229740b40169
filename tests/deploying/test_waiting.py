"""Messages that wait outside of mailboxes are read by the new code, too, wherever they wait."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, VirtualClock, limits, on, open_store
from perdure.conversations.tables import EVENT, PROCESS, EventRow
from perdure.core.backend import Reader
from perdure.core.table import Key
from perdure.core.view import View
from perdure.deploying.candidates import candidate_of_app
from perdure.deploying.checking import check
from perdure.messages.tables import FAN_OUT, FanOutRow
from perdure.store import Store
from tests.engine.orders import reaches
from tests.stores import KINDS, store_url


class Put(msgspec.Struct, tag="put"):
    what: str


class PutMore(msgspec.Struct, tag="put"):
    what: str
    weight: int


class Told(msgspec.Struct, tag="told"):
    pass


def app_with(kind: Any, *others: Any) -> App:
    app = App("boxes")

    @app.process
    class Box(Process):
        last: str = ""

        @on(kind, start=True, key=lambda message: f"box:{message.what}")
        async def put(self, message: Any) -> None:
            self.last = message.what
            self.send(message, to=Address.start("Box", key="box:later"), after=timedelta(days=1))

    for other in others:
        app.process(other)
    return app


class Shelf(Process):
    @on(Put)
    async def put(self, message: Put) -> None:
        pass


async def filled(url: str) -> None:
    """One message is delayed, one parked for a key, one for a tag, one on its way to a tag, and one is sent by a schedule."""
    clock = VirtualClock()
    async with open_store(url, clock=clock) as store, Engine(store, app_with(Put)) as engine:
        await engine.deliver(Put("a"), id="first", to=Address.start("Box", id="one"))
        await reaches(engine, "one", "idle")
        await engine.deliver(Put("b"), id="for a key", to=Address.key("nobody"))
        await engine.deliver(Put("c"), id="for a tag", to=Address.tag("nobody"), keep_for=timedelta(days=9))
        await engine.deliver(Put("d"), id="on its way", to=Address.tag("nobody"))
        await engine.schedules.create("by the clock", Put("e"), to=Address.key("box:e"), cron="0 2 * * *")
        await store.commit(OnItsWay())


class OnItsWay(msgspec.Struct, frozen=True):
    def reads(self) -> Iterator[Key[Any]]:
        yield FAN_OUT.key("default", "", "on its way")

    def decide(self, view: View) -> None:
        key = FAN_OUT.key("default", "", "on its way")
        assert view.get(key) is None
        view.insert(key, FanOutRow("nobody", 1, 0, "", 0))


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_each_is_found_where_it_waits(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = store_url(request, kind, tmp_path)
    await filled(url)
    async with open_store(url, clock=VirtualClock()) as store:
        same, other = await check(store, candidate_of_app(app_with(Put))), await check(store, candidate_of_app(app_with(PutMore)))
        narrow = await check(store, candidate_of_app(app_with(PutMore)), sample=1)
        elsewhere = await check(store, candidate_of_app(app_with(PutMore, Shelf)))

    assert (same.ok, same.messages) == (True, 5)
    found = [(one.what, one.message, one.result) for one in other.findings if one.breaks]
    [delayed] = {message for _, message, _ in found} - {"for a key", "for a tag", "on its way", "by the clock"}
    assert delayed.startswith("pd-")
    assert sorted(found) == sorted(
        ("schedule" if name == "by the clock" else "message", name, "undecodable at $")
        for name in ("for a key", "for a tag", delayed, "on its way", "by the clock")
    )
    assert [one.what for one in narrow.findings if one.breaks] == ["message", "schedule"]
    assert [one.message for one in elsewhere.findings if one.breaks] == [delayed], "it starts a Box; another type may take the others"


class Changing:
    """Reads of a store in which one process is another at each look."""

    def __init__(self, reader: Reader, process_id: str) -> None:
        self._reader = reader
        self._process_id = process_id
        self._looks = 0

    async def get(self, key: Key[Any]) -> Any:
        row = await self._reader.get(key)
        if key != PROCESS.key("default", self._process_id):
            return row
        assert row is not None
        self._looks += 1
        return msgspec.structs.replace(row, updated_at=self._looks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


async def test_a_process_that_changes_at_every_look_is_named_and_others_are_checked() -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        async with Engine(store, app_with(Put)) as engine:
            for process_id in ("one", "two"):
                await engine.deliver(Put(process_id), id=process_id, to=Address.start("Box", id=process_id))
                await reaches(engine, process_id, "idle")
        reader: Any = Changing(store.access.reader, "one")
        changing = Store(store.access._replace(reader=reader), store._database)
        report = await check(changing, candidate_of_app(app_with(Put)))

    assert report.not_checked == ["one"]
    assert [(one.processes, one.checked) for one in report.types] == [(2, 1)]


class Spoil(msgspec.Struct, frozen=True):
    """Let an event be one that this Perdure does not read."""

    process_id: str

    def reads(self) -> Iterator[Key[Any]]:
        yield PROCESS.key("default", self.process_id)

    def decide(self, view: View) -> None:
        row = view.get(PROCESS.key("default", self.process_id))
        assert row is not None
        view.update(PROCESS.key("default", self.process_id), msgspec.structs.replace(row, head=row.head + 1))
        view.insert(EVENT.key("default", row.stream_no, row.head), EventRow(0, b"\xff"))


async def test_a_record_that_cannot_be_read_is_found_and_others_are_checked() -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        async with Engine(store, app_with(Put)) as engine:
            for process_id in ("one", "two"):
                await engine.deliver(Put(process_id), id=process_id, to=Address.start("Box", id=process_id))
                await reaches(engine, process_id, "idle")
        await store.commit(Spoil("one"))
        report = await check(store, candidate_of_app(app_with(Put)))

    assert [(one.process_id, one.result) for one in report.findings if one.breaks] == [("one", "undecodable at $")]
    assert "version 255" in report.findings[0].text
    assert [one.checked for one in report.types] == [2]


async def test_of_a_long_record_only_the_open_turn_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        async with Engine(store, app_with(Put)) as engine:
            await engine.deliver(Put("a"), id="first", to=Address.start("Box", id="one"))
            await reaches(engine, "one", "idle")
        whole = await check(store, candidate_of_app(app_with(Put)))
        monkeypatch.setattr(limits, "CHECK_EVENTS_MAX", 1)
        short = await check(store, candidate_of_app(app_with(Put)))

    assert [one.finished_turns for one in (*whole.types, *short.types)] == [1, 0]

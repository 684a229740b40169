"""The record of real processes against new code: what the report says is what an engine would do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure import Address, App, Engine, Process, VirtualClock, limits, on, open_store
from perdure.engine import inspection
from perdure.errors import ProcessNotFound, UsageError
from perdure.testing import ProcessExport, engine, replay
from tests.engine.orders import reaches
from tests.testing.shop import Shop


class Start(msgspec.Struct, tag="start"):
    name: str


class StartNumbered(msgspec.Struct, tag="start"):
    name: int


class Go(msgspec.Struct, tag="go"):
    pass


class Count(msgspec.Struct, tag="count"):
    pass


ran: list[str] = []


def fetch(what: str) -> str:
    ran.append(what)
    return what


def fetch_number(what: str) -> int:
    return len(what)


Edit = Callable[[Process, Start], Any]


async def as_it_was(p: Process, message: Start) -> str:
    got = await p.step(fetch, message.name, name="fetch")
    p.tag(got)
    await p.receive(Go, timeout=timedelta(days=1))
    return got


async def renamed(p: Process, message: Start) -> None:
    p.tag(await p.step(fetch, message.name, name="get"))
    await p.receive(Go, timeout=timedelta(days=1))


async def removed(p: Process, message: Start) -> None:
    p.tag(message.name)
    await p.receive(Go, timeout=timedelta(days=1))


async def inserted_before(p: Process, message: Start) -> None:
    await p.step(fetch, "new", name="new")
    p.tag(await p.step(fetch, message.name, name="fetch"))
    await p.receive(Go, timeout=timedelta(days=1))


async def other_arguments(p: Process, message: Start) -> None:
    p.tag(await p.step(fetch, message.name + "!", name="fetch"))
    await p.receive(Go, timeout=timedelta(days=1))


async def without_the_tag(p: Process, message: Start) -> None:
    await p.step(fetch, message.name, name="fetch")
    await p.receive(Go, timeout=timedelta(days=1))


async def longer_behind(p: Process, message: Start) -> None:
    await as_it_was(p, message)
    await p.step(fetch, "more")


EDITS: list[tuple[Edit, str, str]] = [
    (as_it_was, "compatible", "waits for \\['receive'\\]"),
    (longer_behind, "compatible", "waits for"),
    (renamed, "diverges", "recorded 'fetch' was not reached; the code waits for \\['get'\\]"),
    (removed, "diverges", "recorded 'fetch' was not reached"),
    (inserted_before, "diverges", "recorded 'fetch' was not reached"),
    (other_arguments, "diverges", "step 'fetch' was recorded for"),
    (without_the_tag, "diverges", "1 sends, tags and the like were committed up to here, the code asks for 0"),
]


def app_with(edit: Edit, kind: type = Start, *, count: str = "0") -> App:
    app = App("edits")

    @app.process
    class Job(Process):
        n: int = 0

        @on(kind, start=True, key=lambda message: "job")
        async def start(self, message: Any) -> Any:
            return await edit(self, message)

        @on(Count)
        async def count(self, message: Count) -> int:
            self.n += 1
            if self.n > int(count):
                await self.step(fetch, str(self.n), name=f"count {self.n}")
            return self.n

    return app


async def recorded(app: App) -> ProcessExport:
    async with engine(app, auto_advance=False) as made:
        receipt = await made.deliver(Start("a"), id="s")
        await made.settled()
        return await made.export_process(receipt.process_id or "")


@pytest.mark.parametrize(("edit", "verdict", "text"), EDITS, ids=lambda value: getattr(value, "__name__", ""))
async def test_the_report_says_of_changed_code_what_an_engine_says(edit: Edit, verdict: str, text: str) -> None:
    old, new = app_with(as_it_was), app_with(edit)
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        async with Engine(store, old) as first:
            receipt = await first.deliver(Start("a"), id="s")
            process_id = receipt.process_id or ""
            await reaches(first, process_id, "waiting")
            exported = await first.export_process(process_id)
        ran.clear()

        report = replay(exported, new)

        [turn] = report.turns
        assert ran == [], "no step runs"
        assert turn.verdict == verdict, turn.text
        async with Engine(store, new) as second:
            await second.deliver(Go(), id="g", to=Address.process(process_id))
            await reaches(second, process_id, "stuck" if verdict == "diverges" else "idle")
            note = (await inspection.process(store, process_id)).note
            assert note in turn.text if verdict == "diverges" else not note
    assert re.search(text, turn.text)


async def number(p: Process, message: Start) -> None:
    await p.step(fetch_number, message.name, name="fetch")
    await p.receive(Go, timeout=timedelta(days=1))


def app_with_field(kind: Any) -> App:
    app = App("fields")
    fields = msgspec.defstruct("Fields", [("n", kind, kind())], bases=(Process,))

    @app.process
    class Job(fields):  # type: ignore[misc, valid-type]  # the field is of the kind that the test asks for
        @on(Start, start=True, key=lambda message: "job")
        async def start(self, message: Start) -> Any:
            return await as_it_was(self, message)

    return app


@pytest.mark.parametrize(
    ("app", "verdict", "text"),
    [
        (app_with(as_it_was, StartNumbered), "undecodable", "the message cannot be read any more"),
        (app_with(number), "diverges", "step 'fetch' was recorded for"),
        (app_with_field(str), "undecodable", "the durable fields cannot be read any more"),
        (App("empty"), "no-handler", "no process type 'Job'"),
    ],
)
async def test_what_cannot_be_read_or_handled_any_more_is_told_apart(app: App, verdict: str, text: str) -> None:
    exported = await recorded(app_with(as_it_was))

    report = replay(exported, app)

    assert [turn.verdict for turn in report.turns] == [verdict]
    with pytest.raises(AssertionError, match=text):
        report.check()
    assert f"open message s: {verdict}" in str(report)


def app_with_fields(*more: tuple[str, type, Any]) -> App:
    app = App("fields")
    fields = msgspec.defstruct("Fields", [("n", int, 0), *more], bases=(Process,))

    @app.process
    class Job(fields):  # type: ignore[misc, valid-type]  # as above
        @on(Start, start=True, key=lambda message: "job")
        async def start(self, message: Start) -> Any:
            self.n += 1
            return await as_it_was(self, message)

    return app


async def test_a_durable_field_comes_and_goes_while_a_turn_is_open() -> None:
    before, after = app_with_fields(), app_with_fields(("more", str, "none"))
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        async with Engine(store, before) as engine:
            process_id = (await engine.deliver(Start("a"), id="s")).process_id or ""
            await reaches(engine, process_id, "waiting")
            exported = await engine.export_process(process_id)

        replay(exported, after).check()

        for app in (after, before, after):  # each replays the turn, and holds it again
            async with Engine(store, app) as engine:
                assert await engine.pause(process_id)
                await reaches(engine, process_id, "paused")
                await engine.resume(process_id)
                await reaches(engine, process_id, "waiting")
        async with Engine(store, after) as engine:
            await engine.deliver(Go(), id="g", to=Address.process(process_id))
            await reaches(engine, process_id, "idle")
            found = await inspection.process(store, process_id)
    assert found.fields == {"n": 1, "more": "none"}


async def counted(app: App) -> ProcessExport:
    async with engine(app) as made:
        receipt = await made.deliver(Start("a"), id="s")
        await made.advance(timedelta(days=2))
        for times in range(3):
            await made.deliver(Count(), id=f"c{times}", to=Address.process(receipt.process_id or ""), wait=True)
        return await made.export_process(receipt.process_id or "")


async def test_finished_turns_are_replayed_one_after_another_with_the_fields_of_the_ones_before() -> None:
    exported = await counted(app_with(as_it_was, count="1"))

    same, other = replay(exported, app_with(as_it_was, count="1")), replay(exported, app_with(as_it_was, count="2"))

    assert [(turn.message, turn.open, turn.verdict) for turn in same.turns] == [
        (message, False, "compatible") for message in ("s", "c0", "c1", "c2")
    ]
    assert {turn.text for turn in same.turns} == {""}
    assert [turn.verdict for turn in other.turns] == ["compatible", "compatible", "diverges"]
    assert "the handler ended, but the record goes on with 'count 2'" in other.turns[-1].text


async def two_tags(p: Process, message: Start) -> None:
    await p.step(fetch, message.name, name="fetch")
    p.tag("a")
    p.tag("b")
    await p.receive(Go, timeout=timedelta(days=1))


async def test_effects_that_were_not_all_committed_yet_are_not_missed() -> None:
    exported = await recorded(app_with(as_it_was))
    part = [msgspec.structs.replace(turn, more=True) for turn in exported.turns]

    assert not replay(exported, app_with(two_tags)).ok
    assert replay(msgspec.structs.replace(exported, turns=part), app_with(two_tags)).ok


async def shouting(p: Process, message: Start) -> str:
    return (await as_it_was(p, message)).upper()


async def waiting_longer(p: Process, message: Start) -> str:
    got = await as_it_was(p, message)
    await p.sleep(1)
    return got


async def test_of_a_finished_turn_another_reply_is_a_note_and_a_code_that_goes_on_diverges() -> None:
    exported = await counted(app_with(as_it_was))

    first = replay(exported, app_with(shouting)).turns[0]
    [longer] = replay(exported, app_with(waiting_longer)).turns

    assert (first.verdict, first.text) == ("compatible", 'replies "A", the record says "a"')
    assert longer.verdict == "diverges"
    assert "the record ends here, the code waits for ['sleep']" in longer.text


async def test_what_is_left_of_a_shortened_record_is_replayed_if_its_fields_are_known() -> None:
    exported = msgspec.structs.replace(await counted(app_with(as_it_was)), complete=False)
    open_one = msgspec.structs.replace(await recorded(app_with(as_it_was)), complete=False)

    assert replay(exported, app_with(renamed)).turns == []
    assert [turn.verdict for turn in replay([exported, open_one], app_with(renamed)).turns] == ["diverges"]


async def test_a_record_whose_beginning_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await counted(app_with(as_it_was))
    monkeypatch.setattr(limits, "EXPORT_EVENTS_MAX", 8)

    rest = await counted(app_with(as_it_was))

    assert (whole.complete, rest.complete) == (True, False)
    assert [turn.message for turn in whole.turns] == ["s", "c0", "c1", "c2"]
    assert rest.turns == whole.turns[-len(rest.turns) :]
    assert 0 < len(rest.turns) < len(whole.turns)


async def test_failed_turns_and_whole_scenarios_replay() -> None:
    shop = Shop()
    async with engine(shop.app) as made:
        await shop.ordering(made)
        await shop.transferring(made)
        await shop.relaying(made)
        exports = [await made.export_process(one.process_id) for one in await inspection.processes(made.store)]
    shop.ledger.clear()

    report = replay(exports, shop.app)

    report.check()
    assert len(report.turns) > 8
    assert shop.ledger.effects == []


async def test_an_export_goes_to_a_file_and_comes_back_as_it_was() -> None:
    exported = await recorded(app_with(as_it_was))

    assert ProcessExport.from_json(exported.to_json()) == exported
    assert ProcessExport.from_json(exported.to_json().decode()) == exported


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"[]", "no exported process"), (b'{"format": 1}', "no exported process"), (b'{"format": 2}', "format 2"), (b"\xff", "no")],
)
def test_another_file_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ProcessExport.from_json(data)


async def test_a_process_that_is_not_there_cannot_be_exported() -> None:
    async with engine(App("empty")) as made:
        with pytest.raises(ProcessNotFound, match="nobody"):
            await made.export_process("nobody")

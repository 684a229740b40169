"""The durable list of a process: appended once, rolled back with a failed turn, read the same on every replay."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest

from perdure import App, Engine, Log, Process, Store, on
from perdure.conversations.tables import LOG_ENTRIES
from perdure.core.table import Scan
from perdure.engine import inspection
from perdure.errors import NotInTurn, PayloadInvalid, UsageError
from tests.engine.conftest import Running
from tests.engine.crashes import crash_at_each_commit
from tests.engine.orders import Ledger


class Said(msgspec.Struct):
    who: str
    text: str


class Say(msgspec.Struct, tag="say"):
    text: str
    fail: bool = False


class Recall(msgspec.Struct, tag="recall"):
    after: int = -1
    limit: int = 100


class Break(msgspec.Struct, tag="break"):
    pass


def make_app(ledger: Ledger) -> App:
    app = App("chat")

    @app.process
    class Chat(Process):
        history: Log[Said] = msgspec.field(default_factory=Log)

        @on(Say, start=True, key=lambda message: "chat", on_error="fail_turn")
        async def say(self, message: Say) -> list[str]:
            self.history.append(Said("user", message.text))
            await self.step(ledger.note, message.text, name="think")
            self.history.append(Said("bot", message.text.upper()))
            last = await self.history.last(3)
            if message.fail:
                raise LookupError(message.text)
            return [f"{len(self.history)}", *(said.text for said in last)]

        @on(Recall, key=lambda message: "chat")
        async def recall(self, message: Recall) -> list[Said]:
            return await self.history.page(after=message.after, limit=message.limit)

        @on(Break, key=lambda message: "chat")
        async def wrong(self, message: Break) -> None:
            self.history.append("no Said")  # type: ignore[arg-type]  # that is what is refused

    return app


async def say(engine: Engine, text: str, *, fail: bool = False) -> Any:
    return await engine.call(engine.app.type_named("Chat").target.say, Say(text, fail), id=text)


async def recall(engine: Engine, after: int = -1, limit: int = 100) -> list[str]:
    found = await engine.call(engine.app.type_named("Chat").target.recall, Recall(after, limit))
    return [said.text for said in found]


async def test_entries_are_read_in_order_by_page_and_from_the_end(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        assert await say(engine, "a") == ["2", "a", "A"]
        assert await say(engine, "b") == ["4", "A", "b", "B"]
    async with running(make_app(Ledger())) as engine:
        assert await recall(engine) == ["a", "A", "b", "B"]
        assert await recall(engine, after=0, limit=2) == ["A", "b"]
        assert await recall(engine, after=3) == []
        with pytest.raises(UsageError, match="limit"):
            await recall(engine, limit=0)


async def test_a_failed_turn_takes_its_entries_with_it(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await say(engine, "a")
        with pytest.raises(LookupError):
            await say(engine, "b", fail=True)
        assert await recall(engine) == ["a", "A"]

        assert await say(engine, "c") == ["4", "A", "c", "C"]

        assert await recall(engine) == ["a", "A", "c", "C"]


async def test_an_entry_of_another_type_is_refused_before_anything_is_written(running: Running) -> None:
    async with running(make_app(Ledger())) as engine:
        await say(engine, "a")
        with pytest.raises(PayloadInvalid):
            await engine.call(engine.app.type_named("Chat").target.wrong, Break())
        assert await recall(engine) == ["a", "A"]


def test_a_log_without_a_turn_says_so() -> None:
    with pytest.raises(NotInTurn, match="no turn is open"):
        Log[str]().append("a")


async def test_a_crash_at_each_commit_leaves_each_entry_once() -> None:
    async def drive(engine: Engine) -> object:
        await say(engine, "a")
        with contextlib.suppress(LookupError):
            await say(engine, "b", fail=True)
        return await say(engine, "c")

    async def look(store: Store) -> object:
        [process] = await inspection.processes(store)
        rows = await store.access.reader.scan(Scan(LOG_ENTRIES, ("default", process.process_id, "history"), 100))
        length = (await inspection.process(store, process.process_id)).fields["history"]["length"]
        return [row.data for _, row in rows][:length]

    assert await crash_at_each_commit(lambda: make_app(Ledger()), drive, look) > 6

"""The conversation with tools: what it answers, what it asks a person for, and that no crash changes either."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from examples.chat_agent import __main__ as program
from examples.chat_agent.chat import APPROVED_WITHIN, TOOLS_MAX, Chat, Decision, Read, Request, Say, app
from examples.chat_agent.outside import Line
from examples.world import in_world
from perdure import testing
from perdure.errors import AwakeableNotFound
from perdure.testing import EffectLedger, VirtualEngine
from perdure.testing.crashes import Stores
from tests.examples.crashing import admitted, survives

KEY = "chat:ann"
YES, NO = Decision(approved=True, by="eve"), Decision(approved=False, by="eve")


@pytest.fixture(autouse=True)
def ledger() -> Iterator[EffectLedger]:
    made = EffectLedger()
    with in_world(made):
        yield made


async def say(engine: VirtualEngine, text: str, id: str) -> str:
    return await engine.call(Chat.say, Say("ann", text), id=id)


async def asked(engine: VirtualEngine, text: str, id: str) -> Request:
    """Say something that needs a person, and return the request that waits for one."""
    await engine.deliver(Say("ann", text), id=id)
    await engine.settled()
    request = (await engine.query(Chat.state, key=KEY)).waits_for
    assert request is not None
    return request


async def transcript(engine: VirtualEngine, id: str = "r") -> list[Line]:
    return await engine.call(Chat.read, Read("ann", 100), id=id)


def done(ledger: EffectLedger) -> list[str]:
    """What has happened outside, thoughts aside, in order."""
    return [one.what for one in ledger.effects if not one.what.startswith("think")]


async def test_a_message_is_answered_once_and_both_are_in_the_transcript(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        first = await say(engine, "hello there", "m1")
        again = await say(engine, "hello there", "m1")
        await say(engine, "and now", "m2")

        assert first == again == "I have read 2 words, and 0 lines before them"
        assert await transcript(engine) == [
            Line("user", "hello there"),
            Line("model", first),
            Line("user", "and now"),
            Line("model", "I have read 2 words, and 2 lines before them"),
        ]
    assert ledger.counts.total() == 2, "the model was asked twice, for two messages"


async def test_the_model_gets_one_tool_after_another_and_sees_what_they_say(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        reply = await say(engine, "weather in Paris, then mail bob and dance tango", "m1")
        state = await engine.query(Chat.state, key=KEY)

    assert reply == "it rains in Paris; bob has mail; there is no tool dance"
    assert (state.tools, state.waits_for, state.lines) == ({"weather": 1, "mail": 1}, None, 5)
    assert done(ledger) == ["weather Paris", "mail bob"]


async def test_a_model_that_is_busy_is_asked_again_and_at_last_the_conversation_goes_on_without_it(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        began = engine.clock.now()
        riddle = await say(engine, "tell me a riddle", "m1")
        unanswerable = await say(engine, "tell me the unanswerable", "m2")
        waited = engine.clock.now() - began
        after = await say(engine, "hello", "m3")

    assert riddle == "I have read 4 words, and 0 lines before them"
    assert unanswerable == "The model is busy; say it again later."
    assert after == "I have read 1 words, and 4 lines before them"
    assert waited > 20_000_000, "1 second for the riddle; 1, 4 and 16 for the other"


async def test_what_takes_too_many_tools_is_given_up(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        reply = await say(engine, "mail bob " * (TOOLS_MAX + 1), "m1")

    assert reply == "That takes more tools than one message may use."
    assert done(ledger) == ["mail bob"] * TOOLS_MAX


async def test_a_payment_waits_for_a_person_and_happens_when_they_say_yes(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        request = await asked(engine, "pay 30 to bob", "m1")
        assert done(ledger) == ["ask about pay 30 to bob"], "not before"
        await engine.complete_awakeable(request.token, YES)

        assert await say(engine, "pay 30 to bob", "m1") == "bob has 30 more"
        assert (await engine.query(Chat.state, key=KEY)).waits_for is None
    assert done(ledger) == ["ask about pay 30 to bob", "pay 30 to bob"]


async def test_a_payment_that_a_person_refuses_does_not_happen(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        request = await asked(engine, "pay 30 to bob", "m1")
        await engine.complete_awakeable(request.token, NO)

        assert await say(engine, "pay 30 to bob", "m1") == "not done: eve says no to pay 30 to bob"
    assert done(ledger) == ["ask about pay 30 to bob"]


async def test_a_payment_that_nobody_approves_in_time_does_not_happen_and_a_late_approval_is_told_so(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        request = await asked(engine, "pay 30 to bob", "m1")
        await engine.advance(APPROVED_WITHIN - timedelta(seconds=1))
        assert (await engine.query(Chat.state, key=KEY)).waits_for == request
        await engine.advance(timedelta(seconds=1))

        assert await say(engine, "pay 30 to bob", "m1") == "not done: nobody has approved pay 30 to bob in time"
        with pytest.raises(AwakeableNotFound):
            await engine.complete_awakeable(request.token, YES)
    assert done(ledger) == ["ask about pay 30 to bob"]


async def test_an_approval_after_the_time_and_before_the_reply_changes_nothing(ledger: EffectLedger) -> None:
    async with testing.engine(app, auto_advance=False) as engine:
        decided = asyncio.ensure_future(say(engine, "pay 30 to bob, a riddle", "m1"))
        await engine.advance(timedelta(seconds=1))
        request = (await engine.query(Chat.state, key=KEY)).waits_for
        assert request is not None
        await engine.advance(APPROVED_WITHIN)
        assert not decided.done(), "the model is busy again, for a second"
        await engine.complete_awakeable(request.token, YES)
        await engine.advance(timedelta(seconds=1))

        assert await decided == "not done: nobody has approved pay 30 to bob in time"
    assert done(ledger) == ["ask about pay 30 to bob"]


async def test_a_tool_that_says_no_is_something_to_tell_the_model(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        request = await asked(engine, "pay 5000 to bob", "m1")
        await engine.complete_awakeable(request.token, YES)

        assert await say(engine, "pay 5000 to bob", "m1") == "pay has failed: the account has less than 5000"
    assert done(ledger) == ["ask about pay 5000 to bob"]


async def test_a_request_survives_a_crash_and_can_be_found_and_what_comes_meanwhile_is_answered_in_order(ledger: EffectLedger) -> None:
    async with testing.engine(app) as engine:
        request = await asked(engine, "pay 30 to bob", "m1")
        later = [asyncio.ensure_future(say(engine, f"mail {name}", f"m-{name}")) for name in ("cy", "di")]
        await engine.deliver(Say("zoe", "hello"), id="other")
        await engine.crash()
        [found] = await engine.processes(attributes={"waits_for": "pay"})
        assert (await engine.process(found.process_id)).keys == [KEY]
        await engine.complete_awakeable(request.token, YES)

        assert await asyncio.gather(*later) == ["cy has mail", "di has mail"]
        assert await engine.processes(attributes={"waits_for": "pay"}) == []
    assert done(ledger) == ["ask about pay 30 to bob", "pay 30 to bob", "mail cy", "mail di"]


async def scenario(engine: VirtualEngine) -> object:
    """Every branch once: a tool, a busy model, yes, no, and nobody in time."""
    said = [await say(engine, "weather in Paris", "m1"), await say(engine, "a riddle", "m2")]
    for id, decision in {"m3": YES, "m4": NO}.items():
        request = await asked(engine, "pay 30 to bob", id)
        await engine.complete_awakeable(request.token, decision)
        said.append(await say(engine, "pay 30 to bob", id))
    said.append(await say(engine, "pay 40 to bob", "m5"))
    said.append(await say(engine, "mail cy", "m6"))
    return said, await transcript(engine)


async def test_killed_at_any_commit_it_comes_to_the_same_end_and_repeats_only_what_the_readme_says(
    ledger: EffectLedger, on: Stores | None
) -> None:
    report = await survives(app, scenario, ledger=ledger, windows=admitted("chat_agent"), stores=on)

    assert report.commits > 20
    assert ledger.counts["pay 30 to bob"] == 1, "in the last run, as in all: approved once, refused once"


def test_the_program_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--store", f"sqlite:///{tmp_path / 'chat.db'}", "--world", str(tmp_path / "world.db")]

    def run(*options: str) -> Any:
        assert program.main([*place, *options]) == 0
        return capsys.readouterr().out

    first, again, approved, last = run(), run(), run("--approve"), run()

    assert "waits until" in first
    assert first.endswith("Outside, in all runs: ask 1, think 6, weather 2\n")
    assert again.endswith(first[first.index("3 messages answered") :])
    assert "bob has 30 more; bob has mail" in approved
    assert approved.endswith("Outside, in all runs: ask 1, mail 1, pay 1, think 9, weather 2\n")
    assert last.count("(accepted before)") == 5
    assert last.endswith(approved[approved.index("5 messages answered") :])
    assert "not done: you says no to pay 7 to cy" in run("--reject", "pay 7 to cy")


def test_a_store_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--store", "mysql://no", "--world", str(tmp_path / "world.db")]) == 1
    assert capsys.readouterr().err.startswith("chat_agent: ")

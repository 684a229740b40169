"""Search attributes: what a handler sets is committed with its turn, once, and rolls back with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Address, Engine, VirtualClock, open_store
from perdure.conversations.attributes import checked_name, decoded, encoded
from perdure.conversations.tables import ATTRIBUTE, PROCESS, AttributeRow
from perdure.core.view import View
from perdure.engine.verification import verify
from perdure.errors import UsageError
from tests.engine.attributed import NOON, Effects, Go, Label, Relabel, attributes, found, is_status, key, label, make_app, rows
from tests.engine.conftest import Running
from tests.engine.orders import crash, eventually

EVERY = {"text": "c-7", "count": 3, "share": 0.5, "vip": True, "due": "noon"}
SET = {**EVERY, "due": NOON}

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
values = numbers | st.text(max_size=60) | st.booleans() | instants


# --- the bytes of values --------------------------------------------------------------------------------


@given(values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = decoded(*encoded(value, what="x"))

    assert (back, type(back)) == (value, type(value))


@given(numbers, numbers)
def test_numbers_are_in_order_whatever_their_kind(one: float, other: float) -> None:
    a, b = encoded(one, what="x")[1], encoded(other, what="x")[1]

    assert (a < b, a == b) == (one < other, one == other)


@given(st.text(max_size=30), st.text(max_size=30))
def test_text_is_in_order_of_its_bytes(one: str, other: str) -> None:
    assert (encoded(one, what="x")[1] < encoded(other, what="x")[1]) == (one.encode() < other.encode())


@given(instants, instants)
def test_times_are_in_order_whatever_their_zone(one: datetime, other: datetime) -> None:
    assert (encoded(one, what="x")[1] < encoded(other, what="x")[1]) == (one < other)


@pytest.mark.parametrize(
    "value", [None, b"x", [1], 2**63, -(2**63) - 1, float("nan"), float("inf"), NOON.replace(tzinfo=None), "x" * 257, "é" * 129, "\ud800"]
)
def test_a_value_that_cannot_be_searched_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="attribute 'x'"):
        encoded(value, what="attribute 'x'")


@pytest.mark.parametrize("name", ["", "1st", "a b", "a\n", "-a", "+a", "~a", "é", "a" * 65, 7, None])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="a name is a letter"):
        checked_name(name)


# --- in turns --------------------------------------------------------------------------------------------


async def test_attributes_of_every_kind_are_kept_with_the_process_and_found(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", EVERY)

        assert await attributes(engine, "a") == SET
        for name, value in SET.items():
            assert await found(engine, attributes={name: value}) == ["a"]


async def test_what_a_turn_has_set_is_found_after_its_commit_while_it_waits(running: Running) -> None:
    async with running(make_app()) as engine:
        await engine.deliver(Label("a", {"text": "x"}, how="wait"), id="l", to=Address.start("File", id="a"))
        await eventually(lambda: is_status(engine, "a", "waiting"))

        assert await found(engine, attributes={"text": "x"}) == ["a"]


async def test_an_attribute_is_changed_to_another_kind_and_taken_away(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {"x": 5, "y": "old", "z": 1})
        await engine.deliver(Relabel("a", {"x": 5.0, "y": 2}, take=["z", "never"]), id="r", wait=True)

        assert await attributes(engine, "a") == {"x": 5.0, "y": 2}
        assert [type(value) for value in (await attributes(engine, "a")).values()] == [float, int]
        assert await found(engine, attributes={"y": "old"}) == []
        assert await found(engine, attributes={"z": 1}) == []
        assert await rows(engine) == 2


@pytest.mark.parametrize("step_between", [True, False])
async def test_a_failed_turn_goes_back_to_the_attributes_that_it_found(running: Running, step_between: bool) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {"kept": 1, "changed": "old", "gone": True})
        change = Relabel("a", {"changed": "new", "added": 7}, take=["gone", "added"], how="raise", step_between=step_between)
        with pytest.raises(ValueError, match="a"):
            await engine.deliver(change, id="r", wait=True)

        assert await attributes(engine, "a") == {"kept": 1, "changed": "old", "gone": True}
        assert await found(engine, attributes={"changed": "old", "gone": True}) == ["a"]
        assert await found(engine, attributes={"changed": "new"}) == await found(engine, attributes={"added": 7}) == []
        assert await rows(engine) == 3


async def test_a_process_that_is_over_is_found_by_its_attributes(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {"text": "x"}, how="end")

        assert await found(engine, attributes={"text": "x"}, status="ended") == ["a"]


async def test_a_function_process_and_one_without_fields_have_attributes(running: Running) -> None:
    async with running(make_app()) as engine:
        await engine.deliver(Go("me"), id="g", to=Address.start("Other", id="o"), wait=True)

        assert await found(engine, attributes={"name": "me"}) == ["o"]


async def test_verify_finds_attributes_that_do_not_fit(running: Running) -> None:
    class Spoil(msgspec.Struct, frozen=True):
        def reads(self) -> list[Any]:
            return []

        def decide(self, view: View) -> None:
            for name in ("a", "b"):
                process = PROCESS.key("default", name)
                row = view.get(process)
                assert row is not None
                view.update(process, msgspec.structs.replace(row, attributes="~x"))
            assert view.get(ATTRIBUTE.key("default", "a", "y")) is not None
            view.delete(ATTRIBUTE.key("default", "a", "y"))
            assert view.get(ATTRIBUTE.key("default", "nobody", "z")) is None
            view.insert(ATTRIBUTE.key("default", "nobody", "z"), AttributeRow("bool", b"b1"))

    async with running(make_app()) as engine:
        await label(engine, "a", {"y": 1})
        await label(engine, "b", {"x": 1})
        assert await verify(engine.store) == []
        await engine.store.commit(Spoil())

        assert [finding.detail for finding in await verify(engine.store)] == [
            "process a: names ['x'], [] are stored",
            "process a: '~x' are not settled, and no turn is open",
            "process b: '~x' are not settled, and no turn is open",
            "process nobody: is not there and has ['z']",
        ]


# --- limits ------------------------------------------------------------------------------------------------


async def test_a_process_has_so_many_attributes_and_no_more(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {f"n{number:02}": number for number in range(31)})
        with pytest.raises(UsageError, match="a process has 32 attributes at most"):
            await engine.deliver(Relabel("a", {"x": 1, "y": 1}), id="r1", wait=True)
        assert len(await attributes(engine, "a")) == 31
        await engine.deliver(Relabel("a", {"x": 1, "n00": 7}), id="r2", wait=True)
        with pytest.raises(UsageError, match="attribute 'y'"):
            await engine.deliver(Relabel("a", {"y": 1}), id="r3", wait=True)
        await engine.deliver(Relabel("a", take=["x", "n01"]), id="r4", wait=True)
        await engine.deliver(Relabel("a", {"y": 1, "z": 2}), id="r5", wait=True)

        assert len(await attributes(engine, "a")) == 32


async def test_turns_that_follow_ahead_of_the_disk_know_the_names_of_those_before(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {f"n{number:02}": number for number in range(30)})
        changes = [
            Relabel("a", {"x": 1, "y": 1}, step_between=False),
            Relabel("a", {"z": 1}, step_between=False),
            Relabel("a", take=["x"], step_between=False),
            Relabel("a", {"z": 2}, step_between=False),
        ]
        asked = [engine.deliver(change, id=f"r{number}", wait=True) for number, change in enumerate(changes)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [str, UsageError, str, str]
        left = await attributes(engine, "a")
        assert (len(left), left["y"], left["z"], "x" in left) == (32, 1, 2, False)


async def test_a_turn_that_is_replayed_and_fails_leaves_the_names_that_it_found_to_the_next(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {f"n{number:02}": number for number in range(31)})
        await engine.deliver(Relabel("a", {"x": 1}, how="wait, raise"), id="r1")
        await eventually(lambda: is_status(engine, "a", "waiting"))
    async with running(make_app()) as engine:
        await engine.deliver(Relabel("a", {"y": 1}, step_between=False), id="r2")
        await engine.deliver(Go("a"), id="g", to=Address.key(key(Go("a"))))

        assert await engine.deliver(Relabel("a", {"y": 1}, step_between=False), id="r2", wait=True) == "done"
        left = await attributes(engine, "a")
        assert (len(left), left["y"], "x" in left) == (32, 1, False)


# --- crashes ------------------------------------------------------------------------------------------------


BEFORE = {"kept": 1, "changed": "old", "gone": True, "same": 1}
CHANGED = {"kept": 1, "changed": "new", "same": 1}


async def _outcome(clock: VirtualClock, how: str, crash_after: int | None) -> tuple[dict[str, Any], int, list[str], int]:
    """Change attributes in one turn, with a crash after so many commits; what came of it, and how many commits there were."""
    change = Relabel("a", {"changed": "new", "added": 7, "same": 1}, take=["gone", "added"], how=how)
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        async with Engine(store, make_app()) as engine:
            await label(engine, "a", BEFORE)
        base, effects = store.access.writer.commits, Effects()
        engine = Engine(store, make_app(effects))
        await engine.__aenter__()
        task = asyncio.ensure_future(engine.deliver(change, id="r", wait=True))

        async def far_enough() -> bool:
            return task.done() or (crash_after is not None and store.access.writer.commits - base >= crash_after)

        await eventually(far_enough)
        commits = store.access.writer.commits - base
        if not task.done():
            await crash(engine)
            task.cancel()
            engine = Engine(store, make_app(effects))
            await engine.__aenter__()
            task = asyncio.ensure_future(engine.deliver(change, id="r", wait=True))
        await asyncio.gather(task, return_exceptions=True)
        assert await verify(store) == []
        outcome = await attributes(engine, "a"), await rows(engine), sorted(set(effects.done)), commits
        await engine.close()
        return outcome


@pytest.mark.parametrize(("how", "expected"), [("step", CHANGED), ("raise", BEFORE), ("end", CHANGED)])
async def test_a_crash_at_each_commit_changes_no_attribute(how: str, expected: dict[str, Any], clock: VirtualClock) -> None:
    calm = await _outcome(clock, how, None)

    assert calm[:3] == (expected, len(expected), sorted(["a half", f"a {how}"]))
    assert calm[3] > 2
    for crash_after in range(1, calm[3] + 1):
        assert (await _outcome(clock, how, crash_after))[:3] == calm[:3]


async def test_an_open_turn_that_is_replayed_and_then_fails_still_goes_back(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {"changed": "old", "gone": 1})
        await engine.deliver(Relabel("a", {"changed": "new", "added": 1}, take=["gone"], how="wait"), id="r")
        await eventually(lambda: is_status(engine, "a", "waiting"))
        assert await attributes(engine, "a") == {"added": 1, "changed": "new"}
    failing = make_app()

    async with running(failing) as engine:
        assert await attributes(engine, "a") == {"added": 1, "changed": "new"}
        await engine.deliver(Go("a"), id="g", to=Address.key(key(Go("a"))))
        await eventually(lambda: is_status(engine, "a", "idle"))
        assert await attributes(engine, "a") == {"added": 1, "changed": "new"}
        assert await rows(engine) == 2

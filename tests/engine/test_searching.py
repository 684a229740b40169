"""Lists of processes: what is found, in which order, and page by page."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import Address, Between, Engine, StartsWith, VirtualClock, limits, open_store
from perdure.clock import datetime_of
from perdure.conversations.tables import PROCESS
from perdure.core.view import View
from perdure.errors import InvalidIdentifier, UsageError
from tests.engine.attributed import NOON, Go, Label, Relabel, found, is_status, label, make_app
from tests.engine.conftest import Running
from tests.engine.orders import eventually

SECOND = 1_000_000


async def _some(engine: Engine, clock: VirtualClock) -> None:
    """Five files, one second apart: `b` is over, `d` is parked, `e` waits; and one of another type."""
    for number, name in enumerate(["c", "a", "b"]):
        await label(engine, name, {"size": number, "owner": f"c-{number % 2}"}, how="end" if name == "b" else "")
        clock.advance(SECOND)
    await engine.deliver(Label("e", {"size": 3}, how="wait"), id="e", to=Address.start("File", id="e"))
    await eventually(lambda: is_status(engine, "e", "waiting"))
    clock.advance(SECOND)
    await engine.deliver(Go("me"), id="o", to=Address.start("Other", id="o"), wait=True)


async def test_processes_are_listed_by_id_by_creation_and_newest_first(running: Running, clock: VirtualClock) -> None:
    async with running(make_app()) as engine:
        await _some(engine, clock)

        assert await found(engine) == await found(engine, order="id") == ["a", "b", "c", "e", "o"]
        assert await found(engine, order="created") == ["c", "a", "b", "e", "o"]
        assert await found(engine, order="-created") == ["o", "e", "b", "a", "c"]


async def test_filters_are_by_type_status_and_time_together(running: Running, clock: VirtualClock) -> None:
    app = make_app()
    async with running(app) as engine:
        await _some(engine, clock)
        begin = (await engine.process("c")).created_at
        second = (await engine.process("a")).created_at

        assert await found(engine, type="Other") == await found(engine, type=app.extras["Other"]) == ["o"]  # type: ignore[attr-defined]
        assert await found(engine, status="idle", type="File") == ["a", "c"]
        assert await found(engine, status="waiting") == ["e"]
        assert await found(engine, status="failed") == []
        assert await found(engine, created_after=datetime_of(second)) == ["b", "e", "o"]
        for order in ("created", "-created", "id"):
            assert sorted(await found(engine, created_after=datetime_of(second - 1), order=order, type="File")) == ["a", "b", "e"]
        assert await found(engine, order="-created", created_after=datetime_of(second)) == ["o", "e", "b"]
        assert await found(engine, updated_before=datetime_of(begin + 1)) == ["c"]
        assert await found(engine, updated_before=datetime_of(begin)) == []


async def test_those_that_are_halted_are_found_by_their_own_index_in_order(running: Running, clock: VirtualClock) -> None:
    async with running(make_app()) as engine:
        for name in ("c", "a", "b"):
            await label(engine, name, {})
            clock.advance(SECOND)
        await engine.deliver(Relabel("b"), id="r", wait=True)

        class Stop:
            def reads(self) -> list[Any]:
                return []

            def decide(self, view: View) -> None:
                for name in ("c", "b"):
                    row = view.get(PROCESS.key("default", name))
                    assert row is not None
                    view.update(PROCESS.key("default", name), msgspec.structs.replace(row, status="stuck"))

        await engine.store.commit(Stop())
        assert await found(engine, status="stuck") == ["b", "c"]
        assert await found(engine, status="stuck", order="created") == ["c", "b"]
        assert await found(engine, status="idle") == ["a"]


async def test_attributes_are_found_by_value_range_and_beginning(running: Running, clock: VirtualClock) -> None:
    async with running(make_app()) as engine:
        await _some(engine, clock)
        await label(engine, "f", {"size": 1.5, "owner": "c-1x", "due": "noon"})
        await label(engine, "g", {"owner": "c-2", "rank": 1})
        await label(engine, "h", {"owner": "c-1", "rank": 2})

        assert await found(engine, attributes={"owner": "c-0"}) == ["b", "c"]
        assert await found(engine, attributes={"owner": "c-0", "size": 2}) == ["b"]
        assert await found(engine, attributes={"owner": "c-0"}, status="ended") == ["b"]
        assert await found(engine, attributes={"owner": "c-"}) == []
        assert await found(engine, attributes={"owner": StartsWith("c-")}) == ["b", "c", "a", "h", "f", "g"]
        assert await found(engine, attributes={"owner": StartsWith("c-1")}) == ["a", "h", "f"]
        assert await found(engine, attributes={"rank": Between(0, 9), "owner": StartsWith("c-1")}) == ["h"]
        assert await found(engine, attributes={"size": Between(1, 2)}) == ["a", "f", "b"]
        assert await found(engine, attributes={"size": Between(low=1.5)}) == ["f", "b", "e"]
        assert await found(engine, attributes={"size": Between(high=1)}) == ["c", "a"]
        assert await found(engine, attributes={"size": Between(0, 9), "owner": StartsWith("c-1")}) == ["a", "f"]
        assert await found(engine, attributes={"due": Between(high=NOON)}) == ["f"]
        assert await found(engine, attributes={"due": Between(low=NOON + timedelta(microseconds=1))}) == []
        assert await found(engine, attributes={"size": "1"}) == await found(engine, attributes={"nothing": 1}) == []


async def test_a_number_is_found_whatever_its_kind(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {"size": 5})
        await label(engine, "b", {"size": 5.0})
        await label(engine, "c", {"size": True})

        assert await found(engine, attributes={"size": 5}) == await found(engine, attributes={"size": 5.0}) == ["a", "b"]
        assert await found(engine, attributes={"size": True}) == ["c"]


async def test_tenants_do_not_see_one_another(running: Running) -> None:
    async with running(make_app()) as engine:
        await engine.deliver(Label("a", {"x": 1}), id="l", to=Address.start("File", id="a"), tenant="acme", wait=True)

        assert await found(engine) == await found(engine, attributes={"x": 1}) == await found(engine, order="-created") == []
        assert await found(engine, tenant="acme", attributes={"x": 1}) == ["a"]


@pytest.mark.parametrize("asked", [{}, {"order": "created"}, {"attributes": {"x": StartsWith("")}}])
async def test_what_does_not_change_comes_once_while_others_come_and_go(running: Running, asked: dict[str, Any]) -> None:
    async with running(make_app()) as engine:
        for name in "bdfh":
            await label(engine, name, {"x": name})
        first = await engine.processes(limit=2, **asked)
        await label(engine, "a", {"x": "a"})
        await engine.deliver(Relabel("b", {"x": "bb"}), id="r", wait=True)
        second = await engine.processes(limit=2, after=first.next, **asked)

        assert [one.process_id for one in [*first, *second]][:4] == list("bdfh")


async def test_a_page_looks_at_so_many_rows_and_says_where_to_go_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_PAGE", 2)
    monkeypatch.setattr(limits, "LIST_ROWS_MAX", 4)
    async with running(make_app()) as engine:
        for number in range(9):
            await label(engine, f"p{number}", {"n": number})
        await engine.deliver(Relabel("p7", how="end"), id="end", wait=True)

        first = await engine.processes(status="ended")
        second = await engine.processes(status="ended", after=first.next)

        assert (first, second.next is None) == ([], False)
        assert [one.process_id for one in second] == ["p7"]
        assert await found(engine, status="ended") == ["p7"]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"limit": 0}, "limit is 1 to 1000"),
        ({"limit": 1001}, "limit is 1 to 1000"),
        ({"status": "dead"}, "expected one of idle, runnable"),
        ({"status": "removed"}, "expected one of idle, runnable"),
        ({"attributes": {"x": StartsWith(2**62 - 1)}}, "attribute 'x': found StartsWith"),  # type: ignore[arg-type]
        ({"order": "updated"}, "expected one of id, created, -created"),
        ({"order": "id", "attributes": {"x": 1}}, "exclude one another"),
        ({"created_after": NOON.replace(tzinfo=None)}, "expected a datetime with a time zone"),
        ({"updated_before": 7}, "expected a datetime with a time zone"),
        ({"type": 7}, "expected a process type or its name"),
        ({"attributes": {"a b": 1}}, "a name is a letter"),
        ({"attributes": {"x": None}}, "attribute 'x': found None"),
        ({"attributes": {"x": Between()}}, "Between needs an end"),
        ({"attributes": {"x": Between(1, "a")}}, "found 1 and 'a'"),
        ({"after": "!"}, "expected the `next` of the page before"),
        ({"after": "AAAA"}, "expected the `next` of the page before"),
    ],
)
async def test_what_cannot_be_asked_is_said(running: Running, asked: dict[str, Any], text: str) -> None:
    async with running(make_app()) as engine:
        with pytest.raises(UsageError, match=text):
            await engine.processes(**asked)
        with pytest.raises(InvalidIdentifier):
            await engine.processes(tenant="no spaces")


async def test_a_cursor_of_another_list_is_refused(running: Running) -> None:
    async with running(make_app()) as engine:
        for name in "ab":
            await label(engine, name, {"x": 1})
        first = await engine.processes(limit=1)

        with pytest.raises(UsageError, match="the `next` of another list"):
            await engine.processes(limit=1, after=first.next, order="created")
        with pytest.raises(UsageError, match="the `next` of another list"):
            await engine.processes(limit=1, after=first.next, tenant="acme")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(-3, 3) | st.sampled_from(["", "a", "ab", "b", "é"]) | st.floats(-3, 3), min_size=1, max_size=12),
    st.sampled_from([-3, -0.5, 0, 2, "", "a", "b"]),
    st.sampled_from([-1, 0.25, 3, "a", "ab", "z"]),
)
async def test_ranges_find_what_a_comparison_finds(sizes: list[Any], low: Any, high: Any) -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store, Engine(store, make_app()) as engine:
        for number, size in enumerate(sizes):
            await label(engine, f"p{number:02}", {"x": size})

        same = isinstance(low, str) == isinstance(high, str)
        if same:
            expected = sorted(
                (size, f"p{number:02}")
                for number, size in enumerate(sizes)
                if isinstance(size, str) == isinstance(low, str) and low <= size <= high
            )
            assert await found(engine, attributes={"x": Between(low, high)}) == [name for _, name in expected]
        if isinstance(low, str):
            starting = sorted((size, f"p{n:02}") for n, size in enumerate(sizes) if isinstance(size, str) and size.startswith(low))
            assert await found(engine, attributes={"x": StartsWith(low)}) == [name for _, name in starting]


async def test_a_process_is_shown_with_all_that_is_known_of_it(running: Running) -> None:
    async with running(make_app()) as engine:
        await label(engine, "a", {"x": 1})
        shown = await engine.process("a")

        assert (shown.process_type, shown.status, shown.attributes, shown.keys, shown.tags) == ("File", "idle", {"x": 1}, ["file:a"], [])
        assert json.loads(json.dumps([one.process_id for one in await engine.processes()])) == ["a"]

"""Check before routing: what breaks is found, what does not is let through, and nothing runs but the code of handlers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from perdure import Address, App, Engine, VirtualClock, limits, open_store
from perdure.deploying.candidates import candidate_of_app, candidate_of_archive
from perdure.deploying.checking import check
from perdure.deploying.findings import CheckReport, Finding, Progress
from perdure.errors import UsageError
from perdure.packages.archive import unpack
from perdure.store import Store
from tests.deploying import marks
from tests.deploying.versions import COMPATIBLE, FLOWS, INCOMPATIBLE, NOTED, PICK, Edit, archive_of, edited
from tests.deploying.world import Pin, dump, flows_of, ids, lived, record_of
from tests.engine.orders import reaches
from tests.stores import KINDS, store_url


async def checked(store: Store, flows: str) -> CheckReport:
    async with candidate_of_archive(archive_of(flows), store) as candidate:
        return await check(store, candidate)


def told(findings: list[Finding]) -> str:
    return "\n".join(f"{one.what}: {one.result}: {one.text}" for one in findings)


def broken(report: CheckReport) -> list[Finding]:
    return [one for one in report.findings if one.breaks]


@pytest.mark.parametrize("edit", INCOMPATIBLE, ids=lambda edit: edit.name)
async def test_what_breaks_is_found(edit: Edit) -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)

        report = await checked(store, edited(edit))

    assert not report.ok
    found = [one for one in broken(report) if one.what == edit.what and one.result.startswith(edit.result) and edit.text in one.text]
    assert found, told(report.findings)
    assert marks.ran == []


@pytest.mark.parametrize("edit", COMPATIBLE, ids=lambda edit: edit.name)
async def test_what_does_not_break_passes(edit: Edit) -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)

        report = await checked(store, edited(edit))

    assert report.ok, told(broken(report))
    assert {(one.process_type, one.checked, one.open_turns) for one in report.types} == {("Order", 2, 1), ("pick", 1, 1)}
    assert marks.ran == []


def test_the_lists_are_long_enough() -> None:
    assert len({edit.name for edit in INCOMPATIBLE}) >= 15
    assert len({edit.name for edit in COMPATIBLE}) >= 15


@pytest.mark.parametrize("kind", KINDS)
async def test_a_check_leaves_every_row_as_it_was_and_runs_no_step(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    clock = VirtualClock()
    async with open_store(store_url(request, kind, tmp_path), clock=clock) as store:
        await lived(store, clock)
        before = await dump(store)
        reports = [await checked(store, edited(edit)) for edit in (INCOMPATIBLE[0], INCOMPATIBLE[17], COMPATIBLE[12], COMPATIBLE[13])]
        after = await dump(store)

    assert after == before
    assert {"process", "event", "message", "package"} <= {name for name, rows in before.items() if rows}
    assert marks.ran == []
    assert [report.ok for report in reports] == [False, False, True, True]
    assert [(one.result, one.message) for one in broken(reports[0])] == [("diverges at step reserve", "p1")]
    found = {(one.what, one.message, one.result, one.breaks) for one in reports[1].findings}
    assert found == {
        ("schema", "", "undecodable at $.author", True),
        ("message", "n1", "undecodable at $", True),
        ("message", "n9", "undecodable at $", True),
        ("turn", "n2", "undecodable at $", False),
    }


async def test_a_check_looks_at_a_store_whose_engine_runs() -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)
        with flows_of(archive_of(FLOWS)) as flows:
            async with Engine(store, flows.app) as engine:
                report = await checked(store, edited(INCOMPATIBLE[0]))
                await engine.deliver(flows.Approve("bob"), id="a1", to=Address.key("order:1"))
                await reaches(engine, broken(report)[0].process_id, "idle")

    assert [one.step for one in broken(report)] == ["reserve"]
    assert marks.ran == ["ship"]


async def test_processes_that_are_on_a_version_are_looked_at_and_named_with_it() -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        version = await lived(store, clock)
        for process_id in await ids(store):
            await store.commit(Pin(process_id, version))

        renamed = await checked(store, edited(INCOMPATIBLE[0]))
        gone = await checked(store, FLOWS.replace(PICK, ""))
        another = archive_of(FLOWS.replace(PICK, ""), name="other")
        async with candidate_of_archive(another, store) as candidate:
            other = await check(store, candidate)

    assert [(one.process_type, one.version, one.processes, one.breaking) for one in renamed.types] == [
        ("Order", version, 2, 1),
        ("pick", version, 1, 0),
    ]
    assert renamed.versions == [version]
    assert {(one.what, one.process_type, one.process_id, one.result) for one in broken(gone)} == {
        ("turn", "pick", "pick-1", "no handler"),
        ("schema", "pick", "", "no handler"),
    }
    assert other.ok, "the processes of another package are not its own"
    assert [one.process_type for one in other.types] == ["Order"]


async def test_processes_that_were_started_on_a_package_are_looked_at() -> None:
    archive = archive_of(FLOWS)
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store, Engine(store, App("nothing of its own")) as engine:
        await store.packages.deploy(record_of(archive, "Order"), ["pick"])
        place = msgspec.defstruct("Place", [("order_id", str), ("total", int), ("size", str)], tag="place")
        await engine.deliver(place("1", 30, "small"), id="p1", to=Address.start("Order", key="order:1", id="order-1"))
        await reaches(engine, "order-1", "waiting")
        marks.ran.clear()

        bad, good = [await checked(store, edited(edit)) for edit in (INCOMPATIBLE[0], COMPATIBLE[4])]

    assert [(one.process_id, one.version, one.result) for one in broken(bad)] == [
        ("order-1", unpack(archive).identity, "diverges at step reserve")
    ]
    assert good.ok
    assert [(one.version, one.open_turns) for one in good.types] == [(unpack(archive).identity, 1)]
    assert marks.ran == []


async def test_versions_that_are_not_stored_any_more_are_named() -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)
        await store.commit(Pin("pick-1", "e" * 64))

        report = await checked(store, FLOWS)

    assert report.missing == ["e" * 64]
    assert report.ok


async def test_local_code_is_checked_without_any_package() -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)
        await store.packages.retire("Order")
        await store.packages.retire("pick")
        with flows_of(archive_of(FLOWS.replace(PICK, "").replace(NOTED, ""))) as flows:
            report = await check(store, candidate_of_app(flows.app))

    assert (report.candidate, report.package, report.versions) == ("shop", None, [])
    assert [(one.process_id, one.result) for one in broken(report)] == [("pick-1", "no handler")]
    notes = {(one.what, one.message, one.result) for one in report.findings if not one.breaks}
    assert notes == {("message", "n1", "no handler"), ("turn", "n2", "no handler")}, "they may wait for a receive, nobody knows"


async def test_a_sample_is_of_each_type_and_always_the_same() -> None:
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)
        async with candidate_of_archive(archive_of(FLOWS), store) as candidate:
            told: list[Progress] = []
            one, again = [await check(store, candidate, sample=1, progress=told.append) for _ in range(2)]
            some = await check(store, candidate, types=["pick"])
            with pytest.raises(UsageError, match="sample"):
                await check(store, candidate, sample=0)

    assert one == again
    assert [(row.process_type, row.processes, row.checked) for row in one.types] == [("Order", 2, 1), ("pick", 1, 1)]
    assert [(progress.done, progress.total) for progress in told] == [(1, 2), (2, 2)] * 2
    assert [row.process_type for row in some.types] == ["pick"]


async def test_of_very_many_findings_the_first_are_kept_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHECK_FINDINGS_MAX", 2)
    monkeypatch.setattr(limits, "READ_PAGE", 1)
    clock = VirtualClock()
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)

        report = await checked(store, edited(INCOMPATIBLE[17]))

    assert (report.breaking, report.notes, len(report.findings)) == (3, 1, 2)
    assert all(one.breaks for one in report.findings)

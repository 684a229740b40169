"""Check before routing of packages with an interpreter of their own: as of others, and whatever their code does, a check goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from perdure import VirtualClock, limits, open_store
from perdure.deploying.candidates import Candidate, candidate_of_archive
from perdure.deploying.checking import check
from perdure.deploying.findings import CheckReport
from perdure.errors import PackageImportFailed
from perdure.packages.archive import unpack
from perdure.store import Store
from tests.deploying.test_checking import broken, told
from tests.deploying.versions import COMPATIBLE, FLOWS, INCOMPATIBLE, NOTED, Edit, archive_of, edited
from tests.deploying.world import dump, found, lived, record_of

Ran = Callable[[], bool]
IN_THE_GATE: Final = frozenset(
    {
        "a step is renamed",
        "what waited raises",
        "the output of a step is another type",
        "a field is narrowed",
        "a message needs one field more",
        "a process type is gone",
        "a step before, patched",
        "it waits longer, and for more",
        "the field of a message is renamed, with an upcaster",
    }
)


def some(edits: Sequence[Edit]) -> list[Any]:
    """Return edits to try: of most, `make soak` finds out whether they do here what they do in this interpreter."""
    return [pytest.param(edit, id=edit.name, marks=() if edit.name in IN_THE_GATE else pytest.mark.soak) for edit in edits]


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Return what says whether a step has run."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    return (tmp_path / "ran").exists


@asynccontextmanager
async def shop(clock: VirtualClock) -> AsyncIterator[Store]:
    """Open a store in which the shop has done something: what is tried here has nothing to do with stores."""
    async with open_store("sqlite:///:memory:", clock=clock) as store:
        await lived(store, clock)
        yield store


@asynccontextmanager
async def opened(store: Store, flows: str, environments: Path) -> AsyncIterator[Candidate]:
    async with candidate_of_archive(archive_of(flows, apart=True), store, environments=environments) as candidate:
        yield candidate


async def checked(store: Store, flows: str, environments: Path) -> CheckReport:
    async with opened(store, flows, environments) as candidate:
        return await check(store, candidate)


@pytest.mark.parametrize("edit", some(INCOMPATIBLE))
async def test_what_breaks_is_found(edit: Edit, environments: Path, ran: Ran) -> None:
    async with shop(VirtualClock()) as store:
        report = await checked(store, edited(edit), environments)

    assert not report.ok
    found = [one for one in broken(report) if one.what == edit.what and one.result.startswith(edit.result) and edit.text in one.text]
    assert found, told(report.findings)
    assert not ran()


@pytest.mark.parametrize("edit", some(COMPATIBLE))
async def test_what_does_not_break_passes(edit: Edit, environments: Path, ran: Ran) -> None:
    async with shop(VirtualClock()) as store:
        report = await checked(store, edited(edit), environments)

    assert report.ok, told(broken(report))
    assert {(one.process_type, one.checked, one.open_turns) for one in report.types} == {("Order", 2, 1), ("pick", 1, 1)}
    assert not ran()


async def test_a_report_is_that_of_shared_code_and_every_row_is_as_it_was(environments: Path, ran: Ran) -> None:
    flows = FLOWS.replace("    text: str\n", "    text: str\n    author: str\n").replace("p.sleep(60)", "p.sleep(60, name='nap')")
    async with shop(VirtualClock()) as store:
        before = await dump(store)
        async with candidate_of_archive(archive_of(flows), store) as candidate:
            shared = await check(store, candidate)
        apart = await checked(store, flows, environments)
        after = await dump(store)

    assert after == before
    assert apart.findings == shared.findings
    assert (apart.types, apart.messages, apart.versions) == (shared.types, shared.messages, shared.versions)
    assert {one.what for one in apart.findings} == {"turn", "message", "schema"}
    assert not ran()


ENDS: Final = "__import__('os')._exit(9)"
HANGS: Final = "__import__('threading').Event().wait()"


@pytest.mark.parametrize(
    ("does", "reason"),
    [(ENDS, "its interpreter has ended: it ended with status 9"), (HANGS, "it has not answered within 1 s")],
    ids=["ends", "hangs"],
)
async def test_code_that_ends_its_interpreter_or_hangs_breaks_its_process_and_the_others_are_looked_at(
    does: str, reason: str, environments: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows = FLOWS.replace('self.status = "waiting"', f'self.status = "waiting" if message.order_id == "2" else {does}')
    async with shop(VirtualClock()) as store:
        one = await found(store, "order:1")
        async with opened(store, flows, environments) as candidate:
            monkeypatch.setattr(limits, "APART_CALL_SECONDS", 1.0)
            report = await check(store, candidate)

    assert [(each.process_id, each.result) for each in broken(report)] == [(one, "diverges")]
    assert reason in broken(report)[0].text
    assert {(each.process_type, each.checked, each.open_turns, each.finished_turns) for each in report.types} == {
        ("Order", 2, 0, 2),
        ("pick", 1, 1, 0),
    }
    assert not ran()


async def test_a_message_that_ends_it_when_it_is_read_breaks_what_it_waits_for(environments: Path, ran: Ran) -> None:
    flows = FLOWS.replace("    text: str\n", f"    text: str\n\n    def __post_init__(self):\n        {ENDS}\n")
    async with shop(VirtualClock()) as store:
        one, two = [await found(store, f"order:{number}") for number in "12"]
        report = await checked(store, flows, environments)

    assert {(each.what, each.process_id, each.message, each.result) for each in broken(report)} == {
        ("turn", one, "", "diverges"),  # the note is in its mailbox
        ("turn", two, "", "diverges"),  # it is in a turn that is over
        ("message", "", "n9", "undecodable at $"),
    }
    assert all("it ended with status 9" in each.text for each in broken(report))


RAISES: Final = """
    def __post_init__(self):
        if self.status.startswith("shipped"):
            {}[self.total]
"""


async def test_code_that_raises_where_it_is_read_breaks_its_process_and_the_others_are_looked_at(environments: Path, ran: Ran) -> None:
    flows = FLOWS.replace("    notes: list[str] = []\n", "    notes: list[str] = []\n" + RAISES)
    async with shop(VirtualClock()) as store:
        apart = await checked(store, flows, environments)
        async with candidate_of_archive(archive_of(flows), store) as candidate:
            shared = await check(store, candidate)
        two = await found(store, "order:2")

    assert apart.findings == shared.findings
    assert [(each.process_id, each.result, each.text) for each in broken(apart)] == [(two, "diverges", "it has raised KeyError: 30")]
    assert [each.checked for each in apart.types] == [2, 1]


MAIL_ENDS: Final = "    text: str\n\n    def __post_init__(self):\n        raise SystemExit(0)\n"


async def test_code_that_would_end_the_program_ends_no_check(environments: Path, ran: Ran) -> None:
    flows = FLOWS.replace("    await p.sleep(60)\n", "    await p.sleep(60)\n    raise SystemExit(0)\n").replace(
        "    text: str\n", MAIL_ENDS
    )
    async with shop(VirtualClock()) as store:
        apart = await checked(store, flows, environments)
        async with candidate_of_archive(archive_of(flows), store) as candidate:
            shared = await check(store, candidate)

    assert apart.findings == shared.findings
    assert {each.text for each in broken(apart) if each.what != "schema"} == {"it has raised SystemExit: 0"}
    assert [(each.checked, each.breaking) for each in apart.types] == [(2, 2), (1, 1)]


async def test_mail_is_read_as_the_open_turn_awaits_it(environments: Path, ran: Ran) -> None:
    more = "self.receive(Approve, Note, timeout=timedelta(days=3))"
    flows = FLOWS.replace("self.receive(Approve, timeout=timedelta(days=3))", more).replace(NOTED, "")
    async with shop(VirtualClock()) as store:
        apart = await checked(store, flows, environments)
        strict = await checked(store, flows.replace("    text: str\n", "    text: int\n"), environments)

    assert {(each.what, each.message) for each in broken(apart)} == {("schema", ""), ("message", "n9")}
    assert ("n1", "undecodable at $.text") in {(each.message, each.result) for each in broken(strict)}


LIES: Final = """
import os

if "LIES" in os.environ:
    from perdure.engine.apart import child, frames

    async def lies(self, frame):
        self.tell(frames.SaysLeads(question=frame.question, leads=dict.fromkeys(["Order", "pick"], ({}, {}))))

    child.Child._try = lies
"""


async def test_what_is_no_answer_is_not_believed(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(FLOWS + LIES, apart=True)
    monkeypatch.setenv("LIES", "1")
    async with shop(VirtualClock()) as store, candidate_of_archive(archive, store, environments=environments) as candidate:
        report = await check(store, candidate, types=["pick"])

    assert [(each.what, each.process_id, each.text) for each in broken(report)] == [
        ("turn", "pick-1", "its interpreter has answered with a SaysLeads")
    ]


UNSAYABLE: Final = """
import os

if "UNSAYABLE" in os.environ:
    from perdure.engine import trying

    async def tries(self, exported, *, rewrites):
        return trying.Tried(unreadable=chr(0xD800))

    trying.LocalCode.try_process = tries
"""


async def test_an_answer_that_fits_into_no_frame_is_said_to_be_one(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(FLOWS + UNSAYABLE, apart=True)
    monkeypatch.setenv("UNSAYABLE", "1")
    async with shop(VirtualClock()) as store, candidate_of_archive(archive, store, environments=environments) as candidate:
        report = await check(store, candidate, types=["pick"])

    [one] = broken(report)
    assert (one.process_id, one.result) == ("pick-1", "diverges")
    assert one.text.startswith("it cannot answer: UnicodeEncodeError: ")


async def test_a_record_that_fits_into_no_frame_is_found(environments: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(VirtualClock()) as store, opened(store, FLOWS, environments) as candidate:
        monkeypatch.setattr(limits, "APART_FRAME_MAX", 1_200)
        report = await check(store, candidate)

        longest = await found(store, "order:2")

    [one] = broken(report)
    assert (one.process_id, one.result) == (longest, "diverges")
    assert "cannot be told to an interpreter of its own: TryProcess: " in one.text


async def test_processes_on_such_a_version_are_looked_at_with_another_one(environments: Path, ran: Ran) -> None:
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        archive = archive_of(FLOWS, apart=True)
        await store.packages.deploy(record_of(archive, "Order"), ["pick"])
        gone = FLOWS[: FLOWS.index("@app.process\nasync def pick")]
        report = await checked(store, gone, environments)

    assert report.versions == [unpack(archive).identity]
    assert [(each.what, each.process_type, each.result) for each in broken(report)] == [("schema", "pick", "no handler")]


DIES: Final = """
import os

if "DIES" in os.environ:
    from perdure.engine.apart import child

    async def dies(self, frame):
        os._exit(3)

    child.Child._try = dies
"""


async def test_a_package_whose_interpreter_ends_before_anything_is_tried_is_refused(
    environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(FLOWS + DIES, apart=True)
    monkeypatch.setenv("DIES", "1")
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        with pytest.raises(PackageImportFailed, match="its interpreter has ended: it ended with status 3"):
            async with candidate_of_archive(archive, store, environments=environments):
                raise AssertionError("it was opened")


async def test_a_package_that_cannot_be_imported_there_is_refused(environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of("import os\nif 'HERE' in os.environ:\n    raise ValueError('not here')\n" + FLOWS, apart=True)
    monkeypatch.setenv("HERE", "1")
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        with pytest.raises(PackageImportFailed, match="ValueError: not here"):
            async with candidate_of_archive(archive, store, environments=environments):
                raise AssertionError("it was opened")

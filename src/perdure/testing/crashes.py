"""A scenario, run once undisturbed and then once for each commit, crashed at it; what has to be the same afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import datetime
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.conversations.events import MessageReceived, ProcessingStarted, decode_event
from perdure.conversations.tables import EVENTS, PROCESS
from perdure.core.table import Scan
from perdure.engine import inspection
from perdure.engine.app import App
from perdure.errors import UsageError
from perdure.identity import DEFAULT_TENANT, ProcessId, TenantId
from perdure.store import Store
from perdure.testing.backend import Crash
from perdure.testing.engine import VirtualEngine, engine
from perdure.testing.ledger import EffectLedger

Scenario = Callable[[VirtualEngine], Awaitable[object]]
Stores = Callable[[], AbstractContextManager[str]]
Picture = dict[str, object]
_NOT_COMPARED: Final = frozenset({"message_id", "received_at", "due", "step_index"})
"""Of an event: whose it is, times, and in which order steps ended that ran side by side."""


class CrashRun(msgspec.Struct, frozen=True):
    """One run that was crashed.

    Attributes:
        crash: at which commit, and whether that was lost.
        happened: false when the run had fewer commits than that.
        differences: from the undisturbed run, for people; empty when there are none.
        repeated: effects that happened more than once, which a crash between effect and record may bring about.
        windows: the steps that did so, by name.
    """

    crash: Crash
    happened: bool
    differences: list[str]
    repeated: dict[str, int]
    windows: dict[str, int]


class CrashReport(msgspec.Struct, frozen=True):
    """What `crashes` found.

    Attributes:
        commits: of the undisturbed run.
        runs: one for each commit and way to crash at it.
    """

    commits: int
    runs: list[CrashRun]

    @property
    def ok(self) -> bool:
        """Whether every run came to the outcome of the undisturbed one."""
        return not any(run.differences for run in self.runs)

    @property
    def repeated(self) -> Counter[str]:
        """In how many runs each effect was repeated: the windows in which a step runs again."""
        return Counter(what for run in self.runs for what in run.repeated)

    @property
    def windows(self) -> Counter[str]:
        """In how many runs each step was run again after its effect had happened, by the step's name."""
        return Counter(step for run in self.runs for step in run.windows)

    def __str__(self) -> str:
        lines = [f"{self.commits} commits, {len(self.runs)} runs that were crashed, {sum(bool(r.differences) for r in self.runs)} differ"]
        for run in self.runs:
            lines += [f"{run.crash}: {difference}" for difference in run.differences]
        lines += [f"at least once: {what!r} was repeated in {count} runs" for what, count in sorted(self.repeated.items())]
        more = len(lines) - limits.REPORT_LINES_MAX
        return "\n".join(lines if more <= 0 else [*lines[: limits.REPORT_LINES_MAX], f"… and {more} lines more"])

    def check(self, *, windows: Collection[str] | None = None) -> None:
        """Raise AssertionError, with the differences as its text, unless all is well.

        Args:
            windows: the names of all steps that may have had their effect twice, as the program's documents list them. A
                step that is not listed, and one that is listed and was never found in its window, are errors as well.
                Anything goes when not given.
        """
        found = set(self.windows)
        listed = found if windows is None else set(windows)
        lines = [f"at least once, and not listed: step {step!r}" for step in sorted(found - listed)]
        lines += [f"listed as at least once, and no crash brought it about: step {step!r}" for step in sorted(listed - found)]
        if lines or not self.ok:
            raise AssertionError("\n".join([*lines, str(self)]))


async def crashes(
    app: App,
    scenario: Scenario,
    *,
    ledger: EffectLedger | None = None,
    tenants: Sequence[str] = (DEFAULT_TENANT,),
    start: datetime | None = None,
    stores: Stores | None = None,
) -> CrashReport:
    """Run a scenario, crash it at each of its commits, before and after it, go on, and compare with an undisturbed run.

    Compared are what the scenario returns (or raises), the processes with their fields, keys and tags, the recorded
    events, the messages with their replies, dead letters, and the ledger's effects. Not compared are times, attempts, and
    the order in which steps ended that ran side by side.

    Args:
        app: the process types.
        scenario: `async def scenario(engine): …`; it delivers, waits, lets time pass. It gives its messages ids. A crash does
            not end it: what waits for the engine gets its answer from the next one.
        ledger: where the app's steps note their effects; it is cleared for each run.
        tenants: whose processes and messages are compared.
        start: as for `engine`.
        stores: gives each run the URL of an empty store of its own, as a context manager that the run is within: to try another
            database than one in memory.

    Raises:
        UsageError: the scenario has too many commits.
        Exception: what the undisturbed scenario raises.
    """

    async def run(crash: Crash | None) -> tuple[Picture, int]:
        if ledger is not None:
            ledger.clear()
        async with AsyncExitStack() as stack:
            store = None if stores is None else stack.enter_context(stores())
            made = await stack.enter_async_context(engine(app, start=start, store=store))
            made.crash_at(*([] if crash is None else [crash]))
            outcome = await _outcome(scenario, made, undisturbed=crash is None)
            await made.settled()
            commits = made.commits
            made.crash_at()
            picture: Picture = {"the scenario's outcome": outcome}
            for tenant in tenants:
                picture.update(await _picture(made.store, tenant))
        if ledger is not None:
            picture.update({f"effect {what!r}": count for what, count in ledger.counts.items()})
        return picture, commits

    expected, commits = await run(None)
    if commits > limits.CRASHES_MAX:
        raise UsageError(f"the scenario has {commits:,} commits, the limit is {limits.CRASHES_MAX:,}; make it smaller")
    runs = []
    for crash in [Crash(commit, lost) for commit in range(1, commits + 1) for lost in (True, False)]:
        found, reached = await run(crash)
        noted = EffectLedger() if ledger is None else ledger
        runs.append(CrashRun(crash, reached >= crash.commit, _differences(expected, found), dict(noted.repeated), dict(noted.windows)))
    return CrashReport(commits, runs)


async def _outcome(scenario: Scenario, made: VirtualEngine, *, undisturbed: bool) -> object:
    try:
        return await scenario(made)
    except Exception as error:
        if undisturbed:
            raise
        return error


def _differences(expected: Picture, found: Picture) -> list[str]:
    nothing = "nothing"
    return [
        f"{what}: {_text(found.get(what, nothing))}, undisturbed {_text(expected.get(what, nothing))}"
        for what in {**expected, **found}
        if expected.get(what, nothing) != found.get(what, nothing)
    ]


def _text(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limits.ERROR_TEXT_MAX else text[: limits.ERROR_TEXT_MAX] + "…"


# --- what is compared ----------------------------------------------------------------------------------


async def _picture(store: Store, tenant: str) -> Picture:
    of = "" if tenant == DEFAULT_TENANT else f" of {tenant}"
    picture: Picture = {}
    page = await inspection.processes(store, tenant=tenant)
    while True:
        for one in page:
            picture.update(await _process(store, tenant, one.process_id))
        if page.next is None:
            break
        page = await inspection.processes(store, tenant=tenant, after=page.next)
    place: tuple[str, str] | None = None
    while messages := await inspection.messages(store, tenant=tenant, after=place):
        for message in messages:
            name = f"message {message.source}/{message.message_id}{of}" if message.source else f"message {message.message_id}{of}"
            picture[name] = f"{message.status}, reply {message.reply}, {message.text}"
        place = (messages[-1].source, messages[-1].message_id)
    tick: tuple[int, str, str] | None = None
    while letters := await inspection.dead_letters(store, tenant=tenant, after=tick):
        picture.update({f"dead letter {one.source}/{one.message_id}{of}": f"{one.reason}: {one.detail}" for one in letters})
        tick = (letters[-1].tick, letters[-1].source, letters[-1].message_id)
    return picture


async def _process(store: Store, tenant: str, process_id: str) -> Picture:
    tenant_id, id = TenantId(tenant), ProcessId(process_id)
    one = await inspection.process(store, process_id, tenant=tenant)
    name = f"process {process_id} ({one.process_type})"
    turns, history = await _history(store, tenant_id, id)
    return {
        f"{name}, status": f"{one.status} {one.note}".strip(),
        f"{name}, fields": one.fields,
        f"{name}, keys": sorted(await store.processes.keys_of(tenant_id, id)),
        f"{name}, tags": sorted(await store.processes.tags_of(tenant_id, id)),
        f"{name}, turns": turns,
        **{f"{name}, record of {message}": sorted(events) for message, events in history.items()},
    }


async def _history(store: Store, tenant_id: TenantId, process_id: ProcessId) -> tuple[list[str], dict[str, list[str]]]:
    """Return the messages in the order of their turns, and the events of each."""
    row = await store.access.reader.get(PROCESS.key(tenant_id, process_id))
    assert row is not None, "the process was listed a moment ago"
    turns: list[str] = []
    history: dict[str, list[str]] = {}
    after: tuple[Any, ...] = (-1,)
    while page := await store.access.reader.scan(Scan(EVENTS, (tenant_id, row.stream_no), limits.READ_PAGE, after=after)):
        for key, stored in page:
            event = decode_event(stored.data, stream=process_id, seq=int(key.parts[2] or 0))
            if isinstance(event, MessageReceived):
                turns.append(event.message_id)
            if not isinstance(event, ProcessingStarted):
                values = {name: value for name, value in msgspec.structs.asdict(event).items() if name not in _NOT_COMPARED}
                history.setdefault(event.message_id, []).append(f"{type(event).__name__} {values}")
        after = (page[-1][0].parts[2],)
    return turns, history

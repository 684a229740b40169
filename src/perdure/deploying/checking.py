"""Check before routing: what is stored, against code that may come to run it. Only the code of handlers runs, and nothing is written.

Source: packages.md, "Check before routing".
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple

from perdure import limits
from perdure.conversations.tables import OVER, PROCESS, ProcessRow, ProcessStatus
from perdure.core.table import Key, Scan
from perdure.deploying.candidates import Candidate
from perdure.deploying.earlier import Earlier
from perdure.deploying.findings import CheckReport, Finding, Findings, Progress
from perdure.deploying.waiting import Waiting, mail_of, unaddressed
from perdure.engine.export import ProcessExport, export_process
from perdure.engine.trying import CodeFailed, TriedTurn, path_in
from perdure.engine.verification import ALL_PROCESSES
from perdure.errors import CorruptEvent, EventTooNew, ProcessNotFound, StoreBusy, UsageError
from perdure.messages.mail import in_words
from perdure.store import Store

Place = tuple[str, str]
_Told = Callable[[Progress], None]
_CORRUPT: Final = (CorruptEvent, EventTooNew)


def _silent(_progress: Progress) -> None:
    """Tell nobody."""


async def check(
    store: Store,
    candidate: Candidate,
    *,
    types: Collection[str] | None = None,
    sample: int | None = None,
    progress: _Told = _silent,
) -> CheckReport:
    """Replay the open processes of a store on new code, read what waits, and compare the schemas of earlier versions.

    Engines may run meanwhile: nothing is locked, and each process is read as of one moment. Memory is bounded, however many processes
    there are.

    Of each open process of the candidate's types, whichever version it is on: the open turn is replayed; the finished turns, too, when
    all of its record is there and has at most `limits.CHECK_EVENTS_MAX` events; its fields and its mailbox are read. Processes of local code are an
    app's, those of a package the candidate's when it is of the same name, also if it has no such type any more. Those that have failed are left out.

    Args:
        store: where the processes are.
        candidate: the code.
        types: only processes of these types, and no schemas or waiting messages of others.
        sample: of each type, look at so many processes only: always the same ones, of all ages. Of messages that are in no mailbox, and of
            schedules, the first so many.
        progress: called after each process.

    Raises:
        UsageError: `sample` is not 1 to `limits.CHECK_SAMPLE_MAX`.
        StoreError: the store cannot be read.
    """
    if sample is not None and not 1 <= sample <= limits.CHECK_SAMPLE_MAX:
        raise UsageError(f"sample: expected 1 to {limits.CHECK_SAMPLE_MAX:,}, found {sample}")
    return await _Check(store, candidate, types=types, sample=sample).run(progress)


class _Open(NamedTuple):
    """A process that is looked at, as it was found."""

    key: Key[ProcessRow]
    row: ProcessRow

    @property
    def place(self) -> Place:
        return str(self.key.parts[0]), str(self.key.parts[1])

    @property
    def of(self) -> tuple[str, str | None]:
        return self.row.process_type, self.row.package_hash


class _Check:
    def __init__(self, store: Store, candidate: Candidate, *, types: Collection[str] | None, sample: int | None) -> None:
        self._store = store
        self._candidate = candidate
        self._only = None if types is None else frozenset(types)
        self._sample = sample
        self._earlier = Earlier(store, candidate)
        self._found = Findings()
        self._mine: dict[tuple[str, str | None], bool] = {}

    async def run(self, progress: _Told) -> CheckReport:
        await self._earlier.routed()
        chosen = await self._counted()
        total = sum(counts.processes for counts in self._found.types.values()) if chosen is None else len(chosen)
        done = 0
        async for process in self._open() if chosen is None else self._again(chosen):
            await self._look(process)
            done += 1
            progress(Progress(done, max(total, done), self._found.breaking))
        await self._elsewhere()
        for finding in self._earlier.findings():
            if self._wanted(finding.process_type):
                self._found.add(finding)
        return self._found.report(
            candidate=self._candidate.name,
            package=self._candidate.package,
            versions=sorted(self._earlier.manifests),
            missing=sorted(self._earlier.missing),
        )

    # --- which processes ----------------------------------------------------------------------------------------

    def _wanted(self, process_type: str) -> bool:
        return self._only is None or process_type in self._only

    async def _open(self) -> AsyncIterator[_Open]:
        """Yield the open processes that are looked at, in order, a page at a time."""
        after: tuple[Any, ...] | None = None
        while rows := await self._store.access.reader.scan(Scan(ALL_PROCESSES, (), limits.READ_PAGE, after=after)):
            for key, row in rows:
                if row.process_type and row.status not in OVER and self._wanted(row.process_type):
                    process = _Open(key, row)
                    if process.of not in self._mine:
                        self._mine[process.of] = await self._earlier.is_of_candidate(*process.of)
                    if self._mine[process.of]:
                        yield process
            after = rows[-1][0].parts

    async def _counted(self) -> list[Place] | None:
        """Count the processes, meet all their versions, and return the places of a sample, or None for all."""
        chosen: dict[str, list[tuple[int, Place]]] = {}
        async for process in self._open():
            self._found.of(*process.of).processes += 1
            if process.row.package_hash is not None:
                await self._earlier.read(process.row.package_hash)
            if self._sample is not None:
                heap = chosen.setdefault(process.row.process_type, [])
                (heapq.heappush if len(heap) < self._sample else heapq.heappushpop)(heap, (_lot(process.place), process.place))
        return None if self._sample is None else sorted(place for heap in chosen.values() for _, place in heap)

    async def _again(self, places: list[Place]) -> AsyncIterator[_Open]:
        for place in places:
            key = PROCESS.key(*place)
            row = await self._store.access.reader.get(key)
            if row is not None and row.status not in OVER:
                yield _Open(key, row)

    # --- one process --------------------------------------------------------------------------------------------

    async def _look(self, process: _Open) -> None:
        tenant, process_id = process.place
        row, kinds = process.row, self._candidate.kinds.get(process.row.process_type)
        counts, before = self._found.of(*process.of), self._found.breaking
        if kinds is None:
            self._add(process, what="turn", verdict="no-handler", text=f"{self._candidate.name} has no process type {row.process_type!r}")
        else:
            whole = row.first == 0 and row.head <= limits.CHECK_EVENTS_MAX
            try:
                exported = await export_process(self._store, process_id, tenant=tenant, events=limits.CHECK_EVENTS_MAX if whole else 0)
            except ProcessNotFound:
                return  # it was removed meanwhile
            except StoreBusy:
                self._found.busy(process_id)
                return
            except _CORRUPT as error:
                self._add(process, what="turn", verdict="undecodable", path="$", text=str(error))
            else:
                try:
                    await self._try(process, kinds, exported)
                except CodeFailed as error:  # how it would go on nobody knows; others may
                    self._add(process, what="turn", verdict="diverges", text=str(error))
        counts.checked += 1
        counts.breaking += self._found.breaking > before

    async def _try(self, process: _Open, kinds: Collection[str], exported: ProcessExport) -> None:
        tried = await self._candidate.code.try_process(exported)
        counts = self._found.of(*process.of)
        for turn in tried.turns:
            counts.open_turns += turn.open
            counts.finished_turns += not turn.open
            self._judge(process, exported, turn)
        if tried.unreadable:
            self._add(process, what="fields", verdict="undecodable", path=path_in(tried.unreadable), text=tried.unreadable)
        name = process.row.process_type
        async for message in mail_of(self._store, *process.place):
            self._found.messages += 1
            awaited = message.kind in tried.awaited
            if not awaited and message.kind not in kinds:
                self._unhandled(message, name, process.row.package_hash)
            else:
                unreadable = await self._candidate.code.read(name, message.kind, message.payload, awaited=awaited)
                self._read(message, name, unreadable, version=process.row.package_hash)

    def _judge(self, process: _Open, exported: ProcessExport, turn: TriedTurn) -> None:
        """Add what a replay has found. An open turn that waited and that raises now would fail as soon as an engine has the code."""
        fails = turn.open and bool(turn.raises) and exported.status == ProcessStatus.WAITING
        if turn.verdict == "compatible" and not fails and (turn.open or not turn.text):
            return
        text = f"it waits, and this code raises where it did: {turn.raises}" if fails else turn.text
        self._add(
            process,
            what="turn",
            verdict="diverges" if fails else turn.verdict,
            breaks=turn.open,
            open=turn.open,
            message=in_words(turn.message),
            kind=turn.kind,
            step=turn.step,
            path=turn.path,
            text=text,
        )

    def _add(self, process: _Open, *, breaks: bool = True, **found: Any) -> None:
        tenant, process_id = process.place
        name, version = process.of
        self._found.add(Finding(process_type=name, version=version, tenant_id=tenant, process_id=process_id, breaks=breaks, **found))

    # --- what waits ---------------------------------------------------------------------------------------------

    def _unhandled(self, message: Waiting, name: str, version: str | None = None) -> None:
        """Add a message that nothing handles. It may wait for a `receive`, unless it was handled before."""
        handled = self._earlier.handles(name, message.kind)
        text = f"{name} has no handler for {message.kind!r}" + (" any more" if handled else "; it is kept for a `receive`, if there is one")
        self._found.add(_of(message, name, version)(verdict="no-handler", breaks=handled, text=text))

    def _read(self, message: Waiting, name: str, unreadable: str, version: str | None = None) -> None:
        """Add a message that was read, if it could not be."""
        if unreadable:
            found = _of(message, name, version)
            self._found.add(found(verdict="undecodable", breaks=True, path=path_in(unreadable), text=unreadable))

    async def _elsewhere(self) -> None:
        """Read the messages that are in no mailbox yet, and schedules."""
        seen: dict[str, int] = {}
        async for message in unaddressed(self._store):
            seen[message.what] = seen.get(message.what, 0) + 1
            if self._sample is not None and seen[message.what] > self._sample:
                continue
            kinds = self._candidate.kinds
            takes = [name for name in kinds if message.kind in kinds[name] and message.process_type in {"", name}]
            names = takes or [name for name in kinds if self._earlier.handles(name, message.kind)]
            if names and self._wanted(names[0]):
                self._found.messages += 1
                if takes:
                    self._read(message, names[0], await self._unreadable(takes, message))
                else:
                    self._unhandled(message, names[0])

    async def _unreadable(self, names: list[str], message: Waiting) -> str:
        """Return why the first of these types cannot read a message; empty when one can: which one it goes to is decided when it is delivered."""
        first = ""
        for name in names:
            try:
                unreadable = await self._candidate.code.read(name, message.kind, message.payload)
            except CodeFailed as error:
                unreadable = str(error)
            if not unreadable:
                return ""
            first = first or unreadable
        return first


def _of(message: Waiting, name: str, version: str | None) -> Callable[..., Finding]:
    return partial(
        Finding,
        what=message.what,
        process_type=name,
        version=version,
        tenant_id=message.tenant_id,
        process_id=message.process_id,
        message=message.name,
        kind=message.kind,
    )


def _lot(place: Place) -> int:
    """Return a number by which places are drawn: those with the greatest ones stay out. It looks like chance, and is always the same."""
    return -int.from_bytes(hashlib.sha256("\n".join(place).encode()).digest()[:8])

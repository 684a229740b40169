"""Moving a process to another version of its code, after that was tried on it.

First its open turn is replayed by the other code, from its fields as that code reads and writes them; nothing is written by then.
The move is one transaction, which is refused when anything of the process has changed since that look: it is looked at again then.

Source: packages.md, "Moving a process".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from perdure import limits
from perdure.conversations.events import ProcessMoved, decode_event
from perdure.conversations.tables import EVENT, PROCESS, PROCESS_STATE, ProcessRow, ProcessStateRow, ProcessStatus
from perdure.conversations.writes import append_events, stream_name
from perdure.core.table import Key, Read, Scan
from perdure.core.view import View
from perdure.engine.apart.remote import AnyType, RemoteType
from perdure.engine.apart.trials import RemoteCode
from perdure.engine.control import Control
from perdure.engine.export import ExportedTurn, ProcessExport, export_process
from perdure.engine.flush import present
from perdure.engine.handling import Handling, identity_of
from perdure.engine.leaving import StartQueued
from perdure.engine.notes import Dropped, Note, Rules
from perdure.engine.timeline import shown
from perdure.engine.trying import Code, CodeFailed, LocalCode, path_in
from perdure.engine.versions import Versions
from perdure.errors import (
    IllegalTransition,
    PackageEntryMissing,
    ProcessEnded,
    ProcessIncompatible,
    StoreBusy,
)
from perdure.identity import RegistryKey, Tag, TenantId
from perdure.messages.tables import MAIL, MAILBOX
from perdure.packages.writes import hold
from perdure.routing.tables import KEYS_OF, TAGS_OF
from perdure.routing.writes import add_tag, bind_key
from perdure.store import Store

replace = msgspec.structs.replace
_BEGUN: Final = "StepBegun"
_OVER: Final = ("StepCompleted", "StepFailed", "StepAttemptFailed")


class MoveProcess(Control, frozen=True, gc=False):
    """Let a process go on on other code, which was tried on it when it and its fields were as `seen` and `state`.

    `fields` are those as the other code writes them; `package` is None for the app's own code.
    """

    package: str | None
    seen: ProcessRow
    state: ProcessStateRow | None
    fields: ProcessStateRow | None
    actor: str

    def reads(self) -> Iterable[Read]:
        """Name the process, its fields and its mailbox."""
        return self.key, PROCESS_STATE.key(self.tenant_id, self.process_id), MAILBOX.key(self.tenant_id, self.process_id)

    def decide(self, view: View) -> list[Note]:
        """Move it.

        A process that has never begun a turn has no record: its row alone says that it was moved.

        Raises:
            ProcessNotFound: it is not there any more.
            ProcessChanged: it is not what was tried.
            PackageMissing: the version is not stored.
        """
        handling, fields = Handling(view, self.rules), PROCESS_STATE.key(self.tenant_id, self.process_id)
        process = self.process(view)
        if (process, view.get(fields)) != (self.seen, self.state):
            raise ProcessChanged
        if self.package is not None:
            hold(view, self.package)
        if self.fields is not None and self.fields != self.state:
            view.update(fields, self.fields)
        moved = replace(process, package_hash=self.package, updated_at=view.now)
        if process.head:
            event = ProcessMoved(self._last_message(view, process), process.package_hash or "", self.package or "", self.actor)
            moved = append_events(view, self.key, moved, [event])
        view.update(self.key, moved)
        self._name_again(view, moved)
        handling.notes.append(Dropped(self.tenant_id, self.process_id, reload=process.open_message is not None))
        self._let_go_on(handling, moved)
        return handling.notes

    def _last_message(self, view: View, process: ProcessRow) -> str:
        if process.open_message is not None:
            return process.open_message
        first = present(view.get(EVENT.key(self.tenant_id, process.stream_no, process.turn_seq)))
        return decode_event(first.data, stream=stream_name(self.tenant_id, self.process_id), seq=process.turn_seq).message_id

    def _name_again(self, view: View, process: ProcessRow) -> None:
        """Write its new identity wherever a key or a tag names it."""
        mailbox = view.get(MAILBOX.key(self.tenant_id, self.process_id))
        if mailbox is None or not mailbox.addressed:
            return
        identity, place = identity_of(self.tenant_id, self.process_id, process), (self.tenant_id, self.process_id)
        for index, name_again in ((KEYS_OF, _bind_again), (TAGS_OF, _tag_again)):
            after: tuple[Any, ...] | None = None
            while rows := view.scan(Scan(index, place, limits.READ_PAGE, after=after, guard=self.key)):
                for key, _ in rows:
                    name_again(view, str(key.parts[1]), identity)
                after = (rows[-1][0].parts[1],)

    def _let_go_on(self, handling: Handling, process: ProcessRow) -> None:
        """Make it runnable if it has something to go on with, which may be what the code before could not take."""
        view, foreign = handling.view, handling.foreign(process)
        if process.status in (ProcessStatus.PAUSED, ProcessStatus.FAILED):
            handling.tell_owner(self.key)
        elif process.open_message is not None or process.status != ProcessStatus.IDLE:
            view.update(self.key, replace(process, status=ProcessStatus.RUNNABLE, note=""))
            handling.tell_owner(self.key)
            if process.open_message is None and not foreign:
                handling.notes.extend(StartQueued(self.rules, self.tenant_id, self.process_id).decide(view))
        elif not foreign:
            handling.start_next(self.key)
        elif view.scan(Scan(MAIL, (self.tenant_id, self.process_id), 1)):
            handling.leave_to_owner(self.key)


def _bind_again(view: View, name: str, identity: Any) -> None:
    bind_key(view, identity.tenant_id, RegistryKey(name), identity)


def _tag_again(view: View, name: str, identity: Any) -> None:
    add_tag(view, identity.tenant_id, Tag(name), identity)


class ProcessChanged(Exception):
    """A process is not as it was when code was tried on it; nothing was written."""


class Target(NamedTuple):
    """Where a process is to go: to a package by its hash, None for the app's own code, and who wants that."""

    package: str | None
    actor: str


class Mover:
    """Moves processes of a store, one after another.

    Args:
        store: where they are.
        versions: where their code is loaded from; from a command line, of an app without types.
        rules: what decisions go by here.
        commit: commits a move and tells the owner, if that is here.
    """

    def __init__(self, store: Store, versions: Versions, *, rules: Rules, commit: Callable[[MoveProcess], Awaitable[object]]) -> None:
        self._store = store
        self._versions = versions
        self._rules = rules
        self._commit = commit

    async def move(self, tenant_id: TenantId, process_id: str, target: Target, *, dry_run: bool = False) -> bool:
        """Move a process, and return whether it was on other code; with `dry_run`, only find out whether it can be moved.

        Raises:
            ProcessNotFound, ProcessEnded: there is nothing to move.
            ProcessIncompatible: that code cannot go on with it; the text says what differs, and where.
            IllegalTransition: a step that runs at most once may be under way.
            PackageMissing, and what else `Versions.using` raises: the code cannot be loaded here.
            StoreBusy: it changed at every look.
            CorruptEvent: its record cannot be read.
        """
        key = PROCESS.key(tenant_id, process_id)
        for _ in range(limits.MOVE_TRIES):
            seen = shown(key, await self._store.access.reader.get(key))
            if seen.status == ProcessStatus.ENDED:
                raise ProcessEnded(f"process {process_id!r} has ended; nothing of it is left to move")
            if seen.package_hash == target.package:
                return False
            exported = await export_process(self._store, process_id, tenant=tenant_id, events=0)
            try:
                await self._move(key, seen, exported, target, dry_run=dry_run)
            except ProcessChanged:
                continue
            return True
        raise StoreBusy(f"process {process_id!r}: it changed at each of {limits.MOVE_TRIES} looks; pause it, or try again")

    async def _move(self, key: Key[ProcessRow], seen: ProcessRow, exported: ProcessExport, target: Target, *, dry_run: bool) -> None:
        state = await self._store.access.reader.get(PROCESS_STATE.key(*key.parts))
        if await self._store.access.reader.get(key) != seen or state != _state_of(exported):
            raise ProcessChanged
        _check_steps(seen, exported)
        tenant_id, process_id = map(str, key.parts)
        try:
            async with self._versions.using(seen.process_type, target.package) as made:
                if made is None:
                    raise _without_type(exported, target)
                fields = await _tried(_code_of(made), exported, target)
                write = MoveProcess(self._rules, tenant_id, process_id, target.package, seen, state, fields, target.actor)
                if not dry_run:
                    await self._commit(write)
        except PackageEntryMissing:
            if target.package in self._versions.failed:
                raise
            raise _without_type(exported, target) from None


def _state_of(exported: ProcessExport) -> ProcessStateRow | None:
    return None if exported.found is None or exported.saved is None else ProcessStateRow(exported.found, exported.saved)


def _without_type(exported: ProcessExport, target: Target) -> ProcessIncompatible:
    reason = f"it has no process type {exported.process_type!r}"
    return ProcessIncompatible(exported.process_id, target.package, verdict="no-handler", reason=reason)


def _check_steps(process: ProcessRow, exported: ProcessExport) -> None:
    """Raise IllegalTransition while a step may run of which nobody would know the outcome once its process has left memory."""
    turn = _open_turn(exported)
    if process.status != ProcessStatus.RUNNABLE or turn is None:
        return
    under_way: dict[str, None] = {}
    for event in turn.events:
        if event.event == _BEGUN:
            under_way[event.name] = None
        elif event.event in _OVER:
            under_way.pop(event.name, None)
    if under_way:
        raise IllegalTransition(
            f"process {exported.process_id!r}: step {next(iter(under_way))}, which runs at most once, may be under way; try again when it is over"
        )


def _open_turn(exported: ProcessExport) -> ExportedTurn | None:
    return exported.turns[-1] if exported.turns and not exported.turns[-1].outcome else None


def _code_of(made: AnyType) -> Code:
    return RemoteCode(made.home) if isinstance(made, RemoteType) else LocalCode({made.name: made})


async def _tried(code: Code, exported: ProcessExport, target: Target) -> ProcessStateRow | None:
    """Return the durable fields as other code writes them, after its open turn was replayed from them. Raises ProcessIncompatible."""
    refused = partial(ProcessIncompatible, exported.process_id, target.package)
    try:
        tried = await code.try_process(exported, rewrites=True)
    except CodeFailed as error:
        raise refused(verdict="diverges", reason=str(error)) from error
    if tried.unreadable:
        reason = f"the durable fields cannot be read any more: {tried.unreadable}"
        raise refused(verdict="undecodable", path=path_in(tried.unreadable), reason=reason)
    for turn in tried.turns:
        if turn.verdict != "compatible":
            raise refused(verdict=turn.verdict, step=turn.step, path=turn.path, reason=turn.text)
        if turn.raises and exported.status == ProcessStatus.WAITING:
            raise refused(verdict="diverges", reason=f"it waits, and this code raises where it did: {turn.raises}")
    return _state_of(replace(exported, found=tried.found, saved=tried.saved))

"""Stored things against new code: only the code of handlers runs, no step, and nothing is written.

Source: packages.md, "Check before routing"; engine.md, "The TurnLoop", replay checks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from perdure import limits
from perdure.clock import Micros
from perdure.conversations.events import NO_INPUT, Event, decode_event
from perdure.engine.addressing import TurnId
from perdure.engine.app import HandlerOf, ProcessType
from perdure.engine.export import ExportedTurn, ProcessExport
from perdure.engine.outcomes import encode_error, error_text
from perdure.engine.process import Process
from perdure.engine.turn import Turn
from perdure.engine.upcasting import Leads
from perdure.errors import NondeterministicTurn, PayloadInvalid, PerdureError
from perdure.packages.loading import interrupts

Verdict = Literal["compatible", "diverges", "undecodable", "no-handler"]
_PATH: Final = re.compile(r" - at `(?:key in )?(\$[^`]*)`")


class TriedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recorded turn under other code.

    Attributes:
        message: its reference.
        kind: of the message.
        open: whether it is the one that the code would have to go on with.
        verdict: `diverges` where an engine would say `stuck`.
        step: where it differs, what the record calls it; empty when that is before the first record.
        path: of what is undecodable, the place in it, such as `$.total`.
        text: in what it differs, for people; of a compatible one, what is worth knowing.
        raises: what a compatible open turn raises where its record ends; empty when it waits or returns.
    """

    message: str
    kind: str
    open: bool
    verdict: Verdict
    step: str = ""
    path: str = ""
    text: str
    raises: str = ""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one process under other code.

    Attributes:
        turns: its turns, see `Trial.run`; none when its fields were to be rewritten and cannot be read.
        awaited: the kinds of message that its open turn would take out of its mailbox.
        unreadable: why its durable fields cannot be read; empty when they can, or when an open turn says it.
        found: its durable fields as the open turn found them, rewritten if that was asked for.
        saved: likewise, as of the last commit.
    """

    turns: list[TriedTurn] = []
    awaited: list[str] = []
    unreadable: str = ""
    found: bytes | None = None
    saved: bytes | None = None


class CodeFailed(Exception):
    """Code that was tried has raised where no handler may, has ended its interpreter, or does not answer."""


class Code(Protocol):
    """Process types that stored things are tried on, whichever interpreter they are in. It is asked one thing after another."""

    async def leads(self) -> dict[str, Leads]:
        """Return where the upcasters of each type lead. Raises CodeFailed."""
        ...

    async def try_process(self, exported: ProcessExport, *, rewrites: bool = False) -> Tried:
        """Replay a process; of the record that goes back to its beginning, all turns.

        Args:
            exported: the process.
            rewrites: its durable fields are read and written by this code first, as a move does.

        Raises:
            CodeFailed: nothing is known of how it goes on.
        """
        ...

    async def read(self, process_type: str, kind: str, payload: bytes, *, awaited: bool = False) -> str:
        """Read a message that a type has a handler for, and return why that cannot be done; empty when it can.

        `awaited`: as the open turn does of the process that was tried last. Raises CodeFailed.
        """
        ...


class LocalCode:
    """`Code` in this interpreter.

    Args:
        types: by name.
    """

    def __init__(self, types: Mapping[str, ProcessType]) -> None:
        self._types = types
        self._awaited: dict[str, Callable[[bytes], Any]] = {}

    async def leads(self) -> dict[str, Leads]:
        """Return where the upcasters of each type lead."""
        return {name: made.app.upcasting.known().leads for name, made in self._types.items()}

    async def try_process(self, exported: ProcessExport, *, rewrites: bool = False) -> Tried:
        """See `Code`."""
        return await asyncio.to_thread(self._tried, exported, rewrites=rewrites)  # a turn is never driven from inside a task

    async def read(self, process_type: str, kind: str, payload: bytes, *, awaited: bool = False) -> str:
        """See `Code`."""
        decode = self._awaited[kind] if awaited else self._types[process_type].handlers[kind].decode
        try:
            decode(payload)
        except PayloadInvalid as error:
            return str(error)
        except BaseException as error:  # an edge: types of the user's run code when they are read
            if interrupts(error):
                raise
            raise CodeFailed(_raised(error)) from error
        return ""

    def _tried(self, exported: ProcessExport, *, rewrites: bool) -> Tried:
        self._awaited = {}
        made = self._types.get(exported.process_type)
        try:
            if rewrites and made is not None and made.durable and exported.saved is not None:
                try:
                    exported = _rewritten(made, exported)
                except PayloadInvalid as error:
                    return Tried(unreadable=str(error))
            trial = Trial(exported, self._types)
            turns = trial.run()
            self._awaited = trial.awaited
            unreadable = "" if made is None or any(turn.open for turn in turns) else _unreadable(made, exported.saved)
        except BaseException as error:
            # An edge: whatever code of the user's raises, also SystemExit: it does not run yet, and ends neither an engine nor a check.
            if interrupts(error):
                raise
            raise CodeFailed(_raised(error)) from error
        return Tried(turns=turns, awaited=[*trial.awaited], unreadable=unreadable, found=exported.found, saved=exported.saved)


def _rewritten(made: ProcessType, exported: ProcessExport) -> ProcessExport:
    found, saved = (made.save(made.load(fields)) for fields in (exported.found, exported.saved))
    return msgspec.structs.replace(exported, found=found, saved=saved)


def _unreadable(made: ProcessType, fields: bytes | None) -> str:
    try:
        made.load(fields)
    except PayloadInvalid as error:
        return str(error)
    return ""


def _raised(error: BaseException) -> str:
    return f"it has raised {error_text(encode_error(error))}"


class _Differs(Exception):
    def __init__(self, verdict: Verdict, text: str, *, step: str = "") -> None:
        super().__init__(text)
        self.verdict: Verdict = verdict
        self.text = text
        self.step = step


class _Began(NamedTuple):
    """With what a turn began: fields as it found them, and as of its last commit, and its timers; nobody knows those of a finished turn."""

    found: bytes | None
    saved: bytes | None = None
    timers: dict[str, Micros] | None = None


class Trial:
    """One process under other code. Call it on a thread of its own: a turn is never driven from inside a task.

    Args:
        exported: the process.
        types: the code, process types by name.

    Attributes:
        awaited: after `run`, what the open turn would take out of the mailbox, and how it would read that, by kind.
    """

    def __init__(self, exported: ProcessExport, types: Mapping[str, ProcessType]) -> None:
        self.awaited: dict[str, Callable[[bytes], Any]] = {}
        self._exported = exported
        self._type = types.get(exported.process_type)
        self._fields: bytes | None = None
        self._known = exported.complete or self._type is None or not self._type.durable

    def run(self) -> list[TriedTurn]:
        """Return what became of each turn, in order: of the open one, and of the finished ones whose fields are known.

        The open turn is replayed from the fields that it found. Finished turns are replayed from the first message on, when the
        record goes back that far or the type has no durable fields.
        """
        return [found for turn in self._exported.turns if (found := self._judged(turn)) is not None]

    def _judged(self, turn: ExportedTurn) -> TriedTurn | None:
        is_open = not turn.outcome
        if not (is_open or self._known):  # nobody knows any more with which fields it began
            return None
        made = partial(TriedTurn, message=turn.message, kind=turn.kind, open=is_open)
        try:
            text, raises = self._open(turn) if is_open else (self._finished(turn), "")
        except _Differs as differs:
            self._known = self._type is not None and not self._type.durable
            path = path_in(differs.text) if differs.verdict == "undecodable" else ""
            return made(verdict=differs.verdict, step=differs.step, path=path, text=differs.text)
        return made(verdict="compatible", text=text, raises=raises)

    def _open(self, exported: ExportedTurn) -> tuple[str, str]:
        of = self._exported
        turn, _, handler = self._advanced(exported, _Began(of.found, of.saved, dict(of.timers)))
        raises = ""
        if turn.done:
            outcome, reply = _reply(turn, handler)
            raises = error_text(reply) if outcome == "error" else ""
            text = f"goes on and raises {raises}" if raises else "goes on and ends"
        else:
            text = f"goes on and waits for {turn.waits_for}"
            self.awaited = {kind: decode for operation in turn.receives for kind, decode in operation.kinds.items()}
        turn.leave()
        return text, raises

    def _finished(self, exported: ExportedTurn) -> str:
        turn, process, handler = self._advanced(exported, _Began(self._fields))
        failed = exported.outcome == "error"
        if not turn.done:
            waits = turn.waits_for
            turn.leave()
            if failed:  # it may have been ended from outside: by a limit, or after crashes
                return f"it failed where the code waits for {waits}"
            raise _Differs("diverges", f"{turn.id}: the record ends here, the code waits for {waits}", step=waits[0] if waits else "")
        outcome, reply = _reply(turn, handler)
        turn.leave()
        if turn.effects != exported.effects and not failed:
            text = f"{exported.effects} sends, tags and the like were committed, the code asks for {turn.effects}"
            raise _Differs("diverges", f"{turn.id}: {text}", step=exported.events[-1].name)
        assert self._type is not None, "a turn was made of it"
        if exported.outcome == "ok" and self._type.durable:
            self._fields = _saved(self._type, process)
        if exported.reply is None or turn.cancelled is not None or (outcome, reply) == (exported.outcome, exported.reply):
            return ""
        return f"replies {_shown(outcome, reply)}, the record says {_shown(exported.outcome, exported.reply)}"

    def _advanced(self, exported: ExportedTurn, began: _Began) -> tuple[Turn, Process, HandlerOf]:
        made, handler = self._handler(exported)
        process, code = _code(made, handler, exported, began.found)
        recorded = [(one.at, decode_event(one.data, stream=self._exported.process_id, seq=one.seq)) for one in exported.events]
        turn = self._turn(made, process, exported, recorded, began=began)
        inputs = [event for _, event in recorded if not isinstance(event, NO_INPUT)]
        turn.begin(code)
        try:
            turn.advance()
        except NondeterministicTurn as error:
            step = _place(turn, inputs)
            turn.leave()
            raise _Differs("undecodable" if isinstance(error.__cause__, PayloadInvalid) else "diverges", str(error), step=step) from error
        except Exception as error:  # an edge: deadlocks and limits, and whatever the fields of the user's raise when they are encoded
            step = _place(turn, inputs)
            turn.leave()
            raise _Differs("diverges", str(error), step=step) from error
        except BaseException:
            turn.leave()
            raise
        return turn, process, handler

    def _handler(self, exported: ExportedTurn) -> tuple[ProcessType, HandlerOf]:
        if self._type is None:
            raise _Differs("no-handler", f"the app has no process type {self._exported.process_type!r}")
        handler = self._type.handlers.get(exported.kind)
        if handler is None:
            raise _Differs("no-handler", f"{self._type.name} has no handler for {exported.kind!r}")
        return self._type, handler

    def _turn(
        self, made: ProcessType, process: Process, exported: ExportedTurn, recorded: list[tuple[Micros, Event]], *, began: _Began
    ) -> Turn:
        now = max(at for at, _ in recorded)
        turn = Turn(
            TurnId(self._exported.tenant_id, self._exported.process_id, exported.message),
            now=recorded[0][0],
            recorded=[(at, event) for at, event in recorded if not isinstance(event, NO_INPUT)],
            effects_done=exported.effects,
            changed=began.saved is not None and began.saved != began.found,
            fields=partial(made.save, process),
            saved=began.saved if made.durable else None,
            timers=began.timers,
            more=exported.more,
            clock=lambda: now,
            request=made.app.request,
        )
        made.attach(process, turn)
        return turn


def path_in(text: str) -> str:
    """Return the place in a value that the text of a PayloadInvalid names, such as `$.total`; `$` when it is the whole."""
    found = _PATH.search(text)
    return "$" if found is None else found[1]


def _code(made: ProcessType, handler: HandlerOf, exported: ExportedTurn, found: bytes | None) -> tuple[Process, Coroutine[Any, Any, Any]]:
    try:
        process = made.load(found)
    except PayloadInvalid as error:
        raise _Differs("undecodable", f"the durable fields cannot be read any more: {error}") from error
    try:
        return process, handler.open(process, exported.payload)
    except PayloadInvalid as error:
        raise _Differs("undecodable", f"the message cannot be read any more: {error}") from error


def _saved(made: ProcessType, process: Process) -> bytes:
    try:
        return made.save(process)
    except PerdureError as error:
        raise _Differs("diverges", str(error)) from error


def _place(turn: Turn, inputs: Sequence[Event]) -> str:
    """Return what the record calls the place where the code has left it: what it did not reach, or what it reached last."""
    left = turn.replay.recorded
    passed = len(inputs) - len(left)
    if turn.done and left:
        passed += 1
    return str(getattr(inputs[passed - 1], "name", "")) if passed else ""


def _reply(turn: Turn, handler: HandlerOf) -> tuple[str, bytes]:
    try:
        return "ok", handler.output.record(turn.result(), what="the reply", limit=limits.RESULT_MAX)[0]
    except BaseException as error:  # noqa: BLE001  # whatever the handler raised is its outcome
        return "error", encode_error(error)


def _shown(outcome: str, reply: bytes) -> str:
    text = error_text(reply) if outcome == "error" else reply.decode(errors="replace")
    return text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…"

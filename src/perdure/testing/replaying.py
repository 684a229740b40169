"""The record of real processes against new code: only the code of handlers runs, no step, and nothing is written."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import msgspec

from perdure import limits
from perdure.conversations.events import (
    NO_INPUT,
    Event,
    decode_event,
)
from perdure.engine.addressing import TurnId
from perdure.engine.app import App, HandlerOf, ProcessType
from perdure.engine.export import ExportedTurn, ProcessExport
from perdure.engine.outcomes import encode_error, error_text
from perdure.engine.process import Process
from perdure.engine.turn import Turn
from perdure.errors import DeadlockedTurn, NondeterministicTurn, PayloadInvalid, TurnTooLong

Verdict = Literal["compatible", "diverges", "cannot-decode", "no-handler"]


class TurnReplay(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recorded turn under the new code.

    Attributes:
        open: whether it is the one that the new code would have to go on with.
        verdict: `diverges` where an engine would say `stuck`; `cannot-decode` when a message, an outcome or the fields
            cannot be read any more; `no-handler` when nothing handles the message.
        text: in what it differs, for people; of a compatible one, what is worth knowing.
    """

    process_id: str
    process_type: str
    message: str
    open: bool
    verdict: Verdict
    text: str


class ReplayReport(msgspec.Struct, frozen=True):
    """What `replay` found, turn by turn."""

    turns: list[TurnReplay]

    @property
    def ok(self) -> bool:
        """Whether the new code can go on with every process."""
        return all(turn.verdict == "compatible" for turn in self.turns)

    def __str__(self) -> str:
        lines = [
            f"{turn.process_type} {turn.process_id}, {'open' if turn.open else 'finished'} message {turn.message}: {turn.verdict}"
            + (f": {turn.text}" if turn.text else "")
            for turn in self.turns
        ]
        more = len(lines) - limits.REPORT_LINES_MAX
        return "\n".join(lines if more <= 0 else [*lines[: limits.REPORT_LINES_MAX], f"… and {more} lines more"])

    def check(self) -> None:
        """Raise AssertionError, with what differs as its text, unless all is well."""
        if not self.ok:
            raise AssertionError(str(ReplayReport([turn for turn in self.turns if turn.verdict != "compatible"])))


def replay(exported: ProcessExport | Iterable[ProcessExport], app: App) -> ReplayReport:
    """Run the handlers of `app` on the record of exported processes, as an engine would that takes them up.

    No step runs and nothing is written. The open turn of a process is replayed from the fields that it found. Finished
    turns are replayed from the first message on, when the record goes back that far or the type has no durable fields.

    Args:
        exported: what `engine.export_process` returned or `ProcessExport.from_json` read; one, or several.
        app: the new code.
    """
    exports = [exported] if isinstance(exported, ProcessExport) else list(exported)
    # A turn is never driven from inside a task, and the caller may be one.
    with ThreadPoolExecutor(1, thread_name_prefix="perdure-replay") as thread:
        return ReplayReport(thread.submit(lambda: [turn for one in exports for turn in _Replay(one, app).run()]).result())


class _Differs(Exception):
    def __init__(self, verdict: Verdict, text: str) -> None:
        super().__init__(text)
        self.verdict: Verdict = verdict
        self.text = text


class _Replay:
    """One process under the new code."""

    def __init__(self, exported: ProcessExport, app: App) -> None:
        self._exported = exported
        self._app = app
        self._type = app.types.get(exported.process_type)
        self._fields: bytes | None = None
        self._known = exported.complete or self._type is None or not self._type.durable

    def run(self) -> list[TurnReplay]:
        return [found for turn in self._exported.turns if (found := self._judged(turn)) is not None]

    def _judged(self, turn: ExportedTurn) -> TurnReplay | None:
        is_open = not turn.outcome
        if not (is_open or self._known):  # nobody knows any more with which fields it began
            return None
        verdict: Verdict = "compatible"
        try:
            text = self._open(turn) if is_open else self._finished(turn)
        except _Differs as differs:
            verdict, text = differs.verdict, differs.text
            self._known = self._type is not None and not self._type.durable
        return TurnReplay(
            process_id=self._exported.process_id,
            process_type=self._exported.process_type,
            message=turn.message.replace("\n", " of "),
            open=is_open,
            verdict=verdict,
            text=text,
        )

    def _open(self, exported: ExportedTurn) -> str:
        found, saved = self._exported.found, self._exported.saved
        turn, _, _ = self._advanced(exported, found, saved=saved, timers=dict(self._exported.timers))
        text = f"goes on and waits for {turn.waits_for}" if not turn.done else "goes on and ends"
        turn.leave()
        return text

    def _finished(self, exported: ExportedTurn) -> str:
        turn, process, handler = self._advanced(exported, self._fields, saved=None, timers=None)
        failed = exported.outcome == "error"
        if not turn.done:
            waits = turn.waits_for
            turn.leave()
            if failed:  # it may have been ended from outside: by a limit, or after crashes
                return f"it failed where the code waits for {waits}"
            raise _Differs("diverges", f"{turn.id}: the record ends here, the code waits for {waits}")
        outcome, reply = _reply(turn, handler)
        turn.leave()
        if turn.effects != exported.effects and not failed:
            text = f"{exported.effects} sends, tags and the like were committed, the code asks for {turn.effects}"
            raise _Differs("diverges", f"{turn.id}: {text}")
        assert self._type is not None, "a turn was made of it"
        if exported.outcome == "ok" and self._type.durable:
            self._fields = self._type.save(process)
        if exported.reply is None or turn.cancelled is not None or (outcome, reply) == (exported.outcome, exported.reply):
            return ""
        return f"replies {_shown(outcome, reply)}, the record says {_shown(exported.outcome, exported.reply)}"

    def _advanced(
        self, exported: ExportedTurn, found: bytes | None, *, saved: bytes | None, timers: dict[str, int] | None
    ) -> tuple[Turn, Process, HandlerOf]:
        made, handler = self._handler(exported)
        process, code = self._code(made, handler, exported, found)
        recorded = [(one.at, decode_event(one.data, stream=self._exported.process_id, seq=one.seq)) for one in exported.events]
        turn = self._turn(made, process, exported, recorded, found=found, saved=saved, timers=timers)
        turn.begin(code)
        try:
            turn.advance()
        except NondeterministicTurn as error:
            turn.leave()
            raise _Differs("cannot-decode" if isinstance(error.__cause__, PayloadInvalid) else "diverges", str(error)) from error
        except (DeadlockedTurn, TurnTooLong) as error:
            turn.leave()
            raise _Differs("diverges", str(error)) from error
        return turn, process, handler

    def _handler(self, exported: ExportedTurn) -> tuple[ProcessType, HandlerOf]:
        if self._type is None:
            raise _Differs("no-handler", f"the app has no process type {self._exported.process_type!r}")
        handler = self._type.handlers.get(exported.kind)
        if handler is None:
            raise _Differs("no-handler", f"{self._type.name} has no handler for {exported.kind!r}")
        return self._type, handler

    @staticmethod
    def _code(
        made: ProcessType, handler: HandlerOf, exported: ExportedTurn, found: bytes | None
    ) -> tuple[Process, Coroutine[Any, Any, Any]]:
        try:
            process = made.load(found)
        except PayloadInvalid as error:
            raise _Differs("cannot-decode", f"the durable fields cannot be read any more: {error}") from error
        try:
            return process, handler.open(process, exported.payload)
        except PayloadInvalid as error:
            raise _Differs("cannot-decode", f"the message cannot be read any more: {error}") from error

    def _turn(
        self,
        made: ProcessType,
        process: Process,
        exported: ExportedTurn,
        recorded: list[tuple[int, Event]],
        *,
        found: bytes | None,
        saved: bytes | None,
        timers: dict[str, int] | None,
    ) -> Turn:
        now = max(at for at, _ in recorded)
        turn = Turn(
            TurnId(self._exported.tenant_id, self._exported.process_id, exported.message),
            now=recorded[0][0],
            recorded=[(at, event) for at, event in recorded if not isinstance(event, NO_INPUT)],
            effects_done=exported.effects,
            changed=saved is not None and saved != found,
            fields=partial(made.save, process),
            saved=saved if made.durable else None,
            timers=timers,
            clock=lambda: now,
            request=self._app.request,
        )
        made.attach(process, turn)
        return turn


def _reply(turn: Turn, handler: HandlerOf) -> tuple[str, bytes]:
    try:
        return "ok", handler.output.record(turn.result(), what="the reply", limit=limits.RESULT_MAX)[0]
    except BaseException as error:  # noqa: BLE001  # whatever the handler raised is its outcome
        return "error", encode_error(error)


def _shown(outcome: str, reply: bytes) -> str:
    text = error_text(reply) if outcome == "error" else reply.decode(errors="replace")
    return text if len(text) <= limits.REPR_MAX else text[: limits.REPR_MAX] + "…"

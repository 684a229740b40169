"""The record of real processes against new code: only the code of handlers runs, no step, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from perdure import limits
from perdure.engine.app import App
from perdure.engine.export import ProcessExport
from perdure.engine.trying import Trial, TriedTurn, Verdict
from perdure.messages.mail import in_words


class TurnReplay(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recorded turn under the new code.

    Attributes:
        open: whether it is the one that the new code would have to go on with.
        verdict: `diverges` where an engine would say `stuck`; `undecodable` when a message, an outcome or the fields
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
        return ReplayReport(thread.submit(lambda: [_told(one, turn) for one in exports for turn in Trial(one, app.types).run()]).result())


def _told(exported: ProcessExport, turn: TriedTurn) -> TurnReplay:
    return TurnReplay(
        process_id=exported.process_id,
        process_type=exported.process_type,
        message=in_words(turn.message),
        open=turn.open,
        verdict=turn.verdict,
        text=turn.text,
    )

"""What a check of new code has found."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

import msgspec

from perdure import limits
from perdure.engine.trying import Verdict

What = Literal["turn", "fields", "message", "schedule", "schema"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is other under the new code.

    Attributes:
        what: a recorded turn; the durable fields of a process between two turns; a message that waits; a schedule; or the schema of an
            earlier version, of which nothing needs to be stored yet.
        verdict: `diverges` at a step, `undecodable` at a path, or `no-handler`; of a note also `compatible`.
        breaks: whether the process would be stuck, or what is stored could not be handled any more. The others are notes: what differs in a
            finished turn, which is never run again, or a message that may be waiting for a `receive`.
        process_type: whose.
        version: the package that the process is on, or whose schema it is; None for local code.
        tenant_id: empty for a schema.
        process_id: empty for what belongs to no process yet.
        message: reference of the message, or name of the schedule.
        kind: of the message.
        open: whether it is an open turn.
        step: at which one it diverges, what the record calls it; empty when that is before the first.
        path: where it is undecodable, such as `$.total`.
        text: why, for people.
    """

    what: What
    verdict: Verdict
    breaks: bool
    process_type: str
    version: str | None = None
    tenant_id: str = ""
    process_id: str = ""
    message: str = ""
    kind: str = ""
    open: bool = False
    step: str = ""
    path: str = ""
    text: str

    @property
    def result(self) -> str:
        """The verdict with its place, in words: `diverges at step charge`."""
        match self.verdict:
            case "diverges" if self.step:
                return f"diverges at step {self.step}"
            case "undecodable":
                at = f" of step {self.step}" if self.step else ""
                return f"undecodable at {self.path}{at}"
            case "no-handler":
                return "no handler"
            case _:
                return self.verdict


class CheckedType(msgspec.Struct, frozen=True, kw_only=True):
    """The open processes of one type on one version: how many there are, were looked at, and would break; and how many of their turns were replayed."""

    process_type: str
    version: str | None
    processes: int
    checked: int
    breaking: int
    open_turns: int
    finished_turns: int


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check has found.

    Attributes:
        candidate: the name of the app or of the package.
        package: its hash; None for an app.
        types: what was looked at, by type and version.
        messages: how many waiting messages and schedules were read.
        versions: the earlier versions whose schemas were compared with the candidate's.
        missing: those of them that are not stored, or cannot be read.
        breaking: how many findings break something.
        notes: how many others there are.
        findings: the first `limits.CHECK_FINDINGS_MAX`, those that break something before the notes.
        not_checked: processes that changed at every look, by their ids, the first ones.
    """

    candidate: str
    package: str | None
    types: list[CheckedType]
    messages: int
    versions: list[str]
    missing: list[str]
    breaking: int
    notes: int
    findings: list[Finding]
    not_checked: list[str]

    @property
    def ok(self) -> bool:
        """Whether nothing breaks."""
        return not self.breaking


class Progress(NamedTuple):
    """How far a check is: processes `done` of `total`, and how many things break so far."""

    done: int
    total: int
    breaking: int


class _Counts(msgspec.Struct):
    processes: int = 0
    checked: int = 0
    breaking: int = 0
    open_turns: int = 0
    finished_turns: int = 0


class Findings:
    """What has been found so far, bounded."""

    def __init__(self) -> None:
        self.types: dict[tuple[str, str | None], _Counts] = {}
        self.messages = 0
        self.not_checked: list[str] = []
        self._kept: dict[bool, list[Finding]] = {True: [], False: []}
        self._counted: Counter[bool] = Counter()

    def of(self, process_type: str, version: str | None) -> _Counts:
        """Return the counts of a type on a version."""
        return self.types.setdefault((process_type, version), _Counts())

    @property
    def breaking(self) -> int:
        """How many there are that break something."""
        return self._counted[True]

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if there is room."""
        self._counted[finding.breaks] += 1
        kept = self._kept[finding.breaks]
        if len(kept) < limits.CHECK_FINDINGS_MAX:
            kept.append(finding)

    def busy(self, process_id: str) -> None:
        """Remember a process that could not be looked at."""
        if len(self.not_checked) < limits.CHECK_FINDINGS_MAX:
            self.not_checked.append(process_id)

    def report(self, *, candidate: str, package: str | None, versions: list[str], missing: list[str]) -> CheckReport:
        """Return all of it."""
        ordered = sorted(self.types.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        return CheckReport(
            candidate=candidate,
            package=package,
            types=[
                CheckedType(process_type=name, version=version, **msgspec.structs.asdict(counts)) for (name, version), counts in ordered
            ],
            messages=self.messages,
            versions=versions,
            missing=missing,
            breaking=self._counted[True],
            notes=self._counted[False],
            findings=[*self._kept[True], *self._kept[False]][: limits.CHECK_FINDINGS_MAX],
            not_checked=self.not_checked,
        )

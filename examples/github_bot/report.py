"""The summary of a run, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from examples.github_bot.effects import Effect
from examples.github_bot.events import Delivery
from examples.github_bot.outcome import Outcome

_OUTCOMES: Final = ("handled", "parked", "dead", "failed", "refused")
_ALWAYS_SHOWN: Final = ("handled", "parked", "dead")
_REASONS_SHOWN: Final = 12


class Line(msgspec.Struct, kw_only=True):
    """One event type: its webhooks by outcome, redeliveries that were recognised, recorded steps, and effects, repeated ones included."""

    webhooks: int = 0
    handled: int = 0
    parked: int = 0
    dead: int = 0
    failed: int = 0
    refused: int = 0
    duplicates: int = 0
    steps: int = 0
    effects: int = 0


class Report(msgspec.Struct, kw_only=True):
    """A run.

    `delivered` counts what this run handed in, `rerun_effects` the effects that happened again because a crash came
    between them and their record, `unrecorded_effects` those of no recorded step (of other webhooks in the same ledger),
    `rate` webhooks per second from the first delivery until nothing was left to do.
    """

    delivered: int
    total: Line
    events: dict[str, Line]
    rerun_effects: int
    unrecorded_effects: int
    processes: int
    seconds: float
    rate: float
    digest: str
    outcome: Outcome

    @property
    def sound(self) -> bool:
        """Whether every webhook was accepted and no step is recorded twice."""
        return not (self.total.refused or any(one.times > 1 for one in self.outcome.recorded.values()))


def report_of(
    deliveries: Sequence[Delivery], outcome: Outcome, effects: Iterable[Effect], *, known: set[tuple[str, str]], seconds: float
) -> Report:
    """Return the report of a run.

    Args:
        deliveries: what it handed in.
        outcome: what the store tells afterwards.
        effects: what the ledger tells afterwards.
        known: (tenant, id) of the messages that the store held before.
        seconds: how long it took.
    """
    events: dict[str, Line] = {}
    refused = {(fate.tenant, fate.delivery) for fate in outcome.fates if fate.outcome == "refused"}
    seen = known | refused
    for tenant, event in deliveries:
        line = events.setdefault(event.name, Line())
        place = (tenant, event.delivery)
        line.duplicates += place in seen and place not in refused
        seen.add(place)
    for fate in outcome.fates:
        line = events.setdefault(fate.event, Line())
        line.webhooks += 1
        setattr(line, fate.outcome, getattr(line, fate.outcome) + 1)
    for recorded in outcome.recorded.values():
        events.setdefault(recorded.event, Line()).steps += recorded.times
    rerun = unrecorded = 0
    for effect in effects:
        rerun += effect.attempts - 1
        step = outcome.recorded.get(effect.key)
        if step is None:
            unrecorded += 1
        else:
            events[step.event].effects += effect.attempts
    return Report(
        delivered=len(deliveries),
        total=_sum(events.values()),
        events=dict(sorted(events.items())),
        rerun_effects=rerun,
        unrecorded_effects=unrecorded,
        processes=len(outcome.states),
        seconds=seconds,
        rate=len(deliveries) / seconds if seconds else 0.0,
        digest=outcome.digest(),
        outcome=outcome,
    )


def _sum(lines: Iterable[Line]) -> Line:
    total: Counter[str] = Counter()
    for line in lines:
        total.update(msgspec.structs.asdict(line))
    return Line(**total)


def as_json(report: Report) -> bytes:
    """Return the report for programs: everything except the comparable record itself, with what became of each webhook."""
    values: dict[str, Any] = msgspec.structs.asdict(report)
    values["webhooks"] = values.pop("outcome").fates
    return msgspec.json.format(msgspec.json.encode(values), indent=2)


def show(report: Report, console: Console) -> None:
    """Print the report for people."""
    _show_table(report, console)
    _show_reasons(report, console)
    show_totals(report, console)


def _show_table(report: Report, console: Console) -> None:
    columns = [name for name in _OUTCOMES if name in _ALWAYS_SHOWN or getattr(report.total, name)]
    columns = ["webhooks", *columns, "duplicates", "steps", "effects"]
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("event type", "all")
    for column in columns:
        table.add_column(column, f"{getattr(report.total, column):,}", justify="right")
    for name, line in report.events.items():
        table.add_row(name, *(f"{value:,}" if (value := getattr(line, column)) else "" for column in columns))
    console.print(table)


def show_totals(report: Report, console: Console) -> None:
    """Print the last line of the report."""
    total = report.total
    console.print(
        f"{report.delivered:,} webhooks delivered, {total.duplicates:,} of them recognised as duplicates; {report.processes:,} processes, "
        f"{total.steps:,} steps recorded, {report.rerun_effects:,} effects run again after a crash; "
        f"{report.seconds:.2f} s, {report.rate:,.0f} webhooks per second",
        soft_wrap=True,
    )


def _show_reasons(report: Report, console: Console) -> None:
    reasons: Mapping[str, int] = Counter(f"{fate.outcome}: {fate.text}" for fate in report.outcome.fates if fate.outcome != "handled")
    for reason, count in sorted(reasons.items())[:_REASONS_SHOWN]:
        console.print(f"{count:5} {reason}", markup=False, soft_wrap=True)
    if len(reasons) > _REASONS_SHOWN:
        console.print(f"      … and {len(reasons) - _REASONS_SHOWN:,} more reasons; --json has them all")
    if reasons:
        console.print()

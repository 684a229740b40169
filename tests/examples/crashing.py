"""An example, crashed at each of its commits: what its tests compare, and what its README has to admit."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from perdure import App, limits, testing
from perdure.testing import CrashReport, EffectLedger, VirtualEngine
from perdure.testing.crashes import Scenario, Stores

EXAMPLES = Path(__file__).parents[2] / "examples"
SECTION = "## At least once"
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def admitted(example: str) -> set[str]:
    """Return the steps that an example's README lists as at least once.

    They are the first column of the table under `## At least once`, each in backticks.
    """
    _, found, section = (EXAMPLES / example / "README.md").read_text(encoding="utf-8").partition(f"\n{SECTION}\n")
    assert found, f"examples/{example}/README.md has no section {SECTION!r}"
    return set(_ROW.findall(section.partition("\n## ")[0]))


class Seen(NamedTuple):
    """What the end of a run looks like: the effects in order, and the events of each process."""

    effects: list[str]
    history: dict[str, list[str]]


async def survives(
    app: App,
    scenario: Scenario,
    *,
    ledger: EffectLedger,
    windows: Collection[str],
    in_order: bool = True,
    stores: Stores | None = None,
) -> CrashReport:
    """Kill a scenario before and after each of its commits, resume it, and check that it comes to the end of an undisturbed run.

    Args:
        app: the example's.
        scenario: what is done; it gives its messages ids. What it returns is compared as well.
        ledger: the outside world; the example's steps have to note their effects in it.
        windows: the steps, by their names in the timeline (`remind#2` is the second of that name), that a crash between
            effect and record repeats. No others may be repeated, and each of these has to be.
        in_order: whether the effects and the events of each process have to come in the same order as well; not when steps
            run side by side.
        stores: where each run gets its empty store from; in memory when not given.

    Returns:
        The report, which has passed.
    """
    seen: list[Seen] = []

    async def watched(engine: VirtualEngine) -> object:
        outcome = await scenario(engine)
        await engine.settled()
        await replays(engine, app)
        seen.append(Seen(firsts(ledger), await timelines(engine)))
        return outcome

    report = await testing.crashes(app, watched, ledger=ledger, stores=stores)
    report.check(windows=windows)
    undisturbed, *disturbed = seen
    assert undisturbed.effects, "the steps note nothing in this ledger: a repetition would not be seen"
    assert all(run.happened for run in report.runs), "a run had fewer commits than the undisturbed one: it was not crashed at all of them"
    for run, found in zip(report.runs, disturbed, strict=True):
        assert not in_order or found == undisturbed, f"another order, {run.crash}: {found}, undisturbed {undisturbed}"
    return report


async def replays(engine: VirtualEngine, app: App) -> None:
    """Check that the record of each process, exported, leads the code through the same turns to the same replies."""
    processes = await engine.processes(limit=limits.PAGE_MAX)
    replayed = testing.replay([await engine.export_process(one.process_id) for one in processes], app)
    assert all(turn.verdict == "compatible" and (turn.open or not turn.text) for turn in replayed.turns), str(replayed)


async def timelines(engine: VirtualEngine) -> dict[str, list[str]]:
    """Return what happened in each process, in order, without times, attempts, and how often a handler began."""
    return {
        one.process_id: [
            f"{entry.event} {entry.name}" if entry.event == "StepAttemptFailed" else entry.text
            for entry in await engine.timeline(one.process_id, limit=limits.PAGE_MAX)
            if entry.event != "ProcessingStarted"
        ]
        for one in await engine.processes(limit=limits.PAGE_MAX)
    }


def firsts(ledger: EffectLedger) -> list[str]:
    """Return the effects in order, repetitions of one step aside: what a service that knows idempotency keys has done."""
    seen = {(one.idempotency_key, one.what): one.what for one in ledger.effects}
    return list(seen.values())

"""The main job, killed in the middle: `python -m examples.github_bot.demo`.

Once undisturbed; then with duplicates, in a random order, and killed with SIGKILL at a random moment; then the same
command again. Both have to come to the same end.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console

from examples.github_bot import crash
from examples.github_bot.cli import console_of, progress
from examples.github_bot.events import routed
from examples.github_bot.recording import WEBHOOKS, disturbed, read
from examples.github_bot.report import Report, show, show_totals

DUPLICATES: Final = 0.3
_TRIES: Final = 5
_LATEST: Final = 0.9  # of all effects; later, the job may be over before the signal is there
_DIFFERENCES_SHOWN: Final = 10


class Scene(NamedTuple):
    """A folder for the ledgers, the URL of the stores, and the recorded webhooks."""

    folder: Path
    store: str
    recording: Path

    def place(self, name: str) -> crash.Place:
        """Return a new place, whose store nobody has used before, also where stores stay."""
        place = crash.Place(self.folder / f"{name}_{secrets.token_hex(4)}", self.store)
        place.folder.mkdir()
        return place


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; return 0 if both runs came to the same end, else 1."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the order and the moment; a random one unless given")
    parser.add_argument(
        "--store",
        default=crash.FILE,
        metavar="URL",
        help="of the stores, with {name} where each has its own, as in postgresql://me@host/database?schema={name}; files that go away unless given",
    )
    parser.add_argument("--input", type=Path, default=WEBHOOKS, metavar="FILE", help="gzip of recorded webhooks (those of the example)")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="github-bot-") as folder:
        return _demonstrate(Scene(Path(folder), options.store, options.input), seed, console_of(sys.stdout))


def _demonstrate(scene: Scene, seed: int, console: Console) -> int:
    webhooks = read(scene.recording)
    in_order = [routed(*hook) for hook in webhooks]
    arriving = [routed(*hook) for hook in disturbed(webhooks, duplicates=DUPLICATES, shuffle=seed)]

    console.print(f"1. Undisturbed: {len(in_order)} webhooks, in order.")
    with progress(len(in_order)) as advance:
        calm = crash.finished(scene.place("calm"), in_order, accepted=advance)
    show(calm, console)

    console.print(
        f"2. {len(arriving)} webhooks, {DUPLICATES:.0%} of them twice, in a random order (--seed {seed}), and SIGKILL in the middle."
    )
    place, after, accepted = _killed(scene, seed, calm.total.effects)
    remains = crash.remains(place, arriving)
    lost = len(accepted - remains.messages)
    console.print(
        f"   Killed after {after} effects: {len(remains.messages)} of {calm.total.webhooks} messages accepted, {len(remains.recorded)} steps recorded, "
        f"{remains.unrecorded} effects without a record.",
        soft_wrap=True,
    )

    console.print("3. The same command again, to its end: what was accepted before is a duplicate now.")
    with progress(len(arriving)) as advance:
        resumed = crash.finished(place, arriving, accepted=advance)
    show_totals(resumed, console)
    return _verdict(calm, resumed, console, lost=lost, ran_again=crash.ran_again(place, remains))


def _killed(scene: Scene, seed: int, effects: int) -> tuple[crash.Place, int, frozenset[tuple[str, str]]]:
    """Run the job until it is killed; return where, after how many effects, and what senders heard to be accepted."""
    chance = random.Random(seed)  # noqa: S311  # the same moment for the same seed
    options = ["--duplicates", str(DUPLICATES), "--shuffle", str(seed), "--input", str(scene.recording)]
    for number in range(_TRIES):
        place, after = scene.place(f"killed_{number}"), chance.randint(1, round(effects * _LATEST))
        killed = crash.killed(place, options, after=after)
        if killed.at_work:
            return place, after, killed.accepted
    raise SystemExit(f"demo: the job was over before the signal came, {_TRIES} times")


def _verdict(calm: Report, resumed: Report, console: Console, *, lost: int, ran_again: int) -> int:
    differences = Counter(calm.outcome.lines())
    differences.subtract(resumed.outcome.lines())
    differing = sorted(line for line, count in differences.items() if count)
    equal = not (differing or lost or ran_again or resumed.unrecorded_effects) and calm.sound and resumed.sound
    console.print(f"Undisturbed        {calm.digest}")
    console.print(f"Killed and resumed {resumed.digest}")
    for line in differing[:_DIFFERENCES_SHOWN]:
        console.print(f"  {'only undisturbed' if differences[line] > 0 else 'only resumed'}: {line}", markup=False, soft_wrap=True)
    console.print(
        f"{'EQUAL' if equal else 'NOT EQUAL'}: {lost} accepted messages lost, {resumed.total.duplicates} duplicates recognised, {resumed.rerun_effects} effects run again "
        f"between effect and record, {ran_again} recorded steps run again, {resumed.rate:,.0f} webhooks per second",
        style="bold green" if equal else "bold red",
        soft_wrap=True,
    )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())

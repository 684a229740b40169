"""Killing the bot, and looking at what it has left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from examples.github_bot import cli
from examples.github_bot.effects import Ledger
from examples.github_bot.events import Delivery, by_tenant
from examples.github_bot.outcome import Outcome, outcome_of
from examples.github_bot.report import Report
from perdure import open_store

ROOT: Final = Path(__file__).parents[2]
CONCURRENCY: Final = 64


FILE: Final = "sqlite:///{folder}/store.db"
"""The URL of a store in its place's own folder."""


class Place(NamedTuple):
    """A folder with a ledger, and the URL of a store, in which `{folder}` and `{name}` stand for the folder and its name."""

    folder: Path
    store: str = FILE

    @property
    def url(self) -> str:
        """The URL of the store."""
        return self.store.replace("{folder}", str(self.folder)).replace("{name}", self.folder.name)

    @property
    def ledger(self) -> Path:
        """The file of the ledger."""
        return self.folder / "effects.db"


class Killed(NamedTuple):
    """A killed run: the (tenant, id) of the webhooks whose senders heard that they are accepted; and whether it was still at work."""

    accepted: frozenset[tuple[str, str]]
    at_work: bool


class Remains(NamedTuple):
    """What a killed run has left.

    `messages` are those that the store has, as (tenant, id), `effects` is how many have happened, `recorded` how often
    each step has run that is recorded, by its idempotency key.
    """

    messages: frozenset[tuple[str, str]] = frozenset()
    effects: int = 0
    recorded: Mapping[str, int] = {}

    @property
    def unrecorded(self) -> int:
        """How many effects have no record yet: these steps run again."""
        return self.effects - sum(self.recorded.values())


def finished(place: Place, deliveries: Sequence[Delivery], *, accepted: Callable[[Delivery], None] = lambda _delivery: None) -> Report:
    """Do the job, or the rest of it, in this process."""
    with Ledger(place.ledger) as ledger:
        return asyncio.run(cli.run(open_store(place.url), ledger, deliveries, concurrency=CONCURRENCY, accepted=accepted))


def killed(place: Place, options: Sequence[str], *, after: int) -> Killed:
    """Do the job in another process and kill it once `after` effects have happened.

    Args:
        place: where.
        options: of the command line, besides those of the place.
        after: from 1.

    Raises:
        subprocess.CalledProcessError: it ended by itself, and not well.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "examples.github_bot", "--store", place.url, "--ledger", str(place.ledger)]
    command += ["--concurrency", str(CONCURRENCY), "--announce", str(writing), *options]
    accepted: set[tuple[str, str]] = set()
    left = after
    with (
        subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL, cwd=ROOT) as child,  # noqa: S603  # our own program
        os.fdopen(reading, encoding="utf-8") as announced,
    ):
        os.close(writing)
        for line in announced:  # what was announced before the signal came is read, too
            what, *names = line.split()
            if what == "accepted":
                accepted.add((names[0], names[1]))
            left -= what == "effect"
            if left == 0:
                child.send_signal(signal.SIGKILL)
        status = child.wait()
    if status not in {0, -signal.SIGKILL}:
        raise subprocess.CalledProcessError(status, command)
    return Killed(frozenset(accepted), status != 0)


def remains(place: Place, deliveries: Sequence[Delivery]) -> Remains:
    """Look at what a killed run has left, without going on with it."""
    outcome = asyncio.run(_outcome(place, deliveries))
    with Ledger(place.ledger) as ledger:
        attempts = {effect.key: effect.attempts for effect in ledger.effects()}
    messages = frozenset((fate.tenant, fate.delivery) for fate in outcome.fates if fate.outcome != "refused")
    return Remains(messages, sum(attempts.values()), {key: attempts.get(key, 0) for key in outcome.recorded})


async def _outcome(place: Place, deliveries: Sequence[Delivery]) -> Outcome:
    async with open_store(place.url, create=False) as store:
        return await outcome_of(store, by_tenant(deliveries), {})


def ran_again(place: Place, before: Remains) -> int:
    """Return how many steps have run again although they were recorded: none may."""
    with Ledger(place.ledger) as ledger:
        now = {effect.key: effect.attempts for effect in ledger.effects()}
    return sum(now.get(key, 0) != attempts for key, attempts in before.recorded.items())

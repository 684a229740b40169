"""The command line: `python -m examples.github_bot`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.github_bot.effects import Ledger, in_world
from examples.github_bot.events import Delivery, by_tenant, routed
from examples.github_bot.job import hand_in, settled
from examples.github_bot.outcome import known, outcome_of
from examples.github_bot.processes import app
from examples.github_bot.recording import WEBHOOKS, BadInput, disturbed, read, repeated
from examples.github_bot.report import Report, as_json, report_of, show
from perdure import Engine, PerdureError, open_store
from perdure.errors import UsageError
from perdure.store import Opening

BAD_INPUT: Final = 2
FAILED: Final = 1
INTERRUPTED: Final = 130
_TABLE_WIDTH: Final = 120


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options. Exits with status 2 and one line when one of them is wrong."""
    parser = _Parser(prog="github_bot", description="Handle recorded GitHub webhooks; run again with the same store, it goes on.")
    parser.add_argument("--store", default="sqlite:///github-bot.db", metavar="URL", help="of the store (%(default)s)")
    parser.add_argument("--ledger", default="github-bot-effects.db", metavar="FILE", help="where effects are noted (%(default)s)")
    parser.add_argument("--input", type=Path, default=WEBHOOKS, metavar="FILE", help="gzip of recorded webhooks (those of the example)")
    parser.add_argument("--duplicates", type=_share, default=0.0, metavar="SHARE", help="how many arrive again, 0 to 1 (%(default)s)")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="let them arrive in a random order")
    parser.add_argument("--repeat", type=_count, default=1, metavar="N", help="so many times, each with repositories of its own")
    parser.add_argument("--concurrency", type=_count, default=64, metavar="N", help="how many senders there are (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the report for programs")
    parser.add_argument("--announce", type=int, metavar="FD", help="write a line to this file descriptor after each effect and acceptance")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a number from 1, found {text!r}")
    return int(text)


async def run(
    opening: Opening, ledger: Ledger, deliveries: Sequence[Delivery], *, concurrency: int, accepted: Callable[[Delivery], None]
) -> Report:
    """Hand in all webhooks, wait until nothing is left to do, and return what has become of them.

    Args:
        opening: of the store, from `open_store`.
        ledger: where the steps note their effects.
        deliveries: in order of arrival.
        concurrency: how many senders there are.
        accepted: called with each webhook that was accepted, when its sender has heard so.

    Raises:
        BadInput: there is no store to be had at that URL.
        PerdureError: the store failed; what was accepted is in it, and a later run goes on.
    """
    webhooks = by_tenant(deliveries)
    try:
        opened = await opening
    except PerdureError as error:
        raise BadInput(str(error)) from error
    async with opened as store:
        before = await known(store, webhooks)
        began = time.perf_counter()
        with in_world(ledger):
            async with Engine(store, app) as engine:
                errors = await hand_in(engine, deliveries, concurrency=concurrency, accepted=accepted)
                await settled(store, webhooks)
        seconds = time.perf_counter() - began
        outcome = await outcome_of(store, webhooks, errors)
    return report_of(deliveries, outcome, ledger.effects(), known=before, seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bot; return the exit status: 0, 1 if something is not as it should be, 2 for bad input."""
    options = parsed(arguments)
    try:
        report = _reported(options)
    except (BadInput, UsageError) as error:
        return _said(str(error), BAD_INPUT)
    except PerdureError as error:
        return _said(f"{error}; run the same command again, it goes on", FAILED)
    except KeyboardInterrupt:
        return _said("stopped; run the same command again, it goes on", INTERRUPTED)
    if options.json:
        sys.stdout.write(as_json(report).decode() + "\n")
    else:
        show(report, console_of(sys.stdout))
    return 0 if report.sound else FAILED


def _reported(options: argparse.Namespace) -> Report:
    # What is wrong with the arguments is found before anything is made.
    webhooks = repeated(read(options.input), options.repeat)
    arriving = disturbed(webhooks, duplicates=options.duplicates, shuffle=options.shuffle)
    deliveries = [routed(*webhook) for webhook in arriving]
    opening = open_store(options.store)
    announce = _announcer(options.announce)
    try:
        ledger = Ledger(options.ledger, announce=announce)
    except sqlite3.Error as error:
        raise BadInput(f"ledger {options.ledger}: {error}") from error
    with ledger, progress(len(deliveries)) as advance:

        def accepted(delivery: Delivery) -> None:
            advance(delivery)
            announce(f"accepted {delivery.tenant} {delivery.event.delivery}")

        return asyncio.run(run(opening, ledger, deliveries, concurrency=options.concurrency, accepted=accepted))


def _announcer(descriptor: int | None) -> Callable[[str], None]:
    def announce(line: str) -> None:
        if descriptor is not None:
            os.write(descriptor, f"{line}\n".encode())

    return announce


def console_of(file: TextIO) -> Console:
    """Return the console of a stream; of a pipe, one that is wide enough for the table."""
    console = Console(file=file, highlight=False)
    return console if console.is_terminal else Console(file=file, highlight=False, width=_TABLE_WIDTH)


def _said(text: str, status: int) -> int:
    sys.stderr.write(f"github_bot: {' '.join(text.split())}\n")
    return status


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[Delivery], None]]:
    """Show a progress bar on a terminal, and nothing elsewhere; call what it yields with each webhook that was accepted."""
    console = Console(stderr=True)
    columns = (TextColumn("webhooks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("webhooks", total=total)
        yield lambda _delivery: progress.advance(task)

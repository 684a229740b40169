"""`python -m examples.nightly_report`: show the report of yesterday, made now unless it is there; with `--stay`, one is made each night."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import perdure
from examples.nightly_report.outside import Summary
from examples.nightly_report.report import ZONE, app, daily_report, day_before, report_id
from examples.world import FileWorld, in_world
from perdure.errors import PerdureError


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the report and show it; return the exit status, 1 when the store cannot be used."""
    parser = argparse.ArgumentParser(prog="nightly_report", description=__doc__)
    parser.add_argument("--store", default="sqlite:///nightly-report.db", metavar="URL", help="of the store (%(default)s)")
    parser.add_argument("--world", default="nightly-report-world.db", metavar="FILE", help="what has happened outside (%(default)s)")
    parser.add_argument("--day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="which day to report on (yesterday)")
    parser.add_argument("--stay", action="store_true", help="stay, and make a report each night")
    options = parser.parse_args(arguments)
    try:
        with FileWorld(options.world) as world, in_world(world):
            asyncio.run(reported(options.store, options.day or day_before(datetime.now(UTC)), stay=options.stay))
            print(f"Outside, in all runs: {', '.join(f'{name} {count}' for name, count in sorted(done(world).items()))}")
    except PerdureError as error:
        sys.stderr.write(f"nightly_report: {error}\n")
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again, it goes on")
    return 0


def done(world: FileWorld) -> Counter[str]:
    """Count what has happened outside."""
    return Counter(effect.what.split()[0] for effect in world.effects())


async def reported(url: str, day: date, *, stay: bool) -> None:
    """Show the report of a day, which is made now unless it is there; with `stay`, do not return."""
    async with perdure.open_store(url) as store, perdure.Engine(store, app) as engine:
        show(await engine.call(daily_report, day, id=report_id(day)))
        coming = (await engine.schedules.describe("nightly")).next[0]
        print(f"The next one is due at {datetime.fromtimestamp(coming / 1_000_000, ZoneInfo(ZONE)):%Y-%m-%d %H:%M %Z}.")
        if stay:
            await asyncio.Event().wait()


def show(summary: Summary) -> None:
    """Print a report for people."""
    print(f"{summary.day}: {summary.cents / 100:.2f}")
    for takings in summary.takings:
        print(f"  {takings.shop:10}{takings.cents / 100:8.2f} in {takings.sales} sales")
    for missing in summary.missing:
        print(f"  {missing.shop:10} missing: {missing.reason}")


if __name__ == "__main__":
    sys.exit(main())

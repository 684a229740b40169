"""The command line: `python -m examples.saga`, and then `… cancel 3`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from examples.saga.trip import Booking, BookTrip, app
from examples.world import FileWorld, in_world
from perdure import Engine, PerdureError, open_store

TRIPS: Final = (BookTrip("1", "Lisbon"), BookTrip("2", "Atlantis"), BookTrip("3", "Bermuda"))
_POLL_SECONDS: Final = 0.01


async def run(store_url: str, cancelled: str | None) -> None:
    """Book the trips, cancel one if asked to, and show what has become of each.

    Whatever of that was done in an earlier run is recognised by its id, and not done again.
    """
    async with open_store(store_url) as store, Engine(store, app) as engine:
        for message in TRIPS:
            receipt = await engine.deliver(message, id=f"book {message.trip_id}")
            assert receipt.process_id is not None, "a message that starts a process has one"
            if message.trip_id == cancelled:
                first = await engine.cancel(receipt.process_id, reason="changed plans")
                print(f"trip {cancelled}: " + ("to be cancelled" if first else "is over, or was cancelled already"))
            pending = await _at_rest(engine, f"book {message.trip_id}", receipt.process_id)
            trip = await engine.query(Booking.trip, receipt.process_id)
            known = [trip.status, *trip.references, trip.reason, pending]
            print(f"trip {message.trip_id} to {message.place}: {', '.join(filter(None, known))}")


async def _at_rest(engine: Engine, message_id: str, process_id: str) -> str:
    """Wait until a trip is over, or waits for a service that does not answer; return what it waits for."""
    while (await engine.explain(message_id)).status != "done":
        for wait in (await engine.timeline(process_id)).waits_for:
            return f"will try again to {wait.name}"
        await asyncio.sleep(_POLL_SECONDS)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="saga", description="Three trips; one is booked, one is undone, one waits. Run it again, it goes on."
    )
    parser.add_argument("command", nargs="?", choices=["cancel"], help="stop booking a trip, and undo it")
    parser.add_argument("trip", nargs="?", choices=[message.trip_id for message in TRIPS], help="which one")
    parser.add_argument("--store", default="sqlite:///saga.db", metavar="URL", help="of the store (%(default)s)")
    parser.add_argument("--world", default="saga-world.db", metavar="FILE", help="what the services have done (%(default)s)")
    options = parser.parse_args(arguments)
    if options.command and not options.trip:
        parser.error("cancel which trip?")
    try:
        with FileWorld(options.world) as world, in_world(world):
            asyncio.run(run(options.store, options.trip))
            print("\nWhat the services did:")
            for effect in world.effects():
                print(f"  {effect.what}" + (f" (asked for {effect.times} times)" if effect.times > 1 else ""))
    except PerdureError as error:
        print(f"saga: {error}", file=sys.stderr)
        return 1
    return 0

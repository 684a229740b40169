"""The command line: `python -m examples.order_approval`, and then `… approve 3`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from examples.order_approval.order import Approve, Order, PlaceOrder, Reject, app, key_of
from examples.world import FileWorld, in_world
from perdure import Engine, PerdureError, open_store

ORDERS: Final = (
    PlaceOrder("1", "ann", 4_900),
    PlaceOrder("2", "bob", 129_900),
    PlaceOrder("3", "ann", 8_000),
    PlaceOrder("4", "cy", 2_000_000),
)
DECISIONS: Final = (Approve("1", "dora"), Reject("2", "dora", "the address looks wrong"))
_POLL_SECONDS: Final = 0.01


async def run(store_url: str, decisions: Sequence[Approve | Reject]) -> None:
    """Place the orders, pass on the decisions, and show what has become of each.

    Whatever of that was done in an earlier run is recognised by its id, and not done again.
    """
    async with open_store(store_url) as store, Engine(store, app) as engine:
        for order in ORDERS:
            receipt = await engine.deliver(order, id=f"place {order.order_id}")
            print(f"order {order.order_id} of {order.customer}: {'known already' if receipt.duplicate else 'placed'}")
        for decision in decisions:
            # The id says what the message is: clicking twice is one decision. Another person may have decided before.
            does = f"{type(decision).__name__.lower()}s"
            answer = await engine.deliver(decision, id=f"{decision.by} {does} {decision.order_id}", wait=True)
            print(f"{decision.by} {does} order {decision.order_id}: it is {answer['status']}, {answer['note']}")
        for order in ORDERS:
            await _at_rest(engine, order)
        print()
        for order in ORDERS:
            summary = await engine.query(Order.summary, key=key_of(order))
            print(f"order {order.order_id}: {summary.status}" + "".join(f", {part}" for part in (summary.note, summary.parcel) if part))
        for waiting in await engine.processes(type=Order, attributes={"status": "waits for approval"}):
            order_id = (await engine.process(waiting.process_id)).attributes["order"]
            print(f"To decide on it: python -m examples.order_approval approve {order_id}, or reject {order_id}")


async def _at_rest(engine: Engine, order: PlaceOrder) -> None:
    """Wait until an order is shipped, refunded, or in the hands of a person."""
    while (await engine.explain(f"place {order.order_id}")).status != "done":
        status = (await engine.query(Order.summary, key=key_of(order))).status
        if status == "waits for approval":
            return
        await asyncio.sleep(_POLL_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="order_approval", description="Four orders that need a person's approval; run it again, it goes on."
    )
    parser.add_argument("decision", nargs="?", choices=["approve", "reject"], help="what to say to an order")
    parser.add_argument("order", nargs="?", choices=[order.order_id for order in ORDERS], help="which one")
    parser.add_argument("--by", default="dora", help="who says it (%(default)s)")
    parser.add_argument("--store", default="sqlite:///order-approval.db", metavar="URL", help="of the store (%(default)s)")
    parser.add_argument("--world", default="order-approval-world.db", metavar="FILE", help="what the services have done (%(default)s)")
    options = parser.parse_args(arguments)
    if options.decision and not options.order:
        parser.error(f"{options.decision} which order?")
    decisions: Sequence[Approve | Reject] = DECISIONS
    if options.decision == "approve":
        decisions = [Approve(options.order, options.by)]
    elif options.decision == "reject":
        decisions = [Reject(options.order, options.by, "no reason given")]
    try:
        with FileWorld(options.world) as world, in_world(world):
            asyncio.run(run(options.store, decisions))
            print("\nWhat the services did:")
            for effect in world.effects():
                print(f"  {effect.what}" + (f" (asked for {effect.times} times)" if effect.times > 1 else ""))
    except PerdureError as error:
        print(f"order_approval: {error}", file=sys.stderr)
        return 1
    return 0

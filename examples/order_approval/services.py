"""What an order does to the world. Each function runs as a step; it may be run again, under the same idempotency key.

Amounts are in cents. `act` stands for the request to the bank, the mail server and the warehouse.
"""

from __future__ import annotations

from typing import Final

from examples.world import act

CARD_LIMIT: Final = 1_000_000


class CardDeclined(Exception):
    """The bank says no; asking again does not help."""


async def charge_card(order_id: str, total: int) -> str:
    """Charge the customer's card; return the receipt. Raises CardDeclined, and nothing was charged."""
    if total > CARD_LIMIT:
        act(f"decline {total} for order {order_id}")
        raise CardDeclined(f"{total} is over the limit of the card")
    act(f"charge {total} for order {order_id}")
    return f"receipt-{order_id}"


async def refund(receipt: str) -> None:
    """Give back what was charged."""
    act(f"refund {receipt}")


async def ask_approver(order_id: str, total: int) -> None:
    """Send an e-mail to whoever approves orders."""
    act(f"mail: please approve order {order_id} of {total}")


async def remind_approver(order_id: str) -> None:
    """Send another one."""
    act(f"mail: order {order_id} still waits for you")


async def ship(order_id: str) -> str:
    """Have the warehouse ship the order; return the number of the parcel."""
    act(f"ship order {order_id}")
    return f"parcel-{order_id}"

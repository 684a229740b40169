"""What the shop asks of others. Each request is a line in the file that SHOP_LEDGER names."""

from __future__ import annotations

import os
from pathlib import Path


def _note(line: str) -> None:
    with Path(os.environ["SHOP_LEDGER"]).open("a") as ledger:
        ledger.write(f"{line}\n")


def reserve(order: str) -> None:
    """Put the goods aside."""
    _note(f"{order}: reserved")


def ship(order: str) -> None:
    """Send them."""
    _note(f"{order}: shipped")


def invoice(order: str, cents: int) -> None:
    """Send the bill."""
    _note(f"{order}: invoice over {cents} cents")

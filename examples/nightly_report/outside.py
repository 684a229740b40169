"""The shops and the head office, simulated.

Each function here runs as a step.
"""

from __future__ import annotations

from datetime import date

import msgspec

import perdure
from examples.world import act


class Shop(msgspec.Struct, frozen=True):
    """A shop: what it has taken each day, in cents, and what is wrong with it.

    Attributes:
        sales: the day's sales, as the till writes them.
        down: how many times in a row nobody answers.
        closed: whether its books of the day are closed.
    """

    sales: tuple[str, ...] = ()
    down: int = 0
    closed: bool = True


class Takings(msgspec.Struct, frozen=True):
    """What a shop has taken on a day."""

    shop: str
    day: date
    sales: int
    cents: int


class Missing(msgspec.Struct, frozen=True):
    """A shop without takings, and why."""

    shop: str
    reason: str


class Summary(msgspec.Struct, frozen=True):
    """The report of a day."""

    day: date
    cents: int
    takings: list[Takings]
    missing: list[Missing]


class NoAnswer(Exception):
    """The shop does not answer; later it may."""


class BooksOpen(Exception):
    """Somebody has to close the books first; asking again would not help."""


SHOPS: dict[str, Shop] = {
    "berlin": Shop(("12.50", "8.00")),
    "lisbon": Shop(("3.20",)),
    "oslo": Shop(("99.00", "1.00"), down=2),
    "prague": Shop(("7.00", "7.OO")),
    "rome": Shop(("5.00",), closed=False),
    "vienna": Shop(("42.00",), down=1_000),
}


async def list_shops(day: date) -> list[str]:
    """Return the shops that were open on a day."""
    act(f"list the shops of {day}")
    return sorted(SHOPS)


async def fetch_sales(shop: str, day: date) -> list[str]:
    """Ask a shop for the sales of a day.

    Raises:
        NoAnswer: the shop cannot be reached.
        BooksOpen: it has no final numbers.
    """
    attempt = perdure.step_info().attempt
    if attempt <= SHOPS[shop].down:
        raise NoAnswer(f"no answer, {attempt} times")
    if not SHOPS[shop].closed:
        raise BooksOpen("the books are not closed")
    act(f"fetch {shop} {day}")
    return list(SHOPS[shop].sales)


async def file_takings(takings: Takings) -> None:
    """Put a shop's takings into the archive of the head office."""
    act(f"file {takings.shop} {takings.day}: {takings.cents}")


async def mail_summary(summary: Summary) -> None:
    """Send the report to the head office."""
    act(f"mail {summary.day}: {summary.cents}, {len(summary.missing)} missing")

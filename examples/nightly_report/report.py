"""The report's process, and one for each of its parts."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import perdure
from examples.nightly_report import outside
from examples.nightly_report.outside import BooksOpen, Missing, Summary, Takings
from perdure import Retry

ZONE: Final = "Europe/Berlin"
AT_ONCE: Final = 3  # shops that are asked at the same time
# In seconds, so that the program can be watched; the shops of a real report would get hours.
FETCH_RETRY: Final = Retry(max_attempts=4, initial=1.0, factor=2.0, give_up_on=(BooksOpen,))

app = perdure.App("reports")


@app.schedule("30 2 * * *", tz=ZONE, overlap="queue", catch_up="all")
@app.process
async def nightly(p: perdure.Process, slot: datetime) -> None:
    """See that there is a report on the day that has ended before `slot`."""
    day = day_before(slot)
    await p.call(daily_report, day, id=report_id(day))


@app.process
async def daily_report(p: perdure.Process, day: date) -> Summary:
    """Report on a day, with every shop in it: its takings, or why there are none."""
    shops = await p.step(outside.list_shops, day)
    parts = await p.gather_limited(AT_ONCE, *(part_of(p, shop, day) for shop in shops))
    takings = [part for part in parts if isinstance(part, Takings)]
    missing = [part for part in parts if isinstance(part, Missing)]
    summary = Summary(day, sum(one.cents for one in takings), takings, missing)
    p.attributes["missing"] = len(missing)
    await p.step(outside.mail_summary, summary)
    return summary


async def part_of(p: perdure.Process, shop: str, day: date) -> Takings | Missing:
    """Return a shop's part of the report."""
    try:
        return await p.call(shop_report, shop, day)
    except Exception as error:  # noqa: BLE001  # whatever goes wrong with one shop is a line of the report, and no end of it
        return Missing(shop, f"{type(error).__name__}: {error}")


@app.process
async def shop_report(p: perdure.Process, shop: str, day: date) -> Takings:
    """Fetch the sales of one shop, add them up, and file the result."""
    sales = await p.step(outside.fetch_sales, shop, day, retry=FETCH_RETRY)
    takings = Takings(shop, day, len(sales), sum(cents_of(sale) for sale in sales))
    await p.step(outside.file_takings, takings)
    return takings


def cents_of(sale: str) -> int:
    """Return an amount in cents. Raises ValueError when it is none."""
    whole, _, cents = sale.partition(".")
    return 100 * int(whole) + int(cents)


def report_id(day: date) -> str:
    """Return the id of the one report on a day: whoever asks with it, and whenever, gets the same sealed summary."""
    return f"report/{day}"


def day_before(slot: datetime) -> date:
    """Return the last day that was over at `slot`, where the shops are."""
    return slot.astimezone(ZoneInfo(ZONE)).date() - timedelta(days=1)

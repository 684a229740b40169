"""The process: one trip, which is booked whole or not at all."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

import perdure
from examples.saga.services import SoldOut, release, reserve
from perdure import Retry

PARTS: Final = ("flight", "hotel", "car")
PATIENT: Final = Retry(max_attempts=8, initial=60, factor=2, maximum=3600, give_up_on=(SoldOut,))
STUBBORN: Final = Retry(max_attempts=100, initial=60, factor=2, maximum=3600)


class BookTrip(msgspec.Struct, tag="book-trip", frozen=True):
    """Somebody wants to go somewhere."""

    trip_id: str
    place: str


class Trip(msgspec.Struct, frozen=True):
    """What is known of a trip: `booking`, `booked`, `undoing` or `not booked`; its references, and why there are none."""

    status: str
    references: list[str]
    reason: str = ""


app: Final = perdure.App("trips")


@app.process
class Booking(perdure.Process):
    """One trip. `begun` are the parts that may be reserved by now: what has to be released if it comes to nothing."""

    status: str = "booking"
    begun: list[str] = []
    references: list[str] = []
    reason: str = ""

    @perdure.on(BookTrip, start=True, key=lambda message: f"trip:{message.trip_id}")
    async def book(self, message: BookTrip) -> Trip:
        """Reserve part after part; undo them when one of them cannot be had, or when somebody cancels."""
        self.attributes["trip"] = message.trip_id
        try:
            for part in PARTS:
                # Before the step: whatever interrupts it, nobody knows then whether the part is reserved.
                self.begun.append(part)
                self.references.append(
                    await self.step(reserve, part, message.trip_id, message.place, name=f"reserve {part}", retry=PATIENT)
                )
        except SoldOut as error:
            self.begun.pop()  # a clear no: there is nothing to release
            await self.undo(message.trip_id, str(error))
        except ConnectionError as error:
            await self.undo(message.trip_id, str(error))
        except asyncio.CancelledError:
            await self.undo(message.trip_id, "cancelled")
        else:
            self.status = "booked"
        return self.finish(self.trip())

    async def undo(self, trip_id: str, reason: str) -> None:
        """Release all that may be reserved, the last one first."""
        self.status, self.reason = "undoing", reason
        self.references.clear()
        while self.begun:
            part = self.begun[-1]
            try:
                await self.step(release, part, trip_id, name=f"release {part}", retry=STUBBORN)
            except asyncio.CancelledError:
                continue  # somebody cancels what is being undone already: all the more
            self.begun.pop()
        self.status = "not booked"

    @perdure.query
    def trip(self) -> Trip:
        """Return what is known by now."""
        return Trip(self.status, self.references, self.reason)

"""What a trip does to the world. Each function runs as a step; `act` stands for the request to the service.

A reservation is made under a reference of ours, which is known before it is asked for. So it can be released without knowing
whether it was made: releasing nothing changes nothing.
"""

from __future__ import annotations

from typing import Final

from examples.world import act

SOLD_OUT: Final = frozenset({("hotel", "Atlantis")})
SILENT: Final = frozenset({("car", "Bermuda")})


class SoldOut(Exception):
    """The service says no, and has reserved nothing."""


async def reserve(what: str, trip_id: str, place: str) -> str:
    """Reserve a part of a trip, `flight`, `hotel` or `car`; return its reference.

    Raises:
        SoldOut: nothing was reserved, and asking again does not help.
        ConnectionError: no answer; it may be reserved or not.
    """
    reference = f"{what}-{trip_id}"
    if (what, place) in SOLD_OUT:
        act(f"no {what} in {place} for trip {trip_id}")
        raise SoldOut(f"there is no {what} in {place}")
    act(f"reserve {reference}")
    if (what, place) in SILENT:
        raise ConnectionError(f"no answer about the {what} in {place}")
    return reference


async def release(what: str, trip_id: str) -> None:
    """Release what is reserved under the reference of a part, if anything is."""
    act(f"release {what}-{trip_id}")

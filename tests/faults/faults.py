"""All seeded faults."""

from __future__ import annotations

from typing import Final

from tests.faults import control, core, engine, flows, rooms, schemas, sqlite, testing
from tests.faults.fault import Fault

FAULTS: Final[tuple[Fault, ...]] = (
    *core.FAULTS,
    *sqlite.FAULTS,
    *rooms.FAULTS,
    *schemas.FAULTS,
    *engine.FAULTS,
    *control.FAULTS,
    *flows.FAULTS,
    *testing.FAULTS,
)

"""All seeded faults."""

from __future__ import annotations

from typing import Final

from tests.faults import (
    asking,
    blobs,
    control,
    copying,
    core,
    engine,
    failover,
    flows,
    inspection,
    network,
    ownership,
    postgres,
    postgres_schema,
    programs,
    requests,
    residency,
    retention,
    rooms,
    schedules,
    schemas,
    server,
    sqlite,
    steps,
    testing,
    upgrades,
    web,
)
from tests.faults.fault import Fault

FAULTS: Final[tuple[Fault, ...]] = (
    *core.FAULTS,
    *sqlite.FAULTS,
    *network.FAULTS,
    *postgres.FAULTS,
    *postgres_schema.FAULTS,
    *rooms.FAULTS,
    *schemas.FAULTS,
    *engine.FAULTS,
    *failover.FAULTS,
    *control.FAULTS,
    *asking.FAULTS,
    *flows.FAULTS,
    *inspection.FAULTS,
    *schedules.FAULTS,
    *testing.FAULTS,
    *programs.FAULTS,
    *steps.FAULTS,
    *retention.FAULTS,
    *residency.FAULTS,
    *copying.FAULTS,
    *ownership.FAULTS,
    *upgrades.FAULTS,
    *web.FAULTS,
    *blobs.FAULTS,
    *server.FAULTS,
    *requests.FAULTS,
)

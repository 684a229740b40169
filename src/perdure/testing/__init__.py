"""Testing processes: virtual time, crashes at every commit, and the record of real processes against new code."""

from perdure.engine.export import ProcessExport
from perdure.testing.backend import Crash
from perdure.testing.crashes import CrashReport, CrashRun, crashes
from perdure.testing.engine import VirtualEngine, engine, settled
from perdure.testing.ledger import Effect, EffectLedger
from perdure.testing.replaying import ReplayReport, TurnReplay, replay

__all__ = [
    "Crash",
    "CrashReport",
    "CrashRun",
    "Effect",
    "EffectLedger",
    "ProcessExport",
    "ReplayReport",
    "TurnReplay",
    "VirtualEngine",
    "crashes",
    "engine",
    "replay",
    "settled",
]

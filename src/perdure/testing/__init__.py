"""Testing processes: virtual time, crashes at every commit, and the record of real processes against new code."""

from perdure.testing.backend import Crash
from perdure.testing.crashes import CrashReport, CrashRun, crashes
from perdure.testing.engine import VirtualEngine, engine, settled
from perdure.testing.ledger import Effect, EffectLedger

__all__ = ["Crash", "CrashReport", "CrashRun", "Effect", "EffectLedger", "VirtualEngine", "crashes", "engine", "settled"]

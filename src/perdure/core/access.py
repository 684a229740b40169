"""What a room's facade works with."""

from __future__ import annotations

from typing import NamedTuple

from perdure.clock import Clock
from perdure.core.backend import Reader
from perdure.core.signals import Signals
from perdure.core.writer import Writer
from perdure.identity import Randomness


class Access(NamedTuple):
    """One open store, as its rooms see it: the writer, reads outside of a batch, wake-ups, time and randomness."""

    writer: Writer
    reader: Reader
    signals: Signals
    clock: Clock
    randomness: Randomness

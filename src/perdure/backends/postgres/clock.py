"""The server's time, known here between two looks at it."""

from __future__ import annotations

import time

from perdure.clock import Micros, SystemClock


class ServerClock(SystemClock):
    """The clock of the database's server: all nodes go by the same one. Like every `SystemClock`, it never runs backwards.

    Until the first `learn` it is the machine's own.
    """

    def __init__(self) -> None:
        self._ahead = 0  # nanoseconds by which the server's clock is before ours
        super().__init__(wall=lambda: time.time_ns() + self._ahead)

    def learn(self, server: Micros, took: float) -> None:
        """Take in what the server's clock showed; the answer has come now, `took` seconds after the question."""
        self._ahead = server * 1000 + int(took * 500_000_000) - time.time_ns()

"""The closed loop itself. It knows nothing of Perdure: the peers' environments run it, too."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, NamedTuple


class Load(NamedTuple):
    """How many clients call, and for how many seconds; what ends within the warm-up is not counted."""

    clients: int
    seconds: float
    warm_up: float


def load_of(arguments: list[str]) -> Load:
    """Return the load that the last three arguments of a program name."""
    clients, seconds, warm_up = arguments[-3:]
    return Load(int(clients), float(seconds), float(warm_up))


class Meter:
    """What ended when, and how long each call took."""

    def __init__(self, load: Load) -> None:
        gc.collect()  # what the level before has left behind is not this one's
        self.load = load
        self.numbers = count()
        self.latencies: list[float] = []
        self.measured = time.perf_counter() + load.warm_up
        self.end = self.measured + load.seconds

    def took(self, start: float) -> None:
        """Note a call that has ended."""
        done = time.perf_counter()
        if self.measured <= done <= self.end:
            self.latencies.append((done - start) * 1e6)

    def result(self) -> dict[str, Any]:
        """Return calls per second, and microseconds of one."""
        ordered = sorted(self.latencies)
        calls = len(ordered)
        return {
            "clients": self.load.clients,
            "per_s": round(calls / self.load.seconds, 1),
            "p50_us": round(ordered[calls // 2], 1) if calls else None,
            "p99_us": round(ordered[int(calls * 0.99)], 1) if calls else None,
        }


async def closed_loop(call: Callable[[int], Awaitable[object]], load: Load) -> dict[str, Any]:
    """Let clients call that each wait for the answer before the next call."""
    meter = Meter(load)

    async def client() -> None:
        while (start := time.perf_counter()) < meter.end:
            await call(next(meter.numbers))
            meter.took(start)

    await asyncio.gather(*(client() for _ in range(load.clients)))
    return meter.result()


def threaded_loop(call: Callable[[int], object], load: Load) -> dict[str, Any]:
    """Do the same with a thread for each client."""
    meter = Meter(load)

    def client() -> None:
        while (start := time.perf_counter()) < meter.end:
            call(next(meter.numbers))
            meter.took(start)

    threads = [threading.Thread(target=client) for _ in range(load.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return meter.result()


def say(**values: Any) -> None:
    """Print the one line that whoever started this program reads."""
    json.dump(values, sys.stdout)
    print(flush=True)

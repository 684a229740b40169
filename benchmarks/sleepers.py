"""Processes that sleep: what they cost in memory and at start, and whether all timers due at one instant fire once."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from benchmarks.measure import SHORT, ours, report
from perdure import Address, App, Engine, Process, on, open_store
from perdure.clock import SECOND, Micros, SystemClock
from perdure.conversations.tables import RUNNABLE
from perdure.core.table import Scan

SLEEPERS = 2_000 if SHORT else 100_000
DUE = 500 if SHORT else 10_000
CLIENTS = 500
DAY = 86_400
YEAR = 366 * DAY  # for those whose time does not come
LOOK = 0.1  # seconds between two looks whether all have left memory

app = App("sleepers")
woken: Counter[str] = Counter()
all_woken = asyncio.Event()


class Sleep(msgspec.Struct, tag="sleep"):
    seconds: int


class Skipping(SystemClock):
    """The machine's clock, which can be set forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped: Micros = 0

    def now(self) -> Micros:
        """Return the time."""
        return super().now() + self.skipped


@app.process
class Sleeper(Process):
    @on(Sleep, start=True)
    async def sleep_until(self, message: Sleep) -> None:
        await self.sleep(message.seconds)
        woken.update([self.id])
        if len(woken) > DUE:
            all_woken.set()


def memory() -> dict[str, float]:
    """Return the memory of this program in MB, now and at its most."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    of = {name: int(values[0]) / 1024 for name, *values in lines if name in {"VmRSS:", "VmHWM:"}}
    return {"rss_mb": of["VmRSS:"], "peak_mb": of["VmHWM:"]}


async def asleep(engine: Engine) -> None:
    """Wait until all of them are asleep, and have left memory."""
    store = engine.store
    while loaded(engine) or any([await store.access.reader.scan(Scan(RUNNABLE, (shard,), 1)) for shard in range(store.shards)]):  # noqa: ASYNC110  # they fall asleep one by one, and tell nobody
        await asyncio.sleep(LOOK)


def loaded(engine: Engine) -> int:
    """Return how many processes are in memory."""
    return len(engine._owner.residents)  # noqa: SLF001  # nobody else asks


async def make(url: str) -> None:
    """Put them to sleep in one engine, and look at its memory when they have left it."""
    async with open_store(url) as store, Engine(store, app) as engine:
        begin = time.perf_counter()
        numbers = iter(range(SLEEPERS))

        async def client() -> None:
            for number in numbers:
                seconds = DAY if number < DUE else YEAR
                await engine.deliver(Sleep(seconds), id=f"s{number}", to=Address.start("Sleeper"))

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        took = time.perf_counter() - begin
        await asleep(engine)
        report(benchmark="sleepers made", **ours(), sleepers=SLEEPERS, per_s=SLEEPERS / took, **memory())


async def wake(url: str) -> None:
    """Open the store again, and set the clock to the instant at which some of them are due."""
    clock = Skipping()
    before = memory()["rss_mb"]
    begin = time.perf_counter()
    async with open_store(url, clock=clock) as store, Engine(store, app) as engine:
        report(
            benchmark="sleepers reopened",
            **ours(),
            sleepers=SLEEPERS,
            start_s=time.perf_counter() - begin,
            loaded=loaded(engine),
            rss_before_mb=before,
            **memory(),
        )
        clock.skipped = 2 * DAY * SECOND
        begin = time.perf_counter()
        await engine.deliver(Sleep(0), id="look", to=Address.start("Sleeper"))  # armed and due: the engine looks at the clock
        await all_woken.wait()
        took = time.perf_counter() - begin
        await asleep(engine)  # a second ring would have brought its process into memory
        report(
            benchmark="timers due at one instant",
            **ours(),
            due=DUE,
            fired=len(woken) - 1,
            twice=sum(times > 1 for times in woken.values()),
            took_s=took,
            **memory(),
        )


async def sleepers() -> None:
    """Make them in one program, and wake them in another one."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for what in ("make", "wake"):
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.sleepers", what, f"sqlite:///{folder}/bench.db"
            )
            if await program.wait():
                raise SystemExit(f"{what} failed")


if __name__ == "__main__":
    asyncio.run({"make": make, "wake": wake}[sys.argv[1]](sys.argv[2]))

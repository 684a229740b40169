"""Versions that are deployed and rolled back while callers start processes, and what has to hold of every start.

A caller notes when it asked, when it was answered, and by which version: its start was committed between the two; who deploys notes when a change of the
route was asked for and when it was committed. All of them are on one machine and read the same clock.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from perdure import App, Engine, Process, Store
from perdure.engine import inspection
from perdure.engine.handling import operation_key
from perdure.errors import PackageMissing, PerdureError, RouteMissing
from perdure.packages.archive import Package
from tests.packages.built import built, deploy

CALLERS = 64
NAP = 0.05  # seconds that every other process sleeps: some are open while the route changes, and while a node dies
AGAIN = 0.05  # seconds until a call that may be repeated is
PATIENCE = 600  # looks for processes that are not over
LOOK = 0.1
KEPT = 3  # versions that a collection leaves
SOURCE = """\
import perdure

app = perdure.App("shop")


@app.process
async def hello(p: perdure.Process, name: str) -> int:
    return {number}


@app.process
async def nap(p: perdure.Process, name: str) -> int:
    await p.sleep({nap})
    from shop.number import NUMBER
    return NUMBER
"""


def versions(count: int) -> list[Package]:
    """Return so many versions of one package."""
    return [
        built({"shop/__init__.py": "", "shop/number.py": f"NUMBER = {n}\n", "shop/flows.py": SOURCE.format(number=n, nap=NAP)})
        for n in range(count)
    ]


def make_app() -> App:
    """Return an app that knows the types by name, so that they can be called; it answers as no version does."""
    app = App("callers")

    @app.process
    async def hello(p: Process, name: str) -> int:
        return -1

    @app.process
    async def nap(p: Process, name: str) -> int:
        return -1

    app.extras = [hello, nap]  # type: ignore[attr-defined]  # handed to the callers
    return app


class Change(msgspec.Struct, frozen=True):
    """A route leads to another version from some moment between two on."""

    process_type: str
    version: int
    asked: float
    done: float


class Start(msgspec.Struct, frozen=True):
    """A start that was answered: by which version, and between which moments it was committed."""

    id: str
    process_type: str
    version: int
    asked: float
    answered: float


class Callers:
    """Callers that start processes one after the other until they are told to stop."""

    def __init__(self, engine: Engine, name: str, count: int, *, insist: bool, heard: Callable[[Start], object]) -> None:
        self.over = False
        self._engine = engine
        self._name = name
        self._insist = insist
        self._heard = heard
        self._numbers = itertools.count()
        self._tasks = [asyncio.ensure_future(self._calls()) for _ in range(count)]

    @property
    def done(self) -> bool:
        """Whether one has ended: it was told to, or it has failed."""
        return any(task.done() for task in self._tasks)

    async def rest(self) -> None:
        """Let all come to their ends. Raises what a start was refused with, or failed with."""
        self.over = True
        await asyncio.gather(*self._tasks)

    async def _calls(self) -> None:
        while not self.over:
            number = next(self._numbers)
            await self._call(f"{self._name}.{number}", self._engine.app.extras[number % 2])  # type: ignore[attr-defined]  # the app's own

    async def _call(self, id: str, function: Any) -> None:
        asked = time.monotonic()
        version = await self._through(lambda: self._engine.call(function, id, id=id))
        self._heard(Start(id, function.__name__, version, asked, time.monotonic()))

    async def _through(self, call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await call()
            except PerdureError as error:
                if not (self._insist and error.retryable):
                    raise
                await asyncio.sleep(AGAIN)


class Rollout:
    """Deploys and rolls back, and notes it."""

    def __init__(self, store: Store, packages: Sequence[Package]) -> None:
        self.changes: list[Change] = []
        self.done = 0  # deploys and rollbacks
        self.refused = 0  # rollbacks that had nowhere to go: to what was collected, or never was
        self.collected = 0
        self._store = store
        self._packages = packages
        self._numbers = {str(package.identity): number for number, package in enumerate(packages)}
        self._next = 0
        self._chance = random.Random(len(packages))

    async def begin(self) -> None:
        """Deploy the first version."""
        await self._deploy()

    async def run(self, count: int, between: Callable[[], Awaitable[object]]) -> None:
        """Deploy or roll back so many times; sometimes what is superseded and nobody needs is collected."""
        while self.done < count:
            await self._chance.choice([self._deploy, self._deploy, self._rollback])()
            if self._chance.random() < 0.2:
                self.collected += len(await self._store.packages.collect(keep_last=KEPT, older_than=timedelta(0)))
            await between()

    async def _deploy(self) -> None:
        package = self._packages[self._next % len(self._packages)]  # after the last one the first again, collected or not
        asked = time.monotonic()
        await deploy(self._store, package)
        self._note(self._next % len(self._packages), asked, "hello", "nap")
        self._next += 1

    async def _rollback(self) -> None:
        name, asked = self._chance.choice(["hello", "nap"]), time.monotonic()
        try:
            found = await self._store.packages.rollback(name)
        except (PackageMissing, RouteMissing):
            self.refused += 1
        else:
            self._note(self._numbers[found], asked, name)

    def _note(self, version: int, asked: float, *process_types: str) -> None:
        done = time.monotonic()
        self.done += 1
        self.changes += [Change(each, version, asked, done) for each in process_types]


class Verdict(msgspec.Struct):
    """What does not hold; all are empty when everything does."""

    left: list[str] = []  # processes that are not over, or not well
    lost: list[str] = []  # starts that were answered, and are not in the store
    other: list[str] = []  # processes that ran another version than is recorded with them
    stale: list[str] = []  # starts on a version to which no route led when they were committed
    starts: int = 0
    processes: int = 0
    used: int = 0  # versions that processes ran on

    @property
    def holds(self) -> bool:
        return not (self.left or self.lost or self.other or self.stale) and self.starts > 0


async def judge(store: Store, packages: Sequence[Package], changes: Sequence[Change], starts: Sequence[Start]) -> Verdict:
    """Compare what callers have heard, what is recorded, and where the routes have led."""
    numbers = {str(package.identity): number for number, package in enumerate(packages)}
    recorded = await _recorded(store)
    found = Verdict(starts=len(starts), processes=len(recorded))
    for id, (status, package, reply) in recorded.items():
        if status != "ended" or reply is None:
            found.left.append(f"{id} {status} {reply}")
        elif reply != numbers.get(package or ""):
            found.other.append(f"{id} is recorded on {package}, and was run by version {reply}")
    found.used = len({package for _, package, _ in recorded.values()})
    found.lost = [start.id for start in starts if start.id not in recorded]
    found.other += [f"{one.id} was answered by {one.version}" for one in starts if recorded.get(one.id, (0, 0, None))[2] != one.version]
    for process_type in ("hello", "nap"):
        of_type = [change for change in changes if change.process_type == process_type]
        found.stale += [
            f"{start}" for start in starts if start.process_type == process_type and start.version not in _routed(of_type, start)
        ]
    return found


def _routed(changes: Sequence[Change], start: Start) -> set[int]:
    """Return the versions that a route may have led to when a start was committed, which was between two moments."""
    first = bisect_right([change.done for change in changes], start.asked) - 1
    last = bisect_right([change.asked for change in changes], start.answered) - 1
    return {change.version for change in changes[max(0, first) : last + 1]}


async def _recorded(store: Store) -> Mapping[str, tuple[str, str | None, int | None]]:
    """Return each process's status, package and reply, when all are over or nothing moves any more."""
    left = 0
    for _ in range(PATIENCE):
        left = sum([len(await inspection.processes(store, status=status)) for status in ("runnable", "waiting", "idle")])
        if not left:
            break
        await asyncio.sleep(LOOK)
    found: dict[str, tuple[str, str | None, int | None]] = {}
    after = None
    while True:
        page = await inspection.processes(store, limit=1_000, after=after)
        sealed = await store.access.reader.get_all([operation_key("default", one.process_id) for one in page])
        for one, operation in zip(page, sealed, strict=True):
            response = None if operation is None or operation.outcome != "ok" else operation.response
            found[one.process_id] = (one.status, one.package_hash, None if response is None else msgspec.json.decode(response))
        if (after := page.next) is None:
            return found

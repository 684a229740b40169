"""An engine that is never left alone: it evicts what it can, is killed, closed, paused and resumed at any round of its loop.

Everything happens on one thread, plain functions too, so that a run is the same each time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal

import msgspec
import pytest

from perdure import App, Engine, Store, VirtualClock, limits
from perdure.clock import Micros
from perdure.engine.resident import Resident
from perdure.errors import PerdureError, StoreUnavailable
from perdure.testing import VirtualEngine
from perdure.testing.backend import Incarnations
from perdure.testing.engine import LastingOwner
from perdure.testing.idle import when_idle

What = Literal["kill", "close", "evict", "hold", "hold all"]
NARROW = {"max_concurrency": 2, "max_steps": 1, "max_resident": 1}
NARROW_LIMITS = {
    "MAIL_WINDOW": 2,
    "MAIL_LOOK": 1,
    "DISPATCH_MAX": 2,
    "DISPATCH_NOTES": 1,
    "WAKE_UPS": 1,
    "FAN_OUT_CHUNK": 1,
    "EFFECTS_CHUNK": 2,
    "READ_PAGE": 3,
}
ROUNDS_MAX = 10_000  # rounds of the loop, and steps of the clock: some twenty times as many as a run takes
STEPS_MAX = 1_000


class Disturbance(msgspec.Struct, frozen=True):
    """What happens so many rounds of the loop after the one before.

    kill: all that is in memory is forgotten. close: the engine stops in good order, and starts again. evict: what rests
    leaves memory, or else the next one that comes to rest. hold: the runner, or everybody, is paused and resumed.
    """

    rounds: int
    what: What


class Inline(Executor):
    """Runs functions on the loop, one in each of its rounds."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        asyncio.get_running_loop().call_soon(self._run, future, fn, args)
        return future

    @staticmethod
    def _run(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            value = fn(*args)
        except Exception as error:  # noqa: BLE001  # whatever it raises is its outcome
            future.set_exception(error)
        else:
            future.set_result(value)


class RestlessOwner(LastingOwner):
    """An owner in narrow bounds that lets turns leave memory."""

    evicts = True
    bounds: dict[str, int] = {}

    def __init__(self, store: Store, app: App, **bounds: int) -> None:
        super().__init__(store, app, **{**bounds, **self.bounds})
        self._evicts_next = False
        self.threads.shutdown()
        self.threads = Inline()  # type: ignore[assignment]  # all that is used of it

    def evict_next(self) -> None:
        """Let whatever rests leave memory, or else the next one that comes to rest."""
        resting = [resident for resident in self.residents.values() if resident.rests]
        for resident in resting:
            self.evict(resident)
        self._evicts_next = not resting

    def settled(self, resident: Resident) -> None:
        """Forget a process that has nothing under way, and one that is to leave memory."""
        super().settled(resident)
        if self._evicts_next and resident.rests:
            self._evicts_next = False
            self.later(self.evict_next)

    def close_for_another(self) -> None:
        """Who waits from here on asks the next one."""
        self._crashed = True


class RestlessEngine(VirtualEngine):
    """See `restless`."""

    owner_type = RestlessOwner
    _owner: RestlessOwner

    def disturbed_by(self, disturbances: list[Disturbance]) -> None:
        """Be disturbed from now on."""
        self.disturbances = list(disturbances)
        self.paused = False
        self.interrupted = False
        self.rounds = self.rounds_in_all = self.steps = 0
        self._alarm: tuple[int, Callable[[], None]] | None = None
        self._starting = self._died = False
        self._closing: RestlessOwner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def on_rounds(self, rounds: int | None, callback: Callable[[], None]) -> None:
        """Call back after so many rounds of the loop."""
        self._alarm = None if rounds is None else (rounds, callback)

    def on_round(self) -> bool:
        """A round of the loop begins."""
        self.rounds += 1
        self.rounds_in_all += 1
        assert self.rounds_in_all < ROUNDS_MAX, "it never comes to rest"
        if self._alarm is not None:
            rounds, callback = self._alarm
            self._alarm = (rounds - 1, callback) if rounds > 1 else None
            if self._alarm is None:
                asyncio.get_running_loop().call_soon(callback)
                return True
        if not self.disturbances or self.rounds < self.disturbances[0].rounds:
            return False
        self.rounds = 0
        asyncio.get_running_loop().call_soon(self.disturb, self.disturbances.pop(0).what)
        return True

    def disturb(self, what: str) -> None:
        """Let something happen, unless the engine is down."""
        owner = self._owner
        match what:
            case "kill":
                self.on_crash()
            case _ if not self.is_up:
                pass
            case "close":
                self.restart()
            case "evict":
                owner.evict_next()
            case "hold":
                self.interrupted = True
                self._tasks.append(asyncio.ensure_future(self._hold("runner")))
            case _:
                self.interrupted = True
                self._tasks += [asyncio.ensure_future(self._hold(process_id)) for _, process_id in list(owner.residents)]

    async def _hold(self, process_id: str) -> None:
        with suppress(PerdureError):  # it is not there, or over
            if not self._stays_paused(process_id):
                await self.pause(process_id)
            if not self._stays_paused(process_id):
                await self.resume(process_id)

    @property
    def is_up(self) -> bool:
        """Whether it runs, and is about neither to open nor to close."""
        return self._owner.is_open and not self._starting and self._owner is not self._closing

    def _stays_paused(self, process_id: str) -> bool:
        return self.paused and process_id == "runner"

    def on_crash(self) -> None:
        """Drop everything; one that is about to close or to open hears of it from its store."""
        if self._starting or self._owner is self._closing:
            self.interrupted = self._died = True
            self._incarnations._current.die()
        elif self.is_up:
            self.interrupted = True
            super().on_crash()

    async def _reopen(self, before: LastingOwner) -> None:
        """Start again, however often it takes."""
        waiting = [before]
        while True:
            await self._incarnations.kill(self.store)
            Engine.__init__(self, await self._incarnations.open(), self.app, max_threads=1)
            self._starting, self._died = True, False
            try:
                await Engine.__aenter__(self)
            except StoreUnavailable:
                assert self._died
            finally:
                self._starting = False
            if not self._died:
                break
            self._owner.drop()
            waiting.append(self._owner)
        for owner in waiting:
            owner.successor.set_result(self._owner)

    async def close(self) -> None:
        """Stop; in the middle of a start, too."""
        await (Engine.close(self) if self._starting else super().close())

    def _go_to(self, due: Micros) -> None:
        self.steps += 1
        assert self.steps < STEPS_MAX, "there is always something due"
        super()._go_to(due)

    def restart(self) -> None:
        """Stop in good order, and start again on the same store. Steps under way are lost as with a crash."""
        self.interrupted = True
        self._closing = self._owner
        self._reopening = asyncio.ensure_future(self._restart(self._owner))

    async def _restart(self, owner: RestlessOwner) -> None:
        owner.close_for_another()
        self._sweeping.stop()
        await owner.close()
        gc.set_threshold(*self._gc_threshold)
        await self._reopen(owner)

    async def calm(self) -> None:
        """Be disturbed no more."""
        self.disturbances = []
        self._alarm = None
        self.crash_at()
        await self.settled()
        await asyncio.gather(*self._tasks)


class _Rounds:
    """A loop's selector that counts the rounds."""

    def __init__(self, inner: Any, on_round: Callable[[], bool]) -> None:
        self._inner = inner
        self._on_round = on_round

    def select(self, timeout: float | None = None) -> Any:
        return self._inner.select(0 if self._on_round() else timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def _rounds(on_round: Callable[[], bool]) -> Iterator[None]:
    selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # that of `when_idle`
    selector.inner = _Rounds(selector.inner, on_round)
    try:
        yield
    finally:
        selector.inner = selector.inner._inner


@asynccontextmanager
async def restless(app: App, *, narrow: bool, store: str | None = None) -> AsyncIterator[RestlessEngine]:
    """Run an app as `perdure.testing.engine` does, restlessly; `narrow`: in bounds as narrow as can be."""
    incarnations = Incarnations(VirtualClock(), store)
    with pytest.MonkeyPatch.context() as narrowed:
        if narrow:
            narrowed.setattr(RestlessOwner, "bounds", NARROW)
            for name, value in NARROW_LIMITS.items():
                narrowed.setattr(limits, name, value)
        made = RestlessEngine(await incarnations.open(), app, incarnations=incarnations, auto_advance=False, max_threads=1)
        made.disturbed_by([])
        incarnations.on_crash = made.on_crash
        log = logging.getLogger("perdure")
        log.setLevel(logging.CRITICAL)  # what goes wrong here goes wrong on purpose
        try:
            with when_idle(made.on_idle), _rounds(made.on_round):
                async with made:
                    incarnations.plan()
                    yield made
        finally:
            log.setLevel(logging.NOTSET)
            await made.store.close()

"""The children of an engine: one interpreter for each version that asks for one, started when it is needed.

Source: packages.md, "Isolation"; docs/isolation.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from perdure import limits
from perdure.clock import Alarm, Clock, Micros, SystemClock, sleep
from perdure.conversations.tables import LOG_ENTRIES
from perdure.core.table import Scan
from perdure.engine.apart.channel import CLOSED, Channel, ChildGone
from perdure.engine.apart.environments import Environment, Environments, ending
from perdure.engine.apart.extracted import extract
from perdure.engine.apart.frames import (
    Allowed,
    Answer,
    Down,
    DropAlarm,
    Entries,
    MayBegin,
    MessageRead,
    Moved,
    ProcessTried,
    Question,
    ReadLog,
    Ready,
    Refused,
    Ring,
    SaysLeads,
    SetAlarm,
    Stop,
    TryFailed,
    Unsure,
    Up,
    Welcome,
)
from perdure.engine.apart.remote import RemoteTurn, RemoteType
from perdure.engine.packaged import code_of, lock_of
from perdure.errors import PackageEnvironmentFailed, PackageImportFailed, PackageRequirementUnmet, PerdureError, Unmet, UsageError
from perdure.packages.archive import Package
from perdure.store import Store

logger = logging.getLogger("perdure.engine")
Source = Callable[[], Awaitable[Package]]
_MODULE: Final = "perdure.engine.apart.child"
_SEED_BYTES: Final = 16


class Child:
    """One child: its process, and what came of its package.

    Args:
        label: what errors and logs call the version.
        store: where logs of processes are read.
        ended: called once when it has ended, with the reason.
    """

    def __init__(self, label: str, store: Store, *, ended: Callable[[Child, str], None]) -> None:
        self.label = label
        self.clock: Clock = store.access.clock
        self.turns: dict[int, RemoteTurn] = {}
        self.types: dict[str, RemoteType] = {}
        self.since: Micros = self.clock.now()
        self._store = store
        self._told_end = ended
        self._made = 0
        self._alarms: dict[int, Alarm] = {}
        self._reads: set[asyncio.Task[None]] = set()
        self._questions: dict[int, asyncio.Future[Answer]] = {}
        self._ready: asyncio.Future[Ready | Refused] = asyncio.get_running_loop().create_future()
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._over: asyncio.Task[None] | None = None
        self.over = asyncio.Event()  # that it has ended was told

    async def start(self, package: Package, environment: Environment, *, threads: int) -> None:
        """Start it, and let it import its package.

        Raises:
            PackageEnvironmentFailed: it cannot be started here.
            PackageRequirementUnmet, PackageImportFailed, PackageEntryMissing, PackageSchemaDrift, DefinitionError: it cannot be used.
        """
        try:
            self._channel = Channel(await self._run(package, environment), asyncio.get_running_loop(), heard=self._heard, ended=self._lost)
        except OSError as error:
            raise PackageEnvironmentFailed(self.label, f"its interpreter cannot be started: {error}") from error
        assert self._folder is not None, "its files are there"
        self._over = asyncio.ensure_future(self._wait())
        welcome = Welcome(
            manifest=package.manifest.encode(),
            folder=self._folder.name,
            parent=os.getpid(),
            seed=self._store.access.randomness(_SEED_BYTES),
            threads=threads,
            now=self.clock.now(),
            runs=isinstance(self.clock, SystemClock),
            asks=not self._store.ownership.whole,
        )
        self.send(welcome)
        self._begin(await self._answered())

    async def _run(self, package: Package, environment: Environment) -> socket.socket:
        """Start its process, and return this end of the sockets between them. Raises OSError."""
        self._folder = await asyncio.to_thread(_laid_out, package)
        here, there = socket.socketpair()
        with there, contextlib.ExitStack() as otherwise:
            otherwise.callback(here.close)
            otherwise.callback(self._folder.cleanup)
            number = str(there.fileno())
            self._process = await asyncio.create_subprocess_exec(
                *environment.command(_MODULE, number),
                env=environment.variables(os.environ),
                pass_fds=(there.fileno(),),
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
            )
            otherwise.pop_all()
        return here

    async def _answered(self) -> Ready | Refused:
        try:
            async with asyncio.timeout(limits.APART_START_SECONDS):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            self.give_up(f"it has not imported its package within {limits.APART_START_SECONDS:g} s")
            return await self._ready

    def _begin(self, said: Ready | Refused) -> None:
        if isinstance(said, Refused):
            raise said.failed.error(self.label)
        expected = importlib.metadata.version("perdure")
        if said.perdure != expected:
            raise PackageRequirementUnmet(self.label, [Unmet("perdure", expected, said.perdure)])
        self.types = {says.name: RemoteType(self, says) for says in said.types}

    async def _wait(self) -> None:
        """Wait for the end of the process, and clear away what it leaves."""
        assert self._process is not None, "it was started"
        status = await self._process.wait()
        if self._channel is not None:
            self._channel.close(f"it {ending(status)}")
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)

    # --- what turns use -------------------------------------------------------------------------------------

    def number(self) -> int:
        """Return a number that no turn has had."""
        self._made += 1
        return self._made

    def send(self, frame: Down) -> None:
        """Send a frame, if it is still there."""
        if self._channel is not None:
            self._channel.send(frame)

    def call(self, frame: Down) -> Up:
        """Send a frame and return its reply. Raises ChildGone."""
        if self._channel is None:
            raise ChildGone
        return self._channel.call(frame)

    async def answer(self, question: Question) -> Answer:
        """Send a question and return its answer, while the loop goes on. Raises ChildGone, with the reason."""
        if not self.lives:
            raise ChildGone("it has ended before")
        waiting = self._questions[question.question] = asyncio.get_running_loop().create_future()
        try:
            self.send(question)
            async with asyncio.timeout(limits.APART_CALL_SECONDS):
                answer: Answer = await waiting
                return answer
        except TimeoutError:
            reason = f"it has not answered within {limits.APART_CALL_SECONDS:g} s"
            self.give_up(reason)
            raise ChildGone(reason) from None
        finally:
            del self._questions[question.question]

    def give_up(self, reason: str) -> None:
        """Kill it."""
        if self._channel is not None:
            self._channel.close(reason)

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None, "it was started"
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether it can be used."""
        return self._channel is not None and not self._channel.closed

    # --- what it says ---------------------------------------------------------------------------------------

    def _heard(self, frame: Up) -> None:
        match frame:
            case Ready() | Refused():
                if not self._ready.done():
                    self._ready.set_result(frame)
            case Moved() | Unsure() | MayBegin() | ReadLog():
                self._heard_of(self.turns.get(frame.turn), frame)
            case ProcessTried() | MessageRead() | SaysLeads() | TryFailed():
                if (waiting := self._questions.get(frame.question)) is not None and not waiting.done():
                    waiting.set_result(frame)
            case SetAlarm():
                self._alarms[frame.alarm] = self.clock.call_at(frame.when, partial(self._ring, frame.alarm))
            case DropAlarm():
                if (alarm := self._alarms.pop(frame.alarm, None)) is not None:
                    alarm.cancel()
            case _:
                self.give_up(f"it has sent a {type(frame).__name__} out of turn")

    def _heard_of(self, turn: RemoteTurn | None, frame: Moved | Unsure | MayBegin | ReadLog) -> None:
        match frame:
            case MayBegin():
                self.send(Allowed(question=frame.question, allowed=turn is not None and turn.may_begin()))
            case Moved() if turn is not None:
                turn.moved(frame)
            case Unsure() if turn is not None:
                turn.unsure()
            case ReadLog() if turn is not None:
                task = asyncio.ensure_future(self._read_log(turn, frame))
                self._reads.add(task)
                task.add_done_callback(self._reads.discard)

    def _ring(self, alarm: int) -> None:
        if self._alarms.pop(alarm, None) is not None:
            self.send(Ring(alarm=alarm, now=self.clock.now()))

    async def _read_log(self, turn: RemoteTurn, asked: ReadLog) -> None:
        scan = Scan(LOG_ENTRIES, (turn.id.tenant, turn.id.process, asked.name), asked.limit, after=(asked.after,), upto=(asked.length - 1,))
        try:
            rows = await self._store.access.reader.scan(scan)
        except PerdureError as error:
            self.send(Entries(question=asked.question, failed=str(error)))
        else:
            self.send(Entries(question=asked.question, rows=[row.data for _, row in rows]))

    # --- its end ----------------------------------------------------------------------------------------------

    def _lost(self, reason: str) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        self._reads.add(ending := asyncio.ensure_future(self._end(reason)))
        ending.add_done_callback(self._reads.discard)

    async def _end(self, reason: str) -> None:
        assert self._process is not None, "it was started"
        if reason == CLOSED:  # it is about to end, and how is worth a moment
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.APART_END_SECONDS):
                    reason = f"it {ending(await self._process.wait())}"
        self._kill()
        if not self._ready.done():
            failed = PackageImportFailed(self.label, module=self.label.partition(" ")[0], error=f"its interpreter has ended: {reason}")
            self._ready.set_exception(failed)
            self._ready.exception()  # looked at: nobody may wait for it any more
        for waiting in self._questions.values():
            if not waiting.done():
                waiting.set_exception(ChildGone(reason))
        self._told_end(self, reason)
        self.over.set()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Let it end by itself, or kill it."""
        if self._over is None:
            return
        self.send(Stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.APART_END_SECONDS):
                await asyncio.shield(self._over)
        self._kill()
        await self._over
        await self.over.wait()

    def drop(self) -> None:
        """Kill it at once."""
        self.give_up("its engine has ended")
        self._kill()


class _Slot:
    """One version: who uses it, its child, and how often one has ended."""

    def __init__(self) -> None:
        self.pins = 0
        self.child: Child | None = None
        self.starting: asyncio.Task[Child] | None = None
        self.ends = 0
        self.again_at: Micros = 0


class Children:
    """The children of an engine. They belong to the event loop that they are used on.

    Args:
        store: whose clock and randomness they go by.
        folder: of their environments.
        threads: plain functions that run at the same time, in each.
        ended: called with the version whose child has ended, whatever has ended it.
        evicted: called with a version that nobody uses and whose child was stopped.
    """

    def __init__(self, store: Store, folder: Path, *, threads: int, ended: Callable[[str], None], evicted: Callable[[str], None]) -> None:
        self._store = store
        self._environments = Environments(folder)
        self._threads = threads
        self._ended = ended
        self._evicted = evicted
        self._slots: dict[str, _Slot] = {}  # by content hash, those used last behind the others
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def use(self, content_hash: str, source: Source) -> AsyncIterator[Mapping[str, RemoteType]]:
        """Use a version until the block is left; its child is started when there is none.

        Args:
            content_hash: of the version.
            source: returns its package, verified; asked only when a child has to be started.

        Raises:
            PackageIsolationUnavailable, PackageEnvironmentFailed: it cannot have an interpreter here.
            PackageRequirementUnmet, PackageImportFailed, PackageEntryMissing, PackageSchemaDrift, DefinitionError: it cannot be used.
            UsageError: all was stopped.
            Exception: what the source raises.
        """
        slot = self._slots.setdefault(content_hash, _Slot())
        slot.pins += 1
        try:
            yield (await self._child(content_hash, slot, source)).types
        finally:
            self.give_back(content_hash)

    def take(self, content_hash: str) -> bool:
        """Use a version whose child is there, until `give_back`. Return whether it is."""
        slot = self._slots.get(content_hash)
        if slot is None or slot.child is None or not slot.child.lives:
            return False
        slot.pins += 1
        return True

    def give_back(self, content_hash: str) -> None:
        """Use a version no more; once for each time that it was taken."""
        slot = self._slots[content_hash] = self._slots.pop(content_hash)
        slot.pins -= 1
        idle = [name for name, one in self._slots.items() if not one.pins and one.starting is None]
        for name in idle[: len(idle) - limits.APART_IDLE] if not self._closed else []:
            child = self._slots.pop(name).child
            self._evicted(name)
            if child is not None:
                self._see_off(child)

    def _see_off(self, child: Child) -> None:
        """Stop a child that is no version's any more, or wait for the end of one that ends."""
        task = asyncio.ensure_future(child.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def pins(self, content_hash: str) -> int:
        """Return how many use a version now, or wait for it."""
        slot = self._slots.get(content_hash)
        return 0 if slot is None else slot.pins

    @property
    def running(self) -> dict[str, int]:
        """The versions whose child is there, with the number of its process."""
        children = ((name, slot.child) for name, slot in self._slots.items())
        return {name: child.pid for name, child in children if child is not None and child.lives}

    def paused(self, content_hash: str) -> Micros | None:
        """Return how long a version's child is not started again; None when none has ended, or one is there."""
        slot = self._slots.get(content_hash)
        if slot is None or slot.child is not None or not slot.ends:
            return None
        return max(0, slot.again_at - self._store.access.clock.now())

    async def close(self) -> None:
        """Stop all of them."""
        self._closed = True
        starting = [slot.starting for slot in self._slots.values() if slot.starting is not None]
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        children = [slot.child for slot in self._slots.values() if slot.child is not None]
        await asyncio.gather(*(child.stop() for child in children), *self._stopping)

    def drop(self) -> None:
        """Kill all of them at once."""
        self._closed = True
        for slot in self._slots.values():
            if slot.starting is not None:
                slot.starting.cancel()
            if slot.child is not None:
                slot.child.drop()

    # --- inside -----------------------------------------------------------------------------------------------

    async def _child(self, content_hash: str, slot: _Slot, source: Source) -> Child:
        while True:
            if self._closed:
                raise UsageError("the engine is closed; its packages run no more")
            if slot.child is not None and slot.child.lives:
                return slot.child
            if slot.child is not None:
                await slot.child.over.wait()
            if slot.starting is None:
                slot.starting = asyncio.ensure_future(self._start(content_hash, slot, source))
                slot.starting.add_done_callback(partial(self._started, slot))
            try:
                await asyncio.shield(slot.starting)
            except asyncio.CancelledError:
                if not self._closed:
                    raise
                raise UsageError("the engine was closed while a package was loaded") from None

    def _started(self, slot: _Slot, starting: asyncio.Task[Child]) -> None:
        slot.starting = None
        if not starting.cancelled() and starting.exception() is None:
            slot.child = starting.result()

    async def _start(self, content_hash: str, slot: _Slot, source: Source) -> Child:
        clock = self._store.access.clock
        package = await source()
        lock = lock_of(package)
        assert lock is not None, "whose interpreter is shared is none of these"
        label = code_of(package).label
        environment = await self._environments.of(label, lock)
        if (wait := slot.again_at - clock.now()) > 0:
            await sleep(clock, wait)
        child = Child(label, self._store, ended=partial(self._child_ended, content_hash, slot))
        try:
            await child.start(package, environment, threads=self._threads)
        except BaseException:
            child.drop()
            self._see_off(child)
            raise
        logger.info("package %s runs in an interpreter of its own, process %s", label, child.pid)
        return child

    def _child_ended(self, content_hash: str, slot: _Slot, child: Child, reason: str) -> None:
        if slot.child is not child:  # it was never used, or was stopped
            return
        slot.child = None
        self._see_off(child)
        if self._closed or self._slots.get(content_hash) is not slot:
            return
        logger.error("the interpreter of package %s has ended: %s; its processes are read again", child.label, reason)
        now = self._store.access.clock.now()
        slot.ends = slot.ends + 1 if now - child.since < limits.APART_SOON_US else 1
        pause = (
            0 if slot.ends == 1 else min(limits.APART_AGAIN_US << min(slot.ends - 2, limits.APART_DOUBLINGS), limits.APART_AGAIN_MOST_US)
        )
        slot.again_at = now + pause
        self._ended(content_hash)


def _laid_out(package: Package) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="perdure-package-", ignore_cleanup_errors=True)
    extract(package.files, Path(folder.name))
    return folder

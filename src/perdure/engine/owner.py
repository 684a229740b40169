"""What an engine does for the processes that it owns: it starts their turns, brings them their mail, and answers for them.

Source: engine.md, "States, memory, recovery".
"""

from __future__ import annotations

import asyncio
import logging
import platform
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from perdure import limits
from perdure.clock import Micros, SystemClock
from perdure.conversations.tables import ProcessRow
from perdure.core.ownership import Lease
from perdure.core.signals import Listener
from perdure.core.write import Transaction, Write
from perdure.engine.apart.deaths import read_again
from perdure.engine.app import App
from perdure.engine.cancelling import Cancelling
from perdure.engine.delivery import Deliver
from perdure.engine.dispatcher import Dispatcher, Want
from perdure.engine.fan_outs import FanOuts
from perdure.engine.leaving import Leave, MarkStuck, Strand
from perdure.engine.notes import (
    CancelAsked,
    ChildrenToAsk,
    Dropped,
    Due,
    Envelope,
    FanOutBegun,
    Held,
    Note,
    Receipt,
    Resumed,
    Rules,
    Sealed,
    ToLoad,
    TurnStarted,
)
from perdure.engine.recovery import Recovery
from perdure.engine.residency import Residency
from perdure.engine.resident import Resident
from perdure.engine.reviving import Reviving
from perdure.engine.shards import SEALED, Shards
from perdure.engine.versions import Versions, bare
from perdure.engine.waiters import Waiters, fail
from perdure.engine.watchdog import Watchdog
from perdure.engine.wheel import Wheel
from perdure.errors import LeaseLost, PerdureError, SequenceConflict, StoreError, StoreUnavailable, TransactionRefused, UsageError
from perdure.messages.mail import reference
from perdure.operations.tables import OperationRow
from perdure.packages.signing import TrustPolicy
from perdure.packages.writes import STORED_TOPIC
from perdure.replies import MailArrived
from perdure.store import Store

logger = logging.getLogger("perdure.engine")
R = TypeVar("R")
_Key = tuple[str, str]
_STOPPED = "the engine stopped; the message is kept and answered after a restart"


class Owner:
    """The processes of one engine in memory, and what they ask of the store, of the clock and of one another.

    Args:
        store: an open store.
        app: the process types.
        max_resident: processes in memory, beyond those that have something under way.
        max_threads, max_concurrency, max_steps, trust, environments: see `Engine`.
    """

    evicts: ClassVar[bool] = True

    def __init__(
        self,
        store: Store,
        app: App,
        *,
        max_threads: int,
        max_concurrency: int | None,
        max_steps: int,
        max_resident: int,
        trust: TrustPolicy | None = None,
        environments: Path | None = None,
    ) -> None:
        self.store = store
        self.app = app
        self.clock = store.access.clock
        self.versions = Versions(store, app, trust=trust, environments=environments, threads=max_threads, ended=partial(read_again, self))
        self.rules = Rules(self.versions.said, self.versions.limits, owns=store.ownership.owns)
        self.ownership = store.ownership
        self._round = limits.LATER_BESIDE if store.beside else limits.LATER_MAX
        self.threads = ThreadPoolExecutor(max_threads, thread_name_prefix="perdure-step")
        self.residents: dict[_Key, Resident] = {}
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # there is none before `open`
        self._writer = store.access.writer
        self._random = random.Random()  # noqa: S311  # for jitter only
        self.waiters = Waiters()
        self.why_stuck: dict[_Key, Exception] = {}
        self._later: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._running_later = False
        self._open = False
        self.dispatcher = Dispatcher(self, max_concurrency=max_concurrency, max_steps=max_steps)
        self._residency = Residency(self, most=max_resident)
        self.recovery = Recovery(self)
        self.reviving = Reviving(self)
        self.shards = Shards(self)
        self.wheel = Wheel(self)
        self.cancelling = Cancelling(self)
        self.fan_outs = FanOuts(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = ExitStack()
        self._unbegun: set[_Key] = set()
        self._watchdog: Watchdog | None = None

    # --- from open to close ------------------------------------------------------------------------

    def open(self) -> None:
        """Belong to the running event loop from here on."""
        self.loop = asyncio.get_running_loop()
        self._open = True
        if isinstance(self.clock, SystemClock):  # where time is a test's, no thread looks on
            self._watchdog = Watchdog(self.loop)

    async def start(self) -> None:
        """Take up what is open in the store."""
        self._random.seed(self.store.access.randomness(16))
        listener = self._listening.enter_context(self.store.access.signals.listen("engine"))  # before the first look
        stored = self._listening.enter_context(self.store.access.signals.listen(STORED_TOPIC))
        await self.recovery.run()
        self.wheel.start()
        self.background(self.reviving.look_for_packages(stored))
        self.background(self._look_out(listener))
        if not self.ownership.whole:
            self.background(self.shards.look_for_replies())

    async def close(self) -> None:
        """Commit what is under way, and drop the rest from memory; a restart goes on with it."""
        self._open = False
        if self._watchdog is not None:
            self._watchdog.stop()
        self._listening.close()
        self.wheel.stop()
        self.dispatcher.stop()
        self._residency.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leave_all()
        self.threads.shutdown(wait=False, cancel_futures=True)
        await self.versions.close()
        self.waiters.fail_all(StoreUnavailable(_STOPPED))

    def drop(self) -> None:
        """Forget everything at once, as a kill does: nothing more is committed, and nobody is told. Not from inside a task."""
        self._open = False
        self._listening.close()
        self.wheel.stop()
        self.dispatcher.stop()
        self._residency.stop()
        for task in self._tasks:
            task.cancel()
        for resident in self.residents.values():
            resident.leave()
        self.residents.clear()
        self.versions.drop()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def _look_out(self, listener: Listener) -> None:
        """Look for what other processes on the same store leave for this engine."""
        again: Micros | None = None
        while self._open:
            await listener.wait(again)
            again = None
            try:
                if self.rules.leads:
                    self.wheel.schedules.look_again()
                await self.recovery.look()
                if self.rules.leads:
                    self.wheel.look_at_flows()
            except Exception as error:  # an edge: whatever it is, the engine hears of what comes after this
                logger.exception("looking for what others left failed; the next commit of theirs looks again")
                ended = isinstance(error, PerdureError) and not error.retryable
                again = None if ended else self.clock.now() + limits.STALL_US

    async def _leave_all(self) -> None:
        leaving = {key for key, resident in self.residents.items() if resident.resumed or not resident.loading}
        for resident in self.residents.values():
            resident.leave()
        self.residents.clear()
        # Behind all that was accepted: the next engine on this store has to find it committed, and what it opened has not begun.
        outcomes: list[Any] = await asyncio.gather(self._writer.commit(), return_exceptions=True)
        heard: asyncio.Future[None] = self.loop.create_future()
        self.later(heard.set_result, None)
        await heard
        leaving |= self._unbegun | self.dispatcher.unbegun()
        outcomes += await asyncio.gather(
            *(self._writer.commit(Leave(*key), lease=self.shards.lease_of(*key)) for key in leaving if self.shards.mine(*key)),
            return_exceptions=True,
        )
        if errors := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
            logger.warning("%s open turns will count this stop as a crash: %s", len(errors), errors[0])

    # --- accepting ---------------------------------------------------------------------------------

    def accept(self, envelope: Envelope, done: asyncio.Future[Any], accepted: Callable[[Receipt, OperationRow | None], None]) -> None:
        """Commit a message; `accepted` is called if `done` still waits, which hears of a refusal."""
        if asyncio.get_running_loop() is not self.loop or not self._open:
            raise UsageError("the engine is not open on this event loop; use `async with perdure.Engine(store, app) as engine:`")

        def resolved(results: Any, error: Exception | None) -> None:
            if error is not None:
                if not done.done():
                    done.set_exception(error)
                return
            receipt, notes, sealed = results[0]
            if not done.done():
                accepted(receipt, sealed)
            self.wheel.look(envelope.expires_at)
            self.route(notes)

        self._writer.submit(Transaction((Deliver(self.rules, envelope),), len(envelope.payload)), partial(self.later, resolved))

    async def receipt(self, envelope: Envelope) -> Receipt:
        """Accept a message and return what became of it."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.accept(envelope, receipt, lambda accepted, _sealed: receipt.set_result(accepted))
        return await receipt

    async def reply(self, envelope: Envelope) -> tuple[str, bytes]:
        """Accept a message and return its sealed reply, once there is one: outcome and bytes."""
        reply: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
        key = (envelope.tenant_id, reference(envelope.source, envelope.message_id))

        def accepted(receipt: Receipt, sealed: OperationRow | None) -> None:
            stuck = self.why_stuck.get((envelope.tenant_id, receipt.process_id or ""))
            if sealed is not None and sealed.response is not None:
                reply.set_result((sealed.outcome, sealed.response))
            elif receipt.duplicate and stuck is not None:
                fail([reply], stuck)
            elif not self._open:
                fail([reply], StoreUnavailable(_STOPPED))
            else:
                self.waiters.add(key, reply)

        self.accept(envelope, reply, accepted)
        try:
            return await reply
        except asyncio.CancelledError:
            self.waiters.remove(key, reply)
            raise

    def sealing(self, tenant_id: str, ref: str) -> AbstractContextManager[asyncio.Future[tuple[str, bytes]]]:
        """Watch for a message's reply that is sealed from now on: outcome and bytes. Unlike `reply`, nobody waits for it."""
        return self.waiters.watching((tenant_id, ref), self.loop.create_future())

    async def run(self, write: Write[R], notes_of: Callable[[R], list[Note]], *, lease: Lease | None = None) -> R:
        """Do for a caller from outside what `commit` does."""
        return await self.commit(write, notes_of, lease=lease)

    async def commit(self, write: Write[R], notes_of: Callable[[R], list[Note]], *, lease: Lease | None = None) -> R:
        """Commit a write and do what it asks of the owner: outside of any task, and even if the caller leaves."""
        done: asyncio.Future[R] = self.loop.create_future()

        def resolved(results: Any, error: Exception | None) -> None:
            if error is None:
                self.route(notes_of(results[0]))
                if not done.done():
                    done.set_result(results[0])
            elif not done.done():
                done.set_exception(error)

        self._writer.submit(Transaction((write,), lease=lease), partial(self.later, resolved))
        return await done

    # --- what its parts use ------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it runs turns. An alarm may ring after the engine has closed: the processes are another's by then."""
        return self._open

    @property
    def runs_steps(self) -> bool:
        """Whether a step is under way."""
        return any(resident.runs_steps for resident in self.residents.values())

    def random(self) -> float:
        """Return a random number from 0 to 1, for jitter only."""
        return self._random.random()

    def later(self, callback: Callable[..., object], /, *args: Any) -> None:
        """Run a callback on the loop, outside of any task: a turn's loop is never driven from inside a task."""
        if not self._later and not self._running_later:
            self.loop.call_soon(self._run_later)
        self._later.append((callback, args))

    def _run_later(self) -> None:
        """Run what is queued, and what that queues, up to a limit: each round of the loop itself costs a system call."""
        self._running_later = True
        try:
            for _ in range(min(len(self._later) + limits.LATER_MORE, self._round)):
                if not self._later:
                    break
                callback, args = self._later.popleft()
                try:
                    callback(*args)
                except Exception:  # the loop's edge: one process may not stop the others
                    logger.exception("the engine failed at one process; others go on, a restart goes on with it")
        finally:  # whatever ends the loop, what is queued is not forgotten
            self._running_later = False
            if self._later:
                self.loop.call_soon(self._run_later)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the turns until the engine closes."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_over)

    def _background_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work beside the turns failed; a restart makes up for it", exc_info=error)

    def submit(self, write: Write[Any], size: int, resolve: Callable[..., None], /, *args: Any, lease: Lease | None = None) -> None:
        """Commit a write of the engine's own; it is not refused by a full queue. `resolve(*args, results, error)` is called outside of any task."""
        try:
            self._writer.submit(Transaction((write,), size, lease), partial(self.later, resolve, *args), urgent=True)
        except StoreError as error:  # whoever asked is a callback of the loop: it hears of it as of any other failed commit
            self.later(resolve, *args, None, error)

    def route(self, notes: Iterable[Note]) -> None:
        """Do what a commit asks of the owner."""
        for note in notes:
            if not (self.ownership.whole or self._concerns(note)):
                continue
            match note:
                case TurnStarted():
                    self._start(note)
                case MailArrived():
                    self._post(note)
                case Sealed():
                    self._answer(note)
                case FanOutBegun():
                    self.fan_outs.go_on(note.tenant_id, note.source, note.message_id)
                case ChildrenToAsk():
                    self.cancelling.look()
                case Due():
                    self.wheel.look(note.at)
                case _:
                    self._control(note)

    def _concerns(self, note: Note) -> bool:
        """Return whether this node has to do something; if not, word was left in the store for the one that has."""
        if isinstance(note, Sealed):
            return True
        if isinstance(note, FanOutBegun | ChildrenToAsk | Due):
            return self.rules.leads
        mine = self.shards.mine(note.tenant_id, note.process_id)
        if isinstance(note, TurnStarted) and not mine:
            self.shards.opened(note)
        return mine

    def _start(self, note: TurnStarted) -> None:
        resident = self.residents.get((note.tenant_id, note.process_id))
        if not self._open:
            self._unbegun.add((note.tenant_id, note.process_id))
            return
        if resident is not None and resident.loading:
            resident.missed = True
        elif resident is not None and resident.held:  # it was paused, and goes on again
            self.overtaken(resident)
        elif self.dispatcher.free or (resident is not None and resident.has_slot and not self.dispatcher.crowded):
            self._begin(note, resident)
        else:
            self.dispatcher.offer(note.tenant_id, note.process_id, Want(note))

    def _begin(self, note: TurnStarted, resident: Resident | None) -> None:
        if resident is None:
            key = (note.tenant_id, note.process_id)
            resident = Resident(self, *key)
            if not self.versions.take(resident, note.process):  # it was let go since the turn was opened
                self.recovery.load(*key)
                return
            self.residents[key] = resident
        self.dispatcher.give_slot(resident)
        resident.window.started(note.ref, seen=note.mail_seen, queued=note.queued)
        process = note.process
        resident.open(note.ref, note.kind, note.payload, head=process.head, at=note.at, found=note.fields, attributes=process.attributes)
        if resident.window.low and not self.dispatcher.crowded:
            self.read_on(resident)

    def _post(self, note: MailArrived) -> None:
        resident = self.residents.get((note.tenant_id, note.process_id))
        if resident is not None:
            resident.post(note.mail, wakes=note.wakes)
        elif note.wakes:
            self.load(note.tenant_id, note.process_id)
        self.dispatcher.stale(note.tenant_id, note.process_id)

    def load(self, tenant_id: str, process_id: str, *, crashed: bool = False, wake: bool = False) -> bool:
        """Bring a process into memory, now or when its turn comes; see `Recovery.load`. False: its tenant has too many that wait."""
        if (tenant_id, process_id) in self.residents or not self.shards.mine(tenant_id, process_id):
            return True
        if not self._open:
            self._unbegun.update([] if crashed else [(tenant_id, process_id)])
            return True
        if not self.dispatcher.wakes():
            return self.dispatcher.offer(tenant_id, process_id, Want(crashed=crashed, wake=wake))
        self.recovery.load(tenant_id, process_id, crashed=crashed, wake=wake)
        return True

    def let_in(self, tenant_id: str, process_id: str, want: Want) -> None:
        """The turn of a queued process has come."""
        resident = self.residents.get((tenant_id, process_id))
        if not self.shards.mine(tenant_id, process_id):
            return
        if not self._open:
            self._unbegun.update([] if want.crashed else [(tenant_id, process_id)])
            return
        if resident is not None and resident.turn is not None:
            self.dispatcher.give_slot(resident)
            resident.pump()
        elif resident is not None and (want.note is None or resident.held or resident.loading):
            resident.missed = True  # it is on its way into memory, or out of it
        elif want.note is not None:
            self._begin(want.note, resident)
        else:
            self.recovery.load(tenant_id, process_id, crashed=want.crashed, wake=want.wake)

    def refill(self, tenant_id: str) -> None:
        """A tenant had more that wait than are noted, and those have run."""
        if self._open:
            self.background(self.recovery.take_up(tenant_id=tenant_id))
            self.wheel.look(self.clock.now())

    def _control(self, note: CancelAsked | Held | Resumed | ToLoad | Dropped) -> None:
        """Do what people ask of a process."""
        key = (note.tenant_id, note.process_id)
        if isinstance(note, ToLoad):
            self.reviving.begin(note)
            return
        self.dispatcher.stale(*key)
        resident = self.residents.get(key)
        if isinstance(note, CancelAsked):
            if resident is not None:
                resident.cancel(note.reason, note.number)
            else:
                self.load(*key)
        elif isinstance(note, Held):
            if resident is not None:
                resident.hold()
        elif isinstance(note, Resumed):
            self._resume(key, resident)
        else:
            if resident is not None:
                self.evict(resident)
            self.why_stuck.pop(key, None)
            if note.reload:
                self.load(*key)

    def _resume(self, key: _Key, resident: Resident | None) -> None:
        self.why_stuck.pop(key, None)
        if resident is None:
            self.load(*key)
        elif resident.loading:
            resident.missed = True
        elif not resident.held and self._open:  # it has not heard of the pause; one that has is read again when its steps are recorded
            resident.roused()

    def _answer(self, note: Sealed) -> None:
        heard = self.waiters.answer((note.tenant_id, note.ref), (note.outcome, note.response))
        if not (heard or self.ownership.whole):
            self.store.announce(SEALED)

    def armed(self, due: Iterable[Micros]) -> None:
        """Take in that timers were stored."""
        for when in due:
            self.wheel.look(when)

    def read_on(self, resident: Resident) -> None:
        """Read the next part of a process's mailbox, unless that is under way."""
        if resident.window.reading is None:
            resident.window.reading = reading = object()
            self.background(self.recovery.read_on(resident, reading))

    def ring(self, tenant_id: str, process_id: str, timer_id: str, due: Micros) -> None:
        """A timer of a process is due."""
        resident = self.residents.get((tenant_id, process_id))
        if resident is None:
            self.wake(tenant_id, process_id)
        else:
            resident.due(timer_id, due)

    def wake(self, tenant_id: str, process_id: str) -> None:
        """Load a process that waits, because something is due for it."""
        self.load(tenant_id, process_id, wake=True)

    def unload(self, resident: Resident) -> None:
        """Forget a process that had nothing to go on with; look again if something came for it meanwhile."""
        self.evict(resident)
        if resident.missed:
            self.wake(resident.tenant_id, resident.process_id)

    def unsure(self, resident: Resident) -> None:
        """A step of it is not begun, for its lease may be over at this moment: it goes on here once that is renewed, or on another node."""
        self.dispatcher.step_over()
        self.later(self.evict, resident)
        again = partial(self.load, resident.tenant_id, resident.process_id)
        self.clock.call_at(self.clock.now() + limits.STALL_US, partial(self.later, again))

    def settled(self, resident: Resident) -> None:
        """Forget a process that has nothing under way; tell the poison lane when a suspect has come through."""
        if resident.holds_still:
            self.overtaken(resident)  # it may have been resumed meanwhile
        elif resident.quiet:
            if resident.turn is not None:
                self.dispatcher.release(resident)
                self._residency.rest(resident)
            elif not resident.loading:
                self._forget(resident)
                if resident.missed:
                    self.wake(resident.tenant_id, resident.process_id)
            if resident.alone:
                resident.alone = False
                self.recovery.came_through()

    def stuck(self, resident: Resident, error: Exception) -> None:
        """Stop a process whose code does not fit its record, and tell who waits; other code may go on with it."""
        key = (resident.tenant_id, resident.process_id)
        logger.error("stuck: %s", error)
        self.why_stuck[key] = error
        write = MarkStuck(*key, resident.ref, str(error), resident.package)
        self.evict(resident)
        self.waiters.fail((resident.tenant_id, resident.ref), error)
        self.submit(write, 0, _logged, lease=resident.lease)

    def lost(self, resident: Resident, ref: str, error: Exception) -> None:
        """A commit of that message's turn failed: what is in memory does not count; read the process again if the store still answers."""
        self.evict(resident)
        if isinstance(error, SequenceConflict | LeaseLost):
            logger.warning("process %s is read again: %s", resident.process_id, error)
            self.load(resident.tenant_id, resident.process_id)
            return
        logger.error("process %s left memory: %s", resident.process_id, error)
        if not isinstance(error, StoreError) or isinstance(error, TransactionRefused):  # this commit's own fault: others go on
            self.waiters.fail((resident.tenant_id, ref), error)
            return
        # The store has stopped: nobody here will be answered. What was accepted is kept.
        self.waiters.fail_all(error)

    def strand(self, tenant_id: str, process_id: str, *, process: ProcessRow, asked: Iterable[str], error: PerdureError) -> None:
        """Stop a process whose version cannot be loaded here, and tell who waits for what it was asked; it goes on when that has changed."""
        text = f"{error.code}: {error}" + ("" if self.ownership.whole else f" (on {platform.node()})")
        logger.error("stranded: process %s: %s", process_id, text)
        self.why_stuck[tenant_id, process_id] = bare(error)
        for ref in asked:
            self.waiters.fail((tenant_id, ref), error)
        self.reviving.strand(Strand(tenant_id, process_id, text, process.package_hash))

    def _forget(self, resident: Resident) -> None:
        key = (resident.tenant_id, resident.process_id)
        if self.residents.get(key) is resident:
            del self.residents[key]
        self.versions.give_back(resident)
        self.dispatcher.release(resident)

    def goes_on(self, tenant_id: str, process_id: str) -> None:
        """Take in that a process goes on: it is stuck no more."""
        self.why_stuck.pop((tenant_id, process_id), None)

    def overtaken(self, resident: Resident) -> None:
        """Read a process again: what is in the store counts, and not what is in memory."""
        self.evict(resident)
        self.load(resident.tenant_id, resident.process_id)

    def evict(self, resident: Resident) -> None:
        """Let a process leave memory; one that waits is brought back by mail and timers."""
        self._forget(resident)
        resident.leave()
        if resident.alone:
            resident.alone = False
            self.recovery.came_through()


def _logged(_results: Any, error: Exception | None) -> None:
    if error is not None:
        logger.error("%s", error)

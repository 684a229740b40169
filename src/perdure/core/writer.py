"""The one writer of a store: group commit over pure decisions."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from perdure import limits
from perdure.core.backend import Backend, Batch, BatchConflict, BatchRefused, CommitUnknown, Wanted, WriterFenced, WriterRow
from perdure.core.ownership import Lease
from perdure.core.table import Key, Scan
from perdure.core.view import ReadFailed, Unread, View
from perdure.core.write import Transaction, Write
from perdure.errors import (
    LeaseLost,
    OutcomeUnknown,
    Overloaded,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    StoreWentBack,
    TransactionTooLarge,
    UsageError,
)

logger = logging.getLogger("perdure.core")
R = TypeVar("R")
Resolve = Callable[[Any, Exception | None], None]
"""Called once, after the commit: with the results of the writes, or with the error."""


class _Waiting(msgspec.Struct, gc=False):
    transaction: Transaction
    resolve: Resolve | None


class _Decided(NamedTuple):
    view: View
    outcomes: list[tuple[Any, Exception | None]]


class Writer:
    """Commits, as one database transaction, whatever queued up during the previous commit.

    One fsync per batch instead of one per caller. No timer: an idle store commits at once, a busy one grows its
    batches by itself, up to `limits.BATCH_MAX`. Results, rejections included, are given out after the commit.

    Args:
        backend: where the rows are.
        on_signals: called after a commit with the topics that its transactions signalled.

    Source: architecture.md, "The core idea".
    """

    def __init__(self, backend: Backend, *, on_signals: Callable[[tuple[str, ...]], None]) -> None:
        self._backend = backend
        self._on_signals = on_signals
        self._queue: deque[_Waiting] = deque()
        self._row: WriterRow | None = None
        self._wake: asyncio.Future[None] | None = None
        self._closing = False
        self._poison: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.commits = 0
        self.transactions = 0

    async def start(self) -> None:
        """Open a new incarnation of this writer and begin to take transactions."""
        self._loop = asyncio.get_running_loop()
        self._row = await self._backend.fence()
        self._task = self._loop.create_task(self._run(), name="perdure-writer")

    @property
    def waiting(self) -> int:
        """The number of transactions in the queue."""
        return len(self._queue)

    @property
    def stopped(self) -> bool:
        """Whether nothing more will be taken."""
        return self._closing or self._poison is not None

    def submit(self, transaction: Transaction, resolve: Resolve, *, urgent: bool = False) -> None:
        """Queue a transaction; `resolve` is called on the loop once its outcome is durable.

        An `urgent` one continues what was accepted already: neither a full queue nor its size is a reason to refuse it.

        Raises:
            TransactionTooLarge: its payload is over the limit; nothing was queued.
            Overloaded: the queue is full; nothing was queued.
            StoreUnavailable: the store is closed or poisoned; nothing was queued.
        """
        if self._poison is not None:
            raise StoreUnavailable(f"the store stopped after an error and has to be reopened: {self._poison}")
        if self._closing or self._row is None:
            raise StoreUnavailable("the store is closed; open it again")
        if transaction.size > limits.TRANSACTION_BYTES_MAX and not urgent:
            raise TransactionTooLarge(
                f"{transaction.size:,} bytes in one transaction, the limit is {limits.TRANSACTION_BYTES_MAX:,}; split it"
            )
        if len(self._queue) >= limits.QUEUE_MAX and not urgent:
            raise Overloaded(f"{limits.QUEUE_MAX:,} transactions wait already; repeat later")
        self._queue.append(_Waiting(transaction, resolve))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def commit(self, *writes: Write[Any], size: int = 0, lease: Lease | None = None) -> tuple[Any, ...]:
        """Run the writes as one transaction and return their results, in order, once it is durable.

        A cancelled `await` does not cancel the transaction. Raises what `submit` raises, and what a decision rejects with.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise UsageError("a store belongs to the event loop that opened it; open another one here")
        future: asyncio.Future[tuple[Any, ...]] = loop.create_future()
        self.submit(Transaction(writes, size, lease), partial(_settle_future, future))
        return await future

    async def run(self, write: Write[R], *, size: int = 0, lease: Lease | None = None) -> R:
        """Commit one write and return its result; see `commit`."""
        results = await self.commit(write, size=size, lease=lease)
        result: R = results[0]
        return result

    async def close(self) -> None:
        """Finish what was accepted, then give back the backend. Harmless when called again."""
        self._closing = True
        if self._task is not None:
            if self._wake is not None and not self._wake.done():
                self._wake.set_result(None)
            await asyncio.wait([self._task])
        await self._backend.close()

    # --- the loop ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._poison is None and await self._some():
                batch = self._take()
                try:
                    await self._process(batch)
                except Exception as error:  # noqa: BLE001  # the loop's edge: callers must hear of a bug, too
                    await self._stop(batch, error)
                if self._queue:
                    # Those who were just answered get to queue their next transaction for this batch.
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            await self._stop(batch, StoreUnavailable("nothing of this was written, the writer was cancelled"))
            raise

    async def _some(self) -> bool:
        """Wait until something is queued; False when the writer closes and all is done."""
        while not self._queue:
            if self._closing:
                return False
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return True

    def _take(self) -> list[_Waiting]:
        queue, size = self._queue, 0
        batch: list[_Waiting] = []
        while queue and len(batch) < limits.BATCH_MAX:
            size += queue[0].transaction.size
            if batch and size > limits.BATCH_BYTES_MAX:
                break
            batch.append(queue.popleft())
        return batch

    async def _process(self, batch: list[_Waiting]) -> None:
        """Commit the batch, or say of each transaction why not."""
        assert self._row is not None, "the writer was started"
        tried: list[View] = []
        for attempt in range(1 + limits.CONFLICT_TRIES):
            try:
                decided = await self._decide(batch, tried, locked=attempt > 0)
                await self._apply(batch, decided)
            except BatchConflict:
                await self._backend.abandon()
            except BatchRefused as refused:
                await self._backend.abandon()
                if not refused.divisible:
                    logger.warning("%s transactions were refused: %s", len(batch), refused.cause)
                if not refused.divisible or len(batch) == 1:
                    return _fail(batch, refused.cause)
                break
            except OutcomeUnknown as unknown:
                raise _unsettled(batch, decided, unknown) from unknown
            except WriterFenced as fenced:
                found = await self._backend.fence()
                # Whoever hears of it finds all leases gone. The first incarnation is a new row: the one before was folded, after a long time without a sign of its writer.
                self._row = found if found.incarnation == 1 else _newer(self._row, found, fenced)
                return _fail(batch, LeaseLost(f"writer {self._row.node} was replaced by a newer incarnation; repeat the call"))
            else:
                return None
        if len(batch) == 1:
            return _fail(batch, StoreBusy("other nodes changed the same rows at every try; repeat later"))
        middle = len(batch) // 2
        await self._process(batch[:middle])
        await self._process(batch[middle:])
        return None

    async def _decide(self, batch: list[_Waiting], tried: list[View], *, locked: bool) -> _Decided:
        """Decide the transactions, in a view that is added to those that were `tried`.

        What the last try came upon is read at once, so that a locked run takes its locks in one order: taken one after the
        other, they would wait for a batch that waits for them. One that comes upon more is made again; in the end versions are
        checked in any case.
        """
        for _ in range(limits.LOCK_ROUNDS):
            known = set(tried[-1].looked()) if tried else set[Key[Any]]()
            decided = await self._decide_once(batch, tried, locked=locked)
            if not locked or known >= decided.view.existing():
                return decided
            await self._backend.abandon()
        return await self._decide_once(batch, tried, locked=locked)

    async def _decide_once(self, batch: list[_Waiting], tried: list[View], *, locked: bool) -> _Decided:
        found = await self._backend.prefetch(_wanted(batch, tried[-1].looked() if tried else ()), locked=locked)
        view = View(now=found.now, last_tick=found.last_tick, read_now=self._backend.read_now, ticks=found.ticks)
        tried.append(view)
        view.load(found)
        outcomes: list[tuple[Any, Exception | None]] = []
        rounds = 0
        for waiting in batch:
            lease = waiting.transaction.lease
            if lease is not None and not lease.held:
                outcomes.append((None, LeaseLost("another node owns this process now; nothing of this was written")))
                continue
            while True:
                view.begin()
                try:
                    writes = waiting.transaction.writes
                    results = (writes[0].decide(view),) if len(writes) == 1 else tuple([write.decide(view) for write in writes])
                    view.end()
                    outcomes.append((results, None))
                    break
                except Unread as unread:
                    view.rollback()
                    rounds += 1
                    view.load(await self._backend.prefetch(_one(unread.what, rounds), locked=False))
                except ReadFailed as failed:
                    raise failed.cause from failed
                except BatchConflict:
                    raise
                except Exception as error:  # noqa: BLE001  # a rejection, or a bug of one decision: it undoes this transaction alone
                    view.rollback()
                    outcomes.append((None, error))
                    break
        return _Decided(view, outcomes)

    async def _apply(self, batch: list[_Waiting], decided: _Decided) -> None:
        assert self._row is not None, "the writer was started"
        view, row = decided.view, self._row
        changes, counts = view.changes(), view.counts()
        if not changes and not counts and not view.touched:
            if view.certain:
                await self._backend.abandon()
            else:
                await self._backend.apply(Batch(row.batch, view.last_tick, (), view.unchanged, {}))
            return self._resolve(batch, decided)
        number = row.batch + 1
        try:
            await self._backend.apply(Batch(number, view.last_tick, changes, view.unchanged, counts))
        except CommitUnknown as unknown:
            if not await self._was_committed(number, unknown):
                raise BatchConflict("the commit did not happen") from unknown
        except asyncio.CancelledError as cancelled:
            raise OutcomeUnknown(node=row.node, batch=number, cause="the writer was cancelled") from cancelled
        else:
            self._row = WriterRow(row.node, row.incarnation, number)
        self.commits += 1
        self.transactions += len(batch)
        return self._resolve(batch, decided)

    async def _was_committed(self, number: int, unknown: CommitUnknown) -> bool:
        """Settle an unknown outcome: a new incarnation stops whatever is under way, and its row tells."""
        assert self._row is not None, "the writer was started"
        try:
            fenced = await self._backend.fence()
        except StoreWentBack:
            raise
        except (StoreError, asyncio.CancelledError) as error:
            raise OutcomeUnknown(node=self._row.node, batch=number, cause=str(unknown)) from error
        self._row = _newer(self._row, fenced, unknown)
        return fenced.batch == number

    def _resolve(self, batch: list[_Waiting], decided: _Decided) -> None:
        for waiting, (results, error) in zip(batch, decided.outcomes, strict=True):
            _tell(waiting, results, error)
        if signals := decided.view.signals():
            self._on_signals(signals)

    async def _stop(self, batch: list[_Waiting], error: Exception) -> None:
        """Refuse everything from here on: the store has to be reopened."""
        self._poison = error
        logger.error("the store stopped and has to be reopened: %s", error, exc_info=error)
        _fail(batch, error)
        _fail(self._queue, StoreUnavailable(f"the store stopped after an error and has to be reopened: {error}"))
        self._queue.clear()
        try:
            await self._backend.abandon()  # other nodes would wait for its locks until the close
        except StoreError as another:
            logger.warning("the open batch could not be given up: %s", another)


def _newer(known: WriterRow, found: WriterRow, cause: Exception) -> WriterRow:
    """Return what a fence found; raise StoreWentBack if the database does not know what it had acknowledged."""
    if found.batch < known.batch and found.incarnation > known.incarnation:  # not one that had to be made anew
        raise StoreWentBack(
            f"writer {found.node}: batch {known.batch} was acknowledged, the database knows {found.batch}; find out which server answers"
        ) from cause
    return found


def _wanted(batch: list[_Waiting], looked: Iterable[Key[Any]]) -> Wanted:
    keys: dict[Key[Any], None] = dict.fromkeys(looked)
    scans: dict[Any, Scan[Any]] = {}
    for waiting in batch:
        for write in waiting.transaction.writes:
            for read in write.reads():
                if type(read) is Key:
                    keys[read] = None
                else:
                    _want_scan(scans, read)
    return Wanted(list(keys), list(scans.values()))


def _want_scan(scans: dict[Any, Scan[Any]], scan: Any) -> None:
    # Two transactions that take from one range need the rows of both.
    same = (scan.index, scan.prefix, scan.after, scan.upto)
    before = scans.get(same)
    limit = scan.limit if before is None else scan.limit + before.limit
    scans[same] = Scan(scan.index, scan.prefix, limit, scan.after, scan.upto, scan.claim, scan.guard)


def _one(what: Any, rounds: int) -> Wanted:
    assert rounds <= limits.DISCOVERY_ROUNDS_MAX, f"a decision reads without end, at last {what}"
    return Wanted((what,), ()) if type(what) is Key else Wanted((), (what,))


def _settle_future(future: asyncio.Future[Any], results: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(results)
    else:
        future.set_exception(error)


def _tell(waiting: _Waiting, results: Any, error: Exception | None) -> None:
    resolve, waiting.resolve = waiting.resolve, None
    if resolve is None:  # told already: the other half of a batch failed later
        return
    try:
        resolve(results, error)
    except Exception:
        # The outcome is durable and everybody else has to hear of theirs.
        logger.exception("a callback of a committed transaction failed")


def _unsettled(batch: list[_Waiting], decided: _Decided, unknown: OutcomeUnknown) -> StoreUnavailable:
    """Tell whose outcome is unknown; return what everybody else hears.

    The number of the batch settles only what it would have written: neither what a decision rejected, nor the other half.
    """
    nothing = StoreUnavailable(f"nothing of this was written, the writer stopped: {unknown}")
    for waiting, (_, rejection) in zip(batch, decided.outcomes, strict=True):
        _tell(waiting, None, unknown if rejection is None else nothing)
    return nothing


def _fail(batch: Sequence[_Waiting] | deque[_Waiting], error: Exception) -> None:
    for waiting in batch:
        _tell(waiting, None, error)

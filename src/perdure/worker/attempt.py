"""One attempt of one command on a worker: the handler, the lease that is renewed while it runs, and the outcome.

Source: commands.md, "Worker".
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from perdure import limits
from perdure.clock import Micros, sleep
from perdure.codec import JSON
from perdure.errors import (
    CommandFailed,
    PayloadInvalid,
    PayloadTooLarge,
    PayloadUnencodable,
    PerdureError,
    RejectedError,
    StaleLease,
)
from perdure.headers import JSON_TYPE
from perdure.protocol.commands import (
    BlobRef,
    Completed,
    CompleteRequest,
    DidIt,
    DidNot,
    LeasedCommand,
    Outcome,
    ReleaseRequest,
    Renewed,
    RenewRequest,
    StateNow,
    StoppedIt,
)
from perdure.protocol.payloads import Payload, payload_of
from perdure.worker.context import CommandContext, line
from perdure.worker.handlers import CommandHandler

if TYPE_CHECKING:
    from perdure.worker.worker import Worker

logger: Final = logging.getLogger("perdure.worker")


class Attempt:
    """One command that this worker has, by its own clock `since` then."""

    def __init__(self, worker: Worker, leased: LeasedCommand, handler: CommandHandler | None, *, since: Micros) -> None:
        clock = worker.connection.clock
        self.worker = worker
        self.leased = leased
        self.handler = handler
        self.until: Micros = since + leased.lease_ms * 1_000
        deadline = None if leased.deadline_ms is None else since + leased.deadline_ms * 1_000
        self.context = CommandContext(
            command_id=leased.command_id,
            command=leased.command,
            attempt=leased.attempt,
            target=leased.target,
            traceparent=leased.traceparent,
            deadline=deadline,
            clock=clock,
        )
        self.deadline = deadline
        self.lost = ""
        self.released = False
        self._asked_to_stop = False
        self._work: asyncio.Task[Outcome] | None = None

    async def run(self) -> None:
        """Do the command, and tell the server how it ended. Nothing that it does ends the worker."""
        said, told = "nothing", "nothing"
        try:
            if self.handler is None:
                said, told = "unknown", await self._release("this worker has no handler of that name", delay=limits.WORKER_UNKNOWN_US)
                return
            outcome = await self._outcome(self.handler)
            if outcome is None:
                said = self.lost or "released"
                told = said
                return
            said = type(outcome).__name__
            told = await self._complete(outcome)
        except PerdureError as error:
            told = error.code
        finally:
            # No params, no result and no token: who reads logs need not read those.
            logger.info(
                "command %s %s attempt %d: %s, %s",
                self.leased.command_id,
                self.leased.command,
                self.leased.attempt,
                said,
                told,
                extra={
                    "command_id": self.leased.command_id,
                    "command": self.leased.command,
                    "attempt": self.leased.attempt,
                    "target": self.leased.target,
                    "outcome": said,
                    "told": told,
                },
            )

    async def _outcome(self, handler: CommandHandler) -> Outcome | None:
        """Run the handler, while the lease is renewed; None when what it did does not count any more."""
        if self._is_over():
            return None
        # All of it is within the lease: the way of large params and of a large result, too.
        self._work = asyncio.ensure_future(self._do(handler))
        # Apart from renewing: one that is not answered keeps no handler beyond its lease.
        keeping = [asyncio.ensure_future(self._renew()), asyncio.ensure_future(self._watch())]
        try:
            await asyncio.wait((self._work, *keeping), return_when=asyncio.FIRST_COMPLETED)
            self._cancel()
            await asyncio.wait((self._work,))
            return self._ended()
        finally:
            for each in keeping:
                each.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    def _cancel(self) -> None:
        if self._work is not None and not self._work.done():
            self.context.cancelled.set()
            self._work.cancel()

    async def _do(self, handler: CommandHandler) -> Outcome:
        try:
            return await self._done(handler)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # a handler that wants to end the program has failed, and the worker lives on
            return self._failed(error)

    async def _done(self, handler: CommandHandler) -> Outcome:
        try:
            params = handler.decode(await self._params())
        except (PayloadInvalid, PayloadTooLarge) as error:
            return DidNot(code="params-invalid", message=_short(str(error)))
        except PerdureError as error:
            return DidNot(code="params-unavailable", message=_short(str(error)), retryable=True)
        result = await handler.run(self.context, params, self.worker.threads)
        try:
            payload = payload_of(result, inline_max=limits.COMMAND_RESULT_MAX)
        except PayloadUnencodable as error:
            return DidNot(code="result-unencodable", message=_short(str(error)))
        size = len(payload.data)
        if payload.content_type == JSON_TYPE and size <= limits.COMMAND_RESULT_MAX:
            return DidIt(result=msgspec.Raw(payload.data))
        if size > limits.BLOB_MAX:
            return DidNot(code="result-too-large", message=f"the result is {size:,} bytes, the limit is {limits.BLOB_MAX:,}")
        return await self._uploaded(payload)

    async def _params(self) -> Payload:
        leased, ref = self.leased, self.leased.params_blob
        if ref is None:
            return Payload(bytes(leased.params), JSON_TYPE)
        path = self.worker.path("commands", leased.command_id, "params")
        data = await self.worker.connection.fetch(path, sha256=ref.sha256, size=ref.size, patience=self.worker.lease)
        return Payload(data, ref.content_type)

    async def _uploaded(self, payload: Payload) -> Outcome:
        """Upload a result, once: however often completing is repeated, it names what is there already."""
        path = self.worker.path("commands", self.leased.command_id, "result")
        query = {"token": self.leased.token}
        try:
            ref = await self.worker.connection.upload(
                path, payload.data, BlobRef, content_type=payload.content_type, query=query, patience=self.worker.lease
            )
        except StaleLease as error:
            self.lost = error.code
            raise
        except PerdureError as error:
            return DidNot(code="result-not-uploaded", message=_short(str(error)), retryable=True)
        return DidIt(result_blob=ref)

    def _ended(self) -> Outcome | None:
        work = self._work
        assert work is not None, "it has run"
        if self.lost or self.released:
            return None
        if not work.cancelled():
            return work.result()
        if self._asked_to_stop:
            return StoppedIt(message="its handler was cancelled")
        return DidNot(code="handler-cancelled", message="the handler was cancelled", retryable=True)

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, CommandFailed):
            return _said(error)
        logger.error("command %s: its handler failed in attempt %d", self.leased.command_id, self.leased.attempt, exc_info=error)
        return DidNot(code="handler-error", message=_short(f"{type(error).__name__}: {_text_of(error)}"), retryable=True)

    # --- the lease --------------------------------------------------------------------------------------

    def lose(self, why: str) -> None:
        """Stop the work: it is another's, and what it did does not count any more."""
        self.lost = self.lost or why
        self._cancel()

    def _is_over(self) -> bool:
        now = self.worker.connection.clock.now()
        if self.deadline is not None and now >= self.deadline:
            self.lost = "its deadline passed"
        elif now >= self.until - limits.WORKER_MARGIN_US:
            self.lost = "its lease could not be renewed"
        return bool(self.lost)

    async def _watch(self) -> None:
        """Return once the deadline has passed, or the lease as it was renewed last."""
        connection = self.worker.connection
        while not self._is_over():
            ends = self.until - limits.WORKER_MARGIN_US
            await sleep(connection.clock, (ends if self.deadline is None else min(ends, self.deadline)) - connection.clock.now())

    async def _renew(self) -> None:
        """Renew the lease until the handler has ended; return when it has to stop."""
        while not self.lost:
            await sleep(self.worker.connection.clock, self.worker.lease // limits.WORKER_RENEWALS)
            if await self._renewed():
                return

    async def _renewed(self) -> bool:
        """Renew the lease once, and return whether the handler has to stop."""
        connection = self.worker.connection
        asked = connection.clock.now()
        try:
            renewed = await connection.send(
                "POST",
                self.worker.path("commands", self.leased.command_id, "renew"),
                Renewed,
                body=RenewRequest(token=self.leased.token, lease_ms=self.worker.lease // 1_000, progress=self.context.note),
                once=False,
                patience=0,
            )
        except (StaleLease, RejectedError) as error:
            self.lost = error.code
            return True
        except PerdureError as error:
            # Whatever else is said of this request, the lease goes on until its time is over.
            logger.warning("command %s: its lease was not renewed: %s", self.leased.command_id, error)
            return False
        self.until = asked + renewed.lease_ms * 1_000
        self._asked_to_stop = renewed.cancel_requested
        if self._asked_to_stop:
            self.context.cancelled.set()
        # A plain function cannot be stopped: it may look at `cancelled` itself.
        return self._asked_to_stop and self.handler is not None and self.handler.is_async

    async def let_go(self) -> None:
        """Give the command back before it is done: the worker stops. What is done is told all the same."""
        if self._work is not None and self._work.done():
            return
        self.released = True
        self._cancel()
        await self._release("the worker stops")

    # --- telling the server -----------------------------------------------------------------------------

    async def _complete(self, outcome: Outcome) -> str:
        """Send an outcome until the server takes it, or the lease is over; return what became of it."""
        connection = self.worker.connection
        body = CompleteRequest(token=self.leased.token, outcome=outcome)
        patience = max(0, self.until - connection.clock.now())
        path = self.worker.path("commands", self.leased.command_id, "complete")
        done = await connection.send("POST", path, Completed, body=body, once=False, patience=patience)
        return "counted" if done.counted else f"too late: it is {done.state}"

    async def _release(self, why: str, *, delay: Micros = 0) -> str:
        try:
            await self.worker.connection.send(
                "POST",
                self.worker.path("commands", self.leased.command_id, "release"),
                StateNow,
                body=ReleaseRequest(token=self.leased.token, delay_ms=delay // 1_000, error=why),
                once=False,
                patience=min(limits.WORKER_RELEASE_US, max(0, self.until - self.worker.connection.clock.now())),
            )
        except PerdureError as error:
            return error.code
        return "released"


def _said(error: CommandFailed) -> Outcome:
    code = line(str(error.error_code), most=limits.COMMAND_CODE_MAX) or "failed"
    message = str(error.args[1]) if len(error.args) > 1 else ""
    try:
        details = JSON.encode(error.details)
    except PayloadUnencodable:
        details = b"null"
    if len(details) > limits.COMMAND_MESSAGE_MAX:
        details = b"null"
    return DidNot(code=code, message=_short(message), details=msgspec.Raw(details))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # any code can stand in an exception's `__str__`; the attempt has failed all the same
        return "(its text cannot be made)"


def _short(text: str) -> str:
    """Return a text that the server takes: by bytes, and of characters that can be stored."""
    data = text.encode(errors="backslashreplace").replace(b"\0", b"\\x00")[: limits.COMMAND_MESSAGE_MAX]
    return data.decode(errors="ignore")

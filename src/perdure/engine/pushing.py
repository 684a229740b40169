"""Sends the commands that nobody asks for.

Each is given out first, as to a worker, and then sent: whatever happens in between, nobody sends it a second time before the lease is over.

Source: commands.md, "Push".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure import limits
from perdure.blob import Blob
from perdure.clock import SECOND, Micros, sleep
from perdure.commands.arguments import body_of, ending_of
from perdure.commands.contract import CommandError
from perdure.commands.push_writes import PUSHER, TakePushed, Tell, breaker_of
from perdure.commands.queueing import PARAMS, PUSH_TOPIC
from perdure.commands.states import CommandState
from perdure.commands.tables import BODY, COMMAND, PUSH_ENDPOINT, PUSH_HEADS, PUSH_QUEUE, CommandRow, PushEndpointRow
from perdure.commands.wire import left_ms, outcome_of, ref_of
from perdure.commands.writes import Ending, GiveBack, Leased
from perdure.core.access import Access
from perdure.core.table import Key, Scan
from perdure.errors import PerdureError, StoreError, UsageError
from perdure.headers import JSON_TYPE
from perdure.protocol.commands import nothing
from perdure.protocol.push import PushedCommand, Said, says_how_it_ended
from perdure.sending.outcomes import Accepted, Outcome, Refused
from perdure.sending.targets import Allowed
from perdure.store import APART, resume
from perdure.webhooks.schemes import sign_standard
from perdure.webhooks.secrets import Secrets

if TYPE_CHECKING:
    from perdure.sending.sender import Sender

logger: Final = logging.getLogger("perdure.engine")

RESULT_INVALID: Final = "result-invalid"
_said: Final = msgspec.json.Decoder(Said)
_Place = tuple[Any, ...]


class Pusher:
    """Takes commands that are to be sent from their queues, in turn, and sends them.

    Args:
        access: of the store.
        leads: whether this node is the one that sends, now.
        background: runs something until the engine closes.
        allowed: what may be sent to beyond the public internet.
    """

    def __init__(
        self,
        access: Access,
        *,
        leads: Callable[[], bool],
        background: Callable[[Coroutine[Any, Any, None]], None],
        allowed: Allowed | None = None,
    ) -> None:
        self._access = access
        self._leads = leads
        self._background = background
        self._allowed = allowed
        self._sender: Sender | None = None
        self._under_way: Counter[_Place] = Counter()
        self._last: _Place = ()  # the queue that had the last turn
        self._taking: asyncio.Future[Micros | None] | None = None
        self._closing = False
        self._idle = asyncio.Event()

    async def run(self) -> None:
        """Go on until it is cancelled."""
        self._closing = False
        with self._access.signals.listen(PUSH_TOPIC) as listener:
            while True:
                try:
                    again = await self._look()
                except StoreError as error:
                    logger.warning("commands that are to be sent: %s; the next look is soon", error)
                    again = self._access.clock.now() + limits.STALL_US
                except Exception:  # an edge: whatever it is, the next look may find it gone
                    logger.exception("commands that are to be sent could not be taken; the next look is soon")
                    again = self._access.clock.now() + limits.STALL_US
                await listener.wait(again)

    async def close(self) -> None:
        """Take no more, and give what is under way a moment to end: what is cut off is not sent again before its lease is over."""
        self._closing = True
        if self._taking is not None:
            await asyncio.wait((self._taking,))
        self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.PUSH_CLOSE_SECONDS):
                while self._under_way.total():
                    await self._idle.wait()
                    self._idle.clear()

    # --- taking ---------------------------------------------------------------------------------------------

    async def _look(self) -> Micros | None:
        """Give each queue its turn, and return when to look again."""
        clock, again, looked = self._access.clock, None, 0
        async for place in self._queues():
            if not self._leads():  # whoever leads sends; this one looks on, in case it comes to lead
                return clock.now() + limits.COMMAND_LOOK_US
            if self._closing or self._under_way.total() >= limits.PUSH_UNDER_WAY:
                return None  # the end of a request is a signal
            looked += 1
            if looked > limits.PUSH_QUEUES_LOOK:
                return clock.now() + limits.COMMAND_LOOK_US
            self._last = place
            self._taking = asyncio.ensure_future(self._serve(place))
            due = await asyncio.shield(self._taking)
            again = min((at for at in (again, due) if at is not None), default=None)
        return again

    async def _queues(self) -> AsyncIterator[_Place]:
        """Yield the queues in which something waits, each once, beginning behind the one that had the last turn."""
        start = place = self._last
        wrapped = not start
        while True:
            rows = await self._access.reader.scan(Scan(PUSH_HEADS, (), 1, after=place or None))
            if not rows:
                if wrapped:
                    return
                place, wrapped = (), True
                continue
            place = rows[0][0].parts[:3]
            if wrapped and start and place > start:
                return
            yield place

    async def _serve(self, place: _Place) -> Micros | None:
        """Take what may be sent of one queue, begin to send it, and return when there may be more by itself."""
        reader, key = self._access.reader, PUSH_ENDPOINT.key(*place)
        free = min(limits.PUSH_ENDPOINT_UNDER_WAY - self._under_way[place], limits.PUSH_UNDER_WAY - self._under_way.total())
        row = await reader.get(key)
        if free < 1 or row is None or not row.enabled:
            return None
        now = self._access.clock.now()
        if (at := breaker_of(row).next_at(now)) > now:
            return at
        hints = tuple(str(ready.parts[6]) for ready, _ in await reader.scan(Scan(PUSH_QUEUE, place, free)))
        taken = await self._access.writer.run(TakePushed(key=key, most=free, hints=hints, ended=resume))
        if taken is None or not taken.commands:  # it is not as it was seen
            return self._access.clock.now()
        for one in taken.commands:
            self._under_way[place] += 1
            self._background(self._push(key, taken.endpoint, one))
        return None

    # --- sending --------------------------------------------------------------------------------------------

    async def _push(self, key: Key[PushEndpointRow], endpoint: PushEndpointRow, one: Leased) -> None:
        """Send one command, and store what became of it."""
        command = COMMAND.key(key.parts[0], one.command_id)
        try:
            await self._send(key, endpoint, command, one.row)
        finally:
            self._under_way[key.parts] -= 1
            self._under_way += Counter()  # what is zero is forgotten
            self._idle.set()
            self._access.signals.publish((PUSH_TOPIC,))

    async def _send(self, key: Key[PushEndpointRow], endpoint: PushEndpointRow, command: Key[CommandRow], row: CommandRow) -> None:
        command_id = str(command.parts[1])
        try:
            params = body_of(await self._access.reader.get(BODY.key(*command.parts, PARAMS)))
        except StoreError as error:
            logger.warning("command %s was not sent: %s", command_id, error)
            with contextlib.suppress(StoreError):  # then it comes back at the end of its lease
                await self._access.writer.run(GiveBack(key=command, token=row.token, delay=limits.STALL_US, error=error.code, ended=resume))
            return
        body = msgspec.json.encode(envelope(command, row, params, now=self._access.clock.now()))
        try:
            outcome = await self._post(endpoint, f"{command_id}:{row.attempt}", body, row.traceparent)
        except PerdureError as error:  # it cannot be sent as it is
            outcome = Refused(reason="target", detail=str(error))
        ending = ending_said(outcome.answer) if isinstance(outcome, Accepted) and outcome.answer is not None else None
        detail = f"status {outcome.status}" if isinstance(outcome, Accepted) else outcome.detail
        logger.info("command %s, attempt %d, was sent: %s", command_id, row.attempt, detail)
        tell = Tell(key=key, command=command, url=endpoint.url, token=row.token, outcome=outcome, ending=ending, ended=resume, apart=APART)
        await self._tell(tell)

    async def _post(self, endpoint: PushEndpointRow, webhook_id: str, body: bytes, traceparent: str) -> Outcome:
        if self._sender is None:
            from perdure.sending.sender import Sender  # noqa: PLC0415  # whoever pushes nothing need not wait for aiohttp

            self._sender = Sender(clock=self._access.clock, allowed=self._allowed)
        secrets = Secrets(endpoint.secrets.split(), what=PUSHER)
        headers = sign_standard(secrets, body, id=webhook_id, now=self._access.clock.now()) | {"Content-Type": JSON_TYPE}
        if traceparent:
            headers["traceparent"] = traceparent
        return await self._sender.post(
            endpoint.url, headers=headers, body=body, timeout=endpoint.timeout / SECOND, answer_max=limits.PUSH_ANSWER_MAX
        )

    async def _tell(self, tell: Tell) -> None:
        """Store what became of a command; it was sent, so this is not given up soon."""
        for _ in range(limits.PUSH_TELL_TRIES):
            try:
                await self._access.writer.run(tell)
            except StoreError as error:
                logger.warning("command %s was sent, which could not be noted: %s", tell.command.parts[1], error)
                await sleep(self._access.clock, limits.STALL_US)
            except PerdureError as error:  # what the answer refers to is not there
                tell = msgspec.structs.replace(tell, ending=_invalid(str(error)))
            else:
                return


def envelope(command: Key[CommandRow], row: CommandRow, params: bytes | Blob | None, *, now: Micros) -> PushedCommand:
    """Return what is sent of a command."""
    return PushedCommand(
        tenant=str(command.parts[0]),
        deployment=row.deployment_id,
        command_id=str(command.parts[1]),
        token=row.token,
        attempt=row.attempt,
        command=row.name,
        target=row.target or None,
        params=msgspec.Raw(params) if isinstance(params, bytes) else nothing(),
        params_blob=ref_of(params),
        lease_ms=left_ms(row.lease_expires_at, now) or 0,
        deadline_ms=left_ms(row.deadline, now),
        traceparent=row.traceparent,
    )


def ending_said(answer: bytes) -> Ending | None:
    """Return how a command ended, as the answer to sending it says; None when it does not."""
    if len(answer) > limits.PUSH_ANSWER_MAX:
        return _invalid(f"an answer of more than {limits.PUSH_ANSWER_MAX:,} bytes; keep large results apart, and say so by `complete`")
    if not says_how_it_ended(answer):
        return None
    try:
        return ending_of(outcome_of(_said.decode(answer)))
    except (msgspec.DecodeError, UsageError, RecursionError) as error:
        return _invalid(str(error)[: limits.REPR_MAX])


def _invalid(why: str) -> Ending:
    """Return the end of a command whose answer cannot be stored: it was done, or not, and is not sent again."""
    return Ending(state=CommandState.FAILED, error=CommandError(code=RESULT_INVALID, message=f"the endpoint's answer: {why}"))

"""Waiting for a reply without holding up anybody: it ends with the reply, with time, when the server stops, or when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from perdure.clock import Micros, sleep
from perdure.engine.encoded import Reply, sealed_reply
from perdure.protocol.messages import ReplyError, ReplyFailure, ReplyValue, SealedReply
from perdure.server.route import Call

T = TypeVar("T")


async def reply_of(call: Call, message_id: str, *, source: str, wait_ms: int) -> SealedReply | None:
    """Return the reply of a message if it is sealed within `wait_ms`. Raises MessageNotFound, MessageExpired, InvalidIdentifier."""
    access = call.engine.store.access
    until = access.clock.now() + wait_ms * 1_000
    found = await unless_over(call, sealed_reply(access, message_id, source=source, tenant=call.tenant, until=until))
    return None if found is None else _sealed(found)


def _sealed(found: Reply) -> SealedReply:
    if found.error is not None:
        return ReplyFailure(ReplyError(found.error, found.text))
    return ReplyValue(msgspec.Raw(found.response))


async def unless_over(call: Call, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what some work returns; None when the server stops or the client leaves before."""
    task = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(call.stopping.wait()), asyncio.ensure_future(call.gone())]
    try:
        await asyncio.wait((task, *others), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, *others):
            each.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)


async def has_left(call: Call) -> bool:
    """Whether the client is known to have left by now."""
    gone = asyncio.ensure_future(call.gone())
    await asyncio.sleep(0)
    left = gone.done()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    return left


async def pause(call: Call, duration: Micros) -> bool:
    """Let some time of the store's clock pass, and return whether it did: not when the server stops or the client leaves."""
    return await unless_over(call, _slept(call, duration)) or False


async def _slept(call: Call, duration: Micros) -> bool:
    await sleep(call.engine.store.access.clock, duration)
    return True

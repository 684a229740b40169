"""The synchronous door: one handler, run to its sealed reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from perdure.engine.app import App
from perdure.engine.engine import Engine
from perdure.engine.process import Process
from perdure.errors import UsageError
from perdure.identity import DEFAULT_TENANT
from perdure.store import open_store

S = TypeVar("S", bound=Process)
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
DEFAULT_STORE: Final = "sqlite:///perdure.db"


def run(
    app: App,
    handler: Callable[[S, Unpack[Ts]], Coroutine[Any, Any, R]],
    /,
    *args: *Ts,
    id: str | None = None,
    tenant: str = DEFAULT_TENANT,
    store: str = DEFAULT_STORE,
) -> R:
    """Open the store, resume what is open, and return the handler's sealed reply; the rest stays durable.

    Args:
        app: the process types.
        handler: a function process, or a handler of a class.
        *args: its arguments, or its message.
        id: of the message; run again with the same id, and the reply is the same one.
        tenant: whose it is.
        store: URL of the store; `./perdure.db` unless given.

    Returns:
        What `Engine.call` returns. Raises what it raises, and UsageError where an event loop runs already.

    Source: engine.md, "The smallest program".
    """

    async def main() -> R:
        async with open_store(store) as opened, Engine(opened, app) as engine:
            return await engine.call(handler, *args, id=id, tenant=tenant)

    if _loop_runs():
        raise UsageError(
            "perdure.run brings an event loop of its own; where one runs already, use perdure.Engine and `await engine.call(…)`"
        )
    return asyncio.run(main())


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

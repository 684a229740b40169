"""The worker.

Source: commands.md, "Worker".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from perdure import limits
from perdure.client.calls import micros
from perdure.client.connection import Connection, path_of
from perdure.clock import Clock, Micros, sleep
from perdure.commands.arguments import checked_line, checked_name, checked_span
from perdure.errors import DefinitionError, PerdureError, ServerRefused, UsageError
from perdure.identity import DEFAULT_TENANT, SYSTEM_RANDOMNESS, Randomness, TenantId, checked_count
from perdure.protocol.commands import LeaseRequest, Leases
from perdure.worker.attempt import Attempt
from perdure.worker.handlers import CommandHandler, handler_of
from perdure.worker.threads import Threads

F = TypeVar("F", bound=Callable[..., Any])
logger: Final = logging.getLogger("perdure.worker")
_TWO: Final = 2


class Worker:
    """Does the commands of one deployment: it asks the server for them, so that nobody has to connect to it.

    Args:
        url: of the server.
        deployment: whose commands it does.
        token: what the server is shown, with `command:work` for this deployment and target.
        token_file: a file that holds it, and that is read again when the server refuses what it said.
        target: which of the deployment's workers it is; with None it gets the commands that name no target.
        tenant: whose deployment.
        max_concurrency: commands that it does at the same time.
        lease: how long a command is another's again after this worker died; it is renewed while a handler runs.
        drain: how long it waits for its handlers when it stops; what is not done by then is given back.
        name: that the history shows.
        ssl: an `ssl.SSLContext` that says which certificates count; the system's otherwise.
        clock: by which it waits.
        randomness: where ids come from.

    Raises:
        UsageError, InvalidIdentifier: one of them cannot be; the text names it.

    Source: commands.md, "Worker".
    """

    def __init__(
        self,
        url: str,
        *,
        deployment: str,
        token: str | None = None,
        token_file: str | Path | None = None,
        target: str | None = None,
        tenant: str = DEFAULT_TENANT,
        max_concurrency: int = 1,
        lease: timedelta = timedelta(seconds=60),
        drain: timedelta = timedelta(seconds=30),
        name: str | None = None,
        ssl: Any = True,
        clock: Clock | None = None,
        randomness: Randomness = SYSTEM_RANDOMNESS,
    ) -> None:
        self.connection = Connection(url, token=token, token_file=token_file, ssl=ssl, clock=clock, randomness=randomness)
        self.deployment = checked_name(deployment, what="deployment")
        self.target = None if target is None else checked_name(target, what="target")
        self.tenant = TenantId(tenant)
        self.max_concurrency = checked_count(max_concurrency, what="max_concurrency", most=limits.WORKER_CONCURRENCY_MAX)
        least = limits.WORKER_LEASE_MIN_US
        self.lease: Micros = checked_span(micros(lease, what="lease"), what="lease", least=least, most=limits.COMMAND_LEASE_MAX_US)
        self.drain: Micros = micros(drain, what="drain")
        self.name = checked_line(f"{socket.gethostname()}/{os.getpid()}" if name is None else name, what="name", limit=limits.WORKER_MAX)
        self._handlers: dict[str, CommandHandler] = {}
        self._attempts: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._stopping = asyncio.Event()
        self._free = asyncio.Event()
        self.threads = Threads(self.max_concurrency, self._free.set)

    def command(self, name: str, /) -> Callable[[F], F]:
        """Register the function that does commands of this name; it is returned unchanged.

        It takes a `CommandContext` and, if it wants, the params, read as its annotation says; what it returns is the result.
        It may be async or plain. CommandFailed ends the command with that code; any other exception is worth another attempt.

        Raises:
            DefinitionError: there is one for that name, or it does not take these.
            InvalidIdentifier: it is no name.
        """
        checked = checked_name(name, what="name of a command")
        if checked in self._handlers:
            raise DefinitionError(f"command {name!r}: it has a handler already")
        if len(self._handlers) == limits.COMMAND_NAMES_MAX:
            raise DefinitionError(f"a worker does commands of at most {limits.COMMAND_NAMES_MAX} names; use another worker")

        def register(function: F) -> F:
            self._handlers[checked] = handler_of(checked, function)
            return function

        return register

    def path(self, *parts: str) -> str:
        """Return the path of something of its tenant's."""
        return path_of("v1", "tenants", self.tenant, *parts)

    # --- running ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then stop as `stop` does. Raises what `work` raises."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        with self._signals():
            await self.work()

    async def work(self) -> None:
        """Work until `stop` is called, and until what was begun then is done or given back.

        Raises:
            UsageError: it has no handlers.
            TokenInvalid, TokenMissing, NotAllowed, ServerRefused: the server will not give it work, whatever it does.
        """
        if not self._handlers:
            raise UsageError("a worker without handlers has nothing to do; register one with @worker.command(…)")
        try:
            await self._lease_on()
        finally:
            await self._drain()
            self.threads.close()
            await self.connection.close()

    def stop(self) -> None:
        """Take no more commands; what was begun is finished within the drain time, and the rest given back."""
        self._stopping.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _lease_on(self) -> None:
        pause = limits.CLIENT_RETRY_US
        while not self._stopping.is_set():
            free = self.max_concurrency - len(self._attempts) - self.threads.left
            if free <= 0:
                self._free.clear()
                await self._or_stopping(self._free.wait())
                continue
            asked = self.connection.clock.now()
            try:
                leases = await self._or_stopping(self._ask(free))
            except PerdureError as error:
                if not (error.retryable or (isinstance(error, ServerRefused) and error.status in limits.HTTP_REPEATED)):
                    raise
                logger.warning("no commands could be asked for: %s; the next try is in %.1f s", error, pause / 1_000_000)
                await self._or_stopping(sleep(self.connection.clock, pause))
                pause = min(_TWO * pause, limits.CLIENT_RETRY_MOST_US)
                continue
            pause = limits.CLIENT_RETRY_US
            # The server has answered in time: what came later, lay here while this program was suspended.
            since = min(self.connection.clock.now(), asked + limits.COMMAND_WAIT_US)
            for leased in [] if leases is None else leases.leases:
                self._begin(Attempt(self, leased, self._handlers.get(leased.command), since=since))

    async def _ask(self, free: int) -> Leases:
        body = LeaseRequest(
            target=self.target,
            names=list(self._handlers),
            max_leases=min(free, limits.COMMAND_LEASES_MAX),
            lease_ms=self.lease // 1_000,
            worker=self.name,
        )
        path, query = self.path("deployments", self.deployment, "leases"), {"wait_ms": limits.COMMAND_WAIT_US // 1_000}
        return await self.connection.send(
            "POST", path, Leases, body=body, query=query, once=False, wait=limits.COMMAND_WAIT_US, patience=limits.WORKER_ASK_US
        )

    async def _or_stopping(self, work: Any) -> Any:
        """Return what some work returns; None when the worker is to stop before."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, stop):
                each.cancel()
            with contextlib.suppress(Exception):
                await asyncio.gather(task, stop, return_exceptions=True)

    def _begin(self, attempt: Attempt) -> None:
        for other, _ in self._attempts.values():
            if other.leased.command_id == attempt.leased.command_id:
                other.lose("it came again")
        name = f"{attempt.leased.command_id} {attempt.leased.token}"
        task = asyncio.ensure_future(attempt.run())
        self._attempts[name] = (attempt, task)
        task.add_done_callback(lambda _: self._over(name))

    def _over(self, name: str) -> None:
        _, task = self._attempts.pop(name)
        self._free.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("command %s: the worker itself failed", name, exc_info=error)

    async def _drain(self) -> None:
        self._stopping.set()
        tasks = [task for _, task in self._attempts.values()]
        if not tasks:
            return
        logger.info("the worker stops; %d commands are under way", len(tasks))
        waiting = asyncio.ensure_future(asyncio.wait(tasks))
        pause = asyncio.ensure_future(sleep(self.connection.clock, self.drain))
        await asyncio.wait((waiting, pause), return_when=asyncio.FIRST_COMPLETED)
        for each in (waiting, pause):
            each.cancel()
        left = [attempt for attempt, task in self._attempts.values() if not task.done()]
        await asyncio.gather(*(attempt.let_go() for attempt in left), return_exceptions=True)
        await asyncio.gather(*tasks, return_exceptions=True)

"""The client of a server, for programs without an event loop.

Source: commands.md, "Client".
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from perdure import limits
from perdure.client.client import FOR_EVER, Client
from perdure.client.packages import KEEP_FOR
from perdure.commands.contract import CommandRetry
from perdure.errors import UsageError
from perdure.identity import DEFAULT_TENANT
from perdure.protocol.commands import CommandHistory, CommandList, CommandView
from perdure.protocol.messages import Accepted, DeadLetterPage, MessageState, To
from perdure.protocol.packages import (
    Collected,
    DeployedPackage,
    DeploymentLog,
    GonePackage,
    PackageDetail,
    PinsView,
    RouteSet,
    RouteView,
    VersionPage,
)

T = TypeVar("T")


class SyncClient:
    """A server, as a program without an event loop sees it: `with perdure.SyncClient("https://hub.example", token=…) as client:`.

    Its methods are those of `Client`, and wait. It may be used from several threads at once, and needs to be closed: it has a thread of
    its own.

    Args: as those of `Client`.

    Source: commands.md, "Client".
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        tenant: str = DEFAULT_TENANT,
        patience: float = 30.0,
        ssl: Any = True,
    ) -> None:
        self._client = Client(url, token=token, token_file=token_file, tenant=tenant, patience=patience, ssl=ssl)
        self._closing = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back its connections and its thread. Harmless when called again. Who waits for an answer on another thread is told."""
        with self._closing:
            closed, self._closed = self._closed, True
        if closed:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._client.close()

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        with self._closing:  # what is begun before the end is seen by it, and nothing is begun after it
            if self._closed:
                call.close()
                raise UsageError("this client is closed; make another one")
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise UsageError("this client was closed while it waited; what it asked for may have been done") from None
        except BaseException:
            future.cancel()  # interrupted while it waits: the request goes no further
            raise

    def _chunks(self, chunks: AsyncGenerator[bytes, None]) -> Iterator[bytes]:
        async def after() -> bytes | None:
            return await anext(chunks, None)

        async def close() -> None:
            await chunks.aclose()

        try:
            while (chunk := self._wait(after())) is not None:
                yield chunk
        finally:
            with contextlib.suppress(UsageError):  # it is closed, and that with it
                self._wait(close())

    # --- messages -------------------------------------------------------------------------------------

    def deliver(
        self,
        message: object,
        /,
        *,
        id: str,
        kind: str | None = None,
        to: To | None = None,
        source: str = "",
        headers: Mapping[str, str] | None = None,
        keep_for: timedelta | None = None,
        expires_after: timedelta | None = None,
    ) -> Accepted:
        """See `Client.deliver`."""
        return self._wait(
            self._client.deliver(
                message, id=id, kind=kind, to=to, source=source, headers=headers, keep_for=keep_for, expires_after=expires_after
            )
        )

    @overload
    def call(
        self, message: object, /, *, id: str, kind: str | None = None, to: To | None = None, source: str = "", timeout: timedelta = FOR_EVER
    ) -> Any: ...
    @overload
    def call(
        self,
        message: object,
        /,
        *,
        id: str,
        result: type[T],
        kind: str | None = None,
        to: To | None = None,
        source: str = "",
        timeout: timedelta = FOR_EVER,
    ) -> T: ...
    def call(
        self,
        message: object,
        /,
        *,
        id: str,
        result: Any = Any,
        kind: str | None = None,
        to: To | None = None,
        source: str = "",
        timeout: timedelta = FOR_EVER,
    ) -> Any:
        """See `Client.call`."""
        return self._wait(self._client.call(message, id=id, result=result, kind=kind, to=to, source=source, timeout=timeout))

    def message(self, id: str, *, source: str = "") -> MessageState:
        """See `Client.message`."""
        return self._wait(self._client.message(id, source=source))

    def dead_letters(self, *, after: str | None = None, limit: int = limits.PAGE_DEFAULT) -> DeadLetterPage:
        """See `Client.dead_letters`."""
        return self._wait(self._client.dead_letters(after=after, limit=limit))

    def redrive(self, id: str, *, source: str = "") -> str:
        """See `Client.redrive`."""
        return self._wait(self._client.redrive(id, source=source))

    # --- commands -------------------------------------------------------------------------------------

    def send_command(
        self,
        deployment: str,
        command: str,
        params: object = None,
        /,
        *,
        key: str | None = None,
        target: str | None = None,
        deadline: timedelta | None = None,
        delay: timedelta | None = None,
        priority: int = 0,
        retry: CommandRetry | None = None,
    ) -> CommandView:
        """See `Client.send_command`."""
        return self._wait(
            self._client.send_command(
                deployment, command, params, key=key, target=target, deadline=deadline, delay=delay, priority=priority, retry=retry
            )
        )

    @overload
    def command(
        self,
        deployment: str,
        command: str,
        params: object = None,
        /,
        *,
        key: str | None = None,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry | None = None,
        timeout: timedelta = FOR_EVER,
    ) -> Any: ...
    @overload
    def command(
        self,
        deployment: str,
        command: str,
        params: object = None,
        /,
        *,
        result: type[T],
        key: str | None = None,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry | None = None,
        timeout: timedelta = FOR_EVER,
    ) -> T: ...
    def command(
        self,
        deployment: str,
        command: str,
        params: object = None,
        /,
        *,
        result: Any = Any,
        key: str | None = None,
        target: str | None = None,
        deadline: timedelta | None = None,
        retry: CommandRetry | None = None,
        timeout: timedelta = FOR_EVER,
    ) -> Any:
        """See `Client.command`."""
        return self._wait(
            self._client.command(
                deployment, command, params, result=result, key=key, target=target, deadline=deadline, retry=retry, timeout=timeout
            )
        )

    def wait_command(self, command_id: str, *, timeout: timedelta = FOR_EVER) -> CommandView:
        """See `Client.wait_command`."""
        return self._wait(self._client.wait_command(command_id, timeout=timeout))

    def get_command(self, command_id: str) -> CommandView:
        """See `Client.get_command`."""
        return self._wait(self._client.get_command(command_id))

    def download_result(self, command_id: str) -> Iterator[bytes]:
        """See `Client.download_result`."""
        return self._chunks(self._client.download_result(command_id))

    def cancel_command(self, command_id: str, *, reason: str = "") -> str:
        """See `Client.cancel_command`."""
        return self._wait(self._client.cancel_command(command_id, reason=reason))

    def redrive_command(self, command_id: str) -> str:
        """See `Client.redrive_command`."""
        return self._wait(self._client.redrive_command(command_id))

    def command_history(self, command_id: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> CommandHistory:
        """See `Client.command_history`."""
        return self._wait(self._client.command_history(command_id, after=after, limit=limit))

    def commands(
        self,
        *,
        deployment: str | None = None,
        target: str | None = None,
        command: str | None = None,
        state: str | None = None,
        dead: bool | None = None,
        after: str | None = None,
        limit: int = limits.PAGE_DEFAULT,
    ) -> CommandList:
        """See `Client.commands`."""
        return self._wait(
            self._client.commands(deployment=deployment, target=target, command=command, state=state, dead=dead, after=after, limit=limit)
        )

    # --- packages -------------------------------------------------------------------------------------

    def deploy(
        self,
        archive: bytes,
        *,
        content_hash: str | None = None,
        routes: Sequence[str] | None = None,
        load: bool = True,
        built_with: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> DeployedPackage:
        """See `Client.deploy`; `progress` is called on another thread."""
        return self._wait(
            self._client.deploy(archive, content_hash=content_hash, routes=routes, load=load, built_with=built_with, progress=progress)
        )

    def versions(
        self, workflow_type: str | None = None, *, processes: bool = False, after: str | None = None, limit: int = limits.PAGE_DEFAULT
    ) -> VersionPage:
        """See `Client.versions`."""
        return self._wait(self._client.versions(workflow_type, processes=processes, after=after, limit=limit))

    def package(self, content_hash: str) -> PackageDetail:
        """See `Client.package`."""
        return self._wait(self._client.package(content_hash))

    def download_package(self, content_hash: str) -> Iterator[bytes]:
        """See `Client.download_package`."""
        return self._chunks(self._client.download_package(content_hash))

    def pins(self, content_hash: str) -> PinsView:
        """See `Client.pins`."""
        return self._wait(self._client.pins(content_hash))

    def route(self, workflow_type: str, *, tenant: str | None = None) -> RouteView:
        """See `Client.route`."""
        return self._wait(self._client.route(workflow_type, tenant=tenant))

    def set_route(self, workflow_type: str, content_hash: str | None, *, tenant: str | None = None, weight: int | None = None) -> RouteSet:
        """See `Client.set_route`."""
        return self._wait(self._client.set_route(workflow_type, content_hash, tenant=tenant, weight=weight))

    def rollback(self, workflow_type: str) -> RouteSet:
        """See `Client.rollback`."""
        return self._wait(self._client.rollback(workflow_type))

    def retire(self, workflow_type: str) -> RouteSet:
        """See `Client.retire`."""
        return self._wait(self._client.retire(workflow_type))

    def deployments(self, workflow_type: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> DeploymentLog:
        """See `Client.deployments`."""
        return self._wait(self._client.deployments(workflow_type, after=after, limit=limit))

    def unload(self, content_hash: str) -> GonePackage:
        """See `Client.unload`."""
        return self._wait(self._client.unload(content_hash))

    def collect(self, *, keep_last: int = limits.PACKAGE_KEEP_LAST, older_than: timedelta = KEEP_FOR, dry_run: bool = False) -> Collected:
        """See `Client.collect`."""
        return self._wait(self._client.collect(keep_last=keep_last, older_than=older_than, dry_run=dry_run))

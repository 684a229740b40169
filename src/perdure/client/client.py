"""The client of a server, for programs with an event loop.

Source: commands.md, "Client".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from perdure import limits
from perdure.client.calls import Lasting, micros, new_command, new_message, result_of, value_of
from perdure.client.connection import Connection, path_of
from perdure.client.packages import PackageCalls
from perdure.clock import Clock
from perdure.commands.contract import CommandRetry
from perdure.errors import CommandPending, ReplyPending
from perdure.identity import DEFAULT_TENANT, SYSTEM_RANDOMNESS, Randomness, TenantId
from perdure.protocol.commands import Cancellation, CommandHistory, CommandList, CommandView, DrivenAgain, StateNow
from perdure.protocol.messages import Accepted, DeadLetterPage, MessageState, Redriven, RedriveRequest, To
from perdure.protocol.payloads import Payload

T = TypeVar("T")
FOR_EVER = timedelta(days=365 * 100)
_OVER = frozenset({"SUCCEEDED", "FAILED", "EXPIRED", "CANCELLED"})


class Client(PackageCalls):
    """A server, as a program elsewhere sees it: `async with perdure.Client("https://hub.example", token=…) as client:`.

    Everything that it sends has an id, so that it may be sent again: a lost answer loses nothing and does nothing twice.

    Args:
        url: of the server.
        token: what the server is shown.
        token_file: a file that holds it, and that is read again when the server refuses what it said.
        tenant: whose things are meant.
        patience: seconds for which a request is repeated while the server cannot be reached, or says that it cannot now.
        ssl: an `ssl.SSLContext` that says which certificates count; the system's otherwise.
        clock: by which it waits.
        randomness: where ids come from.

    Raises:
        UsageError, InvalidIdentifier: one of them cannot be; the text names it.

    Raises, from every method:
        UsageError: the client is closed.
        ServerUnreachable: no answer came in time; it is not known whether the server has done it.
        ServerRefused: the server said no with an error that this version does not know.
        PerdureError: the error that the server said.

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
        clock: Clock | None = None,
        randomness: Randomness = SYSTEM_RANDOMNESS,
    ) -> None:
        super().__init__(
            Connection(url, token=token, token_file=token_file, patience=patience, ssl=ssl, clock=clock, randomness=randomness)
        )
        self._tenant = TenantId(tenant)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back its connections. Harmless when called again."""
        await self._connection.close()

    # --- messages -------------------------------------------------------------------------------------

    async def deliver(
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
        """Deliver a message, once for its id.

        Args:
            message: a msgspec Struct or a dataclass; or plain data, with `kind`.
            id: 1..512 bytes, unique within tenant and source.
            kind: of message; that of `message` unless given.
            to: where to; where the app's handlers say unless given.
            source: who sent it, when senders number their messages independently.
            headers: kept with it.
            keep_for: how long a message to a tag is kept for the first process that joins.
            expires_after: how long it waits for somebody who takes it.

        Raises:
            MessageConflict, MessageExpired, ProcessNotFound, ProcessEnded, MailboxFull, NoRoute, PayloadInvalid: it is not accepted.
        """
        lasting = Lasting(keep_for=keep_for, expires_after=expires_after)
        new = new_message(message, id=id, kind=kind, to=to, source=source, headers=dict(headers) if headers else None, lasting=lasting)
        return await self._connection.send("POST", self._path("messages"), Accepted, body=new)

    @overload
    async def call(
        self, message: object, /, *, id: str, kind: str | None = None, to: To | None = None, source: str = "", timeout: timedelta = FOR_EVER
    ) -> Any: ...
    @overload
    async def call(
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
    async def call(
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
        """Deliver a message and return its sealed reply; a repetition with the same id gets that very reply.

        Args:
            message: as for `deliver`.
            id: as for `deliver`.
            result: what the reply is read as; plain data unless given.
            kind: as for `deliver`.
            to: as for `deliver`, but no tag.
            source: as for `deliver`.
            timeout: how long to wait; the message is handled in any case.

        Raises:
            ReplyPending: it was not answered in time; call again with the same id.
            TurnFailed: what the handler raised, as text.
            PayloadInvalid: the reply cannot be read as `result`.
            PerdureError: as for `deliver`.
        """
        await self.deliver(message, id=id, kind=kind, to=to, source=source)
        clock = self._connection.clock
        until = clock.now() + micros(timeout, what="timeout")
        while True:
            piece = min(max(0, until - clock.now()), limits.COMMAND_WAIT_US)
            state = await self._message(id, source=source, wait=piece)
            if state.reply is not None:
                return value_of(state.reply, result)
            if clock.now() >= until:
                raise ReplyPending(f"message {id!r} is {state.status} and has no reply yet; call again with the same id")

    async def message(self, id: str, *, source: str = "") -> MessageState:
        """Say where a message is, and why, with its reply if it is sealed. Raises MessageNotFound, MessageExpired."""
        return await self._message(id, source=source, wait=0)

    async def _message(self, id: str, *, source: str, wait: int) -> MessageState:
        query: dict[str, str | int | None] = {"source": source or None, "wait_ms": wait // 1_000 or None}
        return await self._connection.send("GET", self._path("messages", id), MessageState, query=query, wait=wait)

    async def dead_letters(self, *, after: str | None = None, limit: int = limits.PAGE_DEFAULT) -> DeadLetterPage:
        """Return a page of the messages that will not be handled."""
        return await self._connection.send("GET", self._path("dead-letters"), DeadLetterPage, query={"after": after, "limit": limit})

    async def redrive(self, id: str, *, source: str = "") -> str:
        """Deliver a dead letter again and return the new message's id. Raises DeadLetterNotFound, IllegalTransition."""
        path = self._path("dead-letters", id, "redrive")
        return (await self._connection.send("POST", path, Redriven, body=RedriveRequest(source))).message_id

    # --- commands -------------------------------------------------------------------------------------

    async def send_command(
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
        """Send a command to the workers of a deployment and return it as it stands.

        Args:
            deployment: which workers it is for.
            command: what is to be done.
            params: JSON data, a Struct, a dataclass, or bytes; at most 64 MiB. What is over 1 MiB is uploaded.
            key: an idempotency key, 1..256 printable characters of ASCII: with the same one and the same request, by the same token, it is
                the same command.
            target: which of the deployment's workers.
            deadline: after which it expires.
            delay: it is not given out before.
            priority: the lowest is given out first.
            retry: how often and when a failed attempt is followed by another.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            IllegalTransition: the key has made a command with other params that were uploaded.
            InvalidIdentifier, PayloadTooLarge, UsageError: nothing was sent.
        """
        new, apart = new_command(deployment, command, params, target=target, deadline=deadline, delay=delay, priority=priority, retry=retry)
        view = await self._connection.send("POST", self._path("commands"), CommandView, body=new, key=key)
        if apart is None:
            return view
        path = self._path("commands", view.command_id, "params")
        await self._connection.upload(path, apart.data, StateNow, content_type=apart.content_type)
        return await self.get_command(view.command_id)

    @overload
    async def command(
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
    async def command(
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
    async def command(
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
        """Send a command and return its result, read as `result`; without one, a result over 1 MiB is a `BlobRef`, not downloaded.

        Args are those of `send_command`, and `timeout`: how long to wait; the command goes on in any case.

        Raises:
            CommandFailed, CommandExpired, CommandCancelled: it was not done.
            CommandPending: it is not over in time.
            PayloadInvalid: the result cannot be read as `result`.
            PerdureError: as for `send_command`.
        """
        sent = await self.send_command(deployment, command, params, key=key, target=target, deadline=deadline, retry=retry)
        view = await self.wait_command(sent.command_id, timeout=timeout)
        ref = view.result_blob
        if ref is None:
            return result_of(view, result)
        if result is Any:
            return ref
        path = self._path("commands", view.command_id, "result")
        data = await self._connection.fetch(path, sha256=ref.sha256, size=ref.size)
        return result_of(view, result, apart=Payload(data, ref.content_type))

    async def download_result(self, command_id: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a command's result as they come: its JSON, or what its worker uploaded.

        Raises:
            CommandNotFound: there is no such command.
            BlobNotFound: it has no result.
            BlobMismatch: at the end: other bytes have come than the server has.
            ServerUnreachable: no answer came, or it broke off.
        """
        async for chunk in self._connection.download(self._path("commands", command_id, "result")):
            yield chunk

    async def wait_command(
        self,
        command_id: str,
        *,
        timeout: timedelta = FOR_EVER,
    ) -> CommandView:
        """Return a command once it is over. Raises CommandNotFound, CommandPending when it is not in time."""
        clock = self._connection.clock
        until = clock.now() + micros(timeout, what="timeout")
        while True:
            piece = min(max(0, until - clock.now()), limits.COMMAND_WAIT_US)
            found = await self._command(command_id, wait=piece)
            if found.state in _OVER:
                return found
            if clock.now() >= until:
                raise CommandPending(f"command {command_id} is {found.state} in attempt {found.attempt}; wait for it again")

    async def get_command(self, command_id: str) -> CommandView:
        """Return a command as it stands. Raises CommandNotFound."""
        return await self._command(command_id, wait=0)

    async def _command(self, command_id: str, *, wait: int) -> CommandView:
        query: dict[str, str | int | None] = {"wait_ms": wait // 1_000 or None}
        return await self._connection.send("GET", self._path("commands", command_id), CommandView, query=query, wait=wait)

    async def cancel_command(self, command_id: str, *, reason: str = "") -> str:
        """Ask for a command not to be done, and return its state after that. Raises CommandNotFound."""
        path = self._path("commands", command_id, "cancel")
        return (await self._connection.send("POST", path, StateNow, body=Cancellation(reason=reason))).state

    async def redrive_command(self, command_id: str) -> str:
        """Make a new command of one that was not done, and return its id. Raises CommandNotFound, IllegalTransition."""
        return (await self._connection.send("POST", self._path("commands", command_id, "redrive"), DrivenAgain)).command_id

    async def command_history(self, command_id: str, *, after: int | None = None, limit: int = limits.PAGE_DEFAULT) -> CommandHistory:
        """Return what happened to a command, oldest first. Raises CommandNotFound."""
        path = self._path("commands", command_id, "history")
        return await self._connection.send("GET", path, CommandHistory, query={"after": after, "limit": limit})

    async def commands(
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
        """Return a page of commands, the newest first; what is None does not count."""
        query: dict[str, str | int | None] = {
            "deployment": deployment,
            "target": target,
            "command": command,
            "state": state,
            "dead": None if dead is None else str(dead).lower(),
            "after": after,
            "limit": limit,
        }
        return await self._connection.send("GET", self._path("commands"), CommandList, query=query)

    def _path(self, *parts: str) -> str:
        return path_of("v1", "tenants", self._tenant, *parts)

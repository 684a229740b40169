"""Requests to a server: encoded, repeated while that is safe, and refused with the server's own error.

Source: commands.md, "Client".
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from perdure import errors, limits
from perdure.client.tokens import TokenSource
from perdure.clock import SECOND, Clock, Micros, SystemClock
from perdure.errors import PerdureError, ServerRefused, ServerUnreachable, UsageError
from perdure.identity import SYSTEM_RANDOMNESS, Randomness, uuid7
from perdure.protocol.problems import Problem

T = TypeVar("T")
_UNAUTHORIZED: Final = 401
_SERVER_FAULT: Final = 500
_CHANCES: Final = 2**16
_decode_problem: Final = msgspec.json.Decoder(Problem).decode


class Refused(Exception):  # it does not leave this module: it becomes the error that it holds
    """An answer that says no. `repeat`: the same request may succeed later, after `wait` microseconds at least."""

    def __init__(self, error: PerdureError, *, status: int, repeat: bool, wait: Micros = 0) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.repeat = repeat
        self.wait = wait


class Connection:
    """One server.

    Everything that it sends may be sent again: requests that change something carry an `Idempotency-Key`.

    Args:
        url: of the server, such as `https://hub.example` or `https://example/perdure`.
        token: what the server is shown.
        token_file: a file that holds it, and that is read again when the server refuses what it said.
        patience: seconds for which a request is repeated while the server cannot be reached or says that it cannot now.
        ssl: a context that says which certificates count; the system's otherwise.
        clock: by which it waits.
        randomness: where keys come from.

    Raises:
        UsageError: the URL is none of a server, or the token is malformed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        patience: float = 30.0,
        ssl: Any = True,
        clock: Clock | None = None,
        randomness: Randomness = SYSTEM_RANDOMNESS,
    ) -> None:
        self.url = _checked_url(url)
        self.clock = clock or SystemClock()
        self._tokens = TokenSource(token, token_file)
        self._patience = round(patience * SECOND)
        self._ssl = ssl
        self._randomness = randomness
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back its connections. Harmless when called again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def key(self) -> str:
        """Return a new idempotency key."""
        return uuid7(now=self.clock.now(), randomness=self._randomness)

    async def send(
        self,
        method: str,
        path: str,
        returns: type[T],
        *,
        body: msgspec.Struct | None = None,
        query: Mapping[str, str | int | None] | None = None,
        key: str | None = None,
        once: bool = True,
        wait: Micros = 0,
        patience: Micros | None = None,
    ) -> T:
        """Send a request until the server has answered it, and return the answer.

        Args:
            method: of HTTP.
            path: below the server's URL, quoted.
            returns: the type of the answer.
            body: of the request.
            query: what is None is left out.
            key: the idempotency key of a POST; a new one unless given.
            once: whether a POST has one: what is safe to repeat without needs none.
            wait: microseconds for which the server itself may wait before it answers.
            patience: microseconds for which the request is repeated; as the connection was made unless given.

        Raises:
            ServerUnreachable: no answer came in time; it is not known whether the server has done it.
            ServerRefused: the server said no, with an error that is not one of ours.
            PerdureError: the error that the server said.
        """
        headers = {"accept": "application/json"}
        if method == "POST" and once:
            headers["idempotency-key"] = key or self.key()
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            headers["content-type"] = "application/json"
        until = self.clock.now() + (self._patience if patience is None else patience)
        pause = limits.CLIENT_RETRY_US
        while True:
            try:
                text = await self._once(method, path, headers, data=data, query=query, wait=wait)
            except Refused as refused:
                if not refused.repeat or self.clock.now() >= until:
                    raise refused.error from None
                await self.pause(max(refused.wait, self._varied(pause)))
                pause = min(2 * pause, limits.CLIENT_RETRY_MOST_US)
            else:
                return _decoded(text, returns, f"{method} {path}")

    async def pause(self, duration: Micros) -> None:
        """Let some time of the clock pass."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = self.clock.call_at(self.clock.now() + duration, lambda: over.set_result(None) if not over.done() else None)
        try:
            await over
        finally:
            alarm.cancel()

    def _varied(self, pause: Micros) -> Micros:
        chance = int.from_bytes(self._randomness(2)) / _CHANCES
        return round(pause * (1 - chance / 2))

    async def _once(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        data: bytes | None,
        query: Mapping[str, str | int | None] | None,
        wait: Micros,
    ) -> bytes:
        token = await self._tokens.get()
        for _ in range(2):
            try:
                return await self._ask(method, path, _with(headers, token), data=data, query=query, wait=wait)
            except Refused as refused:
                if refused.status != _UNAUTHORIZED or not await self._tokens.renew(token):
                    raise
                token = await self._tokens.get()
        raise AssertionError("the second answer is given in any case")

    async def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        data: bytes | None,
        query: Mapping[str, str | int | None] | None,
        wait: Micros,
    ) -> bytes:
        session = self._session = self._session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # a request that waits at the server keeps no other from being sent
            timeout=aiohttp.ClientTimeout(total=None),
        )
        params = {name: str(value) for name, value in (query or {}).items() if value is not None}
        timeout = aiohttp.ClientTimeout(total=limits.CLIENT_ANSWER_SECONDS + wait / SECOND, sock_connect=limits.CLIENT_CONNECT_SECONDS)
        try:
            async with session.request(
                method,
                self.url + path,
                params=params,
                data=None if data is None else io.BytesIO(data),
                headers=headers,
                timeout=timeout,
                ssl=self._ssl,
                allow_redirects=False,
            ) as answer:
                text = await answer.content.read(limits.CLIENT_BODY_MAX + 1) if answer.status < _SERVER_FAULT else await answer.read()
                while len(text) <= limits.CLIENT_BODY_MAX and not answer.content.at_eof():
                    text += await answer.content.read(limits.CLIENT_BODY_MAX + 1 - len(text))
                status, retry_after = answer.status, answer.headers.get("retry-after", "")
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            # The text of aiohttp's errors may hold the URL; ours holds host and path only.
            unreachable = ServerUnreachable(f"{method} {path}: no answer from {self.url}: {type(error).__name__}")
            raise Refused(unreachable, status=0, repeat=True) from None
        if len(text) > limits.CLIENT_BODY_MAX:
            too_long = ServerRefused(f"{method} {path}: the answer is longer than {limits.CLIENT_BODY_MAX:,} bytes", status=status)
            raise Refused(too_long, status=status, repeat=False)
        if status < 300:  # noqa: PLR2004  # the answers that say yes
            return text
        wait_for = int(retry_after) * SECOND if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6 else 0  # noqa: PLR2004  # a day
        raise Refused(_error_of(text, status, f"{method} {path}"), status=status, repeat=status in limits.HTTP_REPEATED, wait=wait_for)


def path_of(*parts: str) -> str:
    """Return a path of these parts, each quoted."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _with(headers: dict[str, str], token: str | None) -> dict[str, str]:
    return headers if token is None else {**headers, "authorization": f"Bearer {token}"}


def _decoded(text: bytes, returns: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text or b"null", type=returns)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ServerRefused(f"{what}: the answer is not one that this version knows: {error}", status=200) from None


def _by_code(kind: type[PerdureError]) -> dict[str, type[PerdureError]]:
    found = {} if kind.__init__ is not Exception.__init__ else {kind.code: kind}
    for each in kind.__subclasses__():
        found |= {code: one for code, one in _by_code(each).items() if code not in found}
    return found


_KINDS: Final = _by_code(errors.PerdureError)


def _error_of(text: bytes, status: int, what: str) -> PerdureError:
    try:
        problem = _decode_problem(text)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ServerRefused(f"{what}: the server answered {status}, and not as Perdure does; is the URL right?", status=status)
    kind = _KINDS.get(problem.code)
    if kind is None or kind is PerdureError:
        return ServerRefused(f"{what}: {problem.code}: {problem.detail}", status=status, problem_code=problem.code)
    return kind(problem.detail)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"url: expected https://host or http://host, found what is none: {error}") from None
    del port
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"url: expected https://host or http://host, found scheme {parts.scheme!r}")
    if parts.username is not None or parts.password is not None:
        raise UsageError("url: a name or a password in it would be logged; give the token by token=… or token_file=…")
    if parts.query or parts.fragment:
        raise UsageError("url: expected no query and no fragment")
    return url.rstrip("/")

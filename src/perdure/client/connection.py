"""Requests to a server: encoded, repeated while that is safe, and refused with the server's own error.

Source: commands.md, "Client".
"""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from perdure import errors, limits
from perdure.client.tokens import TokenSource
from perdure.clock import SECOND, Clock, Micros, SystemClock, sleep
from perdure.errors import BlobMismatch, PayloadTooLarge, PerdureError, ServerRefused, ServerUnreachable, UsageError
from perdure.headers import JSON_TYPE, digest_header
from perdure.identity import SYSTEM_RANDOMNESS, Randomness, uuid7
from perdure.protocol.problems import Problem

T = TypeVar("T")
Query = Mapping[str, str | int | Sequence[str] | None]
"""By name; what is None is left out, a list stands there once for each text in it."""
_UNAUTHORIZED: Final = 401
_CHANCES: Final = 2**16
_DIGEST: Final = "repr-digest"
_decode_problem: Final = msgspec.json.Decoder(Problem).decode


class _Refusal(Exception):  # it does not leave this module: it becomes the error that it holds
    """An answer that says no. `repeat`: the same request may succeed later, after `wait` microseconds at least."""

    def __init__(self, error: PerdureError, *, status: int, repeat: bool, wait: Micros = 0) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.repeat = repeat
        self.wait = wait


class _Request(msgspec.Struct, frozen=True):
    """A request: the server may wait for `wait` microseconds before it answers, and its answer has `most` bytes."""

    method: str
    path: str
    headers: dict[str, str]
    data: bytes | None
    query: Query | None
    wait: Micros
    most: int = limits.CLIENT_BODY_MAX
    progress: Callable[[int], None] | None = None

    @property
    def body(self) -> io.BytesIO | None:
        """What is sent: as a file, so that what is large goes in pieces, and is not copied."""
        if self.data is None:
            return None
        return io.BytesIO(self.data) if self.progress is None else _Watched(self.data, self.progress)


class _Watched(io.BytesIO):
    """A body that tells how much of it was taken to be sent."""

    def __init__(self, data: bytes, progress: Callable[[int], None]) -> None:
        super().__init__(data)
        self._progress = progress

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, and tell how many have been read by then."""
        found = super().read(size)
        self._progress(self.tell())
        return found


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
        UsageError: the URL is none of a server, the token is malformed, or the patience is no number of seconds.
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
        self._patience = _checked_patience(patience)
        self._ssl = ssl
        self._randomness = randomness
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back its connections, and send nothing more. Harmless when called again."""
        self._closed = True
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
        query: Query | None = None,
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
        headers = {"accept": JSON_TYPE}
        if method == "POST" and once:
            headers["idempotency-key"] = _quoted(self.key() if key is None else key)
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            headers["content-type"] = JSON_TYPE
        request = _Request(method, path, headers, data, query, wait)
        return _decoded(await self._until_answered(request, patience), returns, f"{method} {path}")

    async def upload(
        self,
        path: str,
        data: bytes,
        returns: type[T],
        *,
        content_type: str,
        method: str = "PUT",
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        wait: Micros = 0,
        progress: Callable[[int], None] | None = None,
        patience: Micros | None = None,
    ) -> T:
        """Send bytes, with their SHA-256, until the server has answered; the same bytes again change nothing.

        Args and errors are those of `send`, and `progress`: called with how many bytes were taken to be sent, again from the
        first on when the request is repeated; `headers`: more of them.
        """
        given = {
            "accept": JSON_TYPE,
            "content-type": content_type,
            _DIGEST: digest_header(hashlib.sha256(data).digest()),
            **(headers or {}),
        }
        if method == "POST":
            given["idempotency-key"] = _quoted(self.key())
        request = _Request(method, path, given, data, query, _time_for(len(data)) + wait, progress=progress)
        return _decoded(await self._until_answered(request, patience), returns, f"{method} {path}")

    async def fetch(self, path: str, *, sha256: str, size: int, patience: Micros | None = None) -> bytes:
        """Return bytes that the server keeps apart, once they are whole and the ones that are expected.

        Args:
            path: below the server's URL, quoted.
            sha256: of the bytes, in hex.
            size: how many they are.
            patience: as for `send`.

        Raises:
            BlobMismatch: the server has others.
            PerdureError: as for `send`.
        """
        if size > limits.BLOB_MAX:
            raise PayloadTooLarge(f"GET {path}", size=size, limit=limits.BLOB_MAX)
        request = _Request("GET", path, {"accept": "*/*"}, None, None, _time_for(size), most=size)
        data = await self._until_answered(request, patience)
        _check_whole(hashlib.sha256(data).digest(), digest_header(bytes.fromhex(sha256)), path)
        return data

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """Yield bytes that the server keeps, as they come, and raise at their end unless they are the ones that it has.

        The request is repeated until the first of them come, and not from there on.

        Raises:
            ServerUnreachable: no answer came in time, or it broke off.
            BlobMismatch: others have come than the server has.
            PerdureError: as for `send`.
        """
        request = _Request("GET", path, {"accept": "*/*"}, None, None, _time_for(limits.BLOB_MAX))
        answer = await self._until(lambda: self._with_token(request, self._begin), None)
        found = hashlib.sha256()
        try:
            async for chunk in answer.content.iter_chunked(limits.BLOB_PART):
                found.update(chunk)
                yield chunk
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unreachable(request, self.url, error) from None
        finally:
            answer.close()
        _check_whole(found.digest(), answer.headers.get(_DIGEST, ""), path)

    async def _until_answered(self, request: _Request, patience: Micros | None) -> bytes:
        return await self._until(lambda: self._with_token(request, self._ask), patience)

    async def _until(self, ask: Callable[[], Awaitable[T]], patience: Micros | None) -> T:
        """Repeat a request while that may help."""
        until = self.clock.now() + (self._patience if patience is None else patience)
        pause = limits.CLIENT_RETRY_US
        while True:
            try:
                return await ask()
            except _Refusal as refused:
                left = until - self.clock.now()
                if not refused.repeat or left <= 0 or refused.wait > left:
                    raise refused.error from None
                await sleep(self.clock, min(left, max(refused.wait, self._varied(pause))))
                pause = min(2 * pause, limits.CLIENT_RETRY_MOST_US)

    def _varied(self, pause: Micros) -> Micros:
        chance = int.from_bytes(self._randomness(2)) / _CHANCES
        return round(pause * (1 - chance / 2))

    async def _with_token(self, request: _Request, ask: Callable[[_Request, str | None], Awaitable[T]]) -> T:
        token = await self._tokens.get()
        for _ in range(2):
            try:
                return await ask(request, token)
            except _Refusal as refused:
                if refused.status != _UNAUTHORIZED or not await self._tokens.renew(token):
                    raise
                token = await self._tokens.get()
        raise AssertionError("the second answer is given in any case")

    async def _ask(self, request: _Request, token: str | None) -> bytes:
        answer = await self._begin(request, token)
        try:
            return await _read(answer, request)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _Refusal(_unreachable(request, self.url, error), status=0, repeat=True) from None
        finally:
            answer.close()

    async def _begin(self, request: _Request, token: str | None) -> aiohttp.ClientResponse:
        """Return an answer that says yes, of which nothing is read yet."""
        if self._closed:
            raise UsageError("this client is closed; make another one")
        session = self._session = self._session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # a request that waits at the server keeps no other from being sent
            timeout=aiohttp.ClientTimeout(total=None),
        )
        seconds = limits.CLIENT_ANSWER_SECONDS + request.wait / SECOND
        try:
            answer = await session.request(
                request.method,
                URL(str(URL(self.url)).rstrip("/") + request.path, encoded=True),  # as it is: `..` may be an id
                params=list(_params(request.query or {})),
                data=request.body,
                headers=_with(request.headers, token),
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=limits.CLIENT_CONNECT_SECONDS),
                ssl=self._ssl,
                allow_redirects=False,
            )
            if answer.status < 300:  # noqa: PLR2004  # the answers that say yes
                return answer
            try:
                raise await _refused(answer, request)
            finally:
                answer.close()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _Refusal(_unreachable(request, self.url, error), status=0, repeat=True) from None


def _params(query: Query) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        if isinstance(value, str | int):
            yield name, str(value)
        else:
            yield from ((name, each) for each in value or ())


def _unreachable(request: _Request, url: str, error: Exception) -> ServerUnreachable:
    # The text of aiohttp's errors may hold the URL; ours holds host and path only.
    return ServerUnreachable(f"{request.method} {request.path}: no answer from {url}: {type(error).__name__}")


async def _read(answer: aiohttp.ClientResponse, request: _Request) -> bytes:
    """Return the body of an answer, if it is no longer than it may be. Raises _Refusal."""
    text = bytearray()
    while not answer.content.at_eof():
        text += await answer.content.read(limits.BLOB_PART)
        if len(text) > request.most:
            too_long = ServerRefused(
                f"{request.method} {request.path}: the answer is longer than {request.most:,} bytes", status=answer.status
            )
            raise _Refusal(too_long, status=answer.status, repeat=False)
    return bytes(text)


async def _refused(answer: aiohttp.ClientResponse, request: _Request) -> _Refusal:
    text = await _read(answer, msgspec.structs.replace(request, most=limits.CLIENT_BODY_MAX))
    retry_after = answer.headers.get("retry-after", "")
    wait_for = int(retry_after) * SECOND if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 6 else 0  # noqa: PLR2004  # a day
    error = _error_of(text, answer.status, f"{request.method} {request.path}")
    return _Refusal(error, status=answer.status, repeat=answer.status in limits.HTTP_REPEATED, wait=wait_for)


def _time_for(size: int) -> Micros:
    """Return how long so many bytes may be on their way."""
    return size * SECOND // limits.CLIENT_RATE


def _check_whole(found: bytes, expected: str, path: str) -> None:
    if digest_header(found) != expected:
        raise BlobMismatch(f"{path}: expected bytes with the digest {expected!r}, those that came have {digest_header(found)!r}")


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
    # These are told of with what their attributes were in the text; an ImportError keeps its text elsewhere, and is never told.
    told = kind is PayloadTooLarge or (kind.__module__ == errors.packages.__name__ and not issubclass(kind, ImportError))
    found = {kind.code: kind} if told or kind.__init__ is Exception.__init__ else {}
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
    return kind(problem.detail) if kind.__init__ is Exception.__init__ else _told(kind, problem.detail)


def _told(kind: type[PerdureError], text: str) -> PerdureError:
    """Return the server's own error: what its attributes were stands in its text only."""
    given = inspect.signature(kind.__init__).parameters.values()
    error = kind(
        **{one.name: _EMPTY[str(one.annotation).partition("[")[0]] for one in given if one.name != "self" and one.default is one.empty}
    )
    error.args = (text,)
    return error


_EMPTY: Final[Mapping[str, Any]] = {"str": "", "str | None": None, "int": 0, "Sequence": (), "Mapping": {}}
"""Values of parameters of errors by the names of their types."""


def _quoted(key: str) -> str:
    """Return an idempotency key as a header says it, a string of RFC 9651. Raises UsageError."""
    plain = isinstance(key, str) and key.isascii() and key.isprintable()
    if not plain or not 1 <= len(key) <= limits.IDEMPOTENCY_KEY_MAX:
        raise UsageError(f"key: expected 1 to {limits.IDEMPOTENCY_KEY_MAX} printable characters of ASCII, found {key!r:.{limits.REPR_MAX}}")
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _checked_patience(seconds: float) -> Micros:
    if not isinstance(seconds, int | float) or not 0 <= seconds * SECOND <= limits.DURATION_MAX:  # in this form, NaN is refused
        raise UsageError(f"patience: expected seconds, 0 or more, found {seconds!r:.{limits.REPR_MAX}}")
    return round(seconds * SECOND)


def _checked_url(url: str) -> str:
    if not isinstance(url, str):
        raise UsageError(f"url: expected text, found {type(url).__name__}")
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
    if "?" in url or "#" in url:
        raise UsageError("url: expected no query and no fragment")
    return url.rstrip("/")

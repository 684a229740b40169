"""Sends requests, and says for sure what surely did not arrive.

Each request has a connection of its own: on a kept one, a server that just closed it looks like one that broke off.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from perdure import limits
from perdure.clock import Clock
from perdure.errors import PayloadTooLarge, TargetRefused, UsageError
from perdure.headers import JSON_TYPE
from perdure.sending.outcomes import Accepted, Ambiguous, Outcome, Reason, Refused, outcome_of
from perdure.sending.targets import Allowed, Target, redacted

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Return the addresses of a name, for a port. Raises OSError."""

_OK: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OURS: Final = frozenset({"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


class Sender:
    """Posts to targets, at most `limits.SEND_CONNECTIONS` at a time. It belongs to one event loop, and keeps nothing open.

    Args:
        clock: for a Retry-After that is a date.
        allowed: what may be sent to beyond the public internet.
        tls: how certificates are verified; by the system's authorities when not given.
        resolve: looks up a name; the system's way when not given.
    """

    def __init__(
        self, *, clock: Clock, allowed: Allowed | None = None, tls: ssl.SSLContext | None = None, resolve: Resolve | None = None
    ) -> None:
        self._clock = clock
        self._allowed = allowed or Allowed()
        self._tls = tls
        self._resolve = resolve or _system_resolve
        self._places = asyncio.Semaphore(limits.SEND_CONNECTIONS)

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float,  # noqa: ASYNC109  # its end is an outcome, no error
        answer_max: int = 0,
    ) -> Outcome:
        """Post a body, and return what became of it. Redirects are not followed.

        Args:
            url: of the target; http or https, without userinfo.
            headers: beside those that HTTP itself needs.
            body: byte for byte.
            timeout: seconds for all of it: its turn, looking up the name, connecting, sending, and the answer's headers.
            answer_max: bytes of JSON that is read with a status of 200, within the same time; of longer ones, one byte more.

        Raises:
            UsageError: a header or the timeout is not of its form.
            PayloadTooLarge: the body is over `limits.SEND_BODY_MAX`.
        """
        request = _Request(_checked_headers(headers), body, shown=redacted(url), answer_max=answer_max)
        _check_size(body, timeout)
        try:
            async with asyncio.timeout(timeout):
                async with self._places:
                    return await self._posted(url, request)
        except TargetRefused as error:
            return Refused(reason="target", detail=str(error))
        except TimeoutError:
            return request.lost("timed-out", f"no answer within {timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return request.lost(*_cause(error))

    async def _posted(self, url: str, request: _Request) -> Outcome:
        target = self._allowed.target(url)
        addresses = [str(target.address)] if target.address is not None else await self._addresses(target)
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(request.connected)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Fixed(addresses), socket_factory=_only(addresses), use_dns_cache=False, force_close=True, ssl=self._tls or True
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "perdure"},
            max_field_size=limits.SEND_ANSWER_HEADERS_MAX,
            max_line_size=limits.SEND_ANSWER_HEADERS_MAX,
            read_bufsize=limits.SEND_ANSWER_MAX,
            skip_auto_headers=("Content-Type", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # there is one around all of it
            trace_configs=[trace],
        ) as session:
            response = await session.post(
                yarl.URL(target.url, encoded=True), headers=request.headers, data=request.body, allow_redirects=False
            )
            with contextlib.closing(response):
                retry_after = response.headers.get("Retry-After")
                request.outcome = outcome_of(response.status, retry_after, now=self._clock.now(), shown=target.shown)
                if request.answer_max and response.status == _OK and response.content_type == JSON_TYPE:
                    request.outcome = Accepted(response.status, await _read(response, request.answer_max + 1))
                else:
                    await _drop_body(response)
        return request.outcome

    async def _addresses(self, target: Target) -> list[str]:
        """Return the addresses of a name that may be sent to. Raises TargetRefused when none may, OSError when it has none."""
        found = (await self._resolve(target.host, target.port))[: limits.SEND_ADDRESSES_MAX]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        allowed: list[str] = []
        refusals: list[TargetRefused] = []
        for text in found:
            try:
                self._allowed.check(target, ipaddress.ip_address(text))
            except TargetRefused as error:
                refusals.append(error)
            else:
                allowed.append(text)
        if not allowed:
            raise refusals[0]
        return allowed


class _Request:
    """A request under way, and how far it has come."""

    def __init__(self, headers: dict[str, str], body: bytes, *, shown: str, answer_max: int) -> None:
        self.answer_max = answer_max
        self.headers = headers
        self.body = body
        self.outcome: Outcome | None = None
        self._shown = shown
        self._begun = False

    async def connected(self, *_: object) -> None:
        """Note that sending begins: aiohttp calls this behind the TLS handshake, before the first byte of the request."""
        self._begun = True

    def lost(self, reason: Reason, detail: str) -> Outcome:
        """Return the outcome of a request that ended without one, by how far it had come."""
        if self.outcome is not None:
            return self.outcome  # the status was there, and says it; what broke was the rest of the answer
        if self._begun:
            return Ambiguous(
                reason="timed-out" if reason == "timed-out" else "cut-off", detail=f"{self._shown}: {detail}, after sending began"
            )
        return Refused(reason=reason, detail=f"{self._shown}: {detail}; nothing was sent", retryable=reason not in {"tls", "target"})


class _Fixed(AbstractResolver):
    """Gives a connection the addresses that were checked, and no others: the name is not looked up again."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:  # noqa: ARG002  # each address tells its own
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        return


def _only(addresses: Sequence[str]) -> Callable[[Any], socket.socket]:
    """Return what makes the sockets of one request. It is the last to see where one goes, however the URL was read on the way."""
    checked = {ipaddress.ip_address(address) for address in addresses}

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if ipaddress.ip_address(address[0]) not in checked:
            raise PermissionError("an address that was not checked")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003  # the flag is all that it takes
        return made

    return make


async def _system_resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    found = bytearray()
    while len(found) < most and (chunk := await response.content.read(most - len(found))):
        found += chunk
    return bytes(found)


async def _drop_body(response: aiohttp.ClientResponse) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):  # the status was there, and the body is not looked at
        async with asyncio.timeout(limits.SEND_ANSWER_SECONDS):
            left = limits.SEND_ANSWER_MAX
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)


def _cause(error: Exception) -> tuple[Reason, str]:
    """Return why a request ended, without what the target said."""
    match error:
        case socket.gaierror():
            return "name-not-found", "the name has no address"
        case aiohttp.ClientConnectorCertificateError():
            said = getattr(error.certificate_error, "verify_message", "") or "it is not for this host"
            return "tls", f"the certificate cannot be trusted ({said})"
        case aiohttp.ClientSSLError():
            return "tls", "no TLS connection could be made"
        case aiohttp.InvalidURL() | ValueError():
            return "target", "the URL cannot be used"
        case _:
            refused = isinstance(getattr(error, "os_error", None), ConnectionRefusedError)
            return "not-connected", "the connection was refused" if refused else "no connection could be made"


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise UsageError(f"header {ascii(name)[: limits.REPR_MAX]}: expected a name of HTTP, and none that belongs to the connection")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise UsageError(f"header {name}: a value is printable ASCII")
    if (size := sum(len(name) + len(value) + 4 for name, value in headers.items())) > limits.SEND_HEADERS_MAX:
        raise UsageError(f"headers of {size:,} characters, the limit is {limits.SEND_HEADERS_MAX:,}")
    return dict(headers)


def _check_size(body: bytes, timeout: float) -> None:
    if len(body) > limits.SEND_BODY_MAX:
        raise PayloadTooLarge("body of a request", size=len(body), limit=limits.SEND_BODY_MAX)
    if not 0 < timeout <= limits.SEND_SECONDS_MAX:
        raise UsageError(f"timeout {timeout!r}: expected more than 0 and at most {limits.SEND_SECONDS_MAX:g} seconds")

"""HTTP as it comes from the network: heads and their time are bounded before anything of them is looked at.

uvicorn has neither a limit for a head as a whole nor one for the time that it takes to come, and answers what is no HTTP with plain text.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from perdure import limits
from perdure.errors import PerdureError
from perdure.http_errors import BodyMalformed, HeadersTooLarge, RequestTooSlow
from perdure.server.problems import encode, problem_of

_LINGER_SECONDS: Final = 2.0  # for a body that was refused: a connection closed at once loses the answer
_AROUND_HEADER: Final = len(": \r\n")


class Wire(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head = 0  # bytes of the head that is coming
        self._in_head = True
        self._alarm: asyncio.TimerHandle | None = None
        self._refused: PerdureError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Begin to wait for a head, unless too many are connected."""
        super().connection_made(transport)
        if len(self.connections) > limits.HTTP_CONNECTIONS_MAX:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and refuse a head that has grown too large."""
        if self._in_head:
            self._head += len(data)
            if self._alarm is None and (self.cycle is None or self.cycle.response_complete):
                self._await_head()
        super().data_received(data)
        if self._in_head and self._head > limits.HTTP_HEAD_MAX and not self.transport.is_closing():
            self._refuse(_too_large())

    def on_url(self, url: bytes) -> None:
        """Take in a part of the path."""
        if len(self.url) + len(url) > limits.HTTP_HEAD_MAX:
            self._refused = _too_large()
            raise self._refused
        super().on_url(url)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._sizes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header."""
        self._sizes += len(name) + len(value) + _AROUND_HEADER
        if self._sizes > limits.HTTP_HEAD_MAX:
            self._refused = _too_large()
            raise self._refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head; what has its time from here on is the body, which the application reads."""
        self._in_head = False
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request."""
        self._in_head, self._head = True, 0
        self._wait_no_more()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """After an answer: drop what still comes of a body that was refused, for a moment, and then the connection."""
        super().on_response_complete()
        if not self._in_head and not self.transport.is_closing():
            self._wait_no_more()
            self._alarm = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or what one of the above has refused."""
        self._refuse(self._refused or BodyMalformed(msg))

    def _await_head(self) -> None:
        self._alarm = self.loop.call_later(limits.HTTP_HEAD_SECONDS, self._late)

    def _wait_no_more(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _late(self) -> None:
        self._alarm = None
        if not self.transport.is_closing():
            self._refuse(RequestTooSlow(f"head: it did not arrive within {limits.HTTP_HEAD_SECONDS:g} s"))

    def _refuse(self, error: PerdureError) -> None:
        problem = problem_of(error)
        body = encode(problem)
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"the head of the request is over {limits.HTTP_HEAD_MAX:,} bytes")

"""The engine's end of the sockets between it and a child.

Source: docs/isolation.md.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure import limits
from perdure.engine.apart.frames import Down, Parts, Reply, Up, framed, read_up

logger = logging.getLogger("perdure.engine")
_REPLY: Final[Any] = Reply
CLOSED: Final = "it has closed its socket"


class ChildGone(Exception):
    """The child has ended, or was given up."""


class Channel:
    """Sends frames, waits for replies, and hands on all that comes besides, in its order and outside of any task.

    Args:
        sock: connected to the child; it belongs to the channel from here on.
        loop: the engine's.
        heard: gets each frame that is no reply.
        ended: called once, with the reason, when nothing more can come.
    """

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, *, heard: Callable[[Up], None], ended: Callable[[str], None]
    ) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._loop = loop
        self._heard = heard
        self._ended = ended
        self._parts = Parts()
        self._replies: deque[Up] = deque()
        self._waiting: deque[Up] = deque()
        self.closed = False
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, frame: Down) -> None:
        """Send a frame; what comes meanwhile is read, so that neither side waits for the other for ever. To a child that is gone, nothing is sent."""
        rest = memoryview(framed(frame))
        while rest and not self.closed:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                self._wait(select.POLLIN | select.POLLOUT, limits.APART_CALL_SECONDS)
            except OSError as error:
                self.close(f"it cannot be written to: {error}")

    def call(self, frame: Down) -> Up:
        """Send a frame and return its reply. Raises ChildGone when none comes in time."""
        self._replies.clear()
        self.send(frame)
        until = self._loop.time() + limits.APART_CALL_SECONDS  # also for one that sends anything else without end
        while not (self._replies or self.closed):
            self._wait(select.POLLIN, until - self._loop.time())
        if not self._replies:
            raise ChildGone
        return self._replies.popleft()

    def close(self, reason: str) -> None:
        """Give the child up: nothing more is sent or heard."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._waiting.clear()
        self._loop.call_soon(self._ended, reason)

    def _wait(self, for_what: int, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._sock.fileno(), for_what)
        found = seconds > 0 and poll.poll(seconds * 1000)
        if not found:
            self.close(f"it has not answered within {limits.APART_CALL_SECONDS:g} s")
        elif found[0][1] & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._read()

    def _readable(self) -> None:
        self._read()
        self._hand_on()

    def _read(self) -> None:
        """Take in what is there, but no more than one part: a child that writes without end does not keep the loop."""
        try:
            data = self._sock.recv(limits.APART_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"it cannot be read from: {error}")
            return
        if not data:
            self.close(CLOSED)
            return
        self._parts.put(data)
        try:
            for part in self._parts.frames():
                frame = read_up(part)
                if isinstance(frame, _REPLY):
                    self._replies.append(frame)
                    continue
                if not self._waiting:
                    self._loop.call_soon(self._hand_on)
                self._waiting.append(frame)
        except (ValueError, msgspec.DecodeError) as error:
            self.close(f"it has sent what is no frame: {error}")

    def _hand_on(self) -> None:
        while self._waiting:
            self._heard(self._waiting.popleft())

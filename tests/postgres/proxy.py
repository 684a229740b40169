"""A proxy between a client and a PostgreSQL server that understands their messages, and does harm at the one that a test names.

    async with Proxy(server.port) as proxy:
        cut = proxy.at(answered(writes), Cut())
        async with open_store(proxy.url(url)) as store:
            ...
        assert cut.seen.is_set()

Nothing in it waits for a time: whoever wants to go on after something has happened waits for the event of its `Trap`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple

from tests.postgres.between import Between

_SSL_REQUEST: Final = 80_877_103
_CANCEL_REQUEST: Final = 80_877_102
Side = Literal["client", "server"]


class Message(NamedTuple):
    """One message. `sql` is what it belongs to: the statement that is under way on its link."""

    side: Side
    kind: str
    body: bytes
    raw: bytes
    sql: str


Match = Callable[[Message], bool]


def asked(text: str) -> Match:
    """Match the message that makes the server run a statement with `text` in it."""
    return lambda message: message.side == "client" and message.kind in {"E", "Q"} and text in message.sql


def answered(text: str) -> Match:
    """Match the end of the server's answer to a statement with `text` in it: it is committed, if it was alone."""
    return lambda message: message.side == "server" and message.kind == "Z" and text in message.sql


def told(text: str) -> Match:
    """Match the first message of the server's answer."""
    return lambda message: message.side == "server" and message.kind in {"2", "C"} and text in message.sql


WRITES: Final = "set batch = $1"
FENCES: Final = "returning incarnation, batch"
READS: Final = "clock_timestamp()) * 1000000)::bigint"
BEGINS: Final = "begin; "
COMMITS: Final = "commit"


class Trap:
    """What happens at a message: `seen` is set when it has happened."""

    def __init__(self, match: Match, act: Act, *, nth: int, times: int) -> None:
        self.match = match
        self.act = act
        self.seen = asyncio.Event()
        self.links: list[Link] = []
        self._before = nth - 1
        self._left = times

    async def deliver(self) -> None:
        """Let the server have what the act has held."""
        await self.links[0].deliver()

    def takes(self, message: Message) -> bool:
        """Return whether it is this message's turn."""
        if not self._left or not self.match(message):
            return False
        if self._before:
            self._before -= 1
            return False
        self._left -= 1
        return True


Act = Callable[["Link", Message], Awaitable[bool]]
"""Returns whether the message goes on its way."""


async def cut(link: Link, _message: Message) -> bool:
    """End both connections; the message does not arrive."""
    link.end()
    return False


async def mute(link: Link, _message: Message) -> bool:
    """Let nothing through any more, either way, and let nobody know: a half-open connection."""
    link.muted = True
    return False


async def hold(link: Link, _message: Message) -> bool:
    """Keep what the client sends from here on until `link.deliver`, whether or not the client is still there."""
    link.held = bytearray()
    return True  # into what is held


async def hang_up(link: Link, message: Message) -> bool:
    """As `hold`, and the client's connection breaks at once."""
    await hold(link, message)
    link.send_on(message)
    link.client.transport.abort()
    return False


def refuse(code: str, text: str) -> Act:
    """Answer in the server's place with an error; the server sees nothing of it."""

    async def act(link: Link, message: Message) -> bool:
        fields = b"".join(kind + value.encode() + b"\0" for kind, value in ((b"S", "ERROR"), (b"V", "ERROR"), (b"C", code), (b"M", text)))
        link.client.write(b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0")
        if message.kind == "Q":
            link.client.write(b"Z" + struct.pack("!I", 5) + b"I")
        return False  # the Sync behind it goes on, and the server answers that it is ready

    return act


def after(first: Callable[[], Awaitable[object]], then: Act | None = None) -> Act:
    """Do something at a message; it goes on afterwards."""

    async def act(link: Link, message: Message) -> bool:
        await first()
        return True if then is None else await then(link, message)

    return act


class Link:
    """One client's connection, and the one to the server that was made for it."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self.client = client
        self.server = server
        self.muted = False
        self.encrypted = False
        self.held: bytearray | None = None
        self._prepared: dict[bytes, str] = {}
        self._sql = ""
        self._asked: list[str] = []

    async def deliver(self) -> None:
        """Let the server have what was held."""
        assert self.held is not None, "nothing is held"
        held, self.held = self.held, None
        self.server.write(held)
        await self.server.drain()

    def end(self) -> None:
        """Break both connections."""
        self.muted = True
        for writer in (self.client, self.server):
            writer.transport.abort()

    def server_ended(self) -> None:
        """Let the client know that the server is gone, after what the server has said."""
        if not self.muted:
            self.client.close()

    def send_on(self, message: Message) -> None:
        """Pass a message on."""
        if self.muted:
            return
        if message.side == "server":
            self.client.write(message.raw)
        elif self.held is None:
            self.server.write(message.raw)
        else:
            self.held += message.raw

    async def from_client(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the client sends, until it is gone."""
        started = False
        while True:
            raw = b"" if not started else await reader.readexactly(1)
            length = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", length)[0] - 4)
            kind = raw.decode()
            if not started:
                code = struct.unpack("!I", body[:4])[0]
                kind = {_SSL_REQUEST: "ssl", _CANCEL_REQUEST: "cancel"}.get(code, "start")
                if kind == "ssl":
                    await self._encrypt()
                    continue
                started = True
            await self._pass(Message("client", kind, body, raw + length + body, self._learn(kind, body)))

    async def _encrypt(self) -> None:
        if self._proxy.tls is None:
            self.client.write(b"N")
            return
        self.client.write(b"S")
        await self.client.start_tls(self._proxy.tls)
        self.encrypted = True

    async def from_server(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the server sends, until it is gone."""
        while True:
            raw = await reader.readexactly(5)
            body = await reader.readexactly(struct.unpack("!I", raw[1:])[0] - 4)
            kind = chr(raw[0])
            await self._pass(Message("server", kind, body, raw + body, self._asked[0] if self._asked else ""))
            if kind == "Z" and self._asked:
                del self._asked[0]

    async def _pass(self, message: Message) -> None:
        if self.muted:
            return
        trap = self._proxy.trap_for(message)
        if trap is None:
            self.send_on(message)
            return
        trap.links.append(self)
        if await trap.act(self, message):
            self.send_on(message)
        trap.seen.set()

    def _learn(self, kind: str, body: bytes) -> str:
        """Return the statement that a message of the client is about."""
        if kind == "P":
            name, _, rest = body.partition(b"\0")
            self._sql = self._prepared[name] = rest.partition(b"\0")[0].decode()
        elif kind == "B":
            self._sql = self._prepared.get(body.split(b"\0", 2)[1], "")
        elif kind == "Q":
            self._sql = body.rstrip(b"\0").decode()
        if kind in {"S", "Q", "start"}:  # each is answered by one that the server is ready
            self._asked.append(self._sql)
        return self._sql


class Proxy(Between):
    """Listens on a port of its own for one server; see the module.

    Args:
        server_port: of the server.
        tls: how clients that ask for it are spoken to, encrypted; the way to the server stays plain.
    """

    def __init__(self, server_port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.server_port = server_port
        self.tls = tls
        self.links: list[Link] = []
        self.accepted = 0
        self.refusing = False
        self.deaf = False
        self._traps: list[Trap] = []

    def at(self, match: Match, act: Act, *, nth: int = 1, times: int = 1) -> Trap:
        """Do `act` at the `nth` message that matches, and at those after it, so many `times`."""
        trap = Trap(match, act, nth=nth, times=times)
        self._traps.append(trap)
        return trap

    def trap_for(self, message: Message) -> Trap | None:
        """Return the first whose turn it is."""
        return next((trap for trap in self._traps if trap.takes(message)), None)

    def end_all(self) -> None:
        """Break every connection."""
        for link in self.links:
            link.end()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it is gone."""
        self.accepted += 1
        try:
            if self.deaf:  # it takes connections and says nothing
                await reader.read()
            elif not self.refusing:
                await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):  # a handshake that fails is one, too
            return
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        link = Link(self, writer, to_server)
        self.links.append(link)
        answers = asyncio.create_task(link.from_server(from_server))
        answers.add_done_callback(lambda _: link.server_ended())
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await link.from_client(reader)
            if link.held is not None or link.muted:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await answers  # the server does not hear that the client is gone
            to_server.close()
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await answers
        finally:
            answers.cancel()
            to_server.transport.abort()
            self.links.remove(link)

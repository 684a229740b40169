"""A pooler as they stand before many a PostgreSQL: each transaction gets another connection to the server, and nothing of a session survives one.

It refuses what pgbouncer refuses: settings at the start that it does not know. It leaves nothing behind on a server's
connection either, as pgbouncer does with `server_reset_query_always`: no prepared statements, settings, locks or listeners.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from tests.postgres.between import Between

SERVERS: Final = 3
_KNOWN: Final = frozenset({"user", "database", "application_name", "client_encoding"})
_RESET: Final = b"DISCARD ALL\0"
_SSL_REQUEST: Final = 80_877_103
_CANCEL_REQUEST: Final = 80_877_102


class _Server:
    """One connection to the server, or one that is yet to be made."""

    def __init__(self, port: int, startup: bytes) -> None:
        self._port = port
        self._startup = startup
        self.writer: asyncio.StreamWriter | None = None
        self.greeting = b""

    async def connect(self) -> None:
        if self.writer is not None:
            return
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.writer.write(struct.pack("!I", len(self._startup) + 4) + self._startup)
        self.greeting = await self.until_ready()

    async def message(self) -> tuple[bytes, bytes]:
        head = await self.reader.readexactly(5)
        body = await self.reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
        return head + body, body

    async def until_ready(self) -> bytes:
        found = b""
        while True:
            raw, _ = await self.message()
            found += raw
            if raw[:1] == b"Z":
                return found

    async def reset(self) -> None:
        assert self.writer is not None
        self.writer.write(b"Q" + struct.pack("!I", len(_RESET) + 4) + _RESET)
        await self.until_ready()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
            self.writer = None


class Pooler(Between):
    """Listens on a port of its own for one server; its clients share a few connections per user and database."""

    def __init__(self, server_port: int) -> None:
        super().__init__()
        self._server_port = server_port
        self._pools: dict[bytes, asyncio.Queue[_Server]] = {}
        self._servers: list[_Server] = []
        self.transactions = 0

    async def __aexit__(self, *exception: object) -> None:
        await super().__aexit__(*exception)
        for server in self._servers:
            server.close()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it is gone."""
        try:
            pool = await self._greeted(reader, writer)
            if pool is not None:
                await _Client(self, pool, writer).serve(reader)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> asyncio.Queue[_Server] | None:
        while True:
            length = struct.unpack("!I", await reader.readexactly(4))[0]
            startup = await reader.readexactly(length - 4)
            code = struct.unpack("!I", startup[:4])[0]
            if code == _CANCEL_REQUEST:
                return None
            if code != _SSL_REQUEST:
                break
            writer.write(b"N")
        words = startup[4:].rstrip(b"\0").decode().split("\0")
        if unknown := set(words[::2]) - _KNOWN:
            text = f"unsupported startup parameter: {min(unknown)}".encode()
            fields = b"SFATAL\0VFATAL\0C08P01\0M" + text + b"\0\0"
            writer.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
            return None
        pool = self._pools.get(startup)
        if pool is None:
            pool = self._pools[startup] = asyncio.Queue()
            for _ in range(SERVERS):
                self._servers.append(_Server(self._server_port, startup))
                pool.put_nowait(self._servers[-1])
        server = await pool.get()
        try:
            await server.connect()
            writer.write(server.greeting)
        finally:
            pool.put_nowait(server)
        return pool


class _Client:
    def __init__(self, pooler: Pooler, pool: asyncio.Queue[_Server], writer: asyncio.StreamWriter) -> None:
        self._pooler = pooler
        self._pool = pool
        self._writer = writer
        self._server: _Server | None = None

    async def serve(self, reader: asyncio.StreamReader) -> None:
        waiting = b""
        try:
            while True:
                head = await reader.readexactly(5)
                waiting += head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                if head[:1] == b"X":
                    return
                if head[:1] in {b"H", b"Q", b"S"}:
                    if self._server is None:
                        await self._lend()
                    assert self._server is not None
                    assert self._server.writer is not None
                    self._server.writer.write(waiting)
                    waiting = b""
        finally:
            if self._server is not None:  # in the middle of a transaction: the server is to undo it
                self._server.close()

    async def _lend(self) -> None:
        server = await self._pool.get()
        try:
            await server.connect()
        except BaseException:
            server.close()
            self._pool.put_nowait(server)
            raise
        self._server = server
        self._pooler.transactions += 1
        self._pooler.start(self._relay(server))

    async def _relay(self, server: _Server) -> None:
        """Pass on what the server says until its transaction is over; then it is somebody else's."""
        try:
            while True:
                raw, body = await server.message()
                if server.writer is None:
                    return  # it was closed meanwhile
                if raw[:1] == b"Z" and body == b"I":
                    await server.reset()
                    self._server = None
                    self._writer.write(raw)
                    return
                self._writer.write(raw)
        except (OSError, asyncio.IncompleteReadError):
            server.close()
            self._writer.close()
        finally:
            self._pool.put_nowait(server)

"""The server on a socket of its own, on the event loop of its engine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from perdure import limits
from perdure.clock import sleep
from perdure.errors import ConfigInvalid, StoreError
from perdure.server.application import Application
from perdure.server.table import ROUTES
from perdure.server.wire import Wire

if TYPE_CHECKING:
    from perdure.engine.engine import Engine

logger = logging.getLogger("perdure.server")
_BACKLOG: Final = 2_048
_LOOK_SECONDS: Final = 0.001  # between looks at what is still under way at a stop, doubled each time
_LOOK_MOST_SECONDS: Final = 0.1
_DATE_SECONDS: Final = 1.0  # how old the date of an answer may be


class _Embedded(uvicorn.Server):
    """A uvicorn that leaves signals to its host, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self._leaves = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.listens.set()

    async def main_loop(self) -> None:
        """Keep the date of answers right until it is to leave, which is noticed at once and not within 100 ms."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaves.wait(), _DATE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and return when the last connection is closed: soon, where uvicorn looks each 100 ms, the first time after that."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        state, pause = self.server_state, _LOOK_SECONDS
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(limits.HTTP_STOP_SECONDS):
                while state.connections or state.tasks:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LOOK_MOST_SECONDS)
        except TimeoutError:
            logger.warning("%d requests were not finished within %g s; they are called off", len(state.tasks), limits.HTTP_STOP_SECONDS)
            for task in state.tasks:
                task.cancel()
            for connection in list(state.connections):
                connection.transport.abort()

    def leave(self) -> None:
        """Accept nothing more, and end when nothing is under way."""
        self.should_exit = True
        self._leaves.set()


class Server:
    """A server that runs.

    Attributes:
        url: where it listens, `http://127.0.0.1:8080`.
        application: what answers.
    """

    def __init__(self, url: str, application: Application) -> None:
        self.url = url
        self.application = application


@asynccontextmanager
async def serving(
    engine: Engine, *, host: str = "127.0.0.1", port: int = 0, dev: bool = False, tls_cert: str | None = None, tls_key: str | None = None
) -> AsyncIterator[Server]:
    """Serve an open engine over HTTP, from `async with` to the end of its block.

    At the end nothing more is accepted, requests under way are finished, for some 20 s at most, and long polls and streams end at once.

    Args:
        engine: that is open, on this event loop.
        host: name or address to listen on.
        port: 0 takes a free one.
        dev: no tokens are asked for; on loopback only.
        tls_cert: file of the certificate and its chain, PEM; with it, only TLS is spoken.
        tls_key: file of its key, PEM, if that is not in the same file.

    Raises:
        ConfigInvalid: `dev` beyond loopback, or a certificate that cannot be used.
        OSError: the address cannot be listened on.
    """
    if dev and not is_loopback(host):
        raise ConfigInvalid(
            f"dev: without tokens only loopback is served, found the host {host!r}; make tokens with `perdure token create`"
        )
    context = None if tls_cert is None else _tls(tls_cert, tls_key)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # Connections inherit it; asyncio sets it on those of sockets that it has made itself. Without, an answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    application = Application(engine, ROUTES, dev=dev)
    settings: dict[str, Any] = {
        "http": Wire,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": limits.HTTP_IDLE_SECONDS,
        "backlog": _BACKLOG,
    }
    config = uvicorn.Config(application, **settings)
    config.load()
    config.ssl = context
    server = _Embedded(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    sweeping = asyncio.create_task(_sweep(engine))
    listens = asyncio.create_task(server.listens.wait())
    try:
        await asyncio.wait((task, listens), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        yield Server(f"{'http' if context is None else 'https'}://{shown}:{listener.getsockname()[1]}", application)
    finally:
        listens.cancel()
        sweeping.cancel()
        application.stopping.set()
        server.leave()
        await task
        await asyncio.gather(sweeping, listens, return_exceptions=True)
        listener.close()


async def _sweep(engine: Engine) -> None:
    """Evict, every hour, the answers to requests whose time is over, and forget the keys that were evicted long ago."""
    clock, operations = engine.clock, engine.store.operations
    while True:
        await sleep(clock, limits.IDEMPOTENCY_SWEEP_US)
        try:
            await operations.sweep(clock.now())
            await operations.forget(clock.now())
        except StoreError as error:
            logger.warning("old answers were not swept, [%s]; the next sweep goes on", error.code)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(cert: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(f"tls_cert, tls_key: {cert!r} and {key!r} cannot be used: {error}") from error
    return context

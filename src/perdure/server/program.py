"""`perdure serve`, from its configuration to its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from perdure.engine.app import App
from perdure.engine.engine import Engine
from perdure.errors import ConfigInvalid
from perdure.server.config import Config
from perdure.server.serving import is_loopback, serving
from perdure.store import Store, open_store

logger = logging.getLogger("perdure.server")


def _engine(store: Store, app: App, config: Config) -> Engine:
    return Engine(store, app, push_allowed=config.allowed, trust=config.trust, strict=config.strict)


async def serve(config: Config, app: App, *, say: Callable[[str], None]) -> None:
    """Serve an app until SIGTERM or SIGINT; then finish what is under way, and close engine and store.

    Raises:
        ConfigInvalid: it cannot be served so.
        StoreError, EngineRunning: the store cannot be opened, or another engine runs its processes.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if config.tls_cert is None and not is_loopback(config.host):
        logger.warning("%s is served without TLS: let something before it speak TLS, or give --tls-cert", config.host)
    async with open_store(config.store) as store, _engine(store, app, config) as engine:
        try:
            async with serving(
                engine, host=config.host, port=config.port, dev=config.dev, tls_cert=config.tls_cert, tls_key=config.tls_key
            ) as server:
                say(f"listening on {server.url}")
                await stop.wait()
        except OSError as error:
            raise ConfigInvalid(f"host, port: {config.host}:{config.port} cannot be listened on: {error}") from error

"""Notices between nodes: that something was committed. They are hints; whoever waits also looks from time to time."""
# ruff: noqa: S608  # the schema's name is checked, values are bound

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from perdure import limits
from perdure.backends.postgres.address import Address, channel_of
from perdure.backends.postgres.connection import Lost, Session, Unreachable
from perdure.backends.postgres.statements import LANE

logger = logging.getLogger("perdure.postgres")
NOTIFY: Final = "select pg_notify($1, $2)"


class Notices:
    """Tells other nodes of our commits, and us of theirs, on a connection of its own, which no batch waits for.

    While nobody waits for anything here there is no connection. Behind a pooler that gives each transaction another
    connection nothing can be listened to: there is only the look from time to time.
    """

    def __init__(self, address: Address, node: str) -> None:
        self._address = address
        self._session = Session(address)
        self._outgoing = Session(address)
        self._node = node
        self._channel = channel_of(address.schema)
        self._on_change: Callable[[], None] = lambda: None
        self._on_topics: Callable[[tuple[str, ...]], None] = lambda _topics: None
        self._topics: dict[str, None] = {}
        self._watching: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._untold = asyncio.Event()
        self._seen: tuple[Any, ...] = ()
        self._alone = False  # at the last look; who comes says so
        self._heard = 0

    def watch(self, listeners: int, on_change: Callable[[], None], on_topics: Callable[[tuple[str, ...]], None]) -> None:
        """Tell of commits of other nodes while somebody listens: of their topics as they come, and from time to time of anything at all."""
        self._on_change, self._on_topics = on_change, on_topics
        if listeners and self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(), name="perdure-notices")
        elif not listeners and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def committed(self, topics: tuple[str, ...]) -> None:
        """Tell the others, soon, of topics of a commit of ours."""
        self._topics.update(dict.fromkeys(topics))
        self._untold.set()
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell(), name="perdure-tells")

    async def close(self) -> None:
        """Tell what is untold, stop, and let go of whoever waits."""
        here = asyncio.get_running_loop()  # what belongs to another loop has ended with it
        tasks = [task for task in (self._watching, self._telling) if task is not None and task.get_loop() is here]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._telling in tasks and self._untold.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.POSTGRES_CONNECT_SECONDS):
                    await self._notify()
        await self._outgoing.close()
        await self._session.close()
        self._on_change()  # whoever waits for a commit would wait for ever

    async def _watch(self) -> None:
        listening: Any = None
        try:
            while True:
                try:
                    connection = await self._session.connected()
                    if connection is not listening and not self._address.pooler:
                        async with asyncio.timeout(limits.POSTGRES_ANSWER_SECONDS):
                            await connection.add_listener(self._channel, self._hear)
                        listening = connection
                        await self._session.rows(NOTIFY, (self._channel, self._node))
                    if await self._others():
                        self._on_change()
                except (Lost, Unreachable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                    logger.info("%s: looking for commits of other nodes: %s", self._address.place, error)
                    self._session.drop()
                    self._alone = False
                await asyncio.sleep(limits.POSTGRES_POLL_MS / 1000)
        finally:
            self._session.drop()
            self._alone = False

    async def _others(self) -> bool:
        """Return whether other nodes have committed anything since the last look."""
        sql = (
            "select coalesce(sum(batch + incarnation), 0)::bigint, count(*), count(*) filter (where node <> '' "
            f"and node not like '{LANE}%') from {self._address.schema}.writer where node <> $1"
        )
        heard = self._heard
        seen: tuple[Any, ...] = tuple((await self._session.rows(sql, (self._node,)))[0])
        changed, self._seen = seen != self._seen, seen
        self._alone = not seen[2] and heard == self._heard
        return changed

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        node, _, topics = str(payload).partition("\n")
        if node == self._node:
            return
        self._alone = False
        self._heard += 1
        if topics:
            self._on_topics(tuple(topics.split("\n")))
        else:
            self._on_change()

    async def _tell(self) -> None:
        while True:
            await self._untold.wait()
            await asyncio.sleep(limits.POSTGRES_NOTICE_MS / 1000)
            await self._notify()

    async def _notify(self) -> None:
        self._untold.clear()
        payload = "\n".join([self._node, *self._topics])
        self._topics.clear()
        if self._alone:
            return
        if len(payload.encode()) > limits.POSTGRES_NOTICE_BYTES:
            payload = self._node  # without topics it is about anything
        try:
            await self._outgoing.rows(NOTIFY, (self._channel, payload))
        except (Lost, Unreachable, asyncpg.PostgresError) as error:
            logger.info("%s: telling of a commit: %s", self._address.place, error)

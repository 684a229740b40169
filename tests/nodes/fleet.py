"""Nodes that are started, killed and stopped: processes of their own, on one database."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from tests.gate.tree import ROOT

LOOK = 0.05
PATIENCE = 1_200  # looks at rows and files until something is taken for never: a minute


class Node:
    """One of them, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process, said: Path) -> None:
        self.process = process
        self._said = said

    @property
    def lines(self) -> list[list[str]]:
        """What it has said; a line that was cut by its end does not count."""
        return [line.split() for line in self._said.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def said(self, word: str) -> list[str]:
        return [line[1] for line in self.lines if line[0] == word and line[1:]]

    @property
    def name(self) -> str:
        [name] = self.said("node")
        return name

    def signal(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)


class Fleet:
    """The nodes of one database, and how long each takeover took."""

    def __init__(self, url: str, folder: Path, pool: asyncpg.Pool[Any], *, program: str, more: Sequence[str]) -> None:
        self.url = url
        self.through = url
        self.nodes: list[Node] = []  # that run
        self.all: list[Node] = []
        self.takeovers: list[float] = []
        self._folder = folder
        self._numbers = itertools.count()
        self._pool = pool
        self._program = program
        self._more = more

    async def start(self) -> Node:
        """Start one; it has said its name when this returns."""
        name = f"n{next(self._numbers)}"
        said = self._folder / f"said by {name}"
        with said.open("wb") as output, (self._folder / "errors").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._program, self.through, self.url, name, *self._more,
                cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=output, stderr=errors,
            )  # fmt: skip
        node = Node(process, said)
        self.all.append(node)
        await self.comes(lambda: node.said("node"), node)
        self.nodes.append(node)
        return node

    def kill(self, node: Node) -> Coroutine[Any, Any, None]:
        """End it at once; what this returns waits until others have all that it owned."""
        self.nodes.remove(node)
        since = time.time()
        node.signal(signal.SIGKILL)
        return self._killed(node, since)

    async def _killed(self, node: Node, since: float) -> None:
        await node.process.wait()
        await self._taken_over(await self.owned(node), node, since)

    async def stand_still(self, node: Node) -> None:
        """Stop it until others have all that it owned, and let it go on."""
        owned, since = await self.owned(node), time.time()
        node.signal(signal.SIGSTOP)
        try:
            await self._taken_over(owned, node, since)
        finally:
            node.signal(signal.SIGCONT)

    async def owned(self, node: Node) -> list[int]:
        return [shard for (shard,) in await self._pool.fetch("select shard from perdure.shard where node = $1", node.name)]

    async def _taken_over(self, shards: list[int], node: Node, since: float) -> None:
        sql = "select count(*) from perdure.shard where shard = any($1::bigint[]) and (node is null or node = $2)"
        for _ in range(PATIENCE):
            if not await self._pool.fetchval(sql, shards, node.name):
                break
            await asyncio.sleep(LOOK)
        else:
            raise AssertionError(f"shards of {node.name} were not taken over: {self.errors}")
        if shards:
            self.takeovers.append(time.time() - since)

    async def share(self) -> None:
        """Wait until all that run own something."""
        for node in list(self.nodes):
            for _ in range(PATIENCE):
                if node not in self.nodes or await self.owned(node):  # it may be killed meanwhile
                    break
                await asyncio.sleep(LOOK)
            else:
                raise AssertionError(f"{node.name} owns nothing: {self.errors}")

    async def work(self, count: int) -> None:
        """Wait until so many more messages were answered at each."""
        for node in self.nodes:
            before = len(node.said("reply"))
            await self.comes(lambda node=node, before=before: len(node.said("reply")) >= before + count, node)  # type: ignore[misc]

    async def comes(self, condition: Callable[[], object], node: Node) -> None:
        for _ in range(PATIENCE):
            if condition():
                return
            assert node.process.returncode is None, f"a node has ended by itself: {self.errors}"
            await asyncio.sleep(LOOK)
        raise AssertionError(f"it never came to that: {node.lines[-3:]} {self.errors}")

    async def rest(self) -> None:
        """Let those that run answer what they have begun, and begin nothing more."""
        for node in self.nodes:
            assert node.process.stdin
            node.process.stdin.write(b"enough\n")
        for node in self.nodes:
            await self.comes(lambda node=node: ["quiet"] in node.lines, node)  # type: ignore[misc]

    @property
    def acknowledged(self) -> set[str]:
        return {name for node in self.all for name in [*node.said("ack"), *node.said("reply")]}

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_text()[-3_000:]

    async def close(self) -> None:
        for node in self.nodes:
            with suppress(ProcessLookupError):  # it has ended by itself
                node.signal(signal.SIGCONT)
            assert node.process.stdin
            node.process.stdin.close()
        for node in self.nodes:
            await node.process.wait()

    async def end(self) -> None:
        for node in self.all:
            if node.process.returncode is None:
                node.signal(signal.SIGKILL)
                await node.process.wait()


@asynccontextmanager
async def fleet(
    url: str, folder: Path, *, lease: float, through: str | None = None, program: str = "tests.nodes.node", more: Sequence[str] = ()
) -> AsyncIterator[Fleet]:
    """Three nodes that run, each with a share; `through` is where they reach the database, if not at its own address."""
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        nodes = Fleet(url, folder, pool, program=program, more=[str(lease), *more])
        nodes.through = through or url
        try:
            await asyncio.gather(*(nodes.start() for _ in range(3)))
            await nodes.share()
            yield nodes
        finally:
            await nodes.end()

"""A worker that is killed and stopped: `python -m tests.commands.worker_program URL NAME`."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import msgspec

from perdure import CommandContext, Worker

LEASE = timedelta(seconds=5)
SLOTS = 4
PAUSE = 0.02  # seconds that each command takes


class Done(msgspec.Struct):
    """Which command it was, in which attempt, and who did it."""

    n: int
    attempt: int
    worker: str


def worker_named(url: str, name: str, *, pause: float = PAUSE) -> Worker:
    worker = Worker(url, deployment="acme", max_concurrency=SLOTS, lease=LEASE, name=name)

    @worker.command("work")
    async def work(context: CommandContext, n: int) -> Done:
        await asyncio.sleep(pause)
        return Done(n, context.attempt, name)

    return worker


if __name__ == "__main__":
    worker_named(sys.argv[1], sys.argv[2]).run()

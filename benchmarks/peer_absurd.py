"""Absurd in its own environment: `URL defaults|tuned CLIENTS SECONDS WARM_UP`. Clients and workers are one process."""

import asyncio
import sys
from functools import partial

from absurd_sdk import AsyncAbsurd, AsyncTaskContext

from benchmarks.loop import closed_loop, load_of, say

QUEUE = "bench"
OVER = {"completed", "failed", "cancelled"}
WORKERS = 8
url, settings = sys.argv[1:3]
load = load_of(sys.argv)
# Seconds. All clients ask the database that does the work: 64 that poll each 10 ms had 60 results a second, each 100 ms 155.
POLL = 0.002 * load.clients
WORKERS_POLL = max(0.002, POLL / 8)


async def number(value: int) -> int:
    return value


async def four(params: int, context: AsyncTaskContext) -> int:
    for step in range(4):
        await context.step(f"step {step}", partial(number, step))
    return params


def connected() -> AsyncAbsurd:
    """Return an application with a connection of its own: one holds a single connection, and waits in line for it."""
    app = AsyncAbsurd(url, queue_name=QUEUE)
    app.register_task(name="four")(four)
    return app


async def call(free: asyncio.LifoQueue[AsyncAbsurd], value: int) -> None:
    client = await free.get()
    spawned = await client.spawn("four", value)
    if settings == "defaults":
        found = await client.await_task_result(spawned["task_id"], timeout=60)
    else:
        # The SDK's own wait begins with 50 ms, and doubles.
        while (found := await client.fetch_task_result(spawned["task_id"])) is None or found.state not in OVER:  # noqa: ASYNC110  # a task tells nobody of its end
            await asyncio.sleep(POLL)
    assert found.state == "completed", found
    free.put_nowait(client)


async def main() -> None:
    free: asyncio.LifoQueue[AsyncAbsurd] = asyncio.LifoQueue()
    for _ in range(load.clients):
        free.put_nowait(connected())
    count = min(load.clients, WORKERS)
    options = {} if settings == "defaults" else {"poll_interval": WORKERS_POLL}
    workers = [connected() for _ in range(count)]
    running = [
        asyncio.create_task(worker.start_worker(worker_id=f"w{n}", concurrency=-(-load.clients // count), **options))
        for n, worker in enumerate(workers)
    ]
    result = await closed_loop(partial(call, free), load)
    for worker in workers:
        worker.stop_worker()
    await asyncio.gather(*running)
    say(**result)


asyncio.run(main())

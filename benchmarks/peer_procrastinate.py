"""Procrastinate in its own environment: `URL defaults|tuned CLIENTS SECONDS WARM_UP`. Client and worker are one process.

A job has no steps and no result: four jobs, each of which defers the next one; the last one resolves a future of the client.
"""

import asyncio
import sys

from procrastinate import App, PsycopgConnector

from benchmarks.loop import closed_loop, load_of, say

url, settings = sys.argv[1:3]
load = load_of(sys.argv)
OPTIONS = {} if settings == "defaults" else {"fetch_job_polling_interval": 0.05, "delete_jobs": "always"}
LAST = 3

app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=min(load.clients, 16) + 4))
waiting: dict[int, asyncio.Future[int]] = {}


@app.task
async def job(value: int, step: int) -> None:
    if step < LAST:
        await job.defer_async(value=value, step=step + 1)
    else:
        waiting.pop(value).set_result(value)


async def call(value: int) -> None:
    waiting[value] = asyncio.get_running_loop().create_future()
    over = waiting[value]
    await job.defer_async(value=value, step=0)
    await over


async def main() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(app.run_worker_async(concurrency=load.clients, install_signal_handlers=False, **OPTIONS))
        result = await closed_loop(call, load)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    say(**result)


asyncio.run(main())

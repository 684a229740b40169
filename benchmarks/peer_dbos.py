"""Runs in the peers' environment: DBOS, a workflow of 4 steps, C clients in a closed loop; prints one JSON line."""

import asyncio
import json
import sys
import time
from importlib.metadata import version

from dbos import DBOS

url, clients, seconds, warm_up = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})


@DBOS.step()
async def number(value: int) -> int:
    return value


@DBOS.workflow()
async def four(value: int) -> int:
    for step in range(4):
        await number(step)
    return value


async def main() -> None:
    latencies: list[int] = []
    begin = time.perf_counter()
    measured, end = begin + warm_up, begin + warm_up + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < end:
            await four(1)
            done = time.perf_counter()
            if measured <= done <= end:
                latencies.append(round((done - start) * 1e6))

    await asyncio.gather(*(client() for _ in range(clients)))
    latencies.sort()
    count = len(latencies)
    print(
        json.dumps(
            {
                "benchmark": "workflow of 4 steps",
                "system": "dbos",
                "version": version("dbos"),
                "backend": "sqlite",
                "clients": clients,
                "per_s": round(count / seconds),
                "p50_us": latencies[count // 2] if count else None,
                "p99_us": latencies[int(count * 0.99)] if count else None,
            }
        ),
        flush=True,
    )


DBOS.launch()
asyncio.run(main())
DBOS.destroy()

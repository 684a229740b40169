"""DBOS in its own environment: `URL async|threads CLIENTS SECONDS WARM_UP`. Client and workflows are one process."""

import asyncio
import sqlite3
import sys

from dbos import DBOS

from benchmarks.loop import closed_loop, load_of, say, threaded_loop

url, style = sys.argv[1:3]
load = load_of(sys.argv)
FILE = "sqlite:///"


@DBOS.step()
async def number(value: int) -> int:
    return value


@DBOS.workflow()
async def four(value: int) -> int:
    for step in range(4):
        await number(step)
    return value


@DBOS.step()
def number_in_a_thread(value: int) -> int:
    return value


@DBOS.workflow()
def four_in_a_thread(value: int) -> int:
    for step in range(4):
        number_in_a_thread(step)
    return value


if style == "threads" and url.startswith(FILE):
    # DBOS leaves the journal mode as it finds it, and a rollback journal costs it a third of its rate at one client.
    with sqlite3.connect(url.removeprefix(FILE)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
DBOS.launch()
result = threaded_loop(four_in_a_thread, load) if style == "threads" else asyncio.run(closed_loop(four, load))
DBOS.destroy()
say(**result)

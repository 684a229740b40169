"""One engine node in a process of its own that starts packaged processes: `python -m tests.nodes.caller URL LEDGER NAME LEASE CALLERS`.

It says `node <its name in the database>`, `reply <id>` and `start <JSON>` for each start that was answered, and `failed <text>` for
one that was not. It begins nothing more when it reads a line, and closes at the end of its input.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from perdure import Engine, open_store
from perdure.backends.postgres.ownership import LeasedShards
from tests.nodes.node import say, set_lease
from tests.nodes.rollout import Callers, Start, make_app


def heard(start: Start) -> None:
    """Say what a caller has heard: one line, without white space in it."""
    say("start", msgspec.json.encode(start).decode())
    say("reply", start.id)


async def main(url: str, name: str, callers: int) -> None:
    async with open_store(url) as store:
        assert isinstance(store.ownership, LeasedShards)
        async with Engine(store, make_app()) as engine:
            say("node", store.ownership._node)
            load = Callers(engine, name, callers, insist=True, heard=heard)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            try:
                await load.rest()
            except Exception as error:
                say("failed", repr(error).replace(" ", "_"))
                raise
            say("quiet")
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    set_lease(float(sys.argv[4]))
    asyncio.run(main(sys.argv[1], sys.argv[3], int(sys.argv[5])))

"""An engine that is dropped after its n-th commit, for every n, and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from perdure import App, Engine, Store, VirtualClock, open_store
from tests.engine.orders import crash

Drive = Callable[[Engine], Awaitable[object]]


async def driven(
    make_app: Callable[[], App], drive: Drive, look: Callable[[Store], Awaitable[object]], *, after: int | None
) -> tuple[object, int]:
    """Return what `drive` and `look` see when the engine crashes after that many commits, or never, and how many there were since."""
    async with open_store("sqlite:///:memory:", clock=VirtualClock()) as store:
        engine = Engine(store, make_app())
        await engine.__aenter__()
        base = store.access.writer.commits
        work = asyncio.ensure_future(drive(engine))
        while not work.done():
            if after is not None and store.access.writer.commits - base >= after:
                work.cancel()
                await crash(engine)
                await asyncio.gather(work, return_exceptions=True)
                engine = Engine(store, make_app())
                await engine.__aenter__()
                work = asyncio.ensure_future(drive(engine))
                break
            await asyncio.sleep(0)
        value = await work
        seen = await look(store)
        commits = store.access.writer.commits - base
        await engine.close()
        return (value, seen), commits


async def crash_at_each_commit(make_app: Callable[[], App], drive: Drive, look: Callable[[Store], Awaitable[object]]) -> int:
    """Check that a crash after each commit changes nothing in what comes out, and return the number of crashes."""
    expected, commits = await driven(make_app, drive, look, after=None)
    for after in range(1, commits + 1):
        seen, _ = await driven(make_app, drive, look, after=after)
        assert seen == expected, f"crash after commit {after} of {commits}"
    return commits

"""`perdure serve` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.gate.tree import ROOT

APP = """
import asyncio
from pathlib import Path

import perdure
from perdure import limits

# So that a server that was killed is not waited for longer than a test takes.
limits.IDEMPOTENCY_LEASE_US = 1_000_000
limits.LEASE_US, limits.LEASE_MARGIN_US, limits.LEASE_RENEW_US, limits.LEASE_LOOK_SECONDS = 2_000_000, 500_000, 500_000, 0.1

app = perdure.App("ledger")


@app.process
async def charge(p: perdure.Process, amount: int) -> dict[str, int]:
    async def effect() -> int:
        with Path("ledger").open("a") as ledger:
            ledger.write(f"{amount}\\n")
        return amount

    charged = await p.step(effect)
    await p.step(held, name="held")
    return {"charged": charged}


async def held() -> None:
    while Path("hold").exists():
        Path("holding").touch()
        await asyncio.sleep(0.01)
"""


class Running:
    """A server that runs."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    def kill(self) -> None:
        self.process.kill()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def end(self) -> tuple[int, str]:
        """Return exit status and what was said on stderr."""
        async with asyncio.timeout(60):
            _, errors = await self.process.communicate()
        return self.process.returncode or 0, errors.decode()


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Run `perdure serve` in a folder that has the app."""
    (folder / "ledger_app.py").write_text(APP)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "PGSSLMODE": "disable"}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "perdure", "serve", *arguments),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running(folder: Path, store: str, *arguments: str, app: str = "ledger_app:app") -> AsyncIterator[Running]:
    """Serve the app until the end of the block."""
    process = await start(folder, "--store", store, "--app", app, "--port", "0", *arguments)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("listening on "):
            raise AssertionError((await process.communicate())[1].decode())
        yield Running(process, line.removeprefix("listening on ").strip())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def client(server: Running) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(server.url)

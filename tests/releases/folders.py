"""The stores that each release has left, and how one is opened again."""

from __future__ import annotations

import asyncio
import importlib
import lzma
import re
import subprocess
from pathlib import Path
from typing import Any

import asyncpg

from tests.gate.tree import ROOT
from tests.postgres.binaries import find_binaries
from tests.postgres.server import ENVIRONMENT

FOLDER = ROOT / "tests/data/releases"
FILE, DUMP = "store.sqlite.xz", "store.sql"
_OF_PSQL = re.compile(r"^(\\(un)?restrict|SET) .*$\n?", re.MULTILINE)


def names() -> list[str]:
    """All releases, the oldest first."""
    return sorted((folder.name for folder in FOLDER.iterdir()), key=lambda name: [int(part) for part in name.split(".")])


def frozen(release: str) -> Any:
    """The module that has filled a release's stores, and says what has to come of them."""
    return importlib.import_module(f"tests.releases.v{release.replace('.', '_')}")


def unpacked(release: str, path: Path) -> str:
    """Give the URL of a copy of the file of a release."""
    path.write_bytes(lzma.decompress((FOLDER / release / FILE).read_bytes()))
    return f"sqlite:///{path}"


def packed(path: Path) -> bytes:
    return lzma.compress(path.read_bytes(), preset=9)


async def load(release: str, url: str) -> None:
    """Put the dump of a release into an empty database."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute((FOLDER / release / DUMP).read_text())
    finally:
        await connection.close()


async def dumped(url: str) -> str:
    """Return what is in a database as statements, which need no psql."""
    command: list[str | Path] = [find_binaries() / "pg_dump", "--inserts", "--no-owner", "--no-privileges", "--schema=perdure", url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return _OF_PSQL.sub("", done.stdout)

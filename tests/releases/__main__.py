"""Keep what this release leaves in its stores: `python -m tests.releases`. At each release, once; what is there is never made again."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.postgres.server import Server
from tests.releases.folders import DUMP, FILE, FOLDER, dumped, frozen, packed

RELEASE = version("perdure")


def main() -> str:
    folder = FOLDER / RELEASE
    if folder.exists():
        return f"{folder} is there already, and is what that release has left: it is never made again"
    with tempfile.TemporaryDirectory() as place, Server() as server:
        path, url = Path(place) / "store.db", server.fresh()
        asyncio.run(frozen(RELEASE).fill(f"sqlite:///{path}"))
        asyncio.run(frozen(RELEASE).fill(url))
        dump = asyncio.run(dumped(url))
        folder.mkdir(parents=True)
        (folder / FILE).write_bytes(packed(path))
        (folder / DUMP).write_text(dump)
    return ""


if __name__ == "__main__":
    sys.exit(main())

"""What a result depends on beside the code: the machine, its disk, and who else uses it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from benchmarks.measure import MACHINE
from benchmarks.servers import postgresql_binaries

BLOCK = b"\0" * 4096
SYNCS = 101
NO_DISK_MS = 0.005  # the fastest disk needs more, memory needs less
LOOK = 2.0  # seconds


def description(folder: Path) -> dict[str, str]:
    """Return the machine, in words, with the time that its disk needs for a sync in this folder.

    Raises:
        SystemExit: the folder is in memory, so that nothing in it is durable.
    """
    if (sync := sync_ms(folder)) < NO_DISK_MS:
        raise SystemExit(f"{folder} is no disk: write and fdatasync take {sync:.4f} ms; name another folder: TMPDIR=...")
    return {"machine": MACHINE, "processor": _processor(), "memory": _memory(), "disk": f"write + fdatasync of 4 KiB takes {sync:.2f} ms"}


def sync_ms(folder: Path) -> float:
    """Return the median of how long a written block takes to be durable."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            start = time.perf_counter()
            file.write(BLOCK)
            getattr(os, "fdatasync", os.fsync)(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[SYNCS // 2]


def busy_cores() -> float | None:
    """Return how many cores others use at this moment; None where nobody can tell."""
    if not Path("/proc/stat").exists():
        return None
    begin = _busy_ticks()
    time.sleep(LOOK)
    return round((_busy_ticks() - begin) / os.sysconf("SC_CLK_TCK") / LOOK, 2)


def postgresql_version() -> str:
    """Return the version of the server that runs here."""
    said = subprocess.run([postgresql_binaries() / "postgres", "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+", said.stdout)
    assert found
    return found[0]


def _busy_ticks() -> int:
    user, nice, system, _idle, _wait, irq, soft, steal = (int(field) for field in Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + irq + soft + steal


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"

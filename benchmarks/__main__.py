"""`python -m benchmarks [name …]`: run all, or those named. BENCH=short is a trial run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from benchmarks import apart, commands, core, fairness, growth, lives, partitions, sizes, sleepers, split, turns, versions, versions_stored

ALL: dict[str, Callable[[], Awaitable[None]]] = {
    "core": core.transactions,
    "workflows": turns.workflows,
    "cpu": turns.with_cpu,
    "one-process": turns.one_process,
    "life": lives.lives,
    "fairness": fairness.fairness,
    "sleepers": sleepers.sleepers,
    "split": split.split,
    "sizes": sizes.sizes,
    "partitions": partitions.partitions,
    "commands": commands.commands,
    "lookups": growth.lookups,
    "appends": growth.appends,
    "versions": versions.versions,
    "versions-stored": versions_stored.versions_stored,
    "apart": apart.apart,
    "import": growth.import_time,
}


def main(names: list[str]) -> int:
    """Run the benchmarks named; return the exit status."""
    if unknown := [name for name in names if name not in ALL]:
        print(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    for name in names or list(ALL):
        asyncio.run(ALL[name]())  # type: ignore[arg-type]  # coroutine functions
    return 0


raise SystemExit(main(sys.argv[1:]))

"""`python -m benchmarks.side_by_side [word …]`: Perdure and its peers, the same work, interleaved; writes docs/benchmarks.md.

Words choose contenders, as `dbos` or `sqlite`; then, and with BENCH=short, the page goes beside the results instead.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from benchmarks import machine, page
from benchmarks.children import ProgramFailed, ends_by_signal, environment, output_of
from benchmarks.contenders import CONTENDERS, Contender, python_of
from benchmarks.environments import ROOT, WANTED, install
from benchmarks.loop import Load
from benchmarks.measure import SHORT, ours
from benchmarks.servers import Place

RESULTS = ROOT / "benchmarks" / "results"
ROUNDS = 1 if SHORT else 3
SECONDS, WARM_UP = (1.0, 0.3) if SHORT else (5.0, 1.0)
LONGEST = 16 if SHORT else 1000  # clients
ANSWERS = 3  # of each client, at least
PATIENCE = 90.0  # seconds that a program may take beside its load: to start, and to answer the last calls


class Unusable(Exception):
    """This contender cannot run here; the text says why."""


def load_for(contender: Contender, clients: int) -> Load:
    """Return the load of a level: longer where a client waits for its answer longer than the warm-up."""
    answer = clients / contender.usual_per_s
    return Load(clients, max(SECONDS, 0 if SHORT else ANSWERS * answer), max(WARM_UP, 0 if SHORT else answer))


def level(contender: Contender, clients: int, home: Path) -> dict[str, Any]:
    """Run one level of one contender on empty data, and return its result.

    Raises:
        Unusable, ProgramFailed: there is none.
    """
    load = load_for(contender, clients)
    with tempfile.TemporaryDirectory(dir=home, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL has an account of its own
        place = Place(folder, folder / "log", environment_of(contender))
        os.sync()  # what the one before has left to be written is not this one's
        with contender.begin(place) as arguments:
            command: list[str | Path] = [python_of(contender, place), "-m", f"benchmarks.{contender.program}", *arguments]
            command += [str(value) for value in load]
            printed = output_of(command, place.log, seconds=sum(load) + PATIENCE, cwd=ROOT, env=environment())
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    if "skipped" in result:
        raise Unusable(result["skipped"])
    return {"seconds": load.seconds, **result}


def environment_of(contender: Contender) -> Path:
    """Return the folder of its environment, which is made when it is not there.

    Raises:
        Unusable: it could not be made.
    """
    try:
        return install(contender.peer) if contender.peer else Path(sys.prefix)
    except (subprocess.CalledProcessError, OSError) as error:
        raise Unusable(f"could not be installed: {error}") from error


def lines(contenders: list[Contender], home: Path) -> Iterator[dict[str, Any]]:
    """Run everything: one after the other within a level, and all again in the next round."""
    unusable: set[str] = set()
    for round_ in range(1, ROUNDS + 1):
        yield {"round": round_, "busy_cores": machine.busy_cores()}
        for clients in sorted({clients for contender in contenders for clients in contender.levels if clients <= LONGEST}):
            for contender in contenders:
                if contender.name in unusable or clients not in contender.levels:
                    continue
                row = {"round": round_, "contender": contender.name, "clients": clients}
                try:
                    yield {**row, **level(contender, clients, home)}
                except Unusable as error:
                    unusable.add(contender.name)
                    yield {**row, "skipped": str(error)}
                except ProgramFailed as error:
                    yield {**row, "error": str(error)}


def split_lines(home: Path) -> Iterator[dict[str, Any]]:
    """Find out where our own time goes."""
    log = home / "split"
    try:
        printed = output_of([sys.executable, "-m", "benchmarks", "split"], log, seconds=PATIENCE, cwd=ROOT, env=environment())
    except ProgramFailed as error:
        yield {"round": ROUNDS, "contender": "Perdure, where its time goes", "error": str(error)}
    else:
        for line in printed.splitlines():
            yield {"round": ROUNDS, "split": json.loads(line)}


def versions(contenders: list[Contender]) -> dict[str, str]:
    """Return the version of everything that is measured."""
    wanted = [WANTED[contender.peer] for contender in contenders if contender.peer]
    found = {name.partition("[")[0]: version for peer in wanted for name, _, version in (pin.partition("==") for pin in peer.python)}
    found |= {name: version for peer in wanted for name, _, version in (pin.rpartition("@") for pin in peer.node)}
    with contextlib.suppress(ProgramFailed):  # there is none, and rows will say so
        found["PostgreSQL"] = machine.postgresql_version()
    found["SQLite, Perdure's"], found["SQLite, Python's"] = apsw.sqlite_lib_version(), sqlite3.sqlite_version
    return {"perdure": ours()["version"], **found}


def main(words: list[str]) -> int:
    """Run them; return the exit status."""
    ends_by_signal()
    contenders = [contender for contender in CONTENDERS if not words or any(word.lower() in contender.name.lower() for word in words)]
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    results = RESULTS / f"side-by-side-{now:%Y%m%dT%H%M%SZ}.jsonl"
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", ignore_cleanup_errors=True) as name, results.open("w", buffering=1) as out:
        home = Path(name)
        home.chmod(0o755)
        for contender in contenders:
            with contextlib.suppress(Unusable):  # its row will say so
                environment_of(contender)
        about = {"date": f"{now:%Y-%m-%d}", "short": SHORT, "versions": versions(contenders), **machine.description(home)}
        for line in itertools.chain([{"about": about}], lines(contenders, home), split_lines(home)):
            text = json.dumps(line)
            print(text, flush=True)
            out.write(f"{text}\n")
    target = page.DOCS if not SHORT and not words else results.with_suffix(".md")
    target.write_text(page.written(page.read(results)))
    print(f"wrote {target.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Apply each seeded fault in turn: `python -m tests.faults [NAME…]`. Exit status 1 if one survives."""

from __future__ import annotations

import difflib
import queue
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.faults import FAULTS
from tests.faults.trial import Copy, Verdict

AT_ONCE = 2


def chosen(names: list[str]) -> list[Fault]:
    """Return the faults of these names, all when none is named."""
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        near = [close for name in unknown for close in difflib.get_close_matches(name, known, cutoff=0.3)]
        raise SystemExit(f"no such fault: {', '.join(unknown)}; the nearest are {', '.join(near) or 'none'}, all are in {__package__}")
    return [known[name] for name in names] or list(FAULTS)


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(names: list[str]) -> int:
    """Print a line per fault as it is tried, and a sum."""
    faults = chosen(names)
    width = max(len(fault.name) for fault in faults)
    survived: list[Verdict] = []
    with ExitStack() as stack:
        copies = queue.SimpleQueue[Copy]()
        for _ in range(min(AT_ONCE, len(faults))):
            copies.put(Copy(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-faults-")))))
        first = copies.get()
        first.check(test for fault in faults for test in fault.tests)
        copies.put(first)

        def attempt(fault: Fault) -> Verdict:
            copy = copies.get()
            try:
                return copy.try_fault(fault)
            finally:
                copies.put(copy)

        say(f"{'fault':{width}} | killed by | seconds")
        pool = ThreadPoolExecutor(AT_ONCE)
        stack.callback(pool.shutdown, cancel_futures=True)  # who interrupts this does not wait for all the others
        for done in as_completed([pool.submit(attempt, fault) for fault in faults]):
            verdict = done.result()
            say(f"{verdict.fault.name:{width}} | {verdict.killed_by or 'SURVIVED'} | {verdict.seconds:.1f}")
            if verdict.survived:
                survived.append(verdict)
    for verdict in survived:
        say(f"\n{verdict.fault.name} in {verdict.fault.file} survived: {verdict.survived}")
    say(f"{len(faults)} faults, {len(faults) - len(survived)} killed, {len(survived)} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

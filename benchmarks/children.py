"""Programs that a benchmark starts: each in a session of its own, and gone at the end with everything that it started."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

PATIENCE = 30.0  # seconds for a server's start or end, which take two at most when the machine has time
POLL = 0.02  # seconds between two looks at whether it is there
PORTS = range(20_000, 32_768)  # an outgoing connection can be given one of those behind, between the choice and the start

Command = Sequence[str | Path]


class ProgramFailed(RuntimeError):
    """A program did not do what it was started for; the text has the end of what it wrote."""


def ends_by_signal() -> None:
    """Let a signal that ends this program end it as an error does, with everything stopped on the way out."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, end)


@contextmanager
def running(command: Command, log: Path, *, end_with: signal.Signals = signal.SIGTERM, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, which writes to the log; end it, and what is left of its session, with the block."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command,
            **{"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "start_new_session": True, **options},
        )
    try:
        yield child
    finally:
        try:
            _signal(child, end_with)
            with contextlib.suppress(subprocess.TimeoutExpired):  # the next signal is one that nobody ignores
                child.wait(PATIENCE)
        finally:  # a second Ctrl-C leaves nothing behind either
            _signal(child, signal.SIGKILL)
            child.wait()
            if child.stdout:
                child.stdout.close()


def output_of(command: Command, log: Path, *, seconds: float, **options: Any) -> str:
    """Run a program to its end and return what it printed; what it says beside that goes to the log."""
    with running(command, log, stdout=subprocess.PIPE, **options) as child:
        try:
            printed, _ = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"no end after {seconds:.0f} s: {_shown(command, log)}") from None
    if child.returncode:
        raise ProgramFailed(f"exit status {child.returncode}: {_shown(command, log)}")
    return printed.decode()


def await_ready(child: subprocess.Popen[bytes], is_ready: Callable[[], bool], log: Path) -> None:
    """Wait until a server that was started answers.

    Raises:
        ProgramFailed: it has ended, or took too long.
    """
    deadline = time.monotonic() + PATIENCE
    while not is_ready():
        if child.poll() is not None or time.monotonic() > deadline:
            raise ProgramFailed(f"did not become ready: {_shown(child.args, log)}")
        time.sleep(POLL)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on."""
    free: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:  # it is taken
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise ProgramFailed(f"less than {count} free ports in {PORTS}")


def environment(**more: str) -> Mapping[str, str]:
    """Return this program's variables and some more, without those of its own Python."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}, **more}


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended by itself
        os.killpg(child.pid, number)


def _shown(command: Any, log: Path) -> str:
    said = log.read_text(errors="replace").splitlines()[-20:]
    words = [Path(word).name for word in command]  # what is said can end on a page, which names no folder of this machine
    return "\n".join([" ".join(words), *said])

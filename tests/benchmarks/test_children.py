"""What a benchmark starts is gone when the block ends: with what it started itself, after a failure, and after a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.children import ProgramFailed, output_of, running

# The grandchild lives on when its parent ends, and has the writing end of the pipe as well.
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('there', flush=True); signal.pause()"
WITH_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}])"
HANGS_S = 60.0


def test_everything_that_a_program_has_started_is_gone_when_the_block_fails(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as said:
        with (
            pytest.raises(ZeroDivisionError),
            running([sys.executable, "-c", WITH_A_CHILD], tmp_path / "log", stdout=writing),
        ):
            os.close(writing)
            assert said.readline() == b"there\n"
            raise ZeroDivisionError

        assert said.read() == b"", "the end of the output is the end of all that have it"


def test_a_program_that_takes_too_long_is_ended_and_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="no end after 0 s"):
        output_of([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "log", seconds=0)


def test_a_program_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match=r"exit status 3.*\n.*no such thing"):
        output_of(
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], tmp_path / "log", seconds=HANGS_S
        )


def test_what_a_program_prints_is_told_from_what_it_says_beside(tmp_path: Path) -> None:
    printed = output_of([sys.executable, "-c", "import sys; print(7); print('hm', file=sys.stderr)"], tmp_path / "log", seconds=HANGS_S)

    assert printed == "7\n"
    assert (tmp_path / "log").read_text() == "hm\n"


def test_a_signal_ends_a_program_with_what_it_has_started(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys
from benchmarks.children import ends_by_signal, running
ends_by_signal()
with running([sys.executable, "-c", {WITH_A_CHILD!r}], pathlib.Path(sys.argv[1]), stdout=None) as child:
    child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE) as outer:
        assert outer.stdout
        assert outer.stdout.readline() == b"there\n"
        outer.terminate()

        assert outer.stdout.read() == b"", "the end of the output is the end of all that have it"

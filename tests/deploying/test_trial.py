"""A package is tried by an interpreter of its own: what is found, what is refused, and that nothing of it comes out of there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from perdure.deploying.trial import Tried, _Child, try_load
from perdure.errors import (
    DefinitionError,
    PackageArchiveMalformed,
    PackageEntryMissing,
    PackageImportFailed,
    PackageRequirementUnmet,
    PackageSchemaDrift,
)
from tests.deploying.samples import FLOWS, archived
from tests.gate.tree import ROOT

FLOWS_ONLY = ("shop.flows",)


async def tried(flows: str, *, requires: tuple[str, ...] = ("msgspec>=0.21", "perdure")) -> Tried:
    return await try_load(archived(flows, requires=requires), modules=FLOWS_ONLY)


async def test_what_a_package_defines_and_has_found_is_told() -> None:
    found = await tried(FLOWS)

    again = await try_load(archived(FLOWS, processes=found.processes, schemas=found.schemas))

    assert [process.type for process in found.processes] == ["Order", "hello"]
    assert found.found["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found.found) == {"Python", "msgspec", "perdure"}
    assert found.warnings == ()
    assert again == found


async def test_nothing_of_a_package_runs_here(tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    await tried(f"import os, pathlib\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n")

    assert int(mark.read_text()) != os.getpid()
    assert not [name for name in sys.modules if name.startswith("shop")]


@pytest.mark.parametrize(
    "noise",
    [
        "print('{' * 100_000, flush=True)",
        "import os; os.write(1, b'x' * 100_000); os.write(2, b'x' * 100_000)",
        "import os; os.system('echo 1234567890')",
        "import sys; sys.stdin.read()",
        "import sys; sys.stdout.close(); sys.stderr.close()",
        "import os; os.fork()",
    ],
)
async def test_what_a_package_prints_and_closes_does_not_reach_its_report(noise: str) -> None:
    assert [process.type for process in (await tried(f"{noise}\n{FLOWS}")).processes] == ["Order", "hello"]


async def test_the_environment_of_the_engine_is_not_that_of_the_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_SECRET", "hidden")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in sys.path if part))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").touch()

    await tried(
        "import os\nassert 'SHOP_SECRET' not in os.environ\nassert not os.listdir()\nimport sys\nassert os.getcwd() not in sys.path\n"
    )

    with pytest.raises(PackageImportFailed, match="No module named 'beside'"):
        await tried("import beside\n")


# --- what is raised over there is raised here ----------------------------------------------------------------


async def test_code_that_raises_is_told_with_its_traceback() -> None:
    with pytest.raises(PackageImportFailed, match="ZeroDivisionError: division by zero") as caught:
        await tried("x = 1\ny = x / 0\n")

    assert caught.value.module == "shop.flows"
    assert 'shop/flows.py", line 2' in caught.value.traceback
    assert "y = x / 0" in caught.value.traceback


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os\nprint('the last words', flush=True)\nos._exit(3)", "with status 3"),
        ("import os\nprint('the last words', flush=True)\nos._exit(0)", "with status 0"),
        ("import os\nprint('the last words', flush=True)\nos.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("import os, subprocess, sys\nprint('the last words', flush=True)\nsubprocess.Popen(['cat'])\nos._exit(5)", "with status 5"),
    ],
)
async def test_an_interpreter_that_ends_is_a_failed_import(code: str, says: str) -> None:
    with pytest.raises(PackageImportFailed, match=says) as caught:
        await tried(code)

    assert caught.value.module == "shop.flows"
    assert caught.value.traceback == "the last words"


async def test_an_interpreter_that_cannot_report_any_more_ends_whatever_it_has_left_behind() -> None:
    breaks = "import builtins, threading\nthreading.Thread(target=threading.Event().wait).start()\nbuiltins.dict = None\n"

    with pytest.raises(PackageImportFailed, match="with status 1") as caught:
        await tried(breaks)

    assert "TypeError" in caught.value.traceback


def test_what_comes_behind_a_report_is_none_of_it() -> None:
    child = _Child()

    for part in (b"\0\0", b"\0\3ab", b"c and more"):
        assert child.report == b""
        child.pipe_data_received(1, part)

    assert child.report == b"abc"
    assert child.told.is_set()


async def test_a_report_that_cannot_be_read_is_a_failed_import() -> None:
    forged = "import os\nfor number in range(3, 20):\n    try:\n        os.write(number, bytes([0, 0, 0, 1, 65]))\n    except OSError:\n        continue\n"

    with pytest.raises(PackageImportFailed, match="cannot be read"):
        await tried(forged)


async def test_an_import_that_is_not_done_in_time_has_failed() -> None:
    with pytest.raises(PackageImportFailed, match=r"not done within 0 s"):
        await try_load(archived("import threading\nthreading.Event().wait()\n"), modules=FLOWS_ONLY, seconds=0)


async def test_a_trial_that_is_given_up_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(held, "rb", buffering=0)
    )
    hangs = f"""\
import os, subprocess, threading
held = os.open({str(pipe)!r}, os.O_WRONLY)
subprocess.Popen(["sleep", "100"], pass_fds=[held])
os.write(held, b"begun\\n")
threading.Event().wait()
"""
    trial = asyncio.ensure_future(try_load(archived(hangs), modules=FLOWS_ONLY))

    begun = await reader.readline()
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)

    assert begun == b"begun\n"
    assert trial.cancelled()
    assert await reader.read() == b"", "it ends when nobody holds the other end any more"
    transport.close()


def test_an_interpreter_whose_engine_was_killed_ends_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    path.write_bytes(archived("import threading\nthreading.Event().wait()\n"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}

    command = [sys.executable, "-P", "-m", "perdure.deploying.child", "1", str(path), *FLOWS_ONLY]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    assert done.returncode == -signal.SIGALRM
    assert done.stdout == b""


async def test_a_requirement_that_is_not_met_is_told_before_anything_runs(tmp_path: Path) -> None:
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"

    with pytest.raises(PackageRequirementUnmet, match=r"msgspec: expected >=1000, found \d") as caught:
        await tried(code, requires=("msgspec>=1000", "no-such-distribution"))

    assert [one.distribution for one in caught.value.unmet] == ["msgspec", "no-such-distribution"]
    assert caught.value.unmet[1].found is None
    assert not (tmp_path / "ran").exists()


async def test_a_type_that_is_missing_or_has_drifted_is_told() -> None:
    found = await tried(FLOWS)
    order, hello = found.processes
    renamed = msgspec.structs.replace(hello, object="shop.flows:bye")
    drifted = msgspec.structs.replace(order, fields=hello.messages[0].schema)

    with pytest.raises(PackageEntryMissing, match=r"shop\.flows:bye"):
        await try_load(archived(FLOWS, processes=[order, renamed], schemas=found.schemas))
    with pytest.raises(PackageSchemaDrift, match=r"Order\.fields") as caught:
        await try_load(archived(FLOWS, processes=[drifted, hello], schemas=found.schemas))

    assert caught.value.where == "Order.fields"


async def test_types_that_cannot_be_described_are_told() -> None:
    with pytest.raises(DefinitionError, match="two apps"):
        await tried(FLOWS + 'other = perdure.App("other")\nother.process(hello)\n')


async def test_what_is_no_package_starts_no_interpreter() -> None:
    with pytest.raises(PackageArchiveMalformed):
        await try_load(b"PK", python="/no/such/interpreter")


async def test_an_interpreter_without_perdure_says_so(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S -c 'import perdure'\n")
    bare.chmod(0o700)

    with pytest.raises(PackageImportFailed, match="No module named 'perdure'"):
        await try_load(archived(FLOWS), python=str(bare))

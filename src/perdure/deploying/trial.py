"""Whether a package can be used here: it is imported by a fresh interpreter, and nothing of it runs in this one.

Source: packages.md, "Safety"; packages-detail.md, A7 and A8.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from perdure import limits
from perdure.deploying.report import SIZE_BYTES, Failed, Report, Tried, Warned
from perdure.engine.apart.environments import Environments, default_folder, ending
from perdure.engine.packaged import code_of, lock_of
from perdure.errors import PackageImportFailed
from perdure.packages.archive import Package, unpack

__all__ = ["Tried", "Warned", "try_load"]

_MODULE: Final = "perdure.deploying.child"
_CHILD: Final = ("-P", "-m", _MODULE)  # -P: modules of the working directory are none of the package
_REPORT: Final = 1  # the pipe that its report comes by
# What a program needs to run at all. Whatever else is in the environment of an engine, secrets among it, a package is tried without.
_ENVIRONMENT: Final = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ", "USERPROFILE",
    "VIRTUAL_ENV",
)  # fmt: skip


class _Ended(NamedTuple):
    """How an interpreter ended: its status (None: it was killed for its time), its report, the end of what it printed."""

    status: int | None
    report: bytes
    printed: bytes


async def try_load(
    archive: bytes,
    *,
    python: str = sys.executable,
    modules: Sequence[str] = (),
    hash_seed: int | None = None,
    seconds: float = limits.PACKAGE_TRIAL_SECONDS,
    environments: Path | None = None,
) -> Tried:
    """Import a package in a fresh interpreter, as an engine does it, and return what was seen.

    The interpreter has the distributions and the `PYTHONPATH` of this one, an empty working directory, and nothing else of the
    environment that is not needed to run at all. That of a package with `isolation: process` has the distributions of its lock file. It is killed, with what it has started, when its time is over or the caller is
    cancelled.

    Args:
        archive: of the package; whether it is trusted is the caller's affair.
        python: the interpreter to start; not that of a package with one of its own, which is made of this one's Python.
        modules: to import besides those that the manifest names.
        hash_seed: by which texts are hashed there, 0 to 4,294,967,295; None for any.
        seconds: that it may take; to make an environment takes its own time.
        environments: where those of packages with interpreters of their own are kept; the user's folder of caches when not given.

    Raises:
        PackageRefused: it is none that `unpack` takes; no interpreter was started.
        PackageIsolationUnavailable, PackageEnvironmentFailed: it asks for an interpreter of its own, which cannot be made here.
        PackageImportsByText: its code gives its own name to a function as text; none of its code ran. The others follow.
        PackageRequirementUnmet: this node has not what it needs; none of its code ran.
        PackageImportFailed: its code raised, ended the interpreter, or was not done in time.
        PackageEntryMissing: it lacks what its manifest names.
        PackageSchemaDrift: a type comes out other than in its manifest.
        DefinitionError: its process types cannot be described, or two have one name.

    Source: packages.md, "Deploy"; packages-detail.md, A7 and A8.
    """
    package = await asyncio.to_thread(unpack, archive)
    lock, variables = lock_of(package), _environment(hash_seed)
    command: tuple[str, ...] = (python, *_CHILD)
    if lock is not None:
        environment = await Environments(environments or default_folder()).of(code_of(package).label, lock)
        command, variables = environment.command(_MODULE), environment.variables(variables)
    with await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="perdure-trial-", ignore_cleanup_errors=True) as folder:
        path, place = Path(folder) / "package.zip", Path(folder) / "empty"
        await asyncio.to_thread(path.write_bytes, archive)
        await asyncio.to_thread(place.mkdir)
        ended = await _run([*command, str(_alarm(seconds)), str(path), *modules], place, variables=variables, seconds=seconds)
    return _returned(package, modules, ended, seconds)


def _alarm(seconds: float) -> int:
    """Return when an interpreter ends by itself: after this one would have killed it, if it is still there."""
    return math.ceil(seconds + limits.PACKAGE_TRIAL_END_SECONDS)


def _environment(hash_seed: int | None) -> dict[str, str]:
    found = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if path := os.environ.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in path.split(os.pathsep) if part)
    if hash_seed is not None:
        found["PYTHONHASHSEED"] = str(hash_seed)
    return found


async def _run(command: Sequence[str], place: Path, *, variables: Mapping[str, str], seconds: float) -> _Ended:
    loop = asyncio.get_running_loop()
    transport, child = await loop.subprocess_exec(
        _Child, *command, cwd=place, env=variables, start_new_session=True, stdin=asyncio.subprocess.DEVNULL
    )
    in_time = False
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await child.told.wait()
                in_time = True
        if not child.whole:
            # Whoever has left its group keeps the pipe open, and is not waited for.
            child.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.PACKAGE_TRIAL_END_SECONDS):
                    await child.silent.wait()
    finally:
        child.kill()
        await child.exited.wait()
        transport.close()
    return _Ended(transport.get_returncode() if in_time else None, child.report, child.printed)


class _Child(asyncio.SubprocessProtocol):
    """An interpreter that tries a package. Its pipes are not waited for: what it has started may keep them open after its end."""

    def __init__(self) -> None:
        self.told = asyncio.Event()  # nothing more is to come: its report is whole, or it has ended
        self.silent = asyncio.Event()  # nobody can print any more
        self.exited = asyncio.Event()
        self.printed = b""
        self._told = bytearray()
        self._closed = False

    @property
    def whole(self) -> bool:
        """Whether its report has come."""
        return len(self._told) >= max(SIZE_BYTES, self._end)

    @property
    def report(self) -> bytes:
        """Its report; empty when it has not come."""
        return bytes(self._told[SIZE_BYTES : self._end]) if self.whole else b""

    @property
    def _end(self) -> int:
        return SIZE_BYTES + int.from_bytes(self._told[:SIZE_BYTES])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what its process is reached by."""
        assert isinstance(transport, asyncio.SubprocessTransport), "it is a process's protocol"
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take a part of its report, or keep the end of what it prints."""
        if fd != _REPORT:
            self.printed = (self.printed + data)[-limits.PACKAGE_TRIAL_OUTPUT :]
            return
        self._told += data
        if self.whole or len(self._told) > limits.PACKAGE_TRIAL_REPORT_MAX:
            self.told.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Take notice that it has closed a pipe."""
        del exc  # a pipe that breaks is one that is closed
        if fd == _REPORT:
            self._closed = True
            self._look()
        else:
            self.silent.set()

    def process_exited(self) -> None:
        """Take notice that it has ended, and end what it has started."""
        self.kill()
        self.exited.set()
        self._look()

    def kill(self) -> None:
        """Kill it, and what it has started, unless it has ended: then its number may be another's."""
        if not self.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)

    def _look(self) -> None:
        if self._closed and self.exited.is_set():
            self.told.set()


# --- what is told to the caller ------------------------------------------------------------------------------------


def _returned(package: Package, modules: Sequence[str], ended: _Ended, seconds: float) -> Tried:
    try:
        report: Report | None = msgspec.json.decode(ended.report, type=Report) if ended.report else None
        failure = report.error(code_of(package).label) if isinstance(report, Failed) else None
    except (msgspec.DecodeError, TypeError) as error:  # the second: it is none of this program's own making
        raise _crashed(package, modules, f"its interpreter reported what cannot be read: {error}", ended.printed) from error
    if isinstance(report, Tried):
        return report
    if failure is not None:
        raise failure
    if ended.status is None:
        raise _crashed(package, modules, f"it was not done within {seconds:g} s", ended.printed)
    raise _crashed(package, modules, f"its interpreter {ending(ended.status)} meanwhile", ended.printed)


def _crashed(package: Package, modules: Sequence[str], error: str, printed: bytes) -> PackageImportFailed:
    code = code_of(package)
    names = [*(entry.partition(":")[0] for entry in code.entries), *modules, code.name]
    return PackageImportFailed(code.label, module=names[0], error=error, traceback=printed.decode(errors="backslashreplace").strip())

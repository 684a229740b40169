"""Environments of packages with interpreters of their own: made once of a lock file, and kept.

Source: packages.md, "Isolation"; docs/isolation.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from perdure import limits
from perdure.engine.packaged import LOCK
from perdure.errors import PackageEnvironmentFailed

Build = Callable[[Path], Awaitable[None]]
_DIGITS: Final = 32  # of the hash that an environment is named by
# What pip needs to find and fetch distributions. The sources of those may run code: whatever else is in the environment of an engine is kept from it.
_VARIABLES: Final = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "TEMP", "TMP",
    "TMPDIR", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
)  # fmt: skip
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


class Environment(NamedTuple):
    """An environment that is whole: its interpreter, the folder with Perdure, and the one with what Perdure needs."""

    python: Path
    own: Path
    needed: Path

    def command(self, module: str, *arguments: str) -> tuple[str, ...]:
        """Return how to run `main()` of a module of Perdure in it: with the environment's distributions in front of those that Perdure needs."""
        code = f"import sys; sys.path.append(sys.argv.pop(1)); from {module} import main; main()"
        return (str(self.python), "-P", "-s", "-c", code, str(self.needed), *arguments)

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables to run it with, of those that are given."""
        kept = {name: value for name, value in given.items() if not name.startswith("PYTHON") or name == "PYTHONHASHSEED"}
        path = os.pathsep.join([str(self.python.parent), *filter(None, [given.get("PATH")])])
        return kept | {"PYTHONPATH": str(self.own), "VIRTUAL_ENV": str(self.python.parent.parent), "PATH": path}


def default_folder() -> Path:
    """Return where environments are kept unless it is said otherwise: `perdure/environments` in the user's folder of caches."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "perdure" / "environments"


def ending(status: int) -> str:
    """Return how a program ended, of the status that the system has of it, in words that follow its name."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


class Environments:
    """The environments of one folder. Any number of engines and machines with the same Python may share it.

    Args:
        folder: where they are kept; it is made when it is not there, and may be removed whenever nobody uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._making: dict[str, asyncio.Future[Path]] = {}

    async def of(self, label: str, lock: bytes) -> Environment:
        """Return the environment of a lock file, built now if there is none.

        Args:
            label: what errors call the package.
            lock: the bytes of `requirements.lock`.

        Raises:
            PackageEnvironmentFailed: it cannot be built; nothing that is not whole is used by anybody.
        """
        try:
            own, needed = await asyncio.to_thread(_perdures_own, self._folder)
            place = await self._whole(_key(lock), lambda place: self._build(label, lock, place))
        except OSError as error:
            raise PackageEnvironmentFailed(label, f"{error}; give the engine a folder that it may write to (environments=)") from error
        return Environment(_python(place), own, needed)

    async def _whole(self, name: str, build: Build) -> Path:
        """Return a folder of this name that is whole; it is built once however many want it at the same time."""
        making = self._making.get(name)
        if making is None:
            making = self._making[name] = asyncio.ensure_future(_made(self._folder / name, build))
            making.add_done_callback(lambda done: self._making.pop(name) and (done.cancelled() or done.exception()))
        await asyncio.wait([making])  # it goes on when who waits goes away: others may wait, too
        return making.result()

    async def _build(self, label: str, lock: bytes, place: Path) -> None:
        await _run(label, sys.executable, "-m", "venv", "--without-pip", str(place))
        if not _asks_for_anything(lock):
            return
        pip = await self._whole(f"pip-{_key(b'')}", lambda place: _run(label, sys.executable, "-m", "venv", str(place)))
        file = place / LOCK
        await asyncio.to_thread(file.write_bytes, lock)
        options = ("--require-hashes", "--no-deps", "--no-input", "--disable-pip-version-check")
        await _run(label, str(_python(pip)), "-m", "pip", "--python", str(_python(place)), "install", *options, "-r", str(file))


async def _made(place: Path, build: Build) -> Path:
    """Return the folder that a link leads to, which is made when what it leads to is whole.

    Each is built in a folder of its own: whoever was killed may have left a pip that goes on, and writes into the one that was his.
    """
    if (found := _found(place)) is not None:
        return found
    async with _locked(place):
        if (found := _found(place)) is not None:  # another has built it while this one waited for its turn
            return found
        await asyncio.to_thread(_clear, place)
        made = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f"{place.name}.", dir=place.parent))
        await build(made)
        await asyncio.to_thread(place.symlink_to, made.name)
        return made


def _found(place: Path) -> Path | None:
    return place.parent / place.readlink() if place.exists() else None


def _clear(place: Path) -> None:
    """Remove what somebody has left who was killed, and a link that leads to nothing any more."""
    place.unlink(missing_ok=True)
    for left in place.parent.glob(f"{place.name}.*/"):
        shutil.rmtree(left, ignore_errors=True)


def _python(place: Path) -> Path:
    return place / "bin" / "python"


def _asks_for_anything(lock: bytes) -> bool:
    return any(line.strip() and not line.strip().startswith(b"#") for line in lock.splitlines())


def _key(lock: bytes) -> str:
    """Return the name of an environment: of all that makes it another one."""
    base = os.path.realpath(sys.base_prefix)
    version = importlib.metadata.version("perdure")
    parts = (hashlib.sha256(lock).hexdigest(), sys.version, platform.node(), sysconfig.get_platform(), base, version)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]


@contextlib.asynccontextmanager
async def _locked(place: Path) -> AsyncIterator[None]:
    """Hold the right to build an environment. The system takes it back from whoever is killed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A thread that waited for it would be missing to all others, to whoever builds it among them, and could not be called off.
        while not _taken(file):  # noqa: ASYNC110  # the system tells nobody when a lock is free
            await asyncio.sleep(limits.APART_LOCK_SECONDS)
        yield
    finally:
        os.close(file)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _run(label: str, *command: str) -> None:
    """Run a program to its end. Raises PackageEnvironmentFailed with the end of what it says."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, env=_variables(), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=asyncio.subprocess.STDOUT, start_new_session=True
    )
    said, in_time = b"", False
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.APART_PIP_SECONDS):
                said, _ = await child.communicate()
                in_time = True
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if not in_time:
        raise PackageEnvironmentFailed(label, f"{' '.join(command[1:4])} was not done within {limits.APART_PIP_SECONDS:g} s")
    if child.returncode:
        text = said[-limits.APART_OUTPUT :].decode(errors="backslashreplace").strip()
        raise PackageEnvironmentFailed(label, f"{' '.join(command[1:4])} {ending(child.returncode)}:\n{text}")


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _VARIABLES or name.startswith("PIP_") or name.lower() in _PROXIES}


# --- Perdure itself ------------------------------------------------------------------------------------------------


def _perdures_own(folder: Path) -> tuple[Path, Path]:
    """Return a folder with links to Perdure as it is installed here, and one with links to what it needs.

    They are made once for each place that these are at. The folder of distributions itself would let code import whatever is installed
    there, whether its lock file has it or not.
    """
    links = _links()
    text = "\n".join(f"{part} {name} {target}" for part, name, target in sorted(links))
    place = folder / f"perdure-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=folder))  # of this very call: others of this process make theirs
        try:
            for part, name, target in links:
                (made / part).mkdir(exist_ok=True)
                (made / part / name).symlink_to(target)
            made.rename(place)
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            if not place.exists():  # else another was faster
                raise
    return place / "own", place / "needed"


def _links() -> list[tuple[str, str, Path]]:
    found = [("own", "perdure", Path(limits.__file__).resolve().parent)]
    for distribution in _distributions("perdure"):
        part = "own" if distribution.name == "perdure" else "needed"
        found += [
            (part, name, Path(str(distribution.locate_file(name))))
            for name in sorted(_tops(distribution))
            if part == "needed" or name.endswith(".dist-info")
        ]
    return found


def _tops(distribution: importlib.metadata.Distribution) -> set[str]:
    return {file.parts[0] for file in distribution.files or () if file.parts[0] not in {"..", "/", "__pycache__"}}


def _distributions(name: str) -> Iterator[importlib.metadata.Distribution]:
    """Yield a distribution and all that it needs here."""
    waiting, seen = [name], {str(name)}
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        yield distribution
        for text in distribution.requires or ():
            wanted = Requirement(text)
            name = canonicalize_name(wanted.name)
            if name not in seen and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                seen.add(name)
                waiting.append(name)

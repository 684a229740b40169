"""A PostgreSQL server of one's own, for tests, benchmarks and examples: it needs no root, no installed service, and leaves nothing behind.

    with Server() as server:
        url = server.fresh()

Everything of it is in one folder, which goes away with the process that made the server, however that process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import random
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import asyncpg

from tests.postgres.binaries import find_binaries

USER = "postgres"
PATIENCE = 30.0  # seconds for a start or a stop, which take less than one: a busy machine
POLL = 0.005  # seconds between two looks at whether it is ready
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

# Ports from 32768 on are given to outgoing connections, and one of those can take a port between the choice and the start.
PORTS = range(20_000, 32_768)
ATTEMPTS = 50

# The path of a socket has less than 108 bytes, 104 on macOS; what TMPDIR names can be longer, and closed to other accounts.
PARENT = "/tmp"

# Reads the pid of the server after each start, an empty line after each stop, and the end of its input when whoever started it is gone.
# A death signal of Linux would come at the end of the thread that started the server, on Linux only, and leave the folder.
# A server that is stopped still writes for a moment into the folder that is being removed.
GUARD = """
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then kill -QUIT "$pid"; fi
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit; sleep 1; done
"""


class PostgresFailed(RuntimeError):
    """The server did not start or stop; the text is what it said."""


class Server:
    """One cluster. `fresh` makes databases; `stop`, `kill` and `start` are what a test does to it."""

    def __init__(
        self,
        *,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        ports: Iterable[int] | None = None,
    ) -> None:
        """Describe it; it starts when it is entered.

        Args:
            durable: whether a commit waits for the disk. Without that a commit still survives `kill`, but not the machine.
            settings: more of what `postgres -c` takes.
            binaries: the folder of `initdb` and `postgres`, instead of what `find_binaries` finds.
            ports: what to try, in this order, instead of ports at random.
        """
        self._settings = {"max_connections": "200", "fsync": "on" if durable else "off", **(settings or {})}
        self._durable = durable
        self._binaries = binaries or find_binaries()
        self._ports = random.sample(PORTS, ATTEMPTS) if ports is None else list(ports)
        self._account = _account()
        self._made = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-pg-", dir=PARENT))
        if self._account:
            shutil.chown(self.folder, self._account["user"], self._account["group"])
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", self.folder],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            **self._apart("/"),
        )
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop it and remove its data."""
        try:
            if self._process:
                self.stop(immediate=True)
        finally:
            self._guard.communicate(timeout=PATIENCE)  # it hears the end of its input, and removes the folder

    # --- the process -----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it: the first time on a port that is free, after `stop` and `kill` on the same one with the same data."""
        assert self._process is None, "stop it before you start it again"
        for port in self._ports:
            if self._answers_on(port):
                self._ports = [port]
                return
        raise PostgresFailed(f"none of {len(self._ports)} ports was free, the last was {self._ports[-1]}")

    def stop(self, *, immediate: bool | None = None) -> None:
        """Stop it, with everybody who is connected: immediately as after a crash, or else with all data in place.

        Immediate is the default of a server that is not durable. Its next start recovers what was committed.
        """
        at_once = not self._durable if immediate is None else immediate
        assert self._process, "it is not running"
        self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        self._await_end()

    def kill(self) -> None:
        """Kill every process of it at once, as when the machine stops; what is committed is recovered by the next start."""
        assert self._process, "it is not running"
        # Halted, it starts no child that the list does not have, and does not tell the others of the first one's end.
        self._process.send_signal(signal.SIGSTOP)
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
        self._await_end()

    @property
    def log(self) -> str:
        """What it wrote to its log, since the first start."""
        return (self.folder / "log").read_text(errors="replace")

    def _initialise(self) -> None:
        if self._account and not _open_to_others(self._binaries):
            self._binaries = self._copied(self._binaries)
        command: list[str | Path] = [self._binaries / "initdb", "-D", self.folder / "data", "-U", USER, "--no-sync", "--no-instructions"]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._apart(self.folder))
        if done.returncode:
            raise PostgresFailed(f"initdb ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _copied(self, binaries: Path) -> Path:
        """Copy the programs to where its account reaches them: a project of root may be closed to others.

        What they find by a relative path keeps its place: their own tree, and the libraries that stand beside a wheel.
        """
        package, copy = binaries.parents[1], self.folder / "programs"
        shutil.copytree(binaries.parent, copy / package.name / binaries.parent.name)
        libraries = package.with_suffix(".libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, self._account["user"], self._account["group"])
        return copy / package.name / binaries.parent.name / binaries.name

    def _answers_on(self, port: int) -> bool:
        """Start it on this port; False says that the port is taken."""
        command: list[str | Path] = [self._binaries / "postgres", "-D", self.folder / "data", "-p", str(port), "-k", self.folder]
        command += ["-c", "listen_addresses=127.0.0.1"]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        # Each of its processes inherits the writing end: the reading one ends when the last of them does.
        self._alive, inherited = os.pipe()
        with (self.folder / "log").open("ab") as log:
            before = log.tell()
            self._process = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=[inherited], **self._apart(self.folder))
        os.close(inherited)
        self._tell_guard(str(self._process.pid))
        if self._is_ready():
            self.port = port
            return True
        self._await_end()
        said = (self.folder / "log").read_bytes()[before:].decode(errors="replace")
        if "could not bind" not in said:
            raise PostgresFailed(f"postgres ended while it started:\n{said}")
        return False

    def _is_ready(self) -> bool:
        """Wait until it takes connections; False says that it ended instead."""
        assert self._process
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it runs, as it should
                self._process.wait(POLL)
                return False
            with contextlib.suppress(FileNotFoundError):  # it is not that far yet
                lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
                # A server that was killed has left its own file, which says that it is ready.
                if lines[:1] == [str(self._process.pid)] and lines[7:] and lines[7].strip() == "ready":
                    return True
        self.kill()
        raise PostgresFailed(f"postgres was not ready after {PATIENCE} s:\n{self.log}")

    def _await_end(self) -> None:
        assert self._process
        self._process.wait(PATIENCE)
        ended = select.poll()
        ended.register(self._alive)
        if not ended.poll(PATIENCE * 1000):
            raise PostgresFailed(f"processes of the server are left after {PATIENCE} s:\n{self.log}")
        os.close(self._alive)
        self._process = None
        self._tell_guard("")

    def _tell_guard(self, line: str) -> None:
        assert self._guard.stdin
        self._guard.stdin.write(f"{line}\n".encode())

    def _apart(self, folder: Path | str) -> dict[str, Any]:
        """Return how its programs run: under its account, and out of reach of a Ctrl-C that is meant for the test."""
        return {"env": ENVIRONMENT, "cwd": folder, "start_new_session": True, **self._account}

    # --- databases -------------------------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        """Return where a database is reached over TCP."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """Return where a database is reached over the Unix socket."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self.folder))}&port={self.port}"

    def fresh(self, template: str | None = None) -> str:
        """Create a database and return its URL: an empty one, or a copy of a template that was registered."""
        self._made += 1
        name = f"fresh_{self._made}"
        # Copied files take two thirds of the time that a logged copy takes, as long as nothing has to reach the disk.
        strategy = "wal_log" if self._durable else "file_copy"
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{template or "template0"}" STRATEGY {strategy}')
        return self.url(name)

    def register(self, template: str, url: str) -> None:
        """Make a template of a database that `fresh` made, and that nobody is connected to: the database is only for copies from now on."""
        self.execute(
            f'ALTER DATABASE "{database_of(url)}" RENAME TO "{template}"',
            f'ALTER DATABASE "{template}" ALLOW_CONNECTIONS false',  # a connection would keep it from being copied
        )

    def drop(self, url: str) -> None:
        """Drop a database, with everybody who is connected to it."""
        self.execute(f'DROP DATABASE "{database_of(url)}" WITH (FORCE)')

    def execute(self, *statements: str) -> None:
        """Run statements in the database `postgres`, each as a transaction of its own; this thread may have a loop that runs."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, execute(self.socket_url(), *statements)).result()


async def execute(url: str, *statements: str) -> None:
    """Run statements without values on a database."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def database_of(url: str) -> str:
    """Return the name of the database in a URL."""
    return urlsplit(url).path.removeprefix("/")


def _account() -> dict[str, Any]:
    """Return the account to run under, as `subprocess` takes it: this one, or another one for root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):  # then the next one
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresFailed("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`; run this as another user")


def _open_to_others(binaries: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (binaries / "postgres", binaries, *binaries.parents))


def _children(parent: int) -> list[int]:
    """Return the children of a process; none where there is no /proc, and then they end by themselves when they miss their parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            state_and_parent = stat.read_text().rpartition(")")[2].split()
            if int(state_and_parent[1]) == parent:
                found.append(int(stat.parent.name))
    return found

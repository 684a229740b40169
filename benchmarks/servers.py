"""The servers of the side-by-side run: durable, empty, on loopback, and for one level only, so that nobody else's works in the background."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import pwd
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.children import ProgramFailed, await_ready, environment, free_ports, output_of, running
from benchmarks.environments import ROOT

STEPS_PATIENCE = 60.0  # seconds for a command that prepares something
CONNECTIONS = 200  # 64 clients with one each, and the workers beside them


class Place(NamedTuple):
    """Where a run has its files: an empty folder, its log, and the environment of its system."""

    folder: Path
    log: Path
    environment: Path

    def program(self, name: str) -> Path:
        """Return a program of the environment."""
        return self.environment / "bin" / name


@contextmanager
def postgresql(place: Place) -> Iterator[str]:
    """Start PostgreSQL with its default durability, and yield the URL of an empty database."""
    binaries, account, [port] = postgresql_binaries(), _account(), free_ports(1)
    home = place.folder / "postgresql"
    home.mkdir()
    if account:
        shutil.chown(home, account["user"], account["group"])
    options: dict[str, Any] = {"env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}, "cwd": home, **account}
    make: list[str | Path] = [
        binaries / "initdb",
        "-D",
        home / "data",
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    make += ["--no-sync", "--no-instructions"]
    output_of(make, place.log, seconds=STEPS_PATIENCE, **options)
    command: list[str | Path] = [binaries / "postgres", "-D", home / "data", "-p", str(port), "-k", home]
    for setting in ("listen_addresses=127.0.0.1", "fsync=on", f"max_connections={CONNECTIONS}"):
        command += ["-c", setting]
    with running(command, place.log, end_with=signal.SIGINT, **options) as server:
        await_ready(server, lambda: "ready" in _text(home / "data" / "postmaster.pid"), place.log)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


def postgresql_binaries() -> Path:
    """Return the folder of the newest PostgreSQL of this machine; PERDURE_PG_BIN names another one.

    Raises:
        ProgramFailed: there is none.
    """
    if named := os.environ.get("PERDURE_PG_BIN"):
        return Path(named)
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found:
        raise ProgramFailed("no PostgreSQL here; install it, or name the folder of initdb and postgres: PERDURE_PG_BIN=...")
    return max(found, key=lambda path: int(path.parent.name))


@contextmanager
def temporal(place: Place) -> Iterator[str]:
    """Start Temporal's development server on a SQLite file, and yield its address."""
    port, http, metrics = free_ports(3)
    address, program = f"127.0.0.1:{port}", place.program("temporal")
    command: list[str | Path] = [program, "server", "start-dev", "--headless", "--log-level", "error"]
    command += ["--db-filename", place.folder / "temporal.db"]
    command += ["--ip", "127.0.0.1", "--port", str(port), "--http-port", str(http), "--metrics-port", str(metrics)]
    # On a rollback journal, which is its default, 16 clients had a quarter of the rate.
    command += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=2"]

    def is_ready() -> bool:
        asked = subprocess.run([program, "operator", "cluster", "health", "--address", address], capture_output=True, check=False)
        return asked.returncode == 0

    with running(command, place.log) as server:
        await_ready(server, is_ready, place.log)
        yield address


@contextmanager
def restate(place: Place, **settings: str) -> Iterator[str]:
    """Start Restate's server with a service registered in it, and yield the URL that takes calls."""
    ingress, admin, fabric, endpoint = (f"127.0.0.1:{port}" for port in free_ports(4))
    folder = place.folder / "restate"
    folder.mkdir()
    variables = environment(
        RESTATE_DISABLE_TELEMETRY="true",
        RESTATE_LISTEN_MODE="tcp",
        RESTATE_BIND_ADDRESS=fabric,
        RESTATE_INGRESS__BIND_ADDRESS=ingress,
        RESTATE_ADMIN__BIND_ADDRESS=admin,
        RESTATE_LOG_FILTER="warn",
        **settings,
    )
    server: list[str | Path] = [restate_binary(place.environment), "--no-logo", "--node-name", "bench", "--base-dir", folder]
    service: list[str | Path] = [
        place.program("python"),
        "-m",
        "hypercorn",
        "--worker-class",
        "uvloop",
        "--bind",
        endpoint,
        "benchmarks.peer_restate_service:app",
    ]

    def is_registered() -> bool:
        body = json.dumps({"uri": f"http://{endpoint}"}).encode()
        request = urllib.request.Request(f"http://{admin}/deployments", body, {"content-type": "application/json"})
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(request, timeout=5):  # not that far yet
            return True
        return False

    with running(service, place.log, cwd=ROOT, env=environment()), running(server, place.log, env=variables) as child:
        await_ready(child, is_registered, place.log)
        yield f"http://{ingress}"


def restate_binary(folder: Path) -> Path:
    """Return the server itself, without the wrapper that npm starts it with."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"restate-server-{platform.system().lower()}-{machine}"
    return folder / "node_modules" / "@restatedev" / package / "bin" / "restate-server"


def _account() -> dict[str, Any]:
    """Return whom PostgreSQL runs as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):  # then the next one
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise ProgramFailed("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`; run this as another user")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

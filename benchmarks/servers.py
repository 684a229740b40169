"""The servers of the side-by-side run: durable, empty, on loopback, and for one level only, so that nobody else's works in the background."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.children import ProgramFailed, await_ready, environment, free_ports, running
from benchmarks.environments import ROOT
from tests.postgres.binaries import PostgresNotFound, find_binaries
from tests.postgres.server import PostgresFailed, Server

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
    """Start PostgreSQL with its default durability, and yield the URL of an empty database. Its data is where `tempfile` puts things."""
    del place
    try:
        with Server(durable=True) as server:
            yield server.fresh()
    except PostgresFailed as error:
        raise ProgramFailed(str(error)) from error


def postgresql_binaries() -> Path:
    """Return the folder of PostgreSQL's programs. Raises ProgramFailed: there is none."""
    try:
        return find_binaries()
    except PostgresNotFound as error:
        raise ProgramFailed(str(error)) from error


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


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

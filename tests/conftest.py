from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from perdure import limits

if TYPE_CHECKING:
    from tests.postgres.server import Server


MEMORY: Final = Path("/dev/shm")
ROOM: Final = 2 * 1024**3  # bytes; the suite takes a few per cent of it


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Let the files of tests be in memory where there is room: a disk takes milliseconds for each sync, and no test cuts its power."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL for the whole run, started by the first test that asks. A test that stops or kills a server makes its own."""
    from tests.postgres.server import Server  # most runs of a few tests need neither the server nor its driver

    with Server() as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("PGSSLMODE", "disable")  # a connection that is called off while it asks for TLS leaves an error of the driver's
        yield server


@pytest.fixture
def postgres_url(postgres_server: Server) -> Iterator[str]:
    """Give an empty database of this test's own: `postgresql://postgres@127.0.0.1:PORT/NAME`."""
    url = postgres_server.fresh()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but a test looks at leases, or makes a node late."""
    monkeypatch.setattr(limits, "LEASE_LOOK_SECONDS", 86_400.0)
    monkeypatch.setattr(limits, "LEASE_US", 3_600_000_000)

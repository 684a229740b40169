from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from perdure import limits

if TYPE_CHECKING:
    from tests.postgres.server import Server


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

"""Where examples are crashed: in memory in the gate, on a server in the soak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure.testing.crashes import Stores
from tests.stores import stores


@pytest.fixture
def on_a_server(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Give each run an empty store on PostgreSQL."""
    return stores(request, "postgres", tmp_path).new


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.soak)])
def on(request: Any) -> Stores | None:
    """Give each run an empty store, of every kind."""
    return None if request.param == "memory" else request.getfixturevalue("on_a_server")

"""A store of every kind, open."""

from __future__ import annotations

from tests.contracts.conftest import bench, clock, reopen, store

__all__ = ["bench", "clock", "reopen", "store"]

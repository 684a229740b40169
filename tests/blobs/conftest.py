"""Stores of every kind, with a clock that tests hold in their hands."""

from __future__ import annotations

from tests.contracts.conftest import bench, clock, reopen, store

__all__ = ["bench", "clock", "reopen", "store"]

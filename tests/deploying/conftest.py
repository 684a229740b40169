"""Projects to build packages of, and a store of every kind, open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.contracts.conftest import bench, clock, reopen, store
from tests.deploying.samples import FLOWS, PYPROJECT

__all__ = ["bench", "clock", "lay", "reopen", "store"]

Lay = Callable[..., Path]


@pytest.fixture
def lay(tmp_path: Path) -> Lay:
    """Lay out a project; a file that is None is not written."""

    def lay(more: Mapping[str, str | bytes | None] | None = None, *, folder: str = "project", pyproject: str = PYPROJECT) -> Path:
        files = {"pyproject.toml": pyproject, "src/shop/__init__.py": "", "src/shop/flows.py": FLOWS, **(more or {})}
        for path, content in files.items():
            if content is not None:
                file = tmp_path / folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / folder

    return lay

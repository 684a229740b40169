from __future__ import annotations

import pytest

from tests.upgrades.fleet import install


@pytest.fixture(autouse=True)
def releases(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)

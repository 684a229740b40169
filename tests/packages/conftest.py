from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from perdure.names import tag_of
from perdure.packages import loading
from perdure.packages.finding import VERSIONS
from perdure.packages.loading import Loaded, PackageCode, load, unload
from perdure.packages.unloading import withdraw
from tests.packages import journal

Load = Callable[[PackageCode], Loaded]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Whatever a test loads, it lets go again."""
    _let_go()  # of what engines had loaded that tests elsewhere let crash
    before = set(sys.modules)
    yield
    left = list(VERSIONS.values()), [name for name in sys.modules if tag_of(name)]
    _let_go()  # of a test that failed: the next one is not to fail for it
    assert left == ([], [])
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"shop", "shared"}:  # local code of the same names, which a test has put onto the path
            del sys.modules[name]


def _let_go() -> None:
    for version in list(VERSIONS.values()):
        withdraw(version)
    loading._held.clear()


@pytest.fixture(autouse=True)
def an_empty_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, empty in {"LINES": [], "KEPT": [], "BEGUN": threading.Event(), "GATE": threading.Event(), "READY": True, "HOOK": str}.items():
        monkeypatch.setattr(journal, name, empty)


@pytest.fixture
def loads() -> Iterator[Load]:
    """Load versions for one test."""
    made: list[Loaded] = []

    def loads(code: PackageCode) -> Loaded:
        made.append(load(code))
        return made[-1]

    yield loads
    for loaded in made:
        unload(loaded)

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from perdure.names import tag_of
from perdure.packages.finding import VERSIONS
from perdure.packages.loading import Loaded, PackageCode, load, unload

Load = Callable[[PackageCode], Loaded]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Whatever a test loads, it lets go again."""
    before = set(sys.modules)
    yield
    assert [name for name in sys.modules if tag_of(name)] == []
    assert VERSIONS == {}
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"shop", "shared"}:  # local code of the same names, which a test has put onto the path
            del sys.modules[name]


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

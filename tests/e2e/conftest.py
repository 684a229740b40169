"""The command line, called in this process, and empty stores of every durable kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.cli import main
from tests.stores import DURABLE, store_url

Ran = tuple[int, str, str]
"""Exit status, output and errors."""

Call = Callable[..., Ran]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        shown = capsys.readouterr()
        return int(str(stopped.value.code)), shown.out, shown.err

    return run


@pytest.fixture(params=DURABLE)
def place(request: Any, tmp_path: Path) -> str:
    """Give the URL of an empty store."""
    return store_url(request, request.param, tmp_path)

"""The command line, called in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure.cli import main

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

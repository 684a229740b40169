"""Three versions of an order: the page says what happens, on every backend, and its commands go on with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.order_versions.story import HERE, main
from tests.gate.pages import fences
from tests.gate.tree import ROOT
from tests.stores import KINDS, store_url

PAGE = (HERE / "README.md").read_text(encoding="utf-8")
TOLD = next(text for _, info, text in fences(PAGE) if info == "text")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])
async def test_the_page_tells_what_happens(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await main([store_url(request, kind, tmp_path)]) == 0

    assert capsys.readouterr().out == TOLD


async def test_the_commands_of_the_page_go_on_with_the_story(tmp_path: Path) -> None:
    await main([f"sqlite:///{tmp_path / 'shop.db'}"])
    shutil.copytree(HERE / "v2", tmp_path / "v2")
    commands = [text for _, info, text in fences(PAGE) if info == "sh"][-1]
    program = f'set -e\nperdure() {{ {sys.executable} -m perdure "$@"; }}\n' + commands

    done = subprocess.run(  # noqa: ASYNC221  # nothing else is to happen meanwhile
        ["sh", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "dorothea-m" in done.stdout
    assert "rolled-back" in done.stdout

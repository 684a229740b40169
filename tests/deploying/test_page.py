"""docs/packages.md: its project, and each of its commands. Its Python also runs with that of the other pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from perdure.deploying import child
from perdure.packages.archive import unpack
from tests.gate.pages import blocks, fences
from tests.gate.tree import ROOT

PAGE = (ROOT / "docs" / "packages.md").read_text(encoding="utf-8")


def test_the_project_of_the_page_is_built_looked_at_and_signed(tmp_path: Path) -> None:
    texts = {kind: [text for _, info, text in fences(PAGE) if info == kind] for kind in ("toml", "sh")}
    (tmp_path / "src" / "shop").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(texts["toml"][0])
    (tmp_path / "src" / "shop" / "flows.py").write_text(blocks(PAGE)[0][1])
    unzip = f'{sys.executable} -c "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[2]).read(sys.argv[3]))"'
    program = f'set -e\nperdure() {{ {sys.executable} -m perdure "$@"; }}\nunzip() {{ {unzip} "$@"; }}\n' + "".join(texts["sh"])

    done = subprocess.run(
        ["sh", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    [archive] = (tmp_path / "dist").glob("*.zip")
    package = unpack(archive.read_bytes())
    assert f"{package.identity}  -" in done.stdout
    assert len(package.signatures) == 1
    assert [process.type for process in package.manifest.processes] == ["Order"]


def test_each_warning_is_on_the_page() -> None:
    source = Path(child.__file__).read_text(encoding="utf-8")
    codes = {part.partition('"')[0] for part in source.split('"package-')[1:]}

    assert codes
    assert [code for code in codes if f"| `package-{code}` |" not in PAGE] == []

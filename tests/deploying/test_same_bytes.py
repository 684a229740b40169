"""The same sources make the same archive, whatever the machine is set to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.deploying.samples import FLOWS, PYPROJECT
from tests.gate.tree import ROOT

FILES = {
    "pyproject.toml": PYPROJECT,
    "src/shop/__init__.py": "",
    "src/shop/flows.py": FLOWS,
    "src/shop/Zebra.py": "x = {'b', 'a', 'c'}\n",
    "src/shop/apple.py": "",
    "src/shop/data/Grüße.txt": "hällo\r\n",
    "src/shop/data/a.csv": "1,5\n",
    "src/lone.py": "",
}
SETTINGS: list[tuple[Mapping[str, str], int, int]] = [  # of one machine each: environment, umask, time of its files in seconds
    ({"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0"}, 0o022, 0),
    ({"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "77", "LANGUAGE": "tr"}, 0o077, 1_900_000_000),
    ({"TZ": "America/St_Johns", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "2"}, 0o000, 315_532_801),
]


def written(folder: Path, umask: int, at: int, *, backwards: bool) -> None:
    before = os.umask(umask)
    try:
        for path, text in sorted(FILES.items(), reverse=backwards):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
            os.utime(file, (at, at))
    finally:
        os.umask(before)


def test_a_package_has_the_same_bytes_on_each_machine(tmp_path: Path) -> None:
    archives: dict[str, set[bytes]] = {}
    for number, (settings, umask, at) in enumerate(SETTINGS):
        folder = tmp_path / f"machine {number}" / ("deep" * number) / "project"
        written(folder, umask, at, backwards=number % 2 == 1)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), **settings}
        command = [sys.executable, "-m", "perdure", "package", "build", str(folder), "--out", "out"]
        subprocess.run(command, cwd=folder, env=environment, umask=umask, check=True, capture_output=True)
        for path in (folder / "out").glob("*.zip"):
            archives.setdefault(path.name, set()).add(path.read_bytes())

    [(name, found)] = archives.items()
    assert name.startswith("shop-")
    assert len(found) == 1

"""README and docs: every block of Python runs, every link leads somewhere, the first screen has what it has to have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gate.pages import anchors, blocks, fences, links
from tests.gate.tree import ROOT, paths

PAGES = [path for path in paths() if path.endswith(".md")]
FIRST_SCREEN = 45  # lines
HELLO_LINES = 10


def run(argument: str, folder: Path) -> str:
    command = [sys.executable, "-W", "error", *argument.split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.mark.parametrize("path", [path for path in PAGES if blocks((ROOT / path).read_text())])
def test_the_code_on_a_page_runs(path: str, tmp_path: Path) -> None:
    run(f"-m tests.gate.run_page {ROOT / path}", tmp_path)


def test_the_hello_program_runs_and_is_answered_from_the_store_the_second_time(tmp_path: Path) -> None:
    _, hello = blocks((ROOT / "README.md").read_text())[0]
    (tmp_path / "hello.py").write_text(hello)
    (tmp_path / "again.py").write_text(hello.replace("Hello", "Good bye"))

    first, second = run("hello.py", tmp_path), run("again.py", tmp_path)

    assert len(hello.splitlines()) <= HELLO_LINES
    assert first == "Hello, world!\n"
    assert second == first, "the reply to one id is sealed"


def test_the_first_screen_has_the_two_commands_and_the_hello_program() -> None:
    readme = (ROOT / "README.md").read_text()
    screen = "\n".join(readme.splitlines()[:FIRST_SCREEN])

    assert "make demo" in screen
    assert "make test" in screen
    assert blocks(readme)[0][1] in screen


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_somewhere(path: str) -> None:
    broken = []
    for line, target in links((ROOT / path).read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        page = (ROOT / path).parent / name if name else ROOT / path
        if not page.exists() or (anchor and anchor not in anchors(page.read_text())):
            broken.append(f"{path}:{line}: {target}")

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("path", PAGES)
def test_code_on_a_page_says_what_it_is(path: str) -> None:
    unknown = [
        line
        for line, info, _ in fences((ROOT / path).read_text())
        if info not in {"python", "python no-run", "sh", "text", "json", "sql", "toml"}
    ]

    assert not unknown, f"{path}: the blocks at lines {unknown}"


# --- how pages are read --------------------------------------------------------------------------------

PAGE = """\
# A page: `code`

See [there](there.md#part), ![picture](a.svg), `[no](link.md)`.

```python
x = "[no](link.md)"
```

```python no-run
async def signature() -> None: ...
```
"""


def test_blocks_that_run_are_found_with_their_line() -> None:
    assert blocks(PAGE) == [(5, 'x = "[no](link.md)"\n')]


def test_links_outside_of_code_are_found() -> None:
    assert list(links(PAGE)) == [(3, "there.md#part"), (3, "a.svg")]


def test_a_heading_is_an_anchor() -> None:
    assert anchors(PAGE) == {"a-page-code"}

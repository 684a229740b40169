"""docs/http.md: its app is served, and its curl commands are answered as the page says."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.server.table import ROUTES
from tests.gate.pages import blocks, fences
from tests.gate.tree import ROOT
from tests.server.running import running

PAGE = (ROOT / "docs" / "http.md").read_text()
VARIES = {"process_id", "created_at", "updated_at", "accepted_at"}


def examples() -> list[tuple[str, str | None]]:
    """Return the commands of the page, each with the answer that stands behind it."""
    found = list(fences(PAGE))
    shown = [*((info, text) for _, info, text in found), ("", "")]
    return [
        (text, answer if kind == "json" else None)
        for (info, text), (kind, answer) in itertools.pairwise(shown)
        if info == "sh" and "perdure serve" not in text
    ]


def alike(said: Any, shown: Any, name: str = "") -> bool:
    """Whether an answer is what the page shows, but for what is different each time."""
    if isinstance(shown, dict):
        return isinstance(said, dict) and list(said) == list(shown) and all(alike(said[one], shown[one], one) for one in shown)
    if isinstance(shown, list):
        return isinstance(said, list) and len(said) == len(shown) and all(map(alike, said, shown))
    return type(said) is type(shown) if name in VARIES else bool(said == shown)


async def test_what_the_page_says_of_curl_is_so(tmp_path: Path) -> None:
    if shutil.which("curl") is None:  # the page is for those who have it
        return
    (tmp_path / "shop.py").write_text(blocks(PAGE)[0][1])
    store = f"sqlite:///{tmp_path / 'shop.db'}"
    script = "\necho '<end>'\n".join(text for text, _ in examples())
    async with running(tmp_path, store, app="shop:app") as server:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "URL": server.url, "PERDURE_STORE": store},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()

    answers = out.decode().split("<end>\n")
    assert process.returncode == 0
    assert len(answers) == len(examples()) > 8
    for said, (command, shown) in zip(answers, examples(), strict=True):
        if shown is not None:
            assert alike(msgspec.json.decode(said), msgspec.json.decode(shown)), (command, said)
    [stream] = [said for said, (command, _) in zip(answers, examples(), strict=True) if "event-stream" in command]
    assert re.findall(r"^(?:id|event): (.*)$", stream, re.MULTILINE) == ["event", "2", "end"]


def test_the_page_lists_the_routes_with_their_capabilities() -> None:
    listed: set[tuple[str, str, str]] = set()
    for line in PAGE.splitlines():
        if found := re.fullmatch(r"\| `(GET|POST|PUT|DELETE) (/[^`]+)`(.*?) \| `([\w:]+)`.*\|", line):
            method, path, more, capability = found.groups()
            listed.add((method, path, capability))
            base = path.rpartition("/")[0] if method == "POST" else path
            listed |= {
                (method, one.replace("…", path) if "…" in one else f"{base}/{one}", capability) for one in re.findall(r"`([^`]+)`", more)
            }

    assert listed == {(one.method, one.path, one.capability) for one in ROUTES if one.capability is not None}


@pytest.mark.parametrize("path", [one.path for one in ROUTES if one.capability is None])
def test_the_page_says_what_is_open(path: str) -> None:
    assert f"`{path}`" in PAGE

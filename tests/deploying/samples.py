"""Packages that are tried, and built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perdure.packages.archive import pack
from perdure.packages.manifest import ManifestProcess, describe

FLOWS = """\
import msgspec
import perdure

app = perdure.App("shop")


class Placed(msgspec.Struct):
    id: str


@app.process
class Order(perdure.Process):
    count: int = 0

    @perdure.on(Placed, start=True, key=lambda placed: placed.id)
    async def placed(self, placed: Placed) -> int:
        self.count += 1
        return self.count


@app.process
async def hello(p: perdure.Process, name: str) -> None:
    pass
"""
PYPROJECT = """\
[project]
name = "Shop"
requires-python = ">=3.11"
dependencies = ["perdure", "msgspec >= 0.21"]

[tool.perdure.package]
entries = ["shop.flows"]
"""
REQUIRES = ("msgspec>=0.21", "perdure")


def archived(
    flows: str,
    *,
    more: Mapping[str, str] | None = None,
    requires: Sequence[str] = REQUIRES,
    processes: Sequence[ManifestProcess] = (),
    schemas: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return the archive of a shop whose module `shop.flows` is this."""
    files = {"shop/__init__.py": b"", "shop/flows.py": flows.encode(), **{path: text.encode() for path, text in (more or {}).items()}}
    manifest = describe(files, name="shop", python=">=3.11", requires=requires, processes=processes, schemas=schemas or {})
    return pack(manifest, files)

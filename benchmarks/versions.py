"""Versions of a package in one interpreter: how long the import of one takes, what it takes of memory, and what is left of it."""

from __future__ import annotations

import gc
import hashlib
import time
import tracemalloc

from benchmarks.measure import SHORT, report
from perdure.packages.loading import Loaded, PackageCode, load, unload

MODULES = 10
VERSIONS = 8 if SHORT else 64
LINES = """\
class Order{i}(msgspec.Struct, tag="order{i}"):
    id: str
    total: int = {i}
    note: str | None = None


def total_{i}(orders: list[Order{i}]) -> int:
    found = 0
    for order in orders:
        if order.note is None:
            found += order.total
    return found


"""


def package(number: int) -> PackageCode:
    """A version of ten modules of some 150 lines each."""
    body = "".join(LINES.format(i=i) for i in range(12))
    head = "from __future__ import annotations\nimport msgspec\n"
    files = {
        f"shop/m{module}.py": head + (f"from . import m{module + 1}\n" if module + 1 < MODULES else "") + body for module in range(MODULES)
    }
    files["shop/__init__.py"] = f"NUMBER = {number}\n"
    files["shop/again.py"] = "def again(count):\n    for _ in range(count):\n        import os\n"
    return PackageCode(
        name="shop",
        content_hash=hashlib.sha256(str(number).encode()).hexdigest(),
        files={path: text.encode() for path, text in files.items()},
        top_levels=("shop",),
        entries=("shop.m0:Order0",),
    )


async def versions() -> None:
    """Load many, and let all of them go; times without, memory with `tracemalloc`."""
    codes = [package(number) for number in range(VERSIONS)]
    lines = sum(file.count(b"\n") for file in codes[0].files.values())
    took, loaded = _loaded(codes)
    report(benchmark="load of a version", modules=MODULES, lines=lines, versions=VERSIONS, ms=sorted(took)[len(took) // 2])
    again = loaded[0].module("shop.again").again
    start = time.perf_counter()
    again(100_000)
    report(benchmark="an import in a function, repeated", ns=(time.perf_counter() - start) * 1e4)
    start = time.perf_counter()
    for one in loaded:
        unload(one)
    report(benchmark="letting go of a version", ms=(time.perf_counter() - start) * 1000 / VERSIONS)
    del loaded, one, again
    gc.collect()
    _memory(codes)


def _memory(codes: list[PackageCode]) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    _, loaded = _loaded(codes)
    held = tracemalloc.get_traced_memory()[0]
    for one in loaded:
        unload(one)
    del loaded, one
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    report(
        benchmark="memory of a version, beside its files",
        kib=(held - before) / VERSIONS / 1024,
        left_kib=(after - before) / VERSIONS / 1024,
    )


def _loaded(codes: list[PackageCode]) -> tuple[list[float], list[Loaded]]:
    took, loaded = [], []
    for code in codes:
        start = time.perf_counter()
        loaded.append(load(code))
        took.append((time.perf_counter() - start) * 1000)
    return took, loaded

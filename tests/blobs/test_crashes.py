"""A process that dies in the middle of an upload leaves nothing wrong. Source: commands.md, "One transaction" and "Payloads"."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure import VirtualClock, limits, open_store
from tests.blobs.bytes import HOUR, held, noise, pieces, rows, sha256, whole
from tests.stores import DURABLE, store_url

DATA = noise(4 * limits.BLOB_PART)
KEEPS_ON = """
import asyncio, sys
from perdure import limits, open_store

async def for_ever():
    while True:
        for _ in range(2):
            yield bytes(limits.BLOB_PART)
        print("stored", flush=True)
        await asyncio.Event().wait()

async def main():
    async with open_store(sys.argv[1]) as store:
        await store.blobs.put("acme", for_ever())

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_process_that_is_killed_leaves_parts_that_go_when_their_time_is_over(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    url = store_url(request, kind, tmp_path)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KEEPS_ON, url, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"stored\n"
    process.kill()
    await process.wait()

    async with open_store(url) as store:
        now = store.access.clock.now()
        assert await rows(store) == {"blob_part": 2, "blob_upload": 1}
        assert await store.blobs.sweep(now) == 0
        assert await store.blobs.sweep(now + HOUR) == 1
        assert await rows(store) == {}


async def test_as_of_any_moment_of_an_upload_there_is_all_of_a_blob_or_nothing(tmp_path: Path) -> None:
    """A backup is the store as of a crash."""
    copies: list[Path] = []

    async def upload() -> Any:
        async for part in pieces(DATA, limits.BLOB_PART):
            copies.append(tmp_path / f"{len(copies)}.db")
            await store.backup(copies[-1])
            yield part

    async with open_store(f"sqlite:///{tmp_path / 'store.db'}", clock=VirtualClock()) as store:
        await store.blobs.put("acme", upload())
        copies.append(tmp_path / "whole.db")
        await store.backup(copies[-1])

    for copy in copies:
        clock = VirtualClock()
        async with open_store(f"sqlite:///{copy}", clock=clock) as again:
            assert (await again.blobs.stat("acme", sha256(DATA)) is not None) == (copy.name == "whole.db")
            blob = await again.blobs.put("acme", pieces(DATA))
            assert await whole(again.blobs.open("acme", blob.sha256)) == DATA
            await again.blobs.sweep(clock.now() + HOUR - 1)
            await again.commands.create_command("acme", "work", tenant_id="acme", params=blob)
            await again.blobs.sweep(clock.now() + HOUR)
            assert await rows(again) == {"blob": 1, "blob_part": 4, "blob_reference": 1}


async def test_two_stores_of_one_database_have_the_same_blobs(postgres_url: str) -> None:
    async with open_store(postgres_url) as one, open_store(postgres_url) as other:
        both = asyncio.Barrier(2)
        first, second = await asyncio.gather(*(store.blobs.put("acme", held(DATA, limits.BLOB_PART, both.wait)) for store in (one, other)))
        made = [await store.commands.create_command("acme", "work", tenant_id="acme", params=first) for store in (one, other)]

        assert first == second
        assert len({each.command_id for each in made}) == 2
        await other.blobs.sweep(other.access.clock.now())
        assert await rows(one) == {"blob": 1, "blob_part": 4, "blob_reference": 2}
        assert await whole(one.blobs.open("acme", first.sha256)) == DATA

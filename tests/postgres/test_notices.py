"""Who waits for something hears of what other stores commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure import open_store
from tests.stores import store_url

PATIENCE = 10  # seconds, until a test that would never end fails


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "goes"])
async def test_a_commit_of_another_store_is_heard_of_whether_or_not_it_stays(
    request: pytest.FixtureRequest, tmp_path: Path, *, stays: bool
) -> None:
    """One that has closed before anybody looks has left no writer behind."""
    url = store_url(request, "postgres", tmp_path)
    async with open_store(url) as here:
        signals = here.access.signals
        with signals.listen("anything") as listener:
            await listener.wait(None)  # the first look is always news
            there = await open_store(url)
            await there.streams.cas("k", None, 1)
            if not stays:
                await there.close()

            assert await asyncio.wait_for(listener.wait(None), PATIENCE)

        await there.close()

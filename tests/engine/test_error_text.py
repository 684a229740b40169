"""An error ends its turn whatever its text is made of, on every database."""

from __future__ import annotations

import pytest

from perdure import App, Engine, Process, open_store
from perdure.errors import TurnFailed


@pytest.mark.parametrize(("text", "shown"), [("a\0b", "a\\x00b"), ("a\ud800b", "a\\ud800b"), ("", "")])
async def test_a_turn_fails_with_any_text(text: str, shown: str, url: str) -> None:
    app = App("failing")

    @app.process
    async def fails(_p: Process) -> None:
        raise ValueError(text)

    async with open_store(url) as store, Engine(store, app) as engine:
        with pytest.raises((ValueError, TurnFailed)):
            await engine.call(fails, id="1")
        [failed] = await engine.processes(status="failed")

    assert failed.note == f"ValueError: {shown}"

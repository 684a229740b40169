"""The benchmark that splits the time of a workflow says where it goes on both databases."""

from __future__ import annotations

import json

import pytest

from benchmarks import split


async def test_each_database_is_asked_for_each_commit_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(split, "TIMES", 20)
    monkeypatch.setattr(split, "ALONE", 1)
    monkeypatch.setattr(split, "CLIENTS", (1,))
    await split.split()

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["backend"] for line in lines] == ["sqlite", "postgresql"]
    assert all(line["asked_each"] >= line["commits_each"] > 4 for line in lines)
    assert all(0 < line["waited_us_each"] < line["us_each"] for line in lines)

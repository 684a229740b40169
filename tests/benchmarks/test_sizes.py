"""The benchmark of sizes prints what work leaves behind on both databases."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import partitions, sizes


async def test_each_kind_of_work_leaves_its_rows_on_both_databases_and_the_same_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sizes, "TIMES", 40)
    monkeypatch.setattr(sizes, "CLIENTS", (1,))
    await sizes.sizes()

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = {
        backend: {line["what"]: line["rows_each"] for line in lines if line["backend"] == backend} for backend in ("sqlite", "postgresql")
    }
    assert rows["sqlite"].keys() == sizes.WORK.keys()
    assert rows["sqlite"] == rows["postgresql"]
    assert all(line["bytes_each"] > 0 for line in lines)
    assert all(line["wal_bytes_each"] > 0 and 0 < line["connections"] <= 8 for line in lines if line["backend"] == "postgresql")


def test_the_sql_of_the_page_is_made_for_as_many_partitions_as_are_asked_for() -> None:
    sql = partitions.page_sql(3)

    assert re.findall(r"MODULUS (\d+)", sql) == ["3", "3"]
    assert "0..2 LOOP" in sql

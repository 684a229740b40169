"""tests/packages/README.md says which tests hold each item of the research on packages, and each of them is there."""

from __future__ import annotations

import re

from tests.gate.guarantees import rows
from tests.gate.maps import complaints, groups, map_of

MAP = map_of("packages")
GROUPS = {
    "H": 19, "P": 6, "F": 10, "K": 9, "E": 15, "V": 7,
    "O": 7, "U": 7, "R": 5, "D": 3, "T": 3, "B": 5, "N": 4, "A": 1, "G": 9,
    "W": 13, "X": 9,
}  # fmt: skip
"""How many items each has."""


def test_the_map_is_right() -> None:
    assert list(complaints(MAP)) == []


def test_each_group_has_its_items() -> None:
    assert groups(MAP) == GROUPS


def test_each_weak_spot_has_a_test_that_carries_its_number() -> None:
    numbered = {row.cells[0]: set(re.findall(r"::test_weak_spot_a(\d+)_", row.cells[2])) for row in rows(MAP) if row.section[:2] == "W:"}

    assert numbered == {f"W{number}": {str(number)} for number in range(1, GROUPS["W"] + 1)}

"""tests/commands/README.md says which tests hold each item of the research on commands, and each of them is there."""

from __future__ import annotations

from tests.gate.maps import complaints, groups, map_of

MAP = map_of("commands")
GROUPS = {"S": 9, "R": 12, "The eight flows": 8, "V": 22, "D": 6, "C": 27, "K": 11, "A": 4, "P": 7, "3.1": 20, "1.5": 13, "5": 59}
"""How many items each has."""


def test_the_map_is_right() -> None:
    assert list(complaints(MAP)) == []


def test_each_group_has_its_items() -> None:
    assert groups(MAP) == GROUPS

"""What is wrong in a map of what research found is noticed."""

from __future__ import annotations

import pytest

from tests.gate.maps import HEADER, complaints

HERE = "tests/gate/test_maps.py"
GOOD = f"`{HERE}::test_a_right_map_is_no_offence`"


def table(*lines: str, header: str = f"| {HEADER} |") -> str:
    return "\n".join(["## A", "", header, "|---|---|---|", *lines, ""])


def test_a_right_map_is_no_offence() -> None:
    lines = (f"| 1 | a | {GOOD}, `{HERE}::test_what_is_wrong_in_a_map_is_found` |", "| 2 | b | does not apply: no URLs |")

    assert list(complaints(table(*lines, f"| 3 | c | does not apply: no URLs; the nearest: {GOOD} |"))) == []


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (table(f"| 1 | a | {GOOD.replace('map', 'mpa')} |"), "there is no test"),
        (table(f"| 1 | a | {GOOD.replace('gate/', '')} |"), "there is no test"),
        (table(f"| 1 | a | does not apply: no URLs: {GOOD.replace('map', 'mpa')} |"), "there is no test"),
        (table("| 1 | a | |"), "why it does not apply"),
        (table("| 1 | a | does not apply |"), "why it does not apply"),
        (table("| 1 | a | nobody |"), "why it does not apply"),
        (table(f"| 1 | a | {GOOD} {GOOD} |"), "why it does not apply"),
        (table(f"| 1 | a | {GOOD.replace('::', ':')} |"), "outside of what"),
        (table(f"| 1 | | {GOOD} |"), "some words"),
        (table(f"| 1 | a | {GOOD} |", f"| 1 | b | {GOOD} |"), "a name of its own"),
        (table(f"| 1 | {GOOD} |"), "three cells"),
        (table(f"| 1 | a | {GOOD} |", header="| item | what | test |"), "expected a table"),
    ],
)
def test_what_is_wrong_in_a_map_is_found(page: str, says: str) -> None:
    assert any(says in found for found in complaints(page)), list(complaints(page))

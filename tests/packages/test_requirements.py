"""What a version needs is looked at before any of its code runs, and all that is missing is told at once."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import PackageRequirementUnmet, Unmet
from perdure.packages.loading import load
from perdure.packages.requirements import PYTHON, check_requirements
from tests.packages.versions import made


def check(*requires: str, python: str = "") -> dict[str, str]:
    return check_requirements("shop 0123456789abcdef", python=python, requires=requires)


def unmet(*requires: str, python: str = "") -> tuple[Unmet, ...]:
    with pytest.raises(PackageRequirementUnmet) as raised:
        check(*requires, python=python)
    return raised.value.unmet


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of `sys.path` with distributions of this test's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, number: str | None, *needs: str) -> None:
    about = folder / f"{name}-{number}.dist-info"
    about.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}"]
    lines += [f"Version: {number}"] if number is not None else []
    lines += [f"Requires-Dist: {need}" for need in needs]
    (about / "METADATA").write_text("\n".join(lines))


def test_what_is_installed_in_range_is_found() -> None:
    found = check("msgspec>=0.18,<99", "Pytest", "no-such; python_version < '3'", python=">=3.11,<4")

    assert found == {"Python": PYTHON, "msgspec": version("msgspec"), "Pytest": version("pytest")}
    assert ".".join(map(str, sys.version_info[:3])) == PYTHON


def test_nothing_is_needed_when_nothing_is_said() -> None:
    assert check() == {"Python": PYTHON}


def test_all_that_is_missing_is_told_with_range_and_version_found() -> None:
    found = unmet("msgspec>=99", "pytest>=7", "no-such-distribution>=1", python=">=3.99")

    assert found == (
        Unmet("Python", ">=3.99", PYTHON),
        Unmet("msgspec", ">=99", version("msgspec")),
        Unmet("no-such-distribution", ">=1", None),
    )


def test_the_text_names_the_package_what_was_expected_and_what_was_found() -> None:
    with pytest.raises(PackageRequirementUnmet) as raised:
        check("no-such-distribution", "msgspec>=99")

    assert str(raised.value) == (
        f"package shop 0123456789abcdef: no-such-distribution: expected any version, found none; msgspec: expected >=99, "
        f"found {version('msgspec')}; install what it needs and restart this node, or leave it to another one"
    )
    assert raised.value.code == "package-requirement-unmet"


@pytest.mark.parametrize(
    ("number", "wanted", "fits"),
    [
        ("1.0", "thing>=1,<2", True),
        ("2.0", "thing>=1,<2", False),
        ("1.5rc1", "thing>=1,<2", True),  # somebody has put it there
        ("2.0rc1", "thing>=2", False),
        ("1.0+local", "thing==1.0", True),
        ("1.4.9", "thing~=1.4.2", True),
        ("1.5", "thing~=1.4.2", False),
        ("1.4", "thing!=1.4", False),
        ("1.0", "Thing===1.0", True),
        ("not a version", "thing>=1", False),
        (None, "thing", False),
    ],
)
def test_ranges_are_those_of_pep_440(installed: Path, number: str | None, wanted: str, fits: bool) -> None:
    install(installed, "thing", number)

    if fits:
        assert check(wanted)[wanted[:5]] == number
    else:
        assert [one.found for one in unmet(wanted)] == [number]


def test_markers_are_those_of_this_node() -> None:
    assert unmet("absent; python_version >= '3.11'") == (Unmet("absent", "", None),)
    check("absent; sys_platform == 'nowhere'", "absent; extra == 'more'")


def test_an_extra_needs_what_it_brings(installed: Path) -> None:
    install(installed, "thing", "1", "plain>=1", "fast>=2; extra == 'speed'", "thing[deep]; extra == 'speed'", "far>=3; extra == 'deep'")
    install(installed, "fast", "1.9")

    check("thing")
    assert unmet("thing[speed]") == (Unmet("fast", ">=2", "1.9"), Unmet("far", ">=3", None))


def test_extras_that_bring_one_another_come_to_an_end(installed: Path) -> None:
    install(installed, "thing", "1", "thing[b]; extra == 'a'", "thing[a]; extra == 'b'")

    assert check("thing[a]") == {"Python": PYTHON, "thing": "1"}


@pytest.mark.parametrize("text", ["", "thing >= ", "?", "thing=1"])
def test_a_requirement_that_cannot_be_read_is_not_met(text: str) -> None:
    assert unmet(text) == (Unmet(text, "a requirement as PEP 508 has it", None),)


def test_a_range_of_python_that_cannot_be_read_is_not_met() -> None:
    assert unmet(python="newest") == (Unmet("Python", "newest", PYTHON),)


@pytest.mark.parametrize("needs", [{"requires": ("msgspec>=99",)}, {"python": "<3"}])
def test_no_code_of_a_version_runs_on_a_node_that_lacks_something(needs: dict[str, Any]) -> None:
    code = made({"shop/flows.py": "raise AssertionError('its code ran')\n"}, entries=("shop.flows:Order",), **needs)

    with pytest.raises(PackageRequirementUnmet):
        load(code)

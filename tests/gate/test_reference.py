"""The reference is what the code says: every error, every public name."""

from __future__ import annotations

import inspect
import re

import pytest

import perdure
from perdure import errors
from perdure.errors import PerdureError
from tests.gate.reference import PAGES
from tests.gate.tree import ROOT

CLASSES = {kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, PerdureError)}


@pytest.mark.parametrize("path", sorted(PAGES))
def test_a_page_made_from_the_code_is_up_to_date(path: str) -> None:
    page = ROOT / path

    assert page.read_text() == PAGES[path](), f"look at what changed, then write {path} with `make reference`"


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in CLASSES]

    assert sorted(codes) == sorted(set(codes))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_the_architecture_names_every_table() -> None:
    schema = ROOT / "src/perdure/backends/sqlite/schema"
    tables = {name for path in schema.glob("*.sql") for name in re.findall(r"^CREATE TABLE (\w+)", path.read_text(), re.MULTILINE)}
    listed = re.findall(r"^\| ([a-z_, ]+) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)

    assert tables <= {name for cell in listed for name in cell.split(", ")}


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in perdure.__all__ if name.startswith("_") or not hasattr(perdure, name)] == []
    assert list(perdure.__all__) == sorted(set(perdure.__all__), key=perdure.__all__.index), "a name is listed twice"

"""A version that cannot be loaded: why, in words and fields, and that nothing of it stays."""

from __future__ import annotations

import gc
import sys

import msgspec
import pytest

from perdure import limits
from perdure.errors import InvalidIdentifier, PackageEntryMissing, PackageImportFailed, PerdureError
from perdure.packages.finding import VERSIONS
from perdure.packages.loading import PackageCode, load
from tests.packages import journal
from tests.packages.conftest import Load
from tests.packages.versions import made, numbered

FLOWS = ("shop.flows:Order",)


def failing(code: str, **more: str) -> PackageCode:
    return made({"shop/__init__.py": "", "shop/flows.py": code, **{f"shop/{name}.py": text for name, text in more.items()}}, entries=FLOWS)


def raised_by(code: PackageCode) -> PackageImportFailed:
    with pytest.raises(PackageImportFailed) as raised:
        load(code)
    return raised.value


def test_an_import_that_raises_names_the_module_and_has_the_traceback() -> None:
    code = failing("import msgspec\nfrom shop import models\n", models="class Broken(ValueError): pass\nraise Broken('no stock')  # here\n")

    error = raised_by(code)

    assert (error.module, error.error) == ("shop.models", "shop.models.Broken: no stock")
    assert str(error).startswith(
        f"package shop {code.content_hash[:16]}: the import of shop.models failed: shop.models.Broken: no stock; correct it, and deploy"
    )
    assert "raise Broken('no stock')  # here" in error.traceback
    assert "from shop import models" in error.traceback
    assert "perdure" not in error.traceback
    assert "importlib" not in error.traceback
    assert str(error).endswith(error.traceback)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import asyncio\nraise asyncio.CancelledError", "asyncio.exceptions.CancelledError"),
        ("import shop.nope", "ModuleNotFoundError: No module named 'shop.nope' in package "),
        ("import no_such_distribution", "ModuleNotFoundError: No module named 'no_such_distribution'"),
        ("def __getattr__(name):\n    if name == 'Order': raise RuntimeError(name)\n    raise AttributeError", "RuntimeError: Order"),
        ("raise ValueError('\\ud800\\0')", r"ValueError: \ud800\x00"),
        ("class E(Exception):\n    def __str__(self): raise TypeError\nraise E", "shop.flows.E: <exception str() failed>"),
        ("e = OSError()\ne.add_note('a note')\nraise e", "OSError"),
        ("raise ExceptionGroup('two', [ValueError(1), TypeError(2)])", "ExceptionGroup: two (2 sub-exceptions)"),
    ],
)
def test_whatever_an_import_raises_is_its_failure(code: str, said: str) -> None:
    error = raised_by(failing(code))

    assert error.module == "shop.flows"
    assert error.error.startswith(said)


def test_who_interrupts_the_program_interrupts_an_import() -> None:
    with pytest.raises(KeyboardInterrupt):
        load(failing("raise KeyboardInterrupt"))


def test_a_cause_is_told_without_our_own_frames() -> None:
    error = raised_by(
        failing("try:\n    import shop.other\nexcept ValueError as e:\n    raise TypeError('b') from e", other="raise ValueError('a')")
    )

    assert (error.module, error.error) == ("shop.flows", "TypeError: b")
    assert error.traceback.index("ValueError: a") < error.traceback.index("direct cause") < error.traceback.index("TypeError: b")
    assert "perdure" not in error.traceback


def test_a_long_traceback_keeps_its_end() -> None:
    error = raised_by(failing("raise ValueError('x' * 100_000 + 'end')"))

    assert (len(error.traceback), error.traceback[-4:]) == (limits.PACKAGE_TRACEBACK_MAX, "end\n")
    assert len(error.error) == limits.PACKAGE_ERROR_MAX


def test_an_import_that_its_own_code_catches_is_no_failure(loads: Load) -> None:
    code = "try:\n    from . import fast\nexcept ZeroDivisionError:\n    fast = None\nclass Order: pass\n"

    loaded = loads(failing(code, fast="1 / 0"))

    assert loaded.module("shop.flows").fast is None
    assert f"shop@{loaded.content_hash[:16]}.fast" not in sys.modules


@pytest.mark.parametrize(
    "entry", ["shop.flows:Missing", "shop.nope:Order", "shop.flows:Order.nope", "json:dumps", "shop.flows", "shop.flows:"]
)
def test_an_object_that_a_version_names_and_has_not_is_named(entry: str) -> None:
    code = made({"shop/flows.py": "class Order: pass\n"}, entries=("shop.flows:Order", entry))

    with pytest.raises(
        PackageEntryMissing, match=rf"^package shop {code.content_hash[:16]}: it names {entry}, and has no such object"
    ) as raised:
        load(code)

    assert raised.value.entry == entry


def test_an_object_that_is_asked_for_later_and_missing_is_named(loads: Load) -> None:
    with pytest.raises(PackageEntryMissing):
        loads(numbered(1)).object("shop.late:NOPE")


def test_an_entry_may_lie_within_a_class(loads: Load) -> None:
    assert loads(made({"shop.py": "class A:\n    class B: pass\n"}, entries=("shop:A.B",))).object("shop:A.B").__name__ == "B"


@pytest.mark.parametrize("failure", ["raise ValueError", "class Other: pass", "def f(:", "raise SystemExit"])
def test_a_version_that_fails_half_way_leaves_nothing_behind(failure: str) -> None:
    before, paths = set(sys.modules), list(sys.path)
    code = failing("from shop import good\n" + failure, good="import shop.better", better="")

    with pytest.raises(PerdureError):
        load(code)

    assert set(sys.modules) == before
    assert (VERSIONS, sys.path) == ({}, paths)


def test_the_error_of_a_failed_import_keeps_none_of_its_code() -> None:
    code = "from tests.packages import journal\nclass Thing: pass\njournal.show(Thing)\nraise ValueError(Thing)"

    error = raised_by(failing(code))
    gc.collect()

    assert [thing() for thing in journal.KEPT] == [None]
    assert error.__cause__ is error.__context__ is None


def test_a_version_that_failed_is_tried_again(loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    code = failing("from tests.packages import journal\njournal.check()\nclass Order: pass\n")
    monkeypatch.setattr(journal, "READY", False)
    raised_by(code)
    monkeypatch.setattr(journal, "READY", True)

    assert loads(code).object("shop.flows:Order").__name__ == "Order"


def test_a_second_version_with_the_same_digits_is_refused(loads: Load) -> None:
    loaded = loads(numbered(1))
    same = msgspec.structs.replace(numbered(2), content_hash=loaded.content_hash[:16] + "0" * 48)

    error = raised_by(same)

    assert loaded.content_hash in str(error)
    assert loaded.object("shop.ways:absolute")() == 1


@pytest.mark.parametrize("name", ["json", "_thread", "perdure", "__main__", "sys", "a-b", "1a", "a.b", "shop@0123456789abcdef"])
def test_a_name_at_the_top_that_is_somebody_elses_or_none_is_refused(name: str) -> None:
    error = raised_by(made({"shop.py": ""}, top_levels=("shop", name)))

    assert error.module == name
    assert "none of the standard library, and not `perdure`" in str(error)


@pytest.mark.parametrize("text", ["", "0" * 63, "A" * 64, "../" + "0" * 61])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(InvalidIdentifier):
        load(made({"shop.py": ""}, content_hash=text))

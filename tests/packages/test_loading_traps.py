"""What goes wrong when modules have two names, or when others take part in imports: refused with advice, or right all the same."""

from __future__ import annotations

import builtins
import importlib.metadata
import importlib.resources
import importlib.util
import os
import pickle
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perdure.errors import PackageUnloaded, SchemaUnsupported
from perdure.packages.loading import load, unload
from perdure.schemas import schema_of
from tests.packages import journal
from tests.packages.conftest import Load
from tests.packages.versions import made, numbered

ADVICE = r"^No module named '{wanted}'\. It is code of package {tag}, which has no public name: inside the package write import {wanted}, "
TEXTS = """\
import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import pickle
import pkgutil


def import_module():
    return importlib.import_module("shop.late")


def import_top():
    return importlib.import_module("shop")


def files():
    return importlib.resources.files("shop")


def get_data():
    return pkgutil.get_data("shop", "data/greeting.txt")


def find_spec():
    return importlib.util.find_spec("shop.late")


def exec_with_builtins_of_its_own():
    import builtins
    exec("import shop.late", {"__builtins__": builtins})


def unpickled_in_python():
    return pickle._loads(b"cshop.late\\nThing\\n.")


def unpickled_in_c():
    return pickle.loads(b"cshop.late\\nThing\\n.")


def metadata():
    return importlib.metadata.version("shop")


def probe():
    return importlib.util.find_spec(".late", __package__).name, importlib.util.find_spec("msgspec").name


def missing():
    import shop.nope


def missing_name():
    from shop import nope


def missing_relative():
    from . import nope


def lazily():
    import shop.late


lately = importlib.import_module
"""


def of_text(loads: Load, name: str) -> Any:
    """A function of the module above, of one of three versions: the last must not be taken for the others."""
    versions = [loads(numbered(number, {"shop/texts.py": TEXTS})) for number in (1, 2, 3)]
    return versions[1].object(f"shop.texts:{name}"), versions[1].content_hash[:16]


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        ("import_module", "shop.late"),
        ("import_top", "shop"),
        ("files", "shop"),
        ("get_data", "shop"),
        ("find_spec", "shop"),
        ("exec_with_builtins_of_its_own", "shop.late"),
        ("unpickled_in_python", "shop.late"),
    ],
)
def test_a_package_that_gives_its_name_as_text_is_told_what_to_write(loads: Load, way: str, wanted: str) -> None:
    call, tag = of_text(loads, way)

    with pytest.raises(ModuleNotFoundError, match=ADVICE.format(wanted=wanted.replace(".", r"\."), tag=tag)) as raised:
        call()

    assert raised.value.name == "shop"


def test_advice_names_the_relative_import_that_works(loads: Load) -> None:
    call, _ = of_text(loads, "import_module")

    with pytest.raises(ModuleNotFoundError, match=r"importlib\.import_module\('\.late', __package__\), never its name as text$"):
        call()


def test_c_code_that_imports_by_text_gets_a_bare_key_error(loads: Load) -> None:
    """The known gap: the C unpickler imports with the builtins of its caller, and then looks up the public name."""
    call, _ = of_text(loads, "unpickled_in_c")

    with pytest.raises(KeyError, match=r"^'shop\.late'$"):
        call()


def test_what_looks_its_name_up_without_an_import_does_not_find_it(loads: Load) -> None:
    metadata, _ = of_text(loads, "metadata")

    with pytest.raises(importlib.metadata.PackageNotFoundError):
        metadata()
    assert "shop.late" not in sys.modules


def test_an_import_by_text_from_elsewhere_is_told_whose_code_it_is(loads: Load) -> None:
    call, _ = of_text(loads, "lately")

    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'shop\.late'\. It is code of package "):
        call("shop.late")


def test_a_library_that_asks_whether_there_is_a_module_hears_that_there_is_none(loads: Load) -> None:
    of_text(loads, "lately")

    assert importlib.util.find_spec("shop") is None


def test_a_name_of_no_package_is_missing_as_ever(loads: Load) -> None:
    call, _ = of_text(loads, "lately")

    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'shop_of_nobody'$"):
        call("shop_of_nobody")


def test_a_package_finds_out_which_modules_there_are(loads: Load) -> None:
    call, tag = of_text(loads, "probe")

    assert call() == (f"shop@{tag}.late", "msgspec")


@pytest.mark.parametrize(
    ("way", "kind", "text"),
    [
        ("missing", ModuleNotFoundError, r"^No module named 'shop\.nope' in package [0-9a-f]{16}$"),
        ("missing_name", ImportError, r"^cannot import name 'nope' from 'shop@"),
        ("missing_relative", ImportError, r"^cannot import name 'nope' from 'shop@"),
    ],
)
def test_a_module_of_its_own_that_is_missing_is_an_import_error_as_ever(loads: Load, way: str, kind: type[Exception], text: str) -> None:
    call, _ = of_text(loads, way)

    with pytest.raises(kind, match=text):
        call()


def test_nothing_that_is_missing_is_looked_for_below_the_working_directory(
    loads: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, tag = of_text(loads, "missing")
    folder = tmp_path / f"<package {tag}>" / "shop"
    folder.mkdir(parents=True)
    (folder / "nope.py").write_text("raise AssertionError('a file of the working directory was imported')")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="in package"):
        call()


def test_an_installed_module_of_the_same_name_stays_another(loads: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "late.py").write_text("NUMBER = 'installed'\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    import_module, _ = of_text(loads, "import_module")
    absolute = loads(numbered(2)).object("shop.ways:absolute")
    installed = importlib.import_module("shop.late").NUMBER

    assert (absolute(), installed, absolute()) == (2, "installed", 2)
    assert import_module().NUMBER == "installed"  # which is why its name as text is not a way to its own code


class Meddler:
    """A finder of somebody else's, which would find a private name."""

    def __init__(self, only: str = "shop") -> None:
        self.only = only

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition("@")[0].partition(".")[0] != self.only:
            return None
        return ModuleSpec(fullname, None, origin="elsewhere", is_package=True)


def test_a_finder_that_was_put_first_is_not_asked_for_private_names(loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    loads(numbered(1))
    monkeypatch.setattr(sys, "meta_path", [Meddler(), *sys.meta_path])

    assert loads(numbered(2)).object("shop.ways:absolute")() == 2


def test_a_finder_that_was_put_last_is_asked_before_advice_is_given(loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    loads(numbered(1))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Meddler()])

    assert importlib.import_module("shop").__spec__.origin == "elsewhere"  # type: ignore[union-attr]  # it has a spec


def test_the_finders_are_put_in_once(loads: Load) -> None:
    loads(numbered(1))
    before = list(sys.meta_path)

    loads(numbered(2))

    assert sys.meta_path == before


def test_hooks_on_the_interpreters_own_import_are_kept(loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = builtins.__import__
    loaded = loads(numbered(1))

    def hook(name: str, *given: Any, **named: Any) -> Any:
        seen.append(name)
        return original(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", hook)

    assert loaded.object("shop.ways:from_absolute")() == 1
    assert f"shop@{loaded.content_hash[:16]}.late" in seen


def test_builtins_are_a_copy_of_those_at_load(loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loads(made({"shop/flows.py": "def look():\n    return perdure_added\n\ndef define():\n    global open\n    open = 1\n"}))
    monkeypatch.setattr(builtins, "perdure_added", 1, raising=False)

    with pytest.raises(NameError, match="perdure_added"):
        loaded.object("shop.flows:look")()
    assert type(vars(loaded.module("shop.flows"))["__builtins__"]) is dict  # a subclass makes every look-up slow
    assert not any("@" in name for name in vars(builtins))


def test_code_that_is_run_as_a_program_is_not_run_by_an_import(loads: Load) -> None:
    assert loads(made({"shop/flows.py": "RUN = __name__ == '__main__'\n"})).object("shop.flows:RUN") is False


def test_a_folder_without_an_init_file_is_a_package(loads: Load) -> None:
    loaded = loads(made({"shop/flows/order.py": "from . import __name__ as above\n", "shop/data/x.txt": "x"}))

    package = loaded.module("shop.flows")

    assert loaded.module("shop.flows.order").above == package.__name__
    assert getattr(package, "__file__", None) is None
    assert importlib.resources.files(loaded.module("shop.data").__name__).joinpath("x.txt").read_text() == "x"


def test_a_name_that_only_looks_like_a_module_is_none(loads: Load) -> None:
    loaded = loads(numbered(1))
    shop = loaded.module("shop").__name__

    for name in (f"{shop}.deep/below", f"{shop}.models@{loaded.content_hash[:16]}", f"sys@{loaded.content_hash[:16]}"):
        with pytest.raises(ModuleNotFoundError, match="in package"):
            importlib.import_module(name)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'shop@1'$"):
        importlib.import_module("shop@1")


def test_types_that_are_there_for_the_type_checker_only_have_no_schema(loads: Load) -> None:
    code = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nimport msgspec\n"
        "if TYPE_CHECKING:\n    from shop.models import Line\nclass Order(msgspec.Struct):\n    line: Line\n"
    )

    with pytest.raises(SchemaUnsupported, match="name 'Line' is not defined; every name in annotations has to be importable at run time"):
        schema_of(loads(made({"shop/flows.py": code, "shop/models.py": ""})).object("shop.flows:Order"))


def test_all_versions_share_the_distributions_and_the_interpreter(loads: Load) -> None:
    code = "import msgspec, os\ndef write(): os.environ['PERDURE_TEST'] = '{n}'\ndef read(): return os.environ['PERDURE_TEST']\n"
    one, other = (loads(made({"shop/flows.py": code.replace("{n}", number)})).module("shop.flows") for number in "12")

    try:
        one.write()
        assert (other.read(), one.msgspec is other.msgspec) == ("1", True)
    finally:
        del os.environ["PERDURE_TEST"]


def test_isinstance_is_per_version(loads: Load) -> None:
    one, other = (loads(numbered(number)).object("shop.models:Address") for number in (1, 2))

    assert not isinstance(one("s"), other)
    assert one("s") != other("s")


@pytest.mark.parametrize("way", ["lazily", "missing"])
def test_an_import_after_the_version_was_let_go_says_so(way: str) -> None:
    loaded = load(numbered(1, {"shop/texts.py": TEXTS}))
    call = loaded.object(f"shop.texts:{way}")
    unload(loaded)

    with pytest.raises(PackageUnloaded, match=rf"^shop of package {loaded.content_hash[:16]}: that version is not loaded in this process$"):
        call()
    with pytest.raises(ImportError):
        loaded.module("shop.late")


def test_unpickling_after_the_version_was_let_go_says_so() -> None:
    loaded = load(numbered(1))
    data = pickle.dumps(loaded.object("shop.models:Address")("s"))
    unload(loaded)

    with pytest.raises(PackageUnloaded, match=r"^shop of package [0-9a-f]{16}: that version is not loaded in this process$"):
        pickle.loads(data)


def test_a_module_that_was_found_before_its_version_was_let_go_is_not_run() -> None:
    loaded = load(numbered(1))
    found = importlib.util.find_spec(f"{loaded.module('shop').__name__}.late")
    unload(loaded)
    assert found is not None
    assert found.loader is not None

    with pytest.raises(PackageUnloaded, match=r"^shop\.late of package"):
        found.loader.exec_module(importlib.util.module_from_spec(found))


def test_a_module_that_imports_when_its_version_is_let_go_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from tests.packages import journal\njournal.call()\nimport shop.other\n"
    loaded = load(made({"shop/__init__.py": "", "shop/going.py": code, "shop/other.py": ""}))
    monkeypatch.setattr(journal, "HOOK", lambda: unload(loaded))

    with pytest.raises((PackageUnloaded, KeyError)):
        loaded.module("shop.going")

    assert [name for name in sys.modules if name.startswith("shop@")] == []


def test_paths_are_written_with_slashes_on_every_system(loads: Load) -> None:
    loaded = loads(numbered(1))
    file = loaded.module("shop").__file__
    assert file is not None

    path = os.path.join(os.path.dirname(file), "data", "grüße.txt")  # noqa: PTH118, PTH120  # as `pkgutil.get_data` does

    assert loaded.module("shop").__loader__.get_data(path) == "hällo 1\n".encode()  # type: ignore[union-attr]  # its loader reads data

"""What a trial warns of, and what it refuses, by what importing changes and by what stands in the sources."""

from __future__ import annotations

import pytest

from perdure.deploying.reading import read_sources
from perdure.deploying.trial import try_load
from perdure.errors import PackageImportsByText
from tests.deploying.samples import FLOWS, archived

CHANGES = {
    "sys.path": "import sys; sys.path.append('/nowhere')",
    "os.environ['SHOP_KEY']": "import os; os.environ['SHOP_KEY'] = 'secret'",
    "os.environ['PATH']": "import os; del os.environ['PATH']",
    "warnings.filters": "import warnings; warnings.simplefilter('ignore', ResourceWarning)",
    "the root logger": "import logging; logging.basicConfig()",
    "decimal.getcontext()": "import decimal; decimal.getcontext().prec = 5",
    "decimal.DefaultContext": "import decimal; decimal.DefaultContext.prec = 5",
    "signal handlers": "import signal; signal.signal(signal.SIGUSR1, lambda *_: None)",
    "the thread 'mine'": "import threading; threading.Thread(target=threading.Event().wait, name='mine').start()",
    "builtins._": "import builtins; builtins._ = str",
    "builtins.open": "import builtins; builtins.open = None",
    "json.load": "import json; json.load = json.loads",
    "sys.excepthook": "import sys; sys.excepthook = print",
    "sys.getrecursionlimit()": "import sys; sys.setrecursionlimit(1_234)",
    "socket.getdefaulttimeout()": "import socket; socket.setdefaulttimeout(3)",
    "the working directory": "import os; os.chdir('/')",
}


async def warned(
    flows: str, *, more: dict[str, str] | None = None, requires: tuple[str, ...] = ("msgspec", "perdure")
) -> list[tuple[str, str]]:
    found = await try_load(archived(flows, more=more, requires=requires), modules=["shop.flows"])
    return [(one.code, one.text) for one in found.warnings]


async def test_each_change_of_what_all_share_is_named_and_nothing_else() -> None:
    found = await warned("\n".join([*CHANGES.values(), FLOWS]))

    named = {text.removeprefix("importing it changes ").partition(", which all")[0] for _, text in found}
    assert {code for code, _ in found} == {"package-changes-surroundings"}
    assert named == set(CHANGES)
    assert "secret" not in str(found)


async def test_a_package_that_changes_nothing_is_not_warned_of() -> None:
    quiet = "import asyncio, logging, functools, re, typing, decimal\nlog = logging.getLogger(__name__)\nx = decimal.Decimal(1) / 3\n"

    assert await warned(quiet + FLOWS) == []


async def test_distributions_that_are_imported_and_not_required_are_named() -> None:
    code = "def late():\n    import rich.table\n    import no_such_module\nimport packaging\nimport typing_extensions\nimport typing\nif typing.TYPE_CHECKING:\n    import click\n"

    found = await warned(code + FLOWS, requires=("packaging", "MsgSpec>=0", "Typing_Extensions"))

    assert [code for code, _ in found] == ["package-requirement-undeclared"] * 2
    assert "shop/flows.py:10: import perdure: perdure is of perdure" in found[0][1]
    assert "shop/flows.py:2: import rich.table: rich is of rich" in found[1][1]


async def test_a_module_of_the_path_that_no_distribution_has_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import os

    folder = tmp_path_factory.mktemp("path")
    (folder / "beside.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))

    found = await warned("import beside\n" + FLOWS)

    assert len(found) == 1
    assert "shop/flows.py:1: import beside: beside is neither in the package nor of a distribution" in str(found[0])


async def test_paths_and_what_is_no_python_are_named() -> None:
    found = await warned("HERE = __file__\n" + FLOWS, more={"shop/template.py": "def {{ name }}:\n"})

    assert [code for code, _ in found] == ["package-uses-file", "package-file-unreadable"]
    assert found[0][1].startswith("shop/flows.py:1: __file__: ")
    assert found[1][1].startswith("shop/template.py:1: SyntaxError")


# --- names as text ---------------------------------------------------------------------------------------------

BY_TEXT = [
    "import importlib; importlib.import_module('shop.x')",
    "import importlib as i; i.import_module(name='shop.x')",
    "from importlib import import_module as load\ndef f(x):\n    return load(f'shop.{x}')",
    "from importlib import import_module; import_module('shop.' + 'x')",
    "from importlib import import_module; import_module('shop.%s' % 'x')",
    "from importlib import import_module; import_module('shop.{}'.format('x'))",
    "from importlib import import_module; import_module('.x', 'shop')",
    "from importlib import import_module; import_module('.x', package='shop')",
    "from importlib.resources import files; files('shop')",
    "from importlib import resources; resources.read_text('shop.data', 'a.txt')",
    "import importlib.resources as r; r.files(anchor='shop')",
    "import pkgutil; pkgutil.get_data('shop', 'data/a.txt')",
    "import pkgutil; pkgutil.resolve_name('shop:x')",
    "import importlib.util; importlib.util.find_spec('shop')",
    "import sys; sys.modules['shop.x']",
    "import sys; sys.modules.get('shop')",
    "from sys import modules; 'shop.flows' in modules",
    "import importlib.metadata as m; m.version('shop')",
    "from importlib.metadata import version; version('Shop')",
    "from jinja2 import PackageLoader; PackageLoader('shop')",
    "import runpy; runpy.run_module('shop.x')",
]
NOT_BY_TEXT = [
    "import importlib; importlib.import_module('.x', __package__)",
    "import importlib; importlib.import_module('json')",
    "import importlib; importlib.import_module('shopping.x')",
    "from importlib import import_module\ndef f(x):\n    return import_module(f'shop{x}')",
    "from importlib.resources import files; files(__package__)",
    "from importlib.resources import read_text; read_text('other', 'shop.txt')",
    "import logging; logging.getLogger('shop.flows')",
    "class Client:\n    def version(self, name): ...\nClient().version('shop')",
    "def import_module(name): ...\nimport_module('shop.x')",
    "__import__('shop.flows')",
    "import importlib.metadata as m; m.version('perdure')",
    "import sys; sys.modules[__name__]",
    "files = {}\nfiles['shop']",
]


@pytest.mark.parametrize("code", BY_TEXT)
def test_a_name_of_its_own_as_text_is_seen(code: str) -> None:
    found = read_sources({"shop/x.py": code.encode()}, ["shop"])

    assert [place.path for place in found.by_text] == ["shop/x.py"]


@pytest.mark.parametrize("code", NOT_BY_TEXT)
def test_other_text_is_not_taken_for_a_name(code: str) -> None:
    assert read_sources({"shop/x.py": code.encode()}, ["shop"]).by_text == ()


def test_the_metadata_of_a_distribution_that_is_required_may_be_asked_for() -> None:
    code = b"import importlib.metadata as m; m.version('shop')"

    assert read_sources({"shop/x.py": code}, ["shop"], distributions=["shop"]).by_text == ()


async def test_a_package_that_imports_itself_by_text_is_refused_before_it_runs() -> None:
    more = {"shop/late.py": "\n".join(["import importlib", *(f"importlib.import_module('shop.x{n}')" for n in range(7))])}

    with pytest.raises(PackageImportsByText, match=r"and 2 more: its code has no public name") as caught:
        await warned("1 / 0", more=more)

    assert len(caught.value.places) == 7
    assert caught.value.places[0] == "shop/late.py:2: importlib.import_module('shop.x0')"

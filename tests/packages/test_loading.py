"""Many versions of the same modules side by side: each finds its own, in every way in which Python code finds anything."""

from __future__ import annotations

import copy
import importlib
import importlib.resources
import inspect
import pickle
import pkgutil
import sys
import threading
import traceback
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.names import public_name, tag_of
from perdure.packages.finding import VERSIONS
from perdure.packages.loading import Loaded, load, unload
from tests.packages.conftest import Load
from tests.packages.versions import WAYS, made, numbered, written


@pytest.fixture(params=[2, 20], ids=["two versions", "twenty versions"])
def versions(request: pytest.FixtureRequest, loads: Load) -> list[Loaded]:
    return [loads(numbered(number)) for number in range(1, request.param + 1)]


@pytest.mark.parametrize("way", WAYS)
def test_each_version_finds_its_own_modules_whichever_way_it_imports_them(versions: list[Loaded], way: str) -> None:
    assert [loaded.object(f"shop.ways:{way}")() for loaded in versions] == list(range(1, len(versions) + 1))


def test_nothing_public_gets_into_the_modules_of_the_process(versions: list[Loaded]) -> None:
    for loaded in versions:
        for way in WAYS:
            loaded.object(f"shop.ways:{way}")()

    own = {name for name in sys.modules if public_name(name).partition(".")[0] in {"shop", "shared"}}

    assert {public_name(name) for name in own} >= {"shop", "shop.models", "shop.ways", "shop.late", "shop.deep", "shared"}
    assert all(tag_of(name) in VERSIONS for name in own)


def test_types_of_a_version_refer_to_types_of_that_version(versions: list[Loaded]) -> None:
    for number, loaded in enumerate(versions, 1):
        models = loaded.module("shop.models")
        order = msgspec.json.decode(b'{"type":"order","lines":[{"sku":"a","of":{"type":"order","lines":[]}}]}', type=models.Order)

        assert (type(order.lines[0].of), order.number) == (models.Order, number)
        assert typing.get_type_hints(models.Order)["lines"] == written("list[Line]", models)
        assert typing.get_type_hints(models.Address)["kind"] == models.Kind | None
        assert msgspec.convert({"street": "s", "kind": "home"}, models.Address) == models.Address("s", models.Kind.HOME)
        assert msgspec.convert([{"street": "s"}], models.Point) == models.Point(models.Address("s"))
        assert msgspec.convert({"address": {"street": "s"}}, models.Page) == {"address": models.Address("s")}
    assert len({loaded.object("shop.models:Order") for loaded in versions}) == len(versions)


def test_values_are_pickled_and_copied_within_their_version(versions: list[Loaded]) -> None:
    for loaded in versions:
        address = loaded.object("shop.models:Address")("s")

        again, copied = pickle.loads(pickle.dumps(address)), copy.deepcopy(address)

        assert again == address == copied
        assert type(again) is type(address)


def test_resources_are_those_of_the_version(versions: list[Loaded]) -> None:
    for number, loaded in enumerate(versions, 1):
        package = loaded.module("shop").__name__
        folder = importlib.resources.files(package)

        assert folder.joinpath("data", "grüße.txt").read_text(encoding="utf-8") == f"hällo {number}\n"
        assert (folder / "data" / "grüße.txt").read_bytes() == f"hällo {number}\n".encode()
        assert pkgutil.get_data(package, "data/grüße.txt") == f"hällo {number}\n".encode()
        with importlib.resources.as_file(folder / "data/grüße.txt") as path:
            assert path.read_text(encoding="utf-8") == f"hällo {number}\n"


def test_source_lines_are_those_of_the_version(versions: list[Loaded]) -> None:
    for number, loaded in enumerate(versions, 1):
        constants, models = loaded.module("shop.constants"), loaded.module("shop.models")
        with pytest.raises(NameError) as raised:
            exec(compile("missing", constants.__file__ or "", "exec"), vars(constants))

        assert inspect.getsource(constants) == f"NUMBER = {number}\n"
        assert inspect.getsource(models.Line) == "class Line(msgspec.Struct):\n    sku: str\n    of: Order | None = None\n"
        assert f"    NUMBER = {number}\n" in traceback.format_exception(raised.value)[-2]


# --- one version -----------------------------------------------------------------------------------------


def test_a_traceback_shows_the_line_that_raised(loads: Load) -> None:
    loaded = loads(made({"shop/flows.py": "def fail():\n    raise LookupError('no')  # here\n"}))

    with pytest.raises(LookupError) as raised:
        loaded.object("shop.flows:fail")()

    text = "".join(traceback.format_exception(raised.value))
    assert f"File \"<package {loaded.content_hash[:16]}>/shop/flows.py\", line 2, in fail\n    raise LookupError('no')  # here\n" in text


def test_folders_of_a_package_are_read_like_any(loads: Load) -> None:
    package = loads(numbered(1)).module("shop").__name__
    loader: Any = sys.modules[package].__loader__
    folder = importlib.resources.files(package)
    file = folder / "data/grüße.txt"

    assert [one.name for one in folder.iterdir() if one.is_dir()] == ["data", "deep"]
    assert (folder.joinpath(".", "data", "..", "late.py").read_bytes(), file.name) == (b"NUMBER = 1\n", "grüße.txt")
    assert str(loader.get_resource_reader(f"{package}.late").files()) == str(loader.get_resource_reader(package).files()) == str(folder)
    assert (file.is_file(), file.is_dir(), (folder / "data").is_file(), (folder / "nope").is_dir()) == (True, False, False, False)
    with file.open("rb") as binary, file.open("r", encoding="utf-8") as text:
        assert binary.read().decode() == text.read() == "hällo 1\n"
    with pytest.raises(FileNotFoundError, match="shop/nope"):
        (folder / "nope").read_bytes()
    with pytest.raises(IsADirectoryError):
        (folder / "data").read_bytes()
    with pytest.raises(NotADirectoryError):
        list(file.iterdir())
    with pytest.raises(ValueError, match="read-only"):
        file.open("w")  # type: ignore[call-overload]  # that is refused


def test_its_file_is_no_path_and_says_so(loads: Load) -> None:
    constants = loads(numbered(1)).module("shop.constants")

    with pytest.raises(FileNotFoundError, match=r"<package [0-9a-f]{16}>/shop/data/grüße.txt"):
        (Path(constants.__file__ or "").parent / "data" / "grüße.txt").read_text(encoding="utf-8")


def test_an_encoding_that_a_file_declares_is_kept(loads: Load) -> None:
    loaded = loads(made({"shop/flows.py": "# coding: latin-1\nTEXT = 'é'\ndef f(): pass\n".encode("latin-1")}))

    assert loaded.object("shop.flows:TEXT") == "é"
    assert inspect.getsource(loaded.module("shop.flows")).splitlines()[1] == "TEXT = 'é'"


def test_what_a_module_did_not_import_is_imported_when_it_is_asked_for(loads: Load) -> None:
    loaded = loads(numbered(3))
    assert not any(public_name(name) == "shop.late" for name in sys.modules)

    assert loaded.module("shop.late").NUMBER == 3
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'shop.nope' in package [0-9a-f]{16}$"):
        loaded.module("shop.nope")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'json' in package"):
        loaded.module("json")


def test_a_module_that_is_reloaded_stays_one_of_its_version(loads: Load) -> None:
    one, other = loads(numbered(1)), loads(numbered(2))

    assert importlib.reload(one.module("shop.ways")).absolute() == 1
    assert other.object("shop.ways:absolute")() == 2


def test_threads_that_import_lazily_at_the_same_time_get_their_own(loads: Load) -> None:
    versions = [loads(numbered(number)) for number in (1, 2, 3)]
    together = threading.Barrier(12)
    found: list[tuple[int, int]] = []

    def look(number: int, loaded: Loaded) -> None:
        ways = loaded.module("shop.ways")
        together.wait()
        found.append((number, ways.absolute()))

    threads = [threading.Thread(target=look, args=(number, one)) for number, one in enumerate(versions, 1) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == [(number, number) for number in (1, 2, 3) for _ in range(4)]


def test_a_version_is_loaded_once_in_a_process_and_stays_until_the_last_lets_go() -> None:
    one, other = load(numbered(1)), load(numbered(1))

    assert one.object("shop.models:Order") is other.object("shop.models:Order")
    assert unload(one) is None
    assert other.module("shop.late").NUMBER == 1
    assert unload(other) is not None
    again = load(numbered(1))
    assert again.module("shop.late").NUMBER == 1
    unload(again)


def test_versions_that_were_found_are_told(loads: Load) -> None:
    loaded = loads(made({"shop.py": ""}, requires=("msgspec>=0.18",), python=">=3.11"))

    assert loaded.found == {"Python": ".".join(map(str, sys.version_info[:3])), "msgspec": msgspec.__version__}

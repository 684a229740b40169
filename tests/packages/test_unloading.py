"""What an evicted version leaves: nothing that grows. What its own code keeps alive is counted, and never waited for."""

from __future__ import annotations

import gc
import inspect
import itertools
import linecache
import logging
import sys
import threading
import traceback
import tracemalloc
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest

from perdure import App, limits
from perdure.engine.app import ProcessType
from perdure.packages.catalog import Catalog
from perdure.packages.loading import Loaded, PackageCode, load, unload
from perdure.packages.unloading import Remains
from perdure.schemas import schema_of
from tests.packages.versions import WAYS, made, numbered, written

FLOWS = """\
from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import logging
import typing
from typing import Annotated, Generic, List, Optional, TypeVar, Union

import msgspec
import perdure

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str


class Page(msgspec.Struct, Generic[T]):
    items: List[T]


@dataclasses.dataclass
class Place:
    order_id: str
    kind: Kind | None = None


class Kind(enum.Enum):
    A = "a"


class Stock(perdure.Process):
    pets: list[Cat | Dog] = []

    @perdure.on(Place, start=True, key=lambda m: m.order_id)
    async def place(self, message: Place) -> int:
        return await self.step(count, message)


def count(message: Place) -> Optional[int]:
    return 1


@functools.lru_cache
def cached(kind: type) -> int:
    return 1


@functools.singledispatch
def dispatched(value):
    return value


@dispatched.register
def _(value: Cat):
    return value.name
"""


def left(loaded: Loaded) -> Remains:
    remains = unload(loaded)
    assert remains is not None
    return remains


def flows(number: int = 1, more: str = "") -> PackageCode:
    return made({"shop/__init__.py": "", "shop/flows.py": f"{FLOWS}\nNUMBER = {number}\n{more}"}, entries=("shop.flows:Stock",))


def use_types(module: Any) -> None:
    msgspec.json.Decoder(module.Cat | module.Dog).decode(b'{"type":"cat","name":"a"}')
    msgspec.json.Decoder(list[module.Cat | module.Dog | int])


def use_typing(module: Any) -> None:
    assert len(written("[Optional[Cat], Union[Cat, Dog], List[Cat], Annotated[Cat, 1], Page[Cat]]", module)) == 5
    assert typing.get_type_hints(module.count)["message"] is module.Place


def use_schemas(module: Any) -> None:
    schema_of(module.Stock)
    schema_of(module.Page[module.Cat])


def use_process(module: Any) -> None:
    made = ProcessType(module.Stock, App("shop"), on_error=None)
    App("shop").process(module.Stock)
    made.load(b'{"pets":[{"type":"cat","name":"a"}]}')
    for _ in range(3):
        made._steps.known(module.count)


def use_python(module: Any) -> None:
    assert (module.cached(module.Cat), module.dispatched(module.Cat("a"))) == (1, "a")
    module.logger.getChild("more").debug("said")
    threading.Thread(target=module.count, args=(module.Place("1"),)).start()


def use_sources(module: Any) -> None:
    inspect.getsource(module.Place)
    try:
        module.count()
    except TypeError as error:
        traceback.format_exception(error)


USES = [use_types, use_typing, use_schemas, use_process, use_python, use_sources]


@pytest.fixture(autouse=True)
def only_what_is_new() -> Iterator[None]:
    """A collection looks at what the test has made, and not at what all tests before it have left, which takes a third of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_a_version_that_was_used_is_gone_once_it_is_let_go(use: Callable[[Any], None]) -> None:
    loaded = load(flows())
    use(loaded.module("shop.flows"))

    remains = left(loaded)
    del loaded
    gc.collect()

    assert not remains.alive


def test_the_same_uses_of_the_next_version_keep_nothing_of_the_one_before() -> None:
    for number in range(6):
        loaded = load(flows(number))
        for use in USES:
            use(loaded.module("shop.flows"))
        remains = left(loaded)
        del loaded
        gc.collect()

        assert not remains.alive


def test_unloading_gives_the_memory_back() -> None:
    def cycle(number: int) -> None:
        loaded = load(numbered(number, {"shop/flows.py": FLOWS}, entries=("shop.flows:Stock", "shop.models:Order")))
        for way in WAYS:
            loaded.object(f"shop.ways:{way}")()
        for use in USES:
            use(loaded.module("shop.flows"))
        taken.append(tracemalloc.get_traced_memory()[0])
        unload(loaded)
        del loaded
        gc.collect()
        given_back.append(tracemalloc.get_traced_memory()[0])

    taken: list[int] = []
    given_back: list[int] = []
    tracemalloc.start()
    try:
        for number in range(12):
            cycle(number)
    finally:
        tracemalloc.stop()

    one = taken[-1] - given_back[-2]
    # The median: now and then a table of the interpreter grows. `tracemalloc` itself keeps the name of each file.
    left = sorted(after - before for before, after in itertools.pairwise(given_back))[len(given_back) // 2]
    assert one > 100_000
    assert left < one / 20, f"each version takes {one:,} bytes, and leaves {left:,}"


def test_nothing_named_after_a_version_stays_in_the_interpreter() -> None:
    loaded = load(flows())
    tag = loaded.content_hash[:16]
    for use in USES:
        use(loaded.module("shop.flows"))
    assert any(tag in name for name in logging.Logger.manager.loggerDict)
    assert any(tag in name for name in linecache.cache)

    unload(loaded)

    for names in (linecache.cache, inspect.modulesbyfile, logging.Logger.manager.loggerDict):
        assert [name for name in names if tag in name] == []


def test_loggers_and_sources_of_other_versions_and_of_local_code_stay() -> None:
    loaded, other = load(flows(1)), load(flows(2))
    local = logging.getLogger("shop.flows")
    for one in (loaded, other):
        use_sources(one.module("shop.flows"))

    unload(loaded)

    assert logging.getLogger("shop.flows") is local
    assert any(other.content_hash[:16] in name for name in linecache.cache)
    assert logging.Logger.manager.loggerDict[f"shop@{other.content_hash[:16]}.flows"] is other.module("shop.flows").logger
    unload(other)
    del logging.Logger.manager.loggerDict["shop.flows"]


# --- what is still there ------------------------------------------------------------------------------------


def a_class(module: Any) -> object:
    return module.Cat


def a_value(module: Any) -> object:
    return module.Cat("a")


def a_function(module: Any) -> object:
    return module.count


def a_module(module: Any) -> object:
    return module


def a_function_made_later(module: Any) -> object:
    return FunctionType(compile("1", "", "eval"), vars(module))


def a_module_that_hides(module: Any) -> object:
    """A proxy that can be asked for nothing, and a module that is replaced by an object, are no hindrance."""

    class Proxy:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(f"nothing is behind it that had {name}")

    module.proxy = Proxy()
    sys.modules[f"{module.__package__}.replaced"] = typing.cast("ModuleType", Proxy())
    return module


def a_handler_elsewhere(module: Any) -> object:
    handlers = [module.count]
    return lambda: handlers


@pytest.mark.parametrize(
    "kept",
    [a_class, a_value, a_function, a_module, a_function_made_later, a_handler_elsewhere, a_module_that_hides],
    ids=lambda kept: kept.__name__,
)
def test_a_version_of_which_something_is_in_use_is_still_there(kept: Callable[[Any], object]) -> None:
    loaded = load(flows())
    thing = kept(loaded.module("shop.flows"))

    remains = left(loaded)
    del loaded
    gc.collect()

    assert remains.alive
    del thing
    gc.collect()
    assert not remains.alive


def test_a_version_without_classes_is_still_there_while_a_function_is_in_use() -> None:
    loaded = load(made({"shop/flows.py": "def run(): pass\n"}))
    run = loaded.object("shop.flows:run")

    remains = left(loaded)
    del loaded
    gc.collect()

    assert remains.alive
    del run
    gc.collect()
    assert not remains.alive


@pytest.fixture
async def catalog() -> AsyncIterator[Catalog]:
    made = Catalog(most=1)
    yield made
    await made.close()


async def used(catalog: Catalog, code: PackageCode, name: str = "count") -> Any:
    async def source() -> PackageCode:
        return code

    async with catalog.use(code.content_hash, source) as loaded:
        return loaded.object(f"shop.flows:{name}")


async def test_evicted_versions_that_are_still_alive_are_counted(catalog: Catalog) -> None:
    kept = [await used(catalog, flows(number)) for number in range(4)]
    gc.collect()
    assert catalog.evicted_alive == 3  # the last is loaded

    del kept[1:]
    gc.collect()
    assert catalog.evicted_alive == 1

    del kept[:]
    gc.collect()
    assert catalog.evicted_alive == 0


async def test_as_many_evicted_versions_are_watched_as_the_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACKAGES_WATCHED", 2)
    catalog = Catalog(most=0)
    kept = [await used(catalog, flows(number)) for number in range(4)]

    assert (catalog.evicted_alive, len(kept)) == (2, 4)
    await catalog.close()


async def test_a_thread_that_runs_on_keeps_its_version_and_is_not_waited_for(catalog: Catalog) -> None:
    goes_on = threading.Event()
    run = await used(catalog, flows(1, "\ndef run(event):\n    event.wait(60)\n"), "run")
    thread = threading.Thread(target=run, args=(goes_on,))
    thread.start()
    del run

    await used(catalog, flows(2))
    gc.collect()
    assert catalog.evicted_alive == 1

    goes_on.set()
    thread.join()
    del thread
    gc.collect()
    assert catalog.evicted_alive == 0

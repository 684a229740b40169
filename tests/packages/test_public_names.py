"""Whatever is stored, logged as a name or compared has public names: a type of a version is called what the same local type is."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import JSON
from perdure.engine.app import App, ProcessType
from perdure.engine.functions import known
from perdure.engine.kinds import checked_message_type, kind_of
from perdure.engine.outcomes import UNANNOTATED, Output, decode_error, encode_error
from perdure.engine.steps import input_of
from perdure.errors import PerdureError, SchemaUnsupported, StepFailed
from perdure.names import imported, private_name, public_name, public_text, shown, tag_of
from perdure.schemas import schema_of
from tests.packages.conftest import Load
from tests.packages.versions import made, written

PARTS = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
TAGS = st.text("0123456789abcdef", min_size=16, max_size=16)
FLOWS = """\
from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

import msgspec
import perdure
from shop import errors

T = TypeVar("T")


class Line(msgspec.Struct):
    sku: str
    of: Place | None = None


class Place(msgspec.Struct, tag="place"):
    order_id: str
    lines: list[Line] = []


class Tagged(msgspec.Struct, tag=True):
    x: int = 0


class Qualified(msgspec.Struct, tag=lambda name: name):
    x: int = 0


@dataclasses.dataclass
class Plain:
    x: int = 0


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


class Odd(msgspec.Struct):
    x: complex


class Nothing:
    pass


class Two:
    class Inner(Exception):
        pass


class Order(perdure.Process):
    total: int = 0

    @perdure.on(Place, start=True, key=lambda m: m.order_id)
    async def place(self, message: Place) -> Line:
        return Line("a")


async def hello(p: perdure.Process, name: str) -> str:
    return name


def charge(place: Place) -> Line:
    raise errors.Refused("no money", code=7)


def attribute():
    errors.nope


def raises(error):
    raise error
"""
FILES = {
    "shop/__init__.py": "",
    "shop/flows.py": FLOWS,
    "shop/errors.py": "class Refused(Exception):\n    def __init__(self, text, *, code):\n        super().__init__(text)\n        self.code = code\n",
}


class Both(NamedTuple):
    """The same module, as local code and of a version."""

    local: Any
    loaded: Any


@pytest.fixture
def both(loads: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Both(importlib.import_module("shop.flows"), loads(made(FILES)).module("shop.flows"))


def raised(call: Callable[..., Any], *args: Any) -> BaseException:
    try:
        call(*args)
    except Exception as error:  # noqa: BLE001  # whatever it is, that is asked for
        return error
    raise AssertionError("it did not raise")


# --- names themselves ---------------------------------------------------------------------------------------


@given(NAMES, TAGS)
def test_a_private_name_has_one_public_name(name: str, tag: str) -> None:
    private = private_name(name, tag)

    assert (public_name(private), tag_of(private)) == (name, tag)
    assert private.partition(".")[0] == f"{name.partition('.')[0]}@{tag}"


@given(NAMES, NAMES, TAGS, TAGS)
def test_every_name_in_a_type_becomes_public(one: str, other: str, tag: str, another: str) -> None:
    text = "dict[{}, list[{} | None]]"

    assert public_name(text.format(private_name(one, tag), private_name(other, another))) == text.format(one, other)


@given(NAMES)
def test_a_public_name_stays_as_it_is(name: str) -> None:
    assert (public_name(name), tag_of(name)) == (name, None)


@pytest.mark.parametrize(
    "name", ["a@b", "shop@0123456789abcde", "shop@0123456789abcdef0", "shop@0123456789ABCDEF", "@0123456789abcdef", "a @0123456789abcdef"]
)
def test_what_only_looks_like_a_tag_is_none(name: str) -> None:
    assert (public_name(name), tag_of(name)) == (name, None)


def test_prose_keeps_what_is_no_module_of_a_loaded_version(both: Both) -> None:
    name = both.loaded.__name__

    assert public_text(f"at memory@0000000080000000: '{name}'\n{name}, a@b") == "at memory@0000000080000000: 'shop.flows'\nshop.flows, a@b"


def test_a_repr_is_shown_with_public_names(both: Both) -> None:
    assert shown(both.loaded.Place) == "<class 'shop.flows.Place'>" == shown(both.local.Place)
    assert shown(written("list[Place]", both.loaded)) == "list[shop.flows.Place]"


def test_a_module_is_imported_as_the_code_of_another_does(both: Both) -> None:
    assert imported("shop.errors", by=both.loaded.__name__) is both.loaded.errors
    assert imported("shop.errors", by=both.local.__name__) is both.local.errors is imported("shop.errors", by="")
    assert imported("msgspec.json", by=both.loaded.__name__) is msgspec.json


# --- names of types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Place", "Line", "Tagged", "Qualified", "Plain"])
def test_kinds_and_schemas_are_those_of_local_code(both: Both, name: str) -> None:
    local, loaded = getattr(both.local, name), getattr(both.loaded, name)

    assert kind_of(loaded) == kind_of(local)
    assert schema_of(loaded) == schema_of(local)
    assert schema_of(written(f"list[Page[{name}] | None]", both.loaded)) == schema_of(written(f"list[Page[{name}] | None]", both.local))


def test_process_types_are_those_of_local_code(both: Both) -> None:
    for target in ("Order", "hello"):
        local, loaded = (ProcessType(getattr(module, target), App("shop"), on_error=None) for module in both)

        assert (loaded.name, loaded.schemas, loaded.initial) == (local.name, local.schemas, local.initial)
        assert list(loaded.handlers) == list(local.handlers)
        assert [one.result_type for one in loaded.handlers.values()] == [one.result_type for one in local.handlers.values()]


def test_a_step_has_the_fingerprint_of_local_code(both: Both) -> None:
    local, loaded = (
        (known(module.charge).name, input_of(known(module.charge).label, module.charge, (module.Place("1", [module.Line("a")]),)))
        for module in both
    )

    assert loaded == local
    assert "@" not in "".join(loaded)


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fail",
    [
        lambda flows: flows.charge(flows.Place("1")),
        lambda flows: flows.attribute(),
        lambda flows: written("raises(Two.Inner(str(Place)))", flows),
        lambda flows: written("raises(errors.Refused('', code=repr(Place)))", flows),
        lambda flows: written("raises(ValueError('\\n' + __name__ + '\\n'))", flows),
    ],
    ids=["own class", "text of Python", "class in a class", "attribute", "lines"],
)
def test_a_recorded_error_is_that_of_local_code(both: Both, fail: Callable[[Any], None]) -> None:
    local, loaded = (encode_error(raised(fail, flows)) for flows in both)

    assert loaded == local
    assert b"@" not in loaded


def test_a_recorded_error_is_of_the_class_that_the_asking_code_has(both: Both) -> None:
    recorded = encode_error(raised(both.loaded.charge, both.loaded.Place("1")))

    of_version: Any = decode_error(recorded, otherwise=StepFailed, by=both.loaded.__name__)
    of_local: Any = decode_error(recorded, otherwise=StepFailed, by=both.local.__name__)

    assert type(of_version) is both.loaded.errors.Refused
    assert type(of_local) is both.local.errors.Refused
    assert (str(of_version), of_version.code, of_local.code) == ("no money", 7, 7)


def test_a_recorded_error_of_a_package_that_the_reader_does_not_know_keeps_its_text(loads: Load) -> None:
    flows = loads(made(FILES)).module("shop.flows")

    found = decode_error(encode_error(raised(flows.charge, flows.Place("1"))), otherwise=StepFailed)

    assert (type(found), str(found)) == (StepFailed, "Refused: no money")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda flows: checked_message_type(flows.Nothing),
        lambda flows: App("shop").process(flows.Nothing),
        lambda flows: App("shop").handler(flows.Nothing()),
        lambda flows: App("shop").schedule("* * * * *")(flows.Nothing),
        lambda flows: schema_of(flows.Odd),
        lambda flows: schema_of(flows.Nothing),
        lambda flows: schema_of(flows.Page[flows.Nothing]),
        lambda flows: schema_of(written("dict[str, Place | Plain]", flows)),
        lambda flows: JSON.decoder(flows.Place | None)(b"1"),
        lambda flows: JSON.decoder(written("dict[str, Plain] | None", flows))(b"[]"),
        lambda flows: Output(UNANNOTATED).record(flows.Nothing, what="step", limit=100),
        lambda flows: Output(UNANNOTATED).record(flows.Plain(), what="step", limit=100),
        lambda flows: known(_returning(flows.Place | flows.Plain)),
    ],
)
def test_an_error_text_names_types_as_for_local_code(both: Both, wrong: Callable[[Any], object]) -> None:
    local, loaded = (raised(wrong, flows) for flows in both)

    assert isinstance(loaded, PerdureError)
    assert type(loaded) is type(local)
    assert _without_address(loaded) == _without_address(local)
    assert "shop@" not in str(loaded)


def _returning(kind: Any) -> Callable[..., Any]:
    def function() -> None: ...

    function.__annotations__["return"] = kind
    return function


def _without_address(error: BaseException) -> str:
    return str(error).partition(" object at 0x")[0]


def test_a_schema_that_cannot_be_made_says_where_with_public_names(both: Both) -> None:
    error = raised(schema_of, both.loaded.Odd)

    assert isinstance(error, SchemaUnsupported)
    assert (error.path, error.reason) == ("Odd.x", raised(schema_of, both.local.Odd).reason)  # type: ignore[attr-defined]  # the same error


def test_what_the_engine_logs_is_not_named_after_a_version(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = ProcessType(both.loaded.Order, App("shop"), on_error=None)
    made.save(both.loaded.Order(total=1))

    assert not [record for record in caplog.records if "@" in record.name or "@" in record.getMessage()]

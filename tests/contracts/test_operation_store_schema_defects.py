"""Contract 3: defects that are known of the seed's system, by their numbers, each with what holds here instead. Schemas of answers.

Source: the list of defects in the research on operations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from perdure.clock import VirtualClock
from perdure.errors import (
    SchemaIncompatible,
    SchemaInvalid,
)
from perdure.operations.contract import (
    Replay,
    SealedResponse,
)
from perdure.operations.store import Operations
from perdure.operations.tables import SCHEMA
from perdure.schemas import SchemaRegistry, plan, schema_of
from perdure.store import Store
from tests.contracts.operations import (
    CHARGE,
    PAYMENT,
    PAYMENT_SCHEMAS,
    RECEIPT,
    Folder,
    begin,
    crash_after_the_mark,
    named,
    seal,
)

Reopen = Callable[[], Awaitable[Store]]
T = TypeVar("T")


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


async def reread(operations: Operations, kind: Any, operation_id: Any = CHARGE) -> Any:
    """Read an answer as `kind`, with nothing but what is stored beside it."""
    sealed = await operations.get_sealed(operation_id)
    assert sealed is not None
    assert sealed.root_type is not None
    reader, known = schema_of(kind)
    planned = plan(sealed.root_type, reader, await operations.schema_source().closure(sealed.root_type.hash) | known)
    return planned.read(msgspec.json.decode(sealed.response), kind)


async def test_defect_01_the_tenth_answer_of_a_type_is_as_readable_as_the_first(operations: Operations, reopen: Reopen) -> None:
    for n in range(10):
        await seal(operations, named(str(n)), b'{"number":"R-%d","total":%d}' % (n, n))

    operations = Operations((await reopen()).access)

    class Receipt(msgspec.Struct):
        number: str
        total: int

    assert [await reread(operations, Receipt, named(str(n))) for n in range(10)] == [Receipt(f"R-{n}", n) for n in range(10)]


class Red(msgspec.Struct, tag="red"):
    blue: Blue | None = None


class Blue(msgspec.Struct, tag="blue"):
    green: Green


class Green(msgspec.Struct, tag="green"):
    red: Red | None = None
    count: int = 0


async def test_defect_09_types_that_refer_to_one_another_are_stored_alike_from_every_entry(operations: Operations) -> None:
    for n, kind in enumerate((Red, Blue, Green, list[Green])):
        root, registry = schema_of(kind)
        await seal(operations, named(str(n)), root_type=root, registry=registry)

    for kind in (Red, Blue, Green):
        root, registry = schema_of(kind)
        assert await operations.schema_source().closure(root.hash) == registry
        assert schema_of(list[kind])[1][root.hash] == registry[root.hash]  # type: ignore[valid-type]


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    size: int


async def test_defect_10_two_instances_of_a_generic_keep_bodies_of_their_own(operations: Operations) -> None:
    for name, kind, answer in (("ints", Page[int], b'{"items":[1],"size":1}'), ("texts", Page[str], b'{"items":["a"],"size":1}')):
        root, registry = schema_of(kind)
        await seal(operations, named(name), answer, root_type=root, registry=registry)

    assert await reread(operations, Page[int], named("ints")) == Page([1], 1)
    assert await reread(operations, Page[str], named("texts")) == Page(["a"], 1)
    with pytest.raises(SchemaIncompatible):
        await reread(operations, Page[int], named("texts"))


class Card(msgspec.Struct, tag="card"):
    digits: str


class Cash(msgspec.Struct, tag="cash"):
    coins: int


class NewCash(msgspec.Struct, tag="cash"):
    coins: list[int]


async def test_defect_11_a_change_inside_of_an_alternative_is_found_before_a_byte_is_decoded(operations: Operations) -> None:
    root, registry = schema_of(Card | Cash)
    await seal(operations, response=b'{"type":"cash","coins":"no number at all"}', root_type=root, registry=registry)

    with pytest.raises(SchemaIncompatible, match="coins") as caught:
        await reread(operations, Card | NewCash)

    assert not caught.value.retryable
    assert await begin(operations) == Replay(
        SealedResponse(response=b'{"type":"cash","coins":"no number at all"}', root_type=root, codec="json")
    )


async def test_defect_12_an_answer_of_a_recursive_type_is_read_again(operations: Operations) -> None:
    root, registry = schema_of(Folder)
    await seal(operations, response=b'{"name":"a","inside":[{"name":"b"}]}', root_type=root, registry=registry)

    class NewFolder(msgspec.Struct):
        name: str
        inside: list[NewFolder] = []
        note: str = "new"

    globals()["NewFolder"] = NewFolder
    assert await reread(operations, NewFolder) == NewFolder("a", [NewFolder("b")])


async def test_defect_13_a_field_that_may_be_absent_makes_another_schema(operations: Operations) -> None:
    required = msgspec.defstruct("Entry", [("n", int)])
    optional = msgspec.defstruct("Entry", [("n", int, 7)])
    for name, kind in (("required", required), ("optional", optional)):
        root, registry = schema_of(kind)
        await seal(operations, named(name), b"{}", root_type=root, registry=registry)

    assert await operations._access.reader.count(SCHEMA) == 2
    assert (await reread(operations, optional, named("optional"))).n == 7


async def test_defect_14_no_name_of_a_schema_is_believed(operations: Operations) -> None:
    forged = SchemaRegistry({RECEIPT.hash: PAYMENT_SCHEMAS[PAYMENT.hash]})

    with pytest.raises(SchemaInvalid):
        await seal(operations, registry=forged)

    assert await operations.schema_source().get_schema(RECEIPT.hash) is None
    assert len(bytes.fromhex(RECEIPT.hash)) == 16


async def test_defect_18_newer_code_reads_old_answers_after_every_restart(operations: Operations, reopen: Reopen) -> None:
    class NewReceipt(msgspec.Struct):
        number: str
        note: str = "none"

    await seal(operations)

    for _ in range(3):
        operations = Operations((await reopen()).access)
        assert await reread(operations, NewReceipt) == NewReceipt("R-1", "none")


async def test_defect_20_a_late_answer_comes_with_its_schema(operations: Operations, clock: VirtualClock) -> None:
    token = await crash_after_the_mark(operations, clock)

    await seal(operations, token=token, root_type=PAYMENT, registry=PAYMENT_SCHEMAS)

    assert await operations.schema_source().closure(PAYMENT.hash) == PAYMENT_SCHEMAS

"""Contract 3: the schemas of sealed answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from perdure import limits
from perdure.errors import AlreadySealed, InvalidIdentifier, LeaseLost, SchemaInvalid, SchemaMissing, TransactionTooLarge
from perdure.operations.contract import OperationState
from perdure.operations.store import Operations
from perdure.operations.tables import SCHEMA
from perdure.schemas import Schema, SchemaRegistry, TypeRef, plan, schema_of
from perdure.schemas.canonical import hash_of
from perdure.store import Store
from tests.contracts.operations import (
    ANSWER,
    CHARGE,
    NO_SCHEMAS,
    PAYMENT,
    PAYMENT_SCHEMAS,
    RECEIPT,
    RECEIPT_SCHEMAS,
    Folder,
    named,
    seal,
    start,
)

Reopen = Callable[[], Awaitable[Store]]


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


async def stored(operations: Operations) -> int:
    return await operations._access.reader.count(SCHEMA)


def struct(name: str, **references: str) -> tuple[str, bytes]:
    """Return the canonical document of a struct with one field per reference, and its hash."""
    fields = [{"name": field, "type": {"ref": target}} for field, target in references.items()]
    tree = {"defs": [{"fields": fields, "struct": name}], "schema": 1}
    document = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    return hash_of(document), document


def wide(count: int) -> tuple[TypeRef, dict[str, bytes]]:
    """Return a struct that refers to `count` others."""
    leaves = dict(struct(f"Leaf{n}") for n in range(count))
    root, document = struct("Root", **{f"f{n}": name for n, name in enumerate(leaves)})
    return TypeRef(root), {root: document, **leaves}


async def test_every_schema_that_is_reached_is_stored_with_the_answer(operations: Operations, reopen: Reopen) -> None:
    await seal(operations, root_type=PAYMENT, registry=PAYMENT_SCHEMAS)

    source = Operations((await reopen()).access).schema_source()

    assert await source.closure(PAYMENT.hash) == PAYMENT_SCHEMAS
    for name, document in PAYMENT_SCHEMAS.items():
        assert await source.get_schema(name) == Schema(name, document)


async def test_a_schema_that_is_not_stored_is_none_and_has_no_closure(operations: Operations) -> None:
    source = operations.schema_source()

    assert await source.get_schema(RECEIPT.hash) is None
    with pytest.raises(SchemaMissing) as caught:
        await source.closure(RECEIPT.hash)
    assert caught.value.schema_hash == RECEIPT.hash


@pytest.mark.parametrize("hash", ["", "x", "A" * 32, "a" * 31, "a" * 64])
async def test_what_is_no_hash_is_refused(operations: Operations, hash: str) -> None:
    source = operations.schema_source()

    with pytest.raises(InvalidIdentifier):
        await source.get_schema(hash)
    with pytest.raises(InvalidIdentifier):
        await source.closure(hash)


async def test_a_schema_is_stored_once_for_many_operations(operations: Operations) -> None:
    for n in range(10):
        await seal(operations, named(str(n)), root_type=PAYMENT, registry=PAYMENT_SCHEMAS)
        await seal(operations, named(str(n), scope="other"))

    assert await stored(operations) == len(PAYMENT_SCHEMAS) == 2


async def test_what_the_store_has_may_be_left_out(operations: Operations) -> None:
    await seal(operations, named("1"))
    only_root = SchemaRegistry({PAYMENT.hash: PAYMENT_SCHEMAS[PAYMENT.hash]})

    await seal(operations, named("2"), root_type=PAYMENT, registry=only_root)
    await seal(operations, named("3"), root_type=PAYMENT, registry=NO_SCHEMAS)

    assert await operations.schema_source().closure(PAYMENT.hash) == PAYMENT_SCHEMAS


async def test_what_is_not_reached_is_neither_stored_nor_looked_at(operations: Operations) -> None:
    await seal(operations, registry=SchemaRegistry({**PAYMENT_SCHEMAS, "0" * 32: b"no schema"}))

    assert await stored(operations) == 1
    assert await operations.schema_source().get_schema(PAYMENT.hash) is None


@pytest.mark.parametrize("missing", [PAYMENT.hash, RECEIPT.hash], ids=["the root", "what it refers to"])
async def test_a_missing_schema_is_named_and_nothing_is_stored(operations: Operations, reopen: Reopen, missing: str) -> None:
    registry = SchemaRegistry({name: document for name, document in PAYMENT_SCHEMAS.items() if name != missing})

    with pytest.raises(SchemaMissing) as caught:
        await seal(operations, root_type=PAYMENT, registry=registry)

    operations = Operations((await reopen()).access)
    assert caught.value.schema_hash == missing
    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN
    assert await stored(operations) == 0


FORGED: list[Mapping[str, bytes]] = [
    {**PAYMENT_SCHEMAS, RECEIPT.hash: struct("Forged", more="0" * 32)[1]},
    {**PAYMENT_SCHEMAS, RECEIPT.hash: PAYMENT_SCHEMAS[PAYMENT.hash]},
    {**PAYMENT_SCHEMAS, PAYMENT.hash: RECEIPT_SCHEMAS[RECEIPT.hash]},
    {**PAYMENT_SCHEMAS, RECEIPT.hash: RECEIPT_SCHEMAS[RECEIPT.hash] + b" "},
    {**PAYMENT_SCHEMAS, RECEIPT.hash: b""},
]


@pytest.mark.parametrize("registry", FORGED, ids=["a reference that leads on", "a reference", "the root", "one byte more", "empty"])
async def test_a_document_that_does_not_hash_to_its_name_is_refused_and_nothing_is_stored(
    operations: Operations, registry: Mapping[str, bytes]
) -> None:
    with pytest.raises(SchemaInvalid):
        await operations.seal(CHARGE, ANSWER, PAYMENT, registry)

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN
    assert await stored(operations) == 0


@pytest.mark.parametrize(
    "document",
    [b"not json", b'{"defs":["int"], "schema":1}', b'{"defs":["i99"],"schema":1}', b'{"defs":["int"],"schema":2}', b"[" * 100_000],
    ids=["no JSON", "not canonical", "no such type", "another version", "nested without end"],
)
async def test_a_document_that_breaks_the_rules_is_refused_although_it_hashes_to_its_name(operations: Operations, document: bytes) -> None:
    root = TypeRef(hash_of(document))

    with pytest.raises(SchemaInvalid):
        await operations.seal(CHARGE, ANSWER, root, {root.hash: document})

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN
    assert await stored(operations) == 0


async def test_a_union_out_of_order_is_found_when_its_alternatives_are_stored_already(operations: Operations) -> None:
    class A(msgspec.Struct, tag="a"):
        x: int

    class B(msgspec.Struct, tag="b"):
        y: int

    (a, a_schema), (b, b_schema) = schema_of(A), schema_of(B)
    await seal(operations, named("a"), root_type=a, registry=a_schema)
    await seal(operations, named("b"), root_type=b, registry=b_schema)
    document = f'{{"defs":[{{"union":[{{"ref":"{b.hash}"}},{{"ref":"{a.hash}"}}]}}],"schema":1}}'.encode()

    with pytest.raises(SchemaInvalid, match="union"):
        await operations.seal(CHARGE, ANSWER, TypeRef(hash_of(document)), {hash_of(document): document})

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN


async def test_the_closure_of_a_recursive_type_is_stored_and_read(operations: Operations) -> None:
    root, registry = schema_of(list[Folder] | None)

    await seal(operations, root_type=root, registry=registry)

    assert await operations.schema_source().closure(root.hash) == registry


async def test_what_stands_is_looked_at_before_the_schemas(operations: Operations) -> None:
    await seal(operations)

    with pytest.raises(AlreadySealed):
        await seal(operations, root_type=PAYMENT, registry=NO_SCHEMAS)
    await start(operations, named("2"))
    with pytest.raises(LeaseLost):
        await seal(operations, named("2"), root_type=PAYMENT, registry=NO_SCHEMAS)


async def test_a_seal_that_is_refused_stores_no_schema(operations: Operations) -> None:
    await start(operations)

    with pytest.raises(LeaseLost):
        await seal(operations)

    assert await stored(operations) == 0


async def test_schemas_stay_when_their_operations_are_gone(operations: Operations, reopen: Reopen) -> None:
    token = await start(operations, retain=0)
    await seal(operations, token=token)
    [info] = await operations.list_operations("acme")
    assert await operations.sweep(info.changed_at) == 1

    operations = Operations((await reopen()).access)

    assert await operations.lookup(CHARGE) is OperationState.EXPIRED
    assert await operations.schema_source().closure(RECEIPT.hash) == RECEIPT_SCHEMAS


async def test_a_root_may_reach_as_many_documents_as_the_limit_and_no_more(operations: Operations) -> None:
    root, registry = wide(limits.SCHEMA_TYPES_MAX - 1)
    await operations.seal(named("1"), ANSWER, root, registry)
    assert await stored(operations) == limits.SCHEMA_TYPES_MAX
    chain = {"0" * 32: b""}  # whose end is missing
    for _ in range(limits.SCHEMA_TYPES_MAX + 2):
        name, document = struct("Link", more=next(reversed(chain)))
        chain[name] = document
    del chain["0" * 32]

    with pytest.raises(SchemaInvalid, match="under one root"):
        await operations.seal(named("2"), ANSWER, TypeRef(name), chain)

    assert await stored(operations) == limits.SCHEMA_TYPES_MAX


async def test_schemas_over_the_size_of_a_transaction_are_refused_and_nothing_is_stored(operations: Operations) -> None:
    name = "N" * (limits.SCHEMA_DOCUMENT_MAX - 100)
    count = limits.TRANSACTION_BYTES_MAX // limits.SCHEMA_DOCUMENT_MAX + 1
    leaves = dict(struct(f"{n:02}{name}") for n in range(count))
    root, document = struct("Root", **{f"f{n}": leaf for n, leaf in enumerate(leaves)})

    with pytest.raises(TransactionTooLarge):
        await operations.seal(CHARGE, ANSWER, TypeRef(root), {root: document, **leaves})

    assert await operations.lookup(CHARGE) is OperationState.UNKNOWN
    assert await stored(operations) == 0


async def test_an_answer_can_be_read_by_newer_code_with_nothing_but_the_store(operations: Operations, reopen: Reopen) -> None:
    class NewReceipt(msgspec.Struct):
        number: str
        currency: str = "EUR"

    await seal(operations)

    operations = Operations((await reopen()).access)
    sealed = await operations.get_sealed(CHARGE)
    assert sealed is not None
    assert sealed.root_type is not None
    writer = await operations.schema_source().closure(sealed.root_type.hash)
    reader, reader_schemas = schema_of(NewReceipt)
    planned = plan(sealed.root_type, reader, writer | reader_schemas)

    assert planned.read(msgspec.json.decode(sealed.response), NewReceipt) == NewReceipt("R-1", "EUR")

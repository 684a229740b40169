"""Contract 3, the seed's methods: admit, lookup, get_sealed, seal, remove."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure import limits
from perdure.errors import AlreadySealed, InvalidIdentifier, PayloadTooLarge, UsageError
from perdure.identity import TenantId
from perdure.operations.contract import OperationId, OperationState, SealedResponse
from perdure.operations.store import Operations
from perdure.store import Store
from tests.contracts.operations import (
    ANSWER,
    CHARGE,
    OTHER_ANSWER,
    PAYMENT,
    PAYMENT_SCHEMAS,
    RECEIPT,
    RECEIPT_SCHEMAS,
    named,
    seal,
)

Reopen = Callable[[], Awaitable[Store]]
UNKNOWN, ADMITTED, SEALED = OperationState.UNKNOWN, OperationState.ADMITTED, OperationState.SEALED


@pytest.fixture
def operations(store: Store) -> Operations:
    return Operations(store.access)


async def test_an_operation_that_was_never_seen_is_unknown_and_has_no_answer(operations: Operations) -> None:
    assert await operations.lookup(CHARGE) is UNKNOWN
    assert await operations.get_sealed(CHARGE) is None


async def test_an_admitted_operation_is_admitted_and_has_no_answer(operations: Operations, reopen: Reopen) -> None:
    await operations.admit(CHARGE)

    operations = Operations((await reopen()).access)

    assert await operations.lookup(CHARGE) is ADMITTED
    assert await operations.get_sealed(CHARGE) is None


async def test_a_sealed_operation_is_sealed_and_has_its_answer(operations: Operations, reopen: Reopen) -> None:
    await operations.admit(CHARGE)
    await seal(operations)

    operations = Operations((await reopen()).access)

    assert await operations.lookup(CHARGE) is SEALED
    assert await operations.get_sealed(CHARGE) == SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")


async def test_admit_twice_is_admit_once(operations: Operations) -> None:
    await operations.admit(CHARGE)
    before = await operations.find_operation(CHARGE)
    await operations.admit(CHARGE)

    assert await operations.find_operation(CHARGE) == before


async def test_admit_after_seal_keeps_the_answer(operations: Operations) -> None:
    await seal(operations)
    await operations.admit(CHARGE)

    assert await operations.lookup(CHARGE) is SEALED
    assert await operations.get_sealed(CHARGE) == SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")


async def test_an_operation_that_was_never_admitted_may_be_sealed(operations: Operations) -> None:
    await seal(operations)

    assert await operations.lookup(CHARGE) is SEALED


async def test_seal_twice_with_the_same_answer_changes_nothing(operations: Operations) -> None:
    await seal(operations)
    before = await operations.find_operation(CHARGE)
    await seal(operations)
    await operations.seal(CHARGE, ANSWER, RECEIPT, {})

    assert await operations.find_operation(CHARGE) == before


@pytest.mark.parametrize(
    ("response", "root_type", "registry", "codec"),
    [
        (OTHER_ANSWER, RECEIPT, RECEIPT_SCHEMAS, "json"),
        (ANSWER, PAYMENT, PAYMENT_SCHEMAS, "json"),
        (ANSWER, RECEIPT, RECEIPT_SCHEMAS, "msgpack"),
    ],
    ids=["response", "root type", "codec"],
)
async def test_seal_twice_with_another_answer_is_refused_and_the_first_stays(
    operations: Operations, response: bytes, root_type: object, registry: object, codec: str
) -> None:
    await seal(operations)

    with pytest.raises(AlreadySealed, match="acme/checkout/payment-1"):
        await operations.seal(CHARGE, response, root_type, registry, codec=codec)  # type: ignore[arg-type]

    assert await operations.get_sealed(CHARGE) == SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")


async def test_of_many_who_seal_with_different_answers_at_once_one_wins(operations: Operations) -> None:
    answers = [f'{{"number":"R","total":{n}}}'.encode() for n in range(20)]

    outcomes = await asyncio.gather(*(seal(operations, response=answer) for answer in answers), return_exceptions=True)

    [winner] = [answer for answer, outcome in zip(answers, outcomes, strict=True) if outcome is None]
    assert sum(isinstance(outcome, AlreadySealed) for outcome in outcomes) == 19
    sealed = await operations.get_sealed(CHARGE)
    assert sealed is not None
    assert sealed.response == winner


async def test_a_removed_operation_is_unknown_again(operations: Operations, reopen: Reopen) -> None:
    await operations.admit(CHARGE)
    await operations.remove(CHARGE)

    operations = Operations((await reopen()).access)

    assert await operations.lookup(CHARGE) is UNKNOWN
    assert await operations.get_sealed(CHARGE) is None


async def test_a_removed_operation_can_be_admitted_and_sealed_again(operations: Operations) -> None:
    await operations.admit(CHARGE)
    await operations.remove(CHARGE)
    await operations.admit(CHARGE)
    await seal(operations)

    assert await operations.lookup(CHARGE) is SEALED


async def test_remove_of_an_unknown_operation_changes_nothing(operations: Operations) -> None:
    await operations.remove(CHARGE)

    assert await operations.lookup(CHARGE) is UNKNOWN


async def test_remove_of_a_sealed_operation_keeps_the_answer(operations: Operations, reopen: Reopen) -> None:
    await seal(operations)
    await operations.remove(CHARGE)

    operations = Operations((await reopen()).access)

    assert await operations.lookup(CHARGE) is SEALED
    assert await operations.get_sealed(CHARGE) == SealedResponse(response=ANSWER, root_type=RECEIPT, codec="json")


async def test_operations_differ_by_every_part_of_their_id(operations: Operations) -> None:
    ids = [
        named(value, scope=scope, tenant_id=tenant) for tenant in ("a", "b") for scope in ("a", "a/b", "b") for value in ("1", "b/1", "B/1")
    ]
    for n, operation_id in enumerate(ids):
        await seal(operations, operation_id, b"%d" % n)

    assert [sealed and sealed.response for sealed in [await operations.get_sealed(operation_id) for operation_id in ids]] == [
        b"%d" % n for n in range(len(ids))
    ]


def test_of_is_the_default_tenant_and_scope() -> None:
    assert OperationId.of("7") == OperationId(tenant_id=TenantId("default"), scope="default", value="7")


@pytest.mark.parametrize("value", ["", "a\0b", "line\nbreak", "\ud800", "x" * (limits.OPERATION_ID_MAX + 1)])
def test_an_id_that_breaks_the_rules_is_refused(value: str) -> None:
    for broken in ({"value": value}, {"scope": value}, {"tenant_id": value}):
        with pytest.raises(InvalidIdentifier):
            OperationId(**{"tenant_id": "acme", "scope": "checkout", "value": "1", **broken})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["päyment", "%00", "a:b/c?d=e#f", "'; drop table operation; --", "x" * limits.OPERATION_ID_MAX])
async def test_an_id_holds_any_other_character(operations: Operations, value: str) -> None:
    await seal(operations, named(value))

    assert await operations.lookup(named(value)) is SEALED
    assert await operations.lookup(named(value[:-1] + "~")) is UNKNOWN


@pytest.mark.parametrize("response", [b"", b"\0", b"null", bytes(range(256)), b"x" * limits.RESPONSE_MAX], ids=len)
async def test_an_answer_is_any_bytes_up_to_the_limit(operations: Operations, reopen: Reopen, response: bytes) -> None:
    await seal(operations, response=response)

    operations = Operations((await reopen()).access)

    sealed = await operations.get_sealed(CHARGE)
    assert sealed is not None
    assert sealed.response == response


async def test_an_answer_over_the_limit_is_refused_before_anything_is_written(operations: Operations) -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        await seal(operations, response=b"x" * (limits.RESPONSE_MAX + 1))

    assert caught.value.limit == limits.RESPONSE_MAX
    assert await operations.lookup(CHARGE) is UNKNOWN


async def test_an_answer_that_is_no_bytes_or_of_no_codec_is_refused_before_anything_is_written(operations: Operations) -> None:
    with pytest.raises(UsageError, match="expected bytes"):
        await seal(operations, response="text")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="morse"):
        await operations.seal(CHARGE, ANSWER, RECEIPT, RECEIPT_SCHEMAS, codec="morse")

    assert await operations.lookup(CHARGE) is UNKNOWN

"""`Idempotency-Key`: the same request again gets the very answer that it got before, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest

from perdure import limits
from perdure.errors import StoreBusy
from perdure.identity import TenantId
from perdure.operations.contract import OperationId, Policy, Started
from perdure.server.idempotency import digest_of
from tests.server.conftest import Said, Served, until

PATH = "/v1/tenants/acme/messages"
PLACE = {"id": "m", "kind": "Place", "payload": {"order": "7", "amount": 3}}


async def post(served: Served, key: str, body: object = PLACE, *, path: str = f"{PATH}?wait_ms=30000", token: str = "") -> Said:
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    return await served.ask("POST", path, data=msgspec.json.encode(body), headers=headers, token=token)


async def test_a_repetition_gets_the_same_status_and_bytes(served: Served) -> None:
    first = await post(served, '"k"')
    again = await post(served, '"k"')

    assert (first.status, first.body) == (again.status, again.body)
    assert (first.status, first.json["duplicate"]) == (200, False)
    assert served.shop.placed == ["7"]


async def test_a_thousand_at_once_are_one_effect_and_one_answer(served: Served) -> None:
    async def persistent() -> bytes:
        while (said := await post(served, '"k"')).status == 409:
            assert said.code == "idempotency-key-in-use"
            assert said.headers["Retry-After"] == "1"
        assert said.status == 200
        return said.body

    bodies = Counter(await asyncio.gather(*(persistent() for _ in range(1_000))))

    assert list(bodies.values()) == [1_000]
    assert served.shop.placed == ["7"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{PATH}?wait_ms=30000", {**PLACE, "id": "n"}),
        (f"{PATH}?wait_ms=29999", PLACE),
        ("/v1/tenants/acme/processes/m/cancel", {}),
    ],
)
async def test_another_request_with_the_same_key_is_refused(served: Served, path: str, body: object) -> None:
    await post(served, '"k"')

    said = await post(served, '"k"', body, path=path)

    assert (said.status, said.code) == (422, "idempotency-key-reused")


async def test_a_request_that_is_still_running_is_told(served: Served) -> None:
    await served.deliver("m", "Place", {"order": "7", "amount": 3})
    pay = {"id": "p", "kind": "Pay", "payload": {"order": "7"}}
    async with served.waiting_for(post(served, '"k"', pay)) as first:
        await until(lambda: _is_begun(served, "k"))
        said = await post(served, '"k"', pay)
        served.shop.gate.set()
        done = await first

    assert (said.status, said.code, said.headers["Retry-After"]) == (409, "idempotency-key-in-use", "1")
    assert (await post(served, '"k"', pay)).body == done.body


def _operation(key: str, scope: str = "http client") -> OperationId:
    return OperationId(tenant_id=TenantId("acme"), scope=scope, value=key)


async def _is_begun(served: Served, key: str) -> bool:
    return await served.store.operations.find_operation(_operation(key)) is not None


async def test_a_refusal_that_is_final_is_kept(served: Served) -> None:
    path = "/v1/tenants/acme/processes/g/cancel"
    first = await post(served, '"k"', {}, path=path)
    await served.deliver("g", "greet()", ["you"])

    again = await post(served, '"k"', {}, path=path)

    assert (first.status, first.code) == (404, "process-not-found")
    assert first.body == (await served.ask("POST", path.replace("acme", "other"))).body
    assert (again.status, again.body, again.headers["Content-Type"]) == (404, first.body, first.headers["Content-Type"])
    assert (await served.ask("POST", path)).status == 200


async def test_a_request_that_was_wrong_itself_binds_no_key(served: Served) -> None:
    wrong = await post(served, '"k"', {**PLACE, "id": 5})

    assert (wrong.status, (await post(served, '"k"')).status) == (422, 200)


@pytest.mark.parametrize("error", [StoreBusy("locked"), ZeroDivisionError()])
async def test_what_the_server_could_not_do_is_tried_again(local: Served, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    deliver = local.engine.deliver_encoded

    async def fails(*_args: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(local.engine, "deliver_encoded", fails)
    first = await post(local, '"k"')
    monkeypatch.setattr(local.engine, "deliver_encoded", deliver)
    again = await post(local, '"k"')

    assert (first.status, again.status) == (503 if isinstance(error, StoreBusy) else 500, 200)


async def test_clients_number_their_requests_independently(served: Served) -> None:
    other = await served.new_token("deliver", name="another client")
    await post(served, '"k"')

    said = await post(served, '"k"', {**PLACE, "id": "n"}, token=other)

    assert said.status == 200


async def test_a_token_that_replaces_another_belongs_to_the_same_client(served: Served) -> None:
    first = await post(served, '"k"')

    again = await post(served, '"k"', token=await served.new_token("deliver", name="client"))

    assert again.body == first.body


async def test_a_capability_is_asked_for_before_an_answer_is_given_again(served: Served) -> None:
    await post(served, '"k"')

    said = await post(served, '"k"', token=await served.new_token("read", name="client"))

    assert said.status == 403


@pytest.mark.parametrize("key", ["", '""', "a b", '"a', "ü", '"' + "x" * 257 + '"', "x" * 257, '"a\\b"'])
async def test_what_is_no_key_is_refused(local: Served, key: str) -> None:
    said = await post(local, key)

    assert (said.status, said.code) == (422, "request-invalid")


async def test_a_key_is_the_same_with_quotes_and_without(local: Served) -> None:
    first = await post(local, '"8e03978e-40d5-43dd-bc93-6894a57f9324"')

    assert (await post(local, "8e03978e-40d5-43dd-bc93-6894a57f9324")).body == first.body


async def test_an_answer_is_kept_for_a_day(served: Served) -> None:
    await post(served, '"k"')
    for _ in range(limits.IDEMPOTENCY_RETAIN_US // limits.IDEMPOTENCY_SWEEP_US + 1):
        await served.pass_time(limits.IDEMPOTENCY_SWEEP_US)
    await until(lambda: _is_expired(served, "k"))

    said = await post(served, '"k"')

    assert (said.status, said.code) == (410, "operation-expired")
    assert served.shop.placed == ["7"]


async def test_a_key_is_as_new_long_after_its_answer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_RETAIN_US", 1)
    monkeypatch.setattr(limits, "IDEMPOTENCY_KNOWN_US", 1)
    await post(served, '"k"')
    await served.pass_time(limits.IDEMPOTENCY_SWEEP_US)
    await until(lambda: _is_expired(served, "k"))
    await served.pass_time(limits.IDEMPOTENCY_SWEEP_US)
    await until(lambda: _is_forgotten(served, "k"))

    said = await post(served, '"k"', {**PLACE, "id": "n"})

    assert (said.status, said.json["duplicate"]) == (200, False)


async def _is_forgotten(served: Served, key: str) -> bool:
    return not await _is_begun(served, key)


async def _is_expired(served: Served, key: str) -> bool:
    found = await served.store.operations.find_operation(_operation(key))
    return found is not None and found.state == "expired"


async def crashed(served: Served, key: str, path: str, body: bytes, *, query: bytes = b"") -> None:
    """Leave a request as a server leaves it that dies between its effect and its answer."""
    route = path.replace("/acme/", "/{tenant}/").replace("/dead/", "/{id}/").replace("/o/", "/{id}/")
    verdict = await served.store.operations.begin(
        _operation(key),
        method=f"POST {route}",
        request_digest=digest_of("POST", path, query, body),
        policy=Policy.IDEMPOTENT,
        lease_for=1,
        retain=limits.IDEMPOTENCY_RETAIN_US,
    )
    assert isinstance(verdict, Started)
    served.clock.advance(1)


async def test_a_message_that_was_accepted_before_the_server_died_is_not_accepted_twice(served: Served) -> None:
    await crashed(served, "k", PATH, msgspec.json.encode(PLACE), query=b"wait_ms=30000")
    await served.deliver("m", "Place", {"order": "7", "amount": 3})

    said = await post(served, '"k"')

    assert (said.status, said.json["reply"]["value"]) == (200, {"total": 3})
    assert served.shop.placed == ["7"]


async def test_a_dead_letter_that_was_redriven_before_the_server_died_is_not_redriven_twice(served: Served) -> None:
    await served.deliver("dead", "Place", {"order": "9", "amount": 1}, to={"way": "key", "key": "order/9"}, expires_after_ms=1, wait_ms=0)
    await served.pass_time(2_000)
    await until(lambda: served.is_status("dead", "dead"))
    await served.deliver("m", "Place", {"order": "9", "amount": 3})
    path = "/v1/tenants/acme/dead-letters/dead/redrive"
    await crashed(served, "k", path, b"{}")
    await served.engine.redrive("dead", tenant="acme")

    said = await post(served, '"k"', {}, path=path)

    assert (said.status, said.json) == (200, {"message_id": "dead~2"})


async def test_a_process_that_was_resumed_before_the_server_died_goes_on(served: Served) -> None:
    to = {"way": "start", "process_type": "Order", "process_id": "o"}
    await served.deliver("m", "Place", {"order": "9", "amount": 3}, to=to)
    path = "/v1/tenants/acme/processes/o/resume"
    await crashed(served, "k", path, b"{}")

    said = await post(served, '"k"', {}, path=path)

    assert (said.status, said.json) == (200, {"process_id": "o", "changed": True})


async def test_a_request_that_took_too_long_gets_the_answer_of_the_repetition_that_took_over(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, held, slow = served.engine.deliver_encoded, asyncio.Event(), asyncio.Event()

    async def waits(*args: Any, **named: Any) -> Any:
        receipt = await deliver(*args, **named)
        held.set()
        await slow.wait()
        return receipt

    monkeypatch.setattr(served.engine, "deliver_encoded", waits)
    async with served.waiting_for(post(served, '"k"', path=PATH)) as first:
        await held.wait()
        monkeypatch.setattr(served.engine, "deliver_encoded", deliver)
        served.clock.advance(limits.IDEMPOTENCY_LEASE_US)
        second = await post(served, '"k"', path=PATH)
        slow.set()
        late = await first

    assert (late.status, late.body) == (second.status, second.body)
    assert second.json["duplicate"]
    assert served.shop.placed == ["7"]


async def test_an_answer_that_is_too_large_to_be_kept_is_made_again(served: Served) -> None:
    body = {"id": "g", "kind": "greet()", "payload": ["x" * (limits.RESULT_MAX - 100)]}

    first = await post(served, '"k"', body)
    again = await post(served, '"k"', body)

    assert (first.status, again.status) == (200, 200)
    assert first.json["reply"] == again.json["reply"]
    assert (first.json["duplicate"], again.json["duplicate"]) == (False, True)

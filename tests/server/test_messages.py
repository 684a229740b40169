"""Delivering messages over HTTP, and looking at them."""

from __future__ import annotations

import pytest

from perdure.codec import JSON
from perdure.messages.tables import MESSAGE
from tests.server.conftest import Served, until
from tests.server.shop import Place


async def test_a_message_is_answered_with_its_sealed_reply(served: Served) -> None:
    first = await served.deliver("m", "Place", {"order": "7", "amount": 3})
    again = await served.deliver("m", "Place", {"order": "7", "amount": 3})

    assert (first.status, again.status) == (200, 200)
    assert first.json["reply"] == again.json["reply"] == {"outcome": "ok", "value": {"total": 3}}
    assert (first.json["duplicate"], again.json["duplicate"]) == (False, True)
    assert served.shop.placed == ["7"]


async def test_a_message_is_the_one_that_the_apps_own_code_delivers(served: Served) -> None:
    await served.deliver("m", "Place", {"amount": 3, "order": "7"})

    assert await served.engine.deliver(Place("7", 3), id="m", tenant="acme", wait=True) == {"total": 3}
    assert served.shop.placed == ["7"]


async def test_a_function_process_is_called_with_the_list_of_its_arguments(served: Served) -> None:
    answers = [await served.deliver(id, "greet()", arguments) for id, arguments in (("a", ["you"]), ("b", ["you", "?"]))]

    assert [one.json["reply"]["value"] for one in answers] == ["Hello, you!", "Hello, you?"]
    assert [one.json["process_id"] for one in answers] == ["a", "b"]


@pytest.mark.parametrize("arguments", [["a", "b", "c"], [], [1], {"name": "you"}])
async def test_arguments_that_do_not_fit_are_refused(local: Served, arguments: object) -> None:
    said = await local.deliver("a", "greet()", arguments)

    assert said.status == 422
    assert (await local.ask("GET", "/v1/tenants/acme/messages/a")).status == 404


async def test_without_waiting_a_message_is_accepted(served: Served) -> None:
    said = await served.deliver("m", "Place", {"order": "7", "amount": 3}, wait_ms=0)

    assert (said.status, said.json["reply"]) == (202, None)


async def test_a_reply_that_is_not_sealed_in_time_is_had_later(served: Served) -> None:
    await served.deliver("m", "Place", {"order": "7", "amount": 3})

    async with served.waiting_for(served.deliver("p", "Pay", {"order": "7"}, wait_ms=500)) as late:
        await until(lambda: served.in_flight == 1)
        await served.pass_time(500_000)
        assert (await late).status == 202
    served.shop.gate.set()
    state = await served.ask("GET", "/v1/tenants/acme/messages/p?wait_ms=30000")

    assert (state.json["status"], state.json["reply"]) == ("done", {"outcome": "ok", "value": "paid 7"})


async def test_a_handler_that_fails_is_a_sealed_reply_too(served: Served) -> None:
    await served.deliver("m", "Place", {"order": "7", "amount": 3})

    said = await served.deliver("f", "Fail", {"order": "7"})

    assert said.status == 200
    assert said.json["reply"] == {"outcome": "error", "error": {"name": "ValueError", "text": "no 7"}}


async def test_every_way_of_an_address_leads_somewhere(served: Served) -> None:
    started = await served.deliver(
        "a", "Place", {"order": "7", "amount": 3}, to={"way": "start", "process_type": "Order", "key": "k", "process_id": "o"}
    )
    by_id = await served.deliver("b", "Place", {"order": "7", "amount": 3}, to={"way": "process", "process_id": "o"})
    by_key = await served.deliver("c", "Place", {"order": "7", "amount": 3}, to={"way": "key", "key": "k"})
    by_tag = await served.deliver("d", "Note", {"order": "7"}, to={"way": "tag", "tag": "t"}, wait_ms=0)

    assert [one.json["reply"]["value"]["total"] for one in (started, by_id, by_key)] == [3, 6, 9]
    assert (by_tag.status, by_tag.json["copies"]) == (202, 0)


async def test_a_kind_that_only_a_receive_knows_is_sent_by_address(served: Served) -> None:
    await served.deliver("w", "waits()", [], wait_ms=0)

    said = await served.deliver("odd", "Odd", {"value": 5}, to={"way": "process", "process_id": "w"}, wait_ms=0)
    state = await served.ask("GET", "/v1/tenants/acme/messages/w?wait_ms=30000")

    assert said.status == 202
    assert state.json["reply"]["value"] == "got 5"


async def test_the_headers_and_the_trace_context_are_kept_with_the_message(served: Served) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await served.deliver(
        "m", "Place", {"order": "7", "amount": 3}, headers={"by": "me"}, headers_sent={"traceparent": parent, "tracestate": "a=b"}
    )
    row = await served.store.access.reader.get(MESSAGE.key("acme", "", "m"))

    assert row is not None
    assert row.headers is not None
    assert JSON.decoder(dict[str, str])(row.headers) == {"by": "me", "traceparent": parent, "tracestate": "a=b"}


@pytest.mark.parametrize(
    "parent", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
)
async def test_a_trace_context_that_is_none_is_left_out(local: Served, parent: str) -> None:
    await local.deliver("m", "Place", {"order": "7", "amount": 3}, headers_sent={"traceparent": parent})
    row = await local.store.access.reader.get(MESSAGE.key("acme", "", "m"))

    assert row is not None
    assert row.headers is None


@pytest.mark.parametrize(
    ("payload", "where"),
    [({"order": "7", "amount": "3"}, "$.amount"), ({"order": "7"}, "amount"), ([1], "object"), (None, "null")],
)
async def test_a_payload_that_the_type_refuses_is_not_written(local: Served, payload: object, where: str) -> None:
    said = await local.deliver("m", "Place", payload)

    assert (said.status, said.code) == (422, "payload-invalid")
    assert where in said.json["detail"]
    assert (await local.ask("GET", "/v1/tenants/acme/messages/m")).status == 404


@pytest.mark.parametrize("to", [{"way": "key", "key": "k"}, {"way": "start", "process_type": "Order"}])
async def test_a_payload_to_an_address_is_read_by_its_type_too(local: Served, to: object) -> None:
    said = await local.deliver("m", "Place", {"order": "7", "amount": "3"}, to=to, wait_ms=0)

    assert (said.status, said.code) == (422, "payload-invalid")


@pytest.mark.parametrize(
    ("kind", "to", "code"),
    [
        ("Nothing", None, "no-route"),
        ("Place", {"way": "start", "process_type": "Nothing"}, "unknown-process-type"),
        ("Odd", {"way": "start", "process_type": "Order"}, "no-route"),
        ("Place", {"way": "key", "key": ""}, "invalid-identifier"),
        ("a\nb", None, "invalid-identifier"),
    ],
)
async def test_what_leads_nowhere_is_refused(local: Served, kind: str, to: object, code: str) -> None:
    said = await local.deliver("m", kind, {"order": "7", "amount": 3}, to=to)

    assert (said.status, said.code) == (422, code)


async def test_an_id_with_other_content_is_a_conflict(served: Served) -> None:
    await served.deliver("m", "Place", {"order": "7", "amount": 3})

    said = await served.deliver("m", "Place", {"order": "7", "amount": 4})

    assert (said.status, said.code) == (409, "message-conflict")


async def test_sources_number_their_messages_independently(served: Served) -> None:
    await served.deliver("m", "Place", {"order": "7", "amount": 3}, source="a/b")
    await served.deliver("m", "Place", {"order": "8", "amount": 4}, source="c")

    one = await served.ask("GET", "/v1/tenants/acme/messages/m?source=a%2Fb")
    other = await served.ask("GET", "/v1/tenants/acme/messages/m?source=c")

    assert [said.json["reply"]["value"]["total"] for said in (one, other)] == [3, 4]
    assert (await served.ask("GET", "/v1/tenants/acme/messages/m")).status == 404


async def test_an_id_may_have_any_character_that_identifiers_have(served: Served) -> None:
    await served.deliver("a/b ü%?#", "Place", {"order": "7", "amount": 3})

    said = await served.ask("GET", "/v1/tenants/acme/messages/a%2Fb%20%C3%BC%25%3F%23")

    assert (said.status, said.json["message_id"]) == (200, "a/b ü%?#")


async def test_a_dead_letter_is_listed_and_redriven(served: Served) -> None:
    to = {"way": "key", "key": "order/9"}
    await served.deliver("dead", "Place", {"order": "9", "amount": 1}, to=to, expires_after_ms=1, wait_ms=0)
    await served.pass_time(2_000)
    await until(lambda: served.is_status("dead", "dead"))
    await served.deliver("m", "Place", {"order": "9", "amount": 3})

    [letter] = (await served.ask("GET", "/v1/tenants/acme/dead-letters")).json["dead_letters"]
    redriven = await served.ask("POST", "/v1/tenants/acme/dead-letters/dead/redrive")
    again = await served.ask("POST", "/v1/tenants/acme/dead-letters/dead/redrive", json={"source": ""})

    assert (letter["message_id"], letter["payload"]) == ("dead", {"amount": 1, "order": "9"})
    assert (redriven.status, redriven.json) == (200, {"message_id": "dead~2"})
    assert (again.status, again.code) == (409, "illegal-transition")


async def test_dead_letters_come_in_pages(local: Served) -> None:
    for number in range(3):
        await local.deliver(f"d{number}", "Note", {"order": "1"}, to={"way": "key", "key": "nobody"}, expires_after_ms=1, wait_ms=0)
    await local.pass_time(2_000)
    await until(lambda: local.is_status("d2", "dead"))

    found, after = [], ""
    while True:
        page = (await local.ask("GET", f"/v1/tenants/acme/dead-letters?limit=2{after}")).json
        found += [one["message_id"] for one in page["dead_letters"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert found == ["d0", "d1", "d2"]


async def test_a_message_to_a_tag_cannot_be_waited_for(local: Served) -> None:
    said = await local.deliver("m", "Note", {"order": "7"}, to={"way": "tag", "tag": "t"}, wait_ms=5)

    assert (said.status, said.code) == (422, "request-invalid")

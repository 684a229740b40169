"""CloudEvents over HTTP, in both modes; the SDK of CloudEvents is the sender."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

from perdure import limits
from perdure.cloudevents.http import STRUCTURED
from perdure.codec import JSON
from perdure.messages.tables import MESSAGE, MessageRow
from perdure.server.openapi import document
from tests.server.conftest import Said, Served
from tests.server.shop import Place

PATH = "/v1/tenants/acme/messages"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ATTRIBUTES = {"id": "m", "source": "/shop", "type": "Place"}
TIME = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
WHEN = {"ce-time": "2026-11-23T09:30:00Z"}
DATA = {"order": "7", "amount": 3}
BINARY = {"ce-specversion": "1.0", "ce-id": "m", "ce-source": "/shop", "ce-type": "Place", "Content-Type": "application/json"}
MODES = [http.to_binary_event, http.to_structured_event]


async def send(served: Served, write: Any, data: Any = DATA, /, *, wait_ms: int = 30_000, **more: Any) -> Said:
    """Send an event that the SDK has made and written."""
    headers = more.pop("headers", {})
    message = write(CloudEvent({**ATTRIBUTES, "specversion": "1.0", "time": TIME, "datacontenttype": "application/json", **more}, data))
    return await raw(served, message.body, {**message.headers, **headers}, wait_ms=wait_ms)


async def raw(served: Served, body: bytes, headers: dict[str, str], *, wait_ms: int = 30_000) -> Said:
    return await served.ask("POST", f"{PATH}?wait_ms={wait_ms}", data=io.BytesIO(body), headers=headers)


async def kept(served: Served, id: str = "m", source: str = "/shop") -> MessageRow:
    row = await served.store.access.reader.get(MESSAGE.key("acme", source, id))
    assert row is not None
    return row


async def headers_of(served: Served) -> dict[str, str]:
    row = await kept(served)
    return {} if row.headers is None else JSON.decoder(dict[str, str])(row.headers)


@pytest.mark.parametrize("write", MODES)
async def test_an_event_of_the_sdk_is_a_message_and_its_reply_is_json(served: Served, write: Any) -> None:
    first, again = await send(served, write), await send(served, write)
    row = await kept(served)

    assert (first.status, first.headers["Content-Type"]) == (200, "application/json")
    assert (first.json["message_id"], first.json["source"], first.json["duplicate"]) == ("m", "/shop", False)
    assert first.json["reply"] == again.json["reply"] == {"outcome": "ok", "value": {"total": 3}}
    assert again.json["duplicate"]
    assert (row.kind, row.payload) == ("Place", b'{"order":"7","amount":3}')
    assert served.shop.placed == ["7"]


@pytest.mark.parametrize("write", MODES)
async def test_without_waiting_an_event_is_accepted(local: Served, write: Any) -> None:
    said = await send(local, write, wait_ms=0)

    assert (said.status, said.json["reply"]) == (202, None)


async def test_both_modes_and_plain_json_are_the_same_message(local: Served) -> None:
    said = [await send(local, write) for write in MODES]
    said += [await local.deliver("m", "Place", DATA, source="/shop")]

    assert [one.json["duplicate"] for one in said] == [False, True, True]
    assert await local.engine.deliver(Place("7", 3), id="m", source="/shop", tenant="acme", wait=True) == {"total": 3}


@pytest.mark.parametrize("write", MODES)
async def test_what_an_event_says_beside_its_content_is_kept_in_the_headers(local: Served, write: Any) -> None:
    await send(local, write, subject="ü 50%", dataschema="urn:place", partitionkey="a b")

    assert await headers_of(local) == {
        "ce-subject": "ü 50%",
        **WHEN,
        "ce-dataschema": "urn:place",
        "ce-partitionkey": "a b",
    }


@pytest.mark.parametrize("write", MODES)
async def test_the_trace_of_an_event_is_the_messages_unless_the_request_has_its_own(local: Served, write: Any) -> None:
    await send(local, write, traceparent=PARENT, tracestate="a=b")
    alone = await headers_of(local)
    await send(local, write, traceparent=PARENT, id="n", headers={"traceparent": OTHER})
    row = await kept(local, "n")

    assert alone == {**WHEN, "traceparent": PARENT, "tracestate": "a=b", "ce-traceparent": PARENT, "ce-tracestate": "a=b"}
    assert row.headers is not None
    assert JSON.decoder(dict[str, str])(row.headers) == {**WHEN, "traceparent": OTHER, "ce-traceparent": PARENT}


async def test_a_trace_of_an_event_that_is_none_is_no_trace(local: Served) -> None:
    await send(local, http.to_binary_event, traceparent="nonsense")

    assert await headers_of(local) == {**WHEN, "ce-traceparent": "nonsense"}


@pytest.mark.parametrize("write", MODES)
async def test_an_event_says_by_an_extension_where_it_goes(local: Served, write: Any) -> None:
    started = await send(local, write)
    by_key = await send(local, write, {"order": "8", "amount": 3}, id="b", tokey="order/7")
    by_id = await send(local, write, {"order": "8", "amount": 3}, id="c", toprocess=started.json["process_id"])
    by_tag = await send(local, write, {"order": "7"}, id="d", type="Note", totag="t", wait_ms=0)

    assert [one.json["reply"]["value"]["total"] for one in (started, by_key, by_id)] == [3, 6, 9]
    assert (by_tag.status, by_tag.json["copies"]) == (202, 0)
    assert "tokey" not in str((await kept(local, "b")).headers), "it is said in the address"


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ({"tokey": ""}, "invalid-identifier"),
        ({"tokey": 7}, "cloud-event-invalid"),
        ({"toprocess": True}, "cloud-event-invalid"),
        ({"tokey": "k", "totag": "t"}, "cloud-event-invalid"),
    ],
)
async def test_an_extension_that_leads_nowhere_is_refused(local: Served, to: dict[str, Any], code: str) -> None:
    body = json.dumps({"specversion": "1.0", **ATTRIBUTES, "data": DATA, **to}).encode()

    said = await raw(local, body, {"Content-Type": STRUCTURED}, wait_ms=0)

    assert (said.status, said.code) == (422, code)


async def test_an_extension_that_is_no_text_is_kept_as_the_binary_mode_writes_it(local: Served) -> None:
    body = json.dumps({"specversion": "1.0", **ATTRIBUTES, "data": DATA, "sampled": True, "rate": 7}).encode()

    await raw(local, body, {"Content-Type": STRUCTURED})

    assert await headers_of(local) == {"ce-sampled": "true", "ce-rate": "7"}


async def test_a_function_is_called_and_an_event_without_data_is_null(local: Served) -> None:
    called = await send(local, http.to_structured_event, {}, type="greet()")  # data that fit no list of arguments
    body = json.dumps({"specversion": "1.0", **ATTRIBUTES, "type": "greet()", "data": ["you"]}).encode()
    right = await raw(local, body, {"Content-Type": STRUCTURED})
    nothing = await raw(local, b"", {**BINARY, "ce-id": "n"})

    assert (called.status, called.code) == (422, "payload-invalid")
    assert right.json["reply"]["value"] == "Hello, you!"
    assert (nothing.status, nothing.code) == (422, "payload-invalid")
    assert "null" in nothing.json["detail"]


@pytest.mark.parametrize("write", MODES)
@pytest.mark.parametrize(("kind", "data"), [("text/plain", "7"), ("application/octet-stream", b"\x00\xff"), ("application/xml", b"<a/>")])
async def test_data_that_are_no_json_are_refused(local: Served, write: Any, kind: str, data: Any) -> None:
    said = await send(local, write, data, datacontenttype=kind)

    assert (said.status, said.code) == (422, "cloud-event-invalid")
    assert "datacontenttype" in said.json["detail"]
    assert kind in said.json["detail"]


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.shop+json", "text/json"])
@pytest.mark.parametrize("write", MODES)
async def test_every_content_type_that_is_json_is_taken(local: Served, write: Any, kind: str) -> None:
    assert (await send(local, write, datacontenttype=kind)).status == 200


async def test_json_as_base64_is_taken(local: Served) -> None:
    body = json.dumps({"specversion": "1.0", **ATTRIBUTES, "data_base64": "eyJvcmRlciI6ICI3IiwgImFtb3VudCI6IDN9"}).encode()

    assert (await raw(local, body, {"Content-Type": f"{STRUCTURED}; charset=UTF-8"})).json["reply"]["value"] == {"total": 3}


@pytest.mark.parametrize(
    ("headers", "body", "status", "code", "named"),
    [
        ({"Content-Type": "application/cloudevents-batch+json"}, b"[]", 422, "cloud-event-batched", "batch"),
        ({"Content-Type": "application/cloudevents+xml"}, b"<a/>", 422, "cloud-event-invalid", "content-type"),
        ({"Content-Type": STRUCTURED}, b"{", 422, "cloud-event-invalid", "body"),
        ({"Content-Type": STRUCTURED}, b"", 422, "cloud-event-invalid", "body"),
        ({"Content-Type": STRUCTURED}, b"{}", 422, "cloud-event-invalid", "specversion"),
        ({**BINARY, "ce-specversion": "0.3"}, b"{}", 422, "cloud-event-invalid", "specversion"),
        ({**BINARY, "ce-source": "a b"}, b"{}", 422, "cloud-event-invalid", "source"),
        ({**BINARY, "ce-source": "/" + "x" * limits.SOURCE_MAX}, b'{"order": "7", "amount": 3}', 422, "invalid-identifier", "source"),
        ({**BINARY, "ce-id": "pd-1"}, b'{"order": "7", "amount": 3}', 422, "usage", "pd-1"),
        ({**BINARY, "ce-type": "Nothing"}, b"{}", 422, "no-route", "Nothing"),
        (BINARY, b"{", 422, "cloud-event-invalid", "data"),
        (BINARY, b'{"order": 7}', 422, "payload-invalid", "$.order"),
        ({"ce-id": "m", "Content-Type": "application/json"}, b"{}", 422, "cloud-event-invalid", "specversion"),
    ],
)
async def test_what_is_no_event_is_refused(local: Served, headers: dict[str, str], body: bytes, status: int, code: str, named: str) -> None:
    said = await raw(local, body, headers)

    assert (said.status, said.code) == (status, code)
    assert named in said.json["detail"]


async def test_an_attribute_that_is_given_twice_is_refused(local: Served) -> None:
    headers = [*BINARY.items(), ("ce-id", "n"), ("Authorization", f"Bearer {local.token}")]

    async with local.session.post(local.server.url + PATH, data=b"{}", headers=headers) as answered:
        said = await answered.json()

    assert (answered.status, said["code"]) == (422, "cloud-event-invalid")


@pytest.mark.parametrize("write", MODES)
async def test_an_event_over_the_limit_is_refused(local: Served, write: Any) -> None:
    said = await send(local, write, {**DATA, "more": "x" * limits.MESSAGE_MAX})

    assert said.status == 200, "what the type does not read is no part of the message"
    assert (await send(local, write, {"order": "7", "text": "x" * limits.MESSAGE_MAX}, id="n", type="Note")).code == "payload-too-large"


async def test_an_idempotency_key_tells_events_apart_by_their_headers(local: Served) -> None:
    key = {"Idempotency-Key": '"k"'}

    first = await send(local, http.to_binary_event, headers=key)
    again = await send(local, http.to_binary_event, headers=key)
    other = await send(local, http.to_binary_event, id="n", headers=key)

    assert (first.status, first.body) == (again.status, again.body)
    assert (other.status, other.code) == (422, "idempotency-key-reused")


async def test_an_event_is_for_who_may_deliver(local: Served) -> None:
    message = http.to_structured_event(CloudEvent({**ATTRIBUTES, "specversion": "1.0"}, DATA))
    token = await local.new_token("read")

    said = await local.ask("POST", PATH, data=message.body, headers=message.headers, token=token)

    assert (said.status, said.code) == (403, "not-allowed")


async def test_other_routes_take_no_events(local: Served) -> None:
    body = json.dumps({"specversion": "1.0", **ATTRIBUTES, "data": {}}).encode()

    said = await local.ask("POST", "/v1/tenants/acme/processes/p/cancel", data=body, headers={"Content-Type": STRUCTURED})

    assert (said.status, said.code) == (415, "media-type-refused")


def test_the_document_lists_the_media_types_and_the_refusals() -> None:
    described = document()["paths"]["/v1/tenants/{tenant}/messages"]["post"]
    refused = described["responses"]["422"]["content"]["application/problem+json"]["examples"]

    assert set(described["requestBody"]["content"]) == {"application/json", STRUCTURED}
    assert {"cloud-event-invalid", "cloud-event-batched"} <= set(refused)

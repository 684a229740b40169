"""CloudEvents as messages, from the SDK as a real peer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1 import event as sdk

from tests.server.conftest import Served

ATTRIBUTES = {"id": "e1", "source": "/shop", "type": "Place", "specversion": "1.0", "subject": "order ü"}
ORDER = {"order": "7", "amount": 12}
PATH = "/v1/tenants/acme/messages?wait_ms=30000"


async def send(served: Served, write: Any, data: Any = ORDER, **more: str) -> Any:
    message = write(sdk.CloudEvent({**ATTRIBUTES, "datacontenttype": "application/json", **more}, data))
    return await served.ask("POST", PATH, data=message.body, headers=dict(message.headers))


@pytest.mark.parametrize("write", [http.to_binary_event, http.to_structured_event])
async def test_an_event_is_a_message_of_its_type_source_and_id(served: Served, write: Any) -> None:
    said = await send(served, write)

    assert (said.status, said.json["reply"]) == (200, {"outcome": "ok", "value": {"total": 12}})
    assert (said.json["message_id"], said.json["source"]) == ("e1", "/shop")


async def test_both_modes_are_the_same_message(served: Served) -> None:
    first, again = await send(served, http.to_binary_event), await send(served, http.to_structured_event)

    assert (first.json["duplicate"], again.json["duplicate"]) == (False, True)
    assert served.shop.placed == ["7"]


async def test_an_extension_says_where_it_goes(served: Served) -> None:
    await send(served, http.to_binary_event)

    said = await send(served, http.to_structured_event, {"order": "other", "amount": 1}, id="e2", tokey="order/7")

    assert said.json["reply"]["value"] == {"total": 13}


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"Content-Type": "application/cloudevents+json"}, b'{"specversion":"1.0","id":"1","source":"/a"}', "cloud-event-invalid"),
        ({"Content-Type": "application/cloudevents+json"}, b"[", "cloud-event-invalid"),
        ({"Content-Type": "application/cloudevents-batch+json"}, b"[]", "cloud-event-batched"),
        ({"ce-id": "1", "ce-type": "Place", "ce-source": "/a", "Content-Type": "application/json"}, b"{}", "cloud-event-invalid"),
        (
            {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "Place", "ce-source": "/a", "Content-Type": "text/plain"},
            b"text",
            "cloud-event-invalid",
        ),
    ],
)
async def test_what_is_no_event_is_refused_and_its_attribute_named(served: Served, headers: dict[str, str], body: bytes, code: str) -> None:
    said = await served.ask("POST", PATH, data=body, headers=headers)

    assert (said.status, said.code) == (422, code)
    assert served.shop.placed == []


async def test_data_of_another_type_are_refused(served: Served) -> None:
    said = await send(served, http.to_binary_event, {"order": 7})

    assert (said.status, said.code) == (422, "payload-invalid")
    assert json.loads(said.body)["detail"]

"""The SDK of CloudEvents is the other side: it reads what we write, and we read what it writes, in both modes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1 import event as sdk

from perdure.cloudevents.event import CloudEvent
from perdure.cloudevents.http import binary, decoded, structured
from perdure.headers import Headers

ATTRIBUTES = {
    "id": "1",
    "source": "/shop",
    "type": "paid",
    "specversion": "1.0",
    "subject": 'ü € 50% off "x" 漢字 🎉',
    "time": datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
    "dataschema": "https://example.com/paid",
    "partitionkey": "a b",
}
CONTENT: list[tuple[str, Any]] = [
    ("application/json", {"amount": 3, "name": "ü"}),
    ("application/vnd.shop+json", {"a": {}}),
    ("text/plain", "ü €"),
    ("application/octet-stream", b"\x00\xff"),
]


def ours(content_type: str, data: Any) -> CloudEvent:
    return CloudEvent(
        id="1",
        source="/shop",
        type="paid",
        subject=ATTRIBUTES["subject"],  # type: ignore[arg-type]
        time="2026-11-23T09:30:00Z",
        dataschema="https://example.com/paid",
        extensions={"partitionkey": "a b"},
        datacontenttype=content_type,
        data=data,
    )


@pytest.mark.parametrize(("content_type", "data"), CONTENT)
@pytest.mark.parametrize("write", [http.to_binary_event, http.to_structured_event])
def test_we_read_what_the_sdk_writes(write: Any, content_type: str, data: Any) -> None:
    message = write(sdk.CloudEvent({**ATTRIBUTES, "datacontenttype": content_type}, data))

    assert decoded(Headers(message.headers), message.body) == ours(content_type, data)


@pytest.mark.parametrize(("content_type", "data"), [*CONTENT, ("application/json", [1, "a", None])])  # it cannot write a list
@pytest.mark.parametrize("write", [binary, structured])
def test_the_sdk_reads_what_we_write(write: Any, content_type: str, data: Any) -> None:
    headers, body = write(ours(content_type, data))

    event = http.from_http_event(http.HTTPMessage(headers, body))

    assert event.get_attributes() == {**ATTRIBUTES, "datacontenttype": content_type}
    assert event.get_data() == data

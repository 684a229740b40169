"""CloudEvents over HTTP: what is taken, what is refused, and by the name of which attribute."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.cloudevents.event import CloudEvent
from perdure.cloudevents.http import STRUCTURED, binary, decoded, is_cloud_event, structured
from perdure.errors import CloudEventBatched, CloudEventInvalid
from perdure.headers import Headers

MINIMAL = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid"}


def of_json(content: object, content_type: str = STRUCTURED) -> CloudEvent:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return decoded(Headers({"Content-Type": content_type}), body)


def of_headers(body: bytes = b"", **others: Any) -> CloudEvent:
    headers = {**{f"ce-{name}": value for name, value in MINIMAL.items()}, **others}
    return decoded(Headers([(name.replace("_", "-"), value) for name, value in headers.items()]), body)


def test_the_least_that_an_event_has_is_four_attributes() -> None:
    expected = CloudEvent(id="1", source="/shop", type="paid")

    assert of_json(MINIMAL) == of_headers() == expected


def test_every_attribute_and_extension_is_read() -> None:
    event = of_json(
        {
            **MINIMAL,
            "subject": "o-1",
            "time": "2026-11-23T09:30:00.123456789+01:00",
            "datacontenttype": "application/vnd.shop+json; charset=utf-8",
            "dataschema": "https://example.com/paid#1",
            "partitionkey": "p",
            "count": 7,
            "urgent": False,
            "nothing": None,
            "data": {"amount": 3},
        }
    )

    assert event == CloudEvent(
        id="1",
        source="/shop",
        type="paid",
        subject="o-1",
        time="2026-11-23T09:30:00.123456789+01:00",
        datacontenttype="application/vnd.shop+json; charset=utf-8",
        dataschema="https://example.com/paid#1",
        extensions={"partitionkey": "p", "count": 7, "urgent": False},
        data={"amount": 3},
    )


def test_headers_are_percent_decoded_once_and_may_be_quoted() -> None:
    event = of_headers(ce_subject="%C3%BC %e2%82%ac %2525", ce_quoted='"a \\"b\\" %20"', ce_plain='a"b', CE_CASE="c", ce_empty="")

    assert event.subject == "ü € %25"
    assert event.extensions == {"quoted": 'a "b"  ', "plain": 'a"b', "case": "c", "empty": ""}


def test_data_are_what_their_content_type_says() -> None:
    assert of_headers(b'{"a": 1}').data == {"a": 1}
    assert of_headers(b"[1]", content_type="application/x+json").data == [1]
    assert of_headers("ü".encode(), content_type="text/plain").data == "ü"
    assert of_headers(b"\xfc", content_type="text/plain; charset=latin-1").data == b"\xfc"
    assert of_headers(b"\xfc", content_type="text/plain").data == b"\xfc"
    assert of_headers(b"<a/>", content_type="application/xml").data == b"<a/>"
    assert of_json({**MINIMAL, "data": "text"}).data == "text"
    assert of_json({**MINIMAL, "data": "<a/>", "datacontenttype": "application/xml"}).data == b"<a/>"
    assert of_json({**MINIMAL, "data_base64": "AAE=", "datacontenttype": "image/png"}).data == b"\x00\x01"
    assert of_json({**MINIMAL, "data_base64": "WzFd"}).data == [1]


WRONG: dict[str, list[Any]] = {
    **{name: ["", 1, True, [], "a\n", "a\x85", "\ufdd0", "\U0001ffff"] for name in ("id", "type")},
    "specversion": ["", "0.3", "1", 1.0, "1.0 "],
    "source": ["", 1, "a b", "ü", "%zz", "a\\b", "<a>", "%", "a\n"],
    "subject": ["", 1],
    "time": [
        *("", "now", "2026-11-23", "2026-11-23T09:30:00", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-23 09:30:00Z"),
        *("2026-11-23T24:30:00Z", "2026-11-23T09:30:61Z", "२०२६-11-23T09:30:00Z", "2026-11-23T09:30:00+25:00", 7),
    ],
    "datacontenttype": ["", "json", "a/b c", "a/b; c", "a/b\r\nx: y", "a/b, c/d"],
    "dataschema": ["", "/relative", "https://a b", "1:a"],
    **{name: ["x"] for name in ("Upper", "a_b", "a-b", "ü", "", "a" * (limits.CLOUD_EVENT_ATTRIBUTE_MAX + 1))},
    "ext": [2**31, -(2**31) - 1, 1.5, [], {}, "\x00", "a" * (limits.CLOUD_EVENT_ATTRIBUTE_MAX + 1)],
    "data_base64": ["###", 1, "ü"],
}
BAD = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), BAD, ids=range(len(BAD)))
def test_what_breaks_a_rule_is_named(name: str, value: object) -> None:
    with pytest.raises(CloudEventInvalid) as caught:
        of_json({**MINIMAL, name: value})

    assert caught.value.attribute == ascii(name)[1:-1][: limits.REPR_MAX]
    assert caught.value.code == "cloud-event-invalid"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", list(MINIMAL))
@pytest.mark.parametrize("absent", [True, False])
def test_a_missing_attribute_is_named(name: str, absent: bool) -> None:
    content: dict[str, object] = {**MINIMAL, name: None}
    if absent:
        del content[name]

    with pytest.raises(CloudEventInvalid) as structured_error:
        of_json(content)
    with pytest.raises(CloudEventInvalid) as binary_error:
        decoded(Headers({f"ce-{key}": value for key, value in MINIMAL.items() if key != name}), b"")

    assert structured_error.value.attribute == binary_error.value.attribute == name


@pytest.mark.parametrize(
    ("given", "attribute"),
    [
        ({"ce_subject": "%"}, "subject"),
        ({"ce_subject": "50% off"}, "subject"),
        ({"ce_subject": "%ff"}, "subject"),
        ({"ce_subject": "%0A"}, "subject"),
        ({"ce_subject": "ü"}, "subject"),
        ({"ce_datacontenttype": "application/json"}, "datacontenttype"),
        ({"content_type": "json"}, "datacontenttype"),
        ({"ce_data": "x"}, "data"),
        ({"ce_a_b": "x"}, "a-b"),
    ],
)
def test_a_header_that_breaks_a_rule_is_named(given: dict[str, Any], attribute: str) -> None:
    with pytest.raises(CloudEventInvalid) as caught:
        of_headers(**given)

    assert caught.value.attribute == attribute


def test_a_header_that_is_given_twice_is_named() -> None:
    headers = [*((f"ce-{name}", value) for name, value in MINIMAL.items()), ("CE-ID", "2")]

    with pytest.raises(CloudEventInvalid) as caught:
        decoded(Headers(headers), b"")

    assert caught.value.attribute == "id"


def test_data_that_are_not_of_their_content_type_are_refused() -> None:
    for event in ({"data": {}, "datacontenttype": "text/plain"}, {"data": "a", "data_base64": "YQ=="}, {"data_base64": "ew=="}):
        with pytest.raises(CloudEventInvalid, match="data"):
            of_json({**MINIMAL, **event})
    with pytest.raises(CloudEventInvalid, match="data"):
        of_headers(b"{")


@pytest.mark.parametrize(
    ("body", "content_type", "attribute"),
    [
        (b"", STRUCTURED, "body"),
        (b"[]", STRUCTURED, "body"),
        (b"{", STRUCTURED, "body"),
        (b'{"specversion": "1.0", "id": "\\ud800", "source": "/a", "type": "t"}', STRUCTURED, "body"),
        (b"{}", f"{STRUCTURED}; charset=utf-16", "content-type"),
        (b"{}", "application/cloudevents+avro", "content-type"),
        (b"{}", "application/cloudevents", "content-type"),
        (b"{}", "application/json", "specversion"),
    ],
)
def test_what_is_no_event_at_all_is_refused(body: bytes, content_type: str, attribute: str) -> None:
    with pytest.raises(CloudEventInvalid) as caught:
        of_json(body, content_type)

    assert caught.value.attribute == attribute


def test_a_batch_is_refused_with_advice() -> None:
    for content_type in ("application/cloudevents-batch+json", "Application/CloudEvents-Batch+JSON; charset=utf-8"):
        with pytest.raises(CloudEventBatched, match="a request of its own"):
            of_json([MINIMAL], content_type)


def test_more_attributes_than_the_limit_are_refused() -> None:
    many = {f"e{number}": "x" for number in range(limits.CLOUD_EVENT_ATTRIBUTES_MAX)}

    with pytest.raises(CloudEventInvalid, match="at most 64 attributes"):
        of_json({**MINIMAL, **many})


def test_a_request_says_that_it_is_an_event() -> None:
    for headers in ({"Content-Type": STRUCTURED}, {"content-type": "application/cloudevents-batch+json"}, {"CE-Id": "1"}):
        assert is_cloud_event(Headers(headers))
    for headers in ({}, {"content-type": "application/json"}, {"cer-id": "1"}):
        assert not is_cloud_event(Headers(headers))


@pytest.mark.parametrize(
    "event",
    [
        CloudEvent(id="", source="/shop", type="paid"),
        CloudEvent(id="1", source="/shop", type="paid", time="now"),
        CloudEvent(id="1", source="/shop", type="paid", extensions={"data": "x"}),
        CloudEvent(id="1", source="/shop", type="paid", extensions={"subject": "x"}),
        CloudEvent(id="1", source="/shop", type="paid", extensions={"specversion": "x"}),
        CloudEvent(id="1", source="/shop", type="paid", data=float("nan")),
        CloudEvent(id="1", source="/shop", type="paid", data={1}, datacontenttype="text/plain"),
        CloudEvent(id="1", source="/shop", type="paid", data=b"{"),
    ],
)
def test_what_is_no_event_is_not_encoded(event: CloudEvent) -> None:
    for encode in (structured, binary):
        with pytest.raises(CloudEventInvalid):
            encode(event)


def test_a_value_that_becomes_too_long_as_a_header_is_refused() -> None:
    event = CloudEvent(id="1", source="/shop", type="paid", subject="€" * 2_000)

    assert decoded(Headers(structured(event)[0]), structured(event)[1]) == event
    with pytest.raises(CloudEventInvalid) as caught:
        binary(event)
    assert caught.value.attribute == "subject"


def test_neither_data_nor_attributes_of_others_are_shown() -> None:
    assert "sesame" not in repr(CloudEvent(id="1", source="/shop", type="paid", subject="sesame", data="sesame"))


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=40)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)
CONTENT = st.one_of(
    st.tuples(st.sampled_from([None, "application/json", "application/a+json"]), st.none() | JSON),
    st.tuples(st.just("text/plain"), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
    st.tuples(st.just("application/octet-stream"), st.none() | st.binary(min_size=1)),
)


def made(id: str, subject: str | None, extensions: dict[str, Any], content: tuple[str | None, Any]) -> CloudEvent:
    return CloudEvent(
        id=id, source="/shop", type="paid", subject=subject, extensions=extensions, datacontenttype=content[0], data=content[1]
    )


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: name not in {"data", *CloudEvent.__struct_fields__, "specversion"}
)
EVENTS = st.builds(made, TEXT, st.none() | TEXT, st.dictionaries(NAMES, TEXT, max_size=5), CONTENT)


@given(event=EVENTS, more=st.dictionaries(NAMES, st.booleans() | st.integers(-(2**31), 2**31 - 1), max_size=3))
def test_an_event_comes_back_from_structured_mode_as_it_was(event: CloudEvent, more: dict[str, Any]) -> None:
    event.extensions.update(more)
    headers, body = structured(event)

    assert decoded(Headers(headers), body) == event


@given(event=EVENTS)
def test_an_event_comes_back_from_binary_mode_with_the_content_type_of_its_data(event: CloudEvent) -> None:
    headers, body = binary(event)
    back = decoded(Headers(headers), body)

    assert all(value.isascii() and value.isprintable() and " " not in value for name, value in headers.items() if name != "content-type")
    assert back.attributes() == {**event.attributes(), **({"datacontenttype": back.datacontenttype} if body else {})}
    assert back.data == event.data


PIECES = st.sampled_from(
    [*MINIMAL, *MINIMAL.values(), "%", "%41", '"', "\\", "é", "\ud800", "\x00", STRUCTURED, "application/json", "time"]
)
VALUES = st.text(max_size=20) | st.lists(PIECES, max_size=4).map("".join)
HEADER_NAMES = st.sampled_from(["content-type", *(f"ce-{name}" for name in (*MINIMAL, "time", "x", "data"))]) | VALUES.map(
    lambda x: f"ce-{x}"
)


@given(
    headers=st.lists(st.tuples(HEADER_NAMES, VALUES), max_size=8),
    minimal=st.booleans(),
    body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_whatever_comes_is_an_event_or_a_typed_error(headers: list[tuple[str, str]], minimal: bool, body: bytes) -> None:
    given = [*((f"ce-{name}", value) for name, value in MINIMAL.items() if minimal), *headers]
    try:
        event = decoded(Headers(given), body)
    except (CloudEventInvalid, CloudEventBatched):
        return
    assert decoded(Headers(structured(event)[0]), structured(event)[1]).attributes() == event.attributes()


@given(content=st.dictionaries(st.sampled_from([*MINIMAL, "time", "data", "data_base64", "datacontenttype", "x"]), JSON | VALUES))
def test_whatever_a_structured_event_holds_is_taken_or_refused_by_a_typed_error(content: dict[str, Any]) -> None:
    body = json.dumps({**MINIMAL, **content}).encode()
    try:
        event = decoded(Headers({"content-type": STRUCTURED}), body)
    except CloudEventInvalid:
        return
    assert event.source

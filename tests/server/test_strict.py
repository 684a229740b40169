"""What is no proper request is refused with a problem that names the part and the rule, and nothing is written."""

from __future__ import annotations

import logging

import pytest

from perdure import limits
from perdure.errors import PerdureError, StoreFull, StoreUnavailable
from perdure.server.problems import problem_of, status_of
from tests.server.conftest import Served

PATH = "/v1/tenants/acme/messages"
JSON = {"Content-Type": "application/json"}
GOOD = b'{"id": "m", "kind": "Place", "payload": {"order": "7", "amount": 3}}'


@pytest.mark.parametrize(
    ("data", "status", "code", "named"),
    [
        (b"", 400, "body-malformed", "JSON"),
        (b"{", 400, "body-malformed", "truncated"),
        (GOOD + b"x", 400, "body-malformed", "JSON"),
        (GOOD.replace(b'"7"', b'"\xff"'), 400, "body-malformed", "UTF-8"),
        (GOOD.replace(b"3", b"NaN"), 400, "body-malformed", "JSON"),
        (GOOD.replace(b"3}", b"[" * 100_000), 400, "body-malformed", "JSON"),
        (b"[]", 422, "request-invalid", "object"),
        (GOOD.replace(b'"kind"', b'"sort"'), 422, "request-invalid", "sort"),
        (b'{"id": "m", "kind": "Place"}', 422, "request-invalid", "payload"),
        (GOOD.replace(b'"m"', b"1"), 422, "request-invalid", "$.id"),
        (GOOD.replace(b'"m"', b'""'), 422, "invalid-identifier", "MessageId"),
        (GOOD.replace(b'"m"', b'"pd-x"'), 422, "usage", "pd-x"),
        (GOOD.replace(b'"m"', b'"a\\u0000b"'), 422, "invalid-identifier", "control"),
        (GOOD.replace(b"}}", b'}, "to": {"way": "moon"}}'), 422, "request-invalid", "$.to.way"),
        (GOOD.replace(b"}}", b'}, "to": {"way": "key", "key": "k", "x": 1}}'), 422, "request-invalid", "$.to"),
        (GOOD.replace(b"}}", b'}, "expires_after_ms": -1}'), 422, "request-invalid", "$.expires_after_ms"),
        (GOOD.replace(b"}}", b'}, "expires_after_ms": 1, "keep_for_ms": 1}'), 422, "request-invalid", "keep_for_ms"),
        (GOOD.replace(b"}}", b'}, "headers": {"a": 1}}'), 422, "request-invalid", "$.headers"),
        (GOOD.replace(b"}}", b'}, "source": "pd-x"}'), 422, "usage", "pd-x"),
    ],
)
async def test_a_body_that_breaks_a_rule_is_refused(local: Served, data: bytes, status: int, code: str, named: str) -> None:
    said = await local.ask("POST", PATH, data=data, headers=JSON)

    assert (said.status, said.code) == (status, code)
    assert named in said.json["detail"]
    assert (await local.ask("GET", f"{PATH}/m")).status == 404


async def test_headers_that_are_too_large_for_a_message_are_refused(local: Served) -> None:
    said = await local.deliver("m", "Place", {"order": "7", "amount": 3}, headers={"a": "x" * limits.HEADERS_MAX})

    assert (said.status, said.code) == (413, "payload-too-large")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/json; charset=latin-1", "application/jsonx", ""])
async def test_another_content_type_is_refused(local: Served, kind: str) -> None:
    said = await local.ask("POST", PATH, data=GOOD, headers={"Content-Type": kind})

    assert (said.status, said.code) == (415, "media-type-refused")


@pytest.mark.parametrize("kind", ["application/json", 'Application/JSON; charset="UTF-8"'])
async def test_json_in_utf_8_is_taken(local: Served, kind: str) -> None:
    assert (await local.ask("POST", PATH, data=GOOD, headers={"Content-Type": kind})).status == 202


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("wait_ms=x", 422, "wait_ms"),
        ("wait_ms=-1", 422, "wait_ms"),
        ("wait_ms=30001", 422, "wait_ms"),
        ("wait_ms=1&wait_ms=2", 422, "twice"),
        ("wait=1", 422, "wait"),
        ("wait_ms=%zz", 400, "hex"),
        ("wait_ms=%ff", 400, "UTF-8"),
        ("a%00b=%00", 422, "control"),
        ("wait_ms=null", 422, "wait_ms"),
        ("wait_ms=5.0", 422, "wait_ms"),
        ("wait_ms=1e2", 422, "wait_ms"),
    ],
)
async def test_a_query_that_breaks_a_rule_is_refused(local: Served, query: str, status: int, named: str) -> None:
    said = await local.ask("POST", f"{PATH}?{query}", data=GOOD, headers=JSON)

    assert said.status == status
    assert said.code in ("request-invalid", "body-malformed")
    assert named in said.json["detail"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/tenants/acme/processes/%00", 422, "invalid-identifier"),
        ("/v1/tenants/acme/processes/%C3", 400, "body-malformed"),
        ("/v1/tenants/acme/processes/%4", 400, "body-malformed"),
        ("/v1/tenants/acme/processes/" + "x" * 257, 422, "invalid-identifier"),
        ("/v1/tenants/acme/messages/" + "x" * 513, 422, "invalid-identifier"),
        ("/v1/tenants/acme/messages/m?source=" + "x" * 257, 422, "invalid-identifier"),
        ("/v1/tenants/acme/dead-letters?after=1", 422, "usage"),
        ("/v1/tenants/acme/dead-letters?after=99999999999999999999:a:b", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?after=x", 422, "usage"),
        ("/v1/tenants/acme/processes?attribute=x", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?attribute=a=1&attribute=a=2", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?status=moon", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?created_after=2026-01-01T00:00:00", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?limit=1001", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?status=null", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?updated_before=null", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?updated_before=1700000000", 422, "request-invalid"),
        ("/v1/tenants/acme/processes?type=" + "x" * 257, 422, "invalid-identifier"),
        ("/v1/tenants/acme/commands?state=null", 422, "request-invalid"),
        ("/v1/tenants/acme/commands?dead=1", 422, "request-invalid"),
        ("/v1/tenants/acme/commands?target=", 422, "invalid-identifier"),
        ("/v1/tenants/acme/commands?command=" + "x" * 257, 422, "invalid-identifier"),
        ("/v1/tenants/acme/processes/p/events?after=-2", 422, "request-invalid"),
    ],
)
async def test_parts_of_a_path_and_queries_that_break_a_rule_are_refused(local: Served, path: str, status: int, code: str) -> None:
    said = await local.ask("GET", path)

    assert (said.status, said.code) == (status, code)


async def test_a_tenant_that_is_none_is_refused_to_who_reaches_all(local: Served) -> None:
    token = await local.new_token("read", tenant="*")

    said = await local.ask("GET", "/v1/tenants/a%20b/processes", token=token)

    assert (said.status, said.code) == (422, "invalid-identifier")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/tenants/acme/messages/", "/v1/tenants//messages", "/docs/", "//docs"])
async def test_a_path_that_is_none_is_not_found(local: Served, path: str) -> None:
    said = await local.ask("GET", path, token=None)

    assert (said.status, said.code) == (404, "route-not-found")


@pytest.mark.parametrize("method", ["DELETE", "TRACE", "PROPFIND"])
async def test_another_method_is_refused_with_those_that_there_are(local: Served, method: str) -> None:
    said = await local.ask(method, PATH)

    assert (said.status, said.code, said.headers["Allow"]) == (405, "method-refused", "POST")


async def test_a_body_where_there_is_none_is_refused(local: Served) -> None:
    said = await local.ask("GET", "/v1/tenants/acme/processes", data=b"x")

    assert (said.status, said.code) == (422, "request-invalid")


async def test_a_failure_of_the_server_shows_no_internals_and_logs_no_payload(local: Served, caplog: pytest.LogCaptureFixture) -> None:
    said_of = await local.deliver("m", "Place", {"order": "7", "amount": 271_828})
    process_id = said_of.json["process_id"]

    with caplog.at_level(logging.DEBUG):
        said = await local.ask("POST", f"/v1/tenants/acme/processes/{process_id}/query/broken", json={})

    assert (said.status, said.code) == (500, "internal")
    assert "ValueError" in caplog.text
    assert "shop.py" in caplog.text
    for text in (said.body.decode(), caplog.text):
        assert "271828" not in text
        assert local.token.rpartition("_")[2] not in text


async def test_what_lies_behind_the_server_is_not_told() -> None:
    problem = problem_of(StoreUnavailable("disk 7 of host db.internal failed"))

    assert (problem.status, problem.code, problem.retryable) == (503, "store-unavailable", True)
    assert "db.internal" not in problem.detail


def test_every_error_has_a_status() -> None:
    def below(kind: type[PerdureError]) -> set[type[PerdureError]]:
        return {kind}.union(*(below(one) for one in kind.__subclasses__()))

    statuses = {kind.code: status_of(kind) for kind in below(PerdureError) if kind.__module__.startswith("perdure.errors")}

    assert set(statuses.values()) <= {400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 431, 500, 503, 507}
    assert statuses[StoreFull.code] == 507

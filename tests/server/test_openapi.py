"""The server's description of itself: complete, and true of what it does."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from perdure.errors import PackageRefused, PerdureError
from perdure.protocol.problems import Problem
from perdure.server.openapi import document, refusals
from perdure.server.problems import status_of
from perdure.server.route import Route
from perdure.server.table import ROUTES
from tests.server.conftest import Served

DOCUMENT = document()


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


async def test_the_document_is_served_to_everybody(local: Served) -> None:
    said = await local.ask("GET", "/openapi.json", token=None)

    assert (said.status, said.json["openapi"]) == (200, "3.1.0")
    assert said.json == DOCUMENT


async def test_the_page_for_people_needs_nothing_from_elsewhere(local: Served) -> None:
    said = await local.ask("GET", "/docs", token=None)
    text = said.body.decode()

    assert said.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="([^"]+)"', text) == ["/openapi.json"]
    assert "default-src 'none'" in said.headers["Content-Security-Policy"]
    for route in ROUTES:
        assert f"{route.method} {route.path}" in text


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_each_route_says_what_it_needs_takes_and_answers(route: Route) -> None:
    described = operation(route)

    assert described["operationId"] == route.name
    assert described["summary"].endswith((".", ";"))
    assert {one["name"] for one in described["parameters"] if one["in"] == "path"} == set(re.findall(r"{(\w+)}", route.path))
    assert described.get("x-capability") == route.capability
    assert ("security" in described) is (route.capability is None)
    assert any(one["name"] == "Idempotency-Key" for one in described["parameters"]) is route.once
    assert ("requestBody" in described) is (route.takes is not None or route.streams or route.archive_max > 0)
    for kind in refusals(route):
        examples = described["responses"][str(status_of(kind))]["content"]["application/problem+json"]["examples"]
        msgspec.convert(examples[kind.code]["value"], Problem)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_the_examples_are_of_the_types(route: Route) -> None:
    if route.takes is not None:
        msgspec.json.decode(msgspec.json.encode(route.takes_example), type=route.takes)
    for status, kind in route.returns.items():
        example = route.pending_example if status == 202 else route.example
        if kind is not bytes and example is not None:
            msgspec.json.decode(msgspec.json.encode(example), type=kind)


def test_a_deploy_says_each_way_in_which_a_package_is_refused() -> None:
    def leaves(kind: type[PerdureError]) -> set[type[PerdureError]]:
        return set().union(*map(leaves, kind.__subclasses__())) or {kind}

    [deploy] = [route for route in ROUTES if route.name == "deployPackage"]

    assert leaves(PackageRefused) <= set(refusals(deploy))


def test_every_reference_leads_somewhere() -> None:
    text = msgspec.json.encode(DOCUMENT).decode()

    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(DOCUMENT["components"]["schemas"])


def test_no_two_routes_are_the_same() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES) == len({route.name for route in ROUTES})


async def test_the_health_is_told(local: Served) -> None:
    said = [await local.ask("GET", f"/health/{one}", token=None) for one in ("live", "ready")]

    assert [(one.status, one.json) for one in said] == [(200, {"status": "ok"})] * 2


async def test_a_server_that_stops_is_not_ready(local: Served) -> None:
    local.server.application.stopping.set()

    live, ready = [await local.ask("GET", f"/health/{one}", token=None) for one in ("live", "ready")]

    assert (live.status, ready.status, ready.code) == (200, 503, "store-unavailable")

"""What of packages is refused over HTTP: by whom, how large, from where, and that nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import limits
from perdure.errors import SigningUnavailable
from perdure.packages.archive import pack
from perdure.packages.manifest import ManifestProcess
from perdure.server.problems import status_of
from tests.contracts.packages import Start, record
from tests.deploying.samples import archived
from tests.deploying.shops import forged, identity, key, seen, shop, signed, without_types
from tests.engine.works import works
from tests.server.conftest import Served, Serving, until
from tests.server.packaging import PATH, ZIP, Deployer
from tests.server.test_limits import Raw, raw

__all__ = ["raw"]

V1, V2 = shop(1), shop(2)
ONE, TWO = identity(V1), identity(V2)
ORDER = "/v1/process-types/Order"
MADE = ManifestProcess(type="Order", object="shop.flows:Made", fields=None, messages=())
HEAD = f"POST {PATH}?no_load=true HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\n".encode()


@pytest.fixture
async def ci(local: Served) -> Deployer:
    return await Deployer.of(local)


async def nothing_is_there(served: Served) -> bool:
    found = await seen(served.store)
    return (found.archives, found.routes, found.logged) == (0, {}, 0)


# --- archives -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "query", "status", "code"),
    [
        (b"x" * 100, "no_load=true", 422, "package-archive-malformed"),
        (V1[:-1], "no_load=true", 422, "package-archive-malformed"),
        (V1, f"no_load=true&content_hash={TWO}", 422, "package-identity-mismatch"),
        (without_types(), "no_load=true", 422, "package-without-types"),
        (V1, "no_load=true&route=Invoice", 422, "usage"),
        (V1, "no_load=true&route=Order&no_route=true", 422, "request-invalid"),
        (V1, "no_load=true&content_hash=abc", 422, "request-invalid"),
        (archived("raise ValueError", processes=[MADE]), "", 422, "package-import-failed"),
        (archived("x = 1", processes=[MADE]), "", 422, "package-entry-missing"),
        (archived("x = 1", processes=[MADE], requires=["perdure>=99"]), "", 422, "package-requirement-unmet"),
        (archived("import importlib\nimportlib.import_module('shop.x')", processes=[MADE]), "", 422, "package-imports-by-text"),
    ],
)
async def test_an_archive_that_is_refused_leaves_nothing(ci: Deployer, archive: bytes, query: str, status: int, code: str) -> None:
    said = await ci.deploy(archive, query)

    assert (said.status, said.code) == (status, code)
    assert await nothing_is_there(ci.served)


@pytest.mark.parametrize("text", ["", "x", "[]", "{", "{}" + " " * limits.HTTP_BUILT_WITH_MAX, '{"a": "\u00e4"}', "[" * 10_000])
async def test_what_it_was_built_with_is_an_object(ci: Deployer, text: str) -> None:
    said = await ci.deploy(V1, headers={"Built-With": text})

    assert (said.status, said.code) == (422, "request-invalid")
    assert "built-with" in said.json["detail"]
    assert await nothing_is_there(ci.served)


@pytest.mark.parametrize(
    ("archive", "required", "status"),
    [(V1, True, 403), (V1, False, 200), (signed(V1, 2), True, 403), (signed(V1, 1), True, 200), (forged(V1, 1), False, 403)],
)
async def test_the_server_says_whose_packages_it_takes(serving_with: Serving, archive: bytes, required: bool, status: int) -> None:
    async with serving_with(trust=perdure.TrustPolicy([key(1)], required=required)) as served:
        ci = await Deployer.of(served)

        said = await ci.deploy(archive)

        assert said.status == status
        if status == 403:
            assert said.code == "package-untrusted"
            assert "WWW-Authenticate" not in said.headers, "another token would not help"
            assert await nothing_is_there(served)


async def test_an_environment_is_made_where_those_of_the_engine_are(serving_with: Serving, tmp_path: Path) -> None:
    (tmp_path / "no-folder").touch()
    package = works(apart=True)
    async with serving_with(environments=tmp_path / "no-folder") as served:
        said = await (await Deployer.of(served)).deploy(pack(package.manifest, package.files), "")

        assert (said.status, said.code) == (422, "package-environment-failed")
        assert await nothing_is_there(served)


def test_what_the_server_lacks_is_its_own_fault() -> None:
    assert status_of(SigningUnavailable) == 500


async def test_a_refusal_is_kept_for_its_key(ci: Deployer) -> None:
    headers = {"Idempotency-Key": "one"}

    first = await ci.deploy(without_types(), headers=headers)
    again = await ci.deploy(without_types(), headers=headers)

    assert (first.status, again.body) == (422, first.body)


# --- how large, and from whom -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grant", "tenant", "status"), [("read", "*", 403), ("admin", "*", 403), ("deploy", "acme", 403)])
async def test_who_may_not_deploy_is_told_before_a_body_comes(local: Served, raw: Raw, grant: str, tenant: str, status: int) -> None:
    token = await local.new_token(grant, tenant=tenant)

    await raw.send(HEAD + f"Authorization: Bearer {token}\r\nContent-Length: 1000000\r\n\r\n".encode())

    assert await raw.status() == status


async def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes(local: Served, raw: Raw, ci: Deployer) -> None:
    await raw.send(HEAD + f"Authorization: Bearer {ci.token}\r\nContent-Length: {limits.PACKAGE_ARCHIVE_MAX + 1}\r\n\r\n".encode())

    assert await raw.status() == 413


async def test_a_body_that_grows_too_large_is_cut_at_the_limit(ci: Deployer) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 2 * limits.PACKAGE_ARCHIVE_MAX:
            sent += limits.MIB
            yield bytes(limits.MIB)

    said = await ci.ask("POST", PATH, data=endless(), headers=ZIP)

    assert (said.status, said.code) == (413, "package-too-large")
    assert sent < 2 * limits.PACKAGE_ARCHIVE_MAX
    assert await nothing_is_there(ci.served)


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"])
async def test_a_body_that_a_page_of_a_browser_could_send_is_refused(ci: Deployer, kind: str) -> None:
    said = await ci.ask("POST", f"{PATH}?no_load=true", data=V1, headers={"Content-Type": kind})

    assert (said.status, said.code) == (415, "media-type-refused")
    assert await nothing_is_there(ci.served)


async def test_more_archives_at_once_than_fit_into_memory_are_refused(local: Served, ci: Deployer) -> None:
    host, port = local.server.url.removeprefix("http://").split(":")
    slow = [Raw(*await asyncio.open_connection(host, int(port)), ci.token) for _ in range(limits.HTTP_ARCHIVES)]
    for one in slow:
        await one.send(HEAD + one.authorization + b"Content-Length: %d\r\n\r\n" % len(V1))
    await until(lambda: local.in_flight == len(slow))

    refused = await ci.deploy(V1)
    await slow[0].send(V1)
    first = await slow[0].status()
    taken = await ci.deploy(V1)

    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "overloaded", "1")
    assert (first, taken.status) == (200, 200)
    for one in slow:
        await one.close()


# --- the others -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", f"{PATH}/{'0' * 64}", None, 404, "package-missing"),
        ("GET", f"{PATH}/00000000", None, 404, "package-missing"),
        ("GET", f"{PATH}/{ONE[:7]}", None, 422, "invalid-content-hash"),
        ("GET", f"{PATH}?after=x", None, 422, "request-invalid"),
        ("POST", f"{PATH}/{TWO}/unload", None, 409, "package-routed"),
        ("POST", f"{PATH}/{ONE}/unload", None, 409, "package-pinned"),
        ("POST", f"{PATH}/collect", {"keep_last": -1}, 422, "request-invalid"),
        ("POST", f"{ORDER}x/rollback", None, 404, "route-missing"),
        ("POST", f"{ORDER}x/retire", None, 404, "route-missing"),
        ("PUT", f"{ORDER}/route", {"content_hash": "0" * 64}, 404, "package-missing"),
        ("PUT", f"{ORDER}/route", {"content_hash": None}, 422, "usage"),
        ("PUT", f"{ORDER}/route", {"content_hash": ONE, "tenant": "acme", "weight": 1}, 422, "usage"),
        ("PUT", f"{ORDER}/route", {"content_hash": ONE, "weight": 10_001}, 422, "request-invalid"),
        ("PUT", f"{ORDER}x/route", {"content_hash": ONE, "weight": 1}, 404, "route-missing"),
        ("GET", "/v1/process-types/a%00b/route", None, 422, "invalid-identifier"),
    ],
)
async def test_a_refusal_says_which_one(ci: Deployer, method: str, path: str, body: Any, status: int, code: str) -> None:
    await ci.deploy(V1)
    await ci.deploy(V2)
    await ci.served.store.commit(Start("p", ONE))

    said = await ci.ask(method, path, json=body) if body is not None else await ci.ask(method, path)

    assert (said.status, said.code) == (status, code)


async def test_a_beginning_that_several_have_is_refused(ci: Deployer) -> None:
    one, other = "ab" * 4 + "0" * 56, "ab" * 4 + "f" * 56
    for name in (one, other):
        await ci.served.store.packages.put_package(record(name, "Order", archive=b"x"))

    said = await ci.ask("GET", f"{PATH}/{one[:8]}")
    shown = await ci.ask("GET", f"{PATH}/{one[:9]}")

    assert (said.status, said.code) == (409, "package-ambiguous")
    assert (shown.status, shown.json["name"], shown.json["size"]) == (200, "", 1), "it is no package, and looked at all the same"

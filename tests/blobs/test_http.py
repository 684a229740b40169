"""Payloads over HTTP: what comes is checked, bounded and streamed. Source: commands.md, "Payloads"; RFC 9530."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from perdure import Store, VirtualClock, limits
from perdure.commands.states import CommandState
from perdure.server.openapi import document
from perdure.tokens.contract import Grant
from tests.blobs.bytes import HOUR, held, noise, pieces, rows, sha256
from tests.blobs.serving import HERE, asking, created, leased, said, served

DATA = noise(limits.BLOB_PART + 1)


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


async def test_params_are_uploaded_and_downloaded(store: Store) -> None:
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        typed = {"content-type": "text/plain"}
        for _ in range(2):
            assert await said(session, "PUT", f"/commands/{made}/params", data=pieces(DATA), headers=typed) == (
                200,
                {"command_id": made, "state": "PENDING"},
            )
        lease = await leased(session)
        async with session.get(f"{HERE}/commands/{made}/params") as answer:
            got, headers = await answer.read(), answer.headers

    assert lease["params_blob"] == {"sha256": sha256(DATA), "size": len(DATA), "content_type": "text/plain"}
    assert got == DATA
    assert headers["etag"] == f'"{sha256(DATA)}"'
    assert headers["content-length"] == str(len(DATA))
    assert headers["content-type"] == "text/plain"
    assert headers["repr-digest"] == digest(DATA)


async def test_a_result_is_uploaded_and_counts_once_the_outcome_names_it(store: Store) -> None:
    async with served(store) as server, asking(server) as session:
        made = await created(session)
        lease = await leased(session)
        status, ref = await said(session, "PUT", f"/commands/{made}/result?token={lease['token']}", data=DATA)
        assert (status, ref["sha256"]) == (200, sha256(DATA))
        assert (await said(session, "GET", f"/commands/{made}/result"))[1]["code"] == "blob-not-found"
        outcome = {"status": "succeeded", "result_blob": ref}
        done = await said(session, "POST", f"/commands/{made}/complete", json={"token": lease["token"], "outcome": outcome})
        assert done == (200, {"command_id": made, "counted": True, "state": "SUCCEEDED"})
        _, view = await said(session, "GET", f"/commands/{made}")
        async with session.get(f"{HERE}/commands/{made}/result") as answer:
            assert await answer.read() == DATA
        async with session.head(f"{HERE}/commands/{made}/result") as answer:
            assert (answer.status, answer.headers["content-length"]) == (200, str(len(DATA)))

    assert (view["result"], view["result_blob"]) == (None, ref)


async def test_what_is_inline_is_downloaded_as_it_is(store: Store) -> None:
    async with served(store) as server, asking(server) as session:
        made = await created(session, params={"a": 1})
        lease = await leased(session)
        async with session.get(f"{HERE}/commands/{made}/params") as answer:
            assert (await answer.read(), answer.headers["etag"]) == (b'{"a": 1}', f'"{sha256(b"""{"a": 1}""")}"')
        outcome = {"status": "succeeded", "result": [2]}
        await said(session, "POST", f"/commands/{made}/complete", json={"token": lease["token"], "outcome": outcome})
        assert await said(session, "GET", f"/commands/{made}/result") == (200, [2])


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"content-digest": digest(DATA)}, 200),
        ("", {"repr-digest": f"sha-512=:AAAA:, {digest(DATA)}"}, 200),
        ("", {"repr-digest": "sha-512=:AAAA:"}, 200),
        (f"?sha256={sha256(DATA)}", {"content-digest": digest(DATA), "repr-digest": digest(DATA)}, 200),
        (f"?sha256={sha256(b'')}", {}, 422),
        ("", {"content-digest": digest(b"")}, 422),
        ("", {"repr-digest": digest(b"")}, 422),
        (f"?sha256={sha256(DATA)}", {"repr-digest": digest(b"")}, 422),
        ("", {"repr-digest": "sha-256=:AAAA:"}, 422),
        ("?sha256=1", {}, 422),
        ("", {"content-encoding": "gzip"}, 415),
        ("", {"content-type": "x" * 300}, 422),
    ],
)
async def test_bytes_are_what_they_were_said_to_be(
    store: Store, clock: VirtualClock, query: str, headers: dict[str, str], status: int
) -> None:
    """Section 5.7: neither size nor hash was verified."""
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        found, _ = await said(session, "PUT", f"/commands/{made}/params{query}", data=DATA, headers=headers)
        _, view = await said(session, "GET", f"/commands/{made}")

    await store.blobs.sweep(clock.now())
    assert found == status
    assert view["state"] == ("PENDING" if status == 200 else "PENDING_UPLOAD")
    assert bool(await rows(store)) == (status == 200)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("chunked", [True, False])
async def test_the_limit_may_be_reached_and_not_exceeded(
    store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, more: int, chunked: bool
) -> None:
    monkeypatch.setattr(limits, "BLOB_MAX", 3 * limits.BLOB_PART)
    data = noise(limits.BLOB_MAX + more)
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        status, answered = await said(session, "PUT", f"/commands/{made}/params", data=pieces(data) if chunked else data)

    await store.blobs.sweep(clock.now())
    assert (status, answered.get("code")) == ((413, "payload-too-large") if more else (200, None))
    assert bool(await rows(store)) == (not more)


async def test_other_params_than_were_announced_are_refused(store: Store) -> None:
    """Section 5.7: neither size nor hash was verified."""
    command = await store.commands.create_command("acme", "work", CommandState.PENDING_UPLOAD, request_size_bytes=len(DATA) + 1)
    path = f"/commands/{command.command_id}/params"
    async with served(store) as server, asking(server) as session:
        assert (await said(session, "PUT", path, data=DATA))[1]["code"] == "request-invalid"
        assert (await said(session, "PUT", path, data=pieces(DATA)))[1]["code"] == "blob-mismatch"
        assert (await said(session, "PUT", path, data=DATA + b"1"))[0] == 200


async def test_who_is_refused_at_once_hears_it(store: Store) -> None:
    """The answer comes while the body is still on its way."""
    large = noise(8 * limits.MIB)
    async with served(store) as server, asking(server) as session:
        made = await created(session, params=1)
        assert (await said(session, "PUT", f"/commands/{made}/params", data=large))[1]["code"] == "illegal-transition"
        assert (await said(session, "PUT", "/commands/cmd_none/params", data=large))[1]["code"] == "command-not-found"
        assert (await said(session, "PUT", f"/commands/{made}/result?token=1", data=large))[1]["code"] == "stale-lease"
    assert await rows(store) == {}


async def test_a_result_of_somebody_who_has_not_got_the_lease_is_refused(store: Store) -> None:
    async with served(store) as server, asking(server) as session:
        made = await created(session)
        lease = await leased(session)
        status, problem = await said(session, "PUT", f"/commands/{made}/result?token={lease['token'] - 1}", data=DATA)
        assert (status, problem["code"]) == (409, "stale-lease")
        assert (await said(session, "PUT", f"/commands/{made}/result", data=DATA))[0] == 422
    assert await rows(store) == {}


@pytest.mark.parametrize("over", [False, True], ids=["while-the-winner-has-it", "when-the-winner-is-done"])
async def test_section_5_3_an_upload_that_ends_late_leaves_the_winners_bytes(store: Store, clock: VirtualClock, over: bool) -> None:
    """Both went to one place, where the late one overwrote the bytes of who had completed the command."""
    early, late, go_on = noise(limits.BLOB_PART + 1), noise(3 * limits.BLOB_PART, seed=2), asyncio.Event()

    async def completed(session: aiohttp.ClientSession, lease: Any, data: bytes) -> tuple[int, Any]:
        outcome = {"status": "succeeded", "result_blob": {"sha256": sha256(data), "size": len(data)}}
        return await said(session, "POST", f"/commands/{lease['command_id']}/complete", json={"token": lease["token"], "outcome": outcome})

    async with served(store) as server, asking(server) as session:
        made = await created(session)
        first = await leased(session)
        with store.access.signals.listen("blobs-due") as listener:
            path = f"/commands/{made}/result?token={first['token']}"
            uploading = asyncio.ensure_future(said(session, "PUT", path, data=held(late, 2 * limits.BLOB_PART, go_on.wait)))
            await listener.wait(None)  # its first part is stored
        clock.advance(first["lease_ms"] * 1_000)
        second = await leased(session)
        assert (await said(session, "PUT", f"/commands/{made}/result?token={second['token']}", data=pieces(early)))[0] == 200
        if over:
            assert (await completed(session, second, early))[1]["counted"]
        go_on.set()
        assert (await uploading)[0] == 200
        status, told = await completed(session, first, late)
        assert (status, told.get("counted"), told.get("code")) == ((200, False, None) if over else (409, None, "stale-lease"))
        if not over:
            assert (await completed(session, second, early))[1]["counted"]

        async with session.get(f"{HERE}/commands/{made}/result") as answer:
            assert (answer.status, await answer.read()) == (200, early)
    clock.advance(HOUR)
    await store.blobs.sweep(clock.now())
    assert await rows(store) == {"blob": 1, "blob_part": 2, "blob_reference": 1}


async def test_an_outcome_names_a_blob_that_is_there_and_nothing_beside_it(store: Store) -> None:
    ref = {"sha256": sha256(DATA), "size": len(DATA)}
    async with served(store) as server, asking(server) as session:
        made = await created(session)
        token = (await leased(session))["token"]
        path = f"/commands/{made}/complete"
        none = await said(session, "POST", path, json={"token": token, "outcome": {"status": "succeeded", "result_blob": ref}})
        both = await said(session, "POST", path, json={"token": token, "outcome": {"status": "succeeded", "result": 1, "result_blob": ref}})

    assert (none[0], none[1]["code"]) == (404, "blob-not-found")
    assert (both[0], both[1]["code"]) == (422, "request-invalid")


async def cut(server_url: str, path: str, *, announced: int, sent: bytes) -> asyncio.StreamReader:
    """Begin an upload on a connection of its own."""
    host, _, port = server_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"PUT {HERE}{path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: {announced}\r\n\r\n".encode() + sent)
    await writer.drain()
    reader.writer = writer  # type: ignore[attr-defined]
    return reader


async def test_a_connection_that_is_cut_leaves_nothing(store: Store, clock: VirtualClock) -> None:
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        with store.access.signals.listen("blobs-due") as listener:
            reader = await cut(server.url, f"/commands/{made}/params", announced=9 * len(DATA), sent=DATA + DATA)
            await listener.wait(None)  # the first part is stored
            writer: asyncio.StreamWriter = reader.writer  # type: ignore[attr-defined]
            writer.transport.abort()
            await listener.wait(None)  # what came is given up
        _, view = await said(session, "GET", f"/commands/{made}")
    await store.blobs.sweep(clock.now())

    assert view["state"] == "PENDING_UPLOAD"
    assert await rows(store) == {}


async def test_who_sends_too_slowly_is_not_waited_for(store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_BODY_SECONDS", 0.05)
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        reader = await cut(server.url, f"/commands/{made}/params", announced=len(DATA), sent=DATA[:-1])
        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        writer: asyncio.StreamWriter = reader.writer  # type: ignore[attr-defined]
        writer.transport.abort()
    await store.blobs.sweep(clock.now())

    assert await rows(store) == {}


async def test_who_announces_too_much_is_refused_before_it_comes(store: Store) -> None:
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        reader = await cut(server.url, f"/commands/{made}/params", announced=limits.BLOB_MAX + 1, sent=b"")
        assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        writer: asyncio.StreamWriter = reader.writer  # type: ignore[attr-defined]
        writer.transport.abort()
    assert await rows(store) == {}


async def token(store: Store, *grants: str, tenant: str = "default") -> dict[str, str]:
    made = await store.tokens.create("t", [Grant.parse(grant) for grant in grants], tenant=tenant)
    return {"authorization": f"Bearer {made.text}"}


async def test_each_direction_has_its_capability(store: Store) -> None:
    """Section 5.9: what stood in the query was all that was asked for."""
    sender, worker = await token(store, "command:send"), await token(store, "command:work=acme/w1")
    others = [
        await token(store, "command:work=acme/w2"),
        await token(store, "command:work=other/w1"),
        await token(store, "command:send", "command:work=acme/w1", tenant="foreign"),
    ]
    command = await store.commands.create_command("acme", "work", CommandState.PENDING_UPLOAD, target="w1")
    path = f"/commands/{command.command_id}"

    async def statuses(session: aiohttp.ClientSession, headers: dict[str, str], result_token: int) -> list[int]:
        asked: list[tuple[str, str, Any]] = [
            ("PUT", "/params", b"{}"),
            ("GET", "/params", None),
            ("PUT", f"/result?token={result_token}", b"{}"),
            ("GET", "/result", None),
        ]
        found = []
        for method, below, data in asked:
            async with session.request(method, HERE + path + below, data=data, headers=headers) as answer:
                found.append(answer.status)
        return found

    async with served(store, dev=False) as server, asking(server) as session:
        assert (await statuses(session, sender, 1))[0] == 200
        [lease] = await store.commands.lease("acme", target="w1")
        assert await statuses(session, sender, lease.token) == [200, 403, 403, 404]
        assert await statuses(session, worker, lease.token) == [403, 200, 200, 403]
        assert await statuses(session, others[0], lease.token) == [403, 404, 404, 403]
        assert await statuses(session, others[1], lease.token) == [403, 404, 404, 403]
        assert await statuses(session, others[2], lease.token) == [404, 404, 404, 404]
        assert await statuses(session, {}, lease.token) == [401, 401, 401, 401]


def test_the_document_describes_them() -> None:
    paths = document()["paths"]
    params, result = (paths["/v1/tenants/{tenant}/commands/{id}" + below] for below in ("/params", "/result"))
    for upload in (params["put"], result["put"]):
        assert upload["requestBody"]["content"]["*/*"]["schema"] == {"type": "string", "format": "binary", "maxLength": limits.BLOB_MAX}
        assert {"Content-Digest", "Repr-Digest", "sha256"} <= {one["name"] for one in upload["parameters"]}
        assert {"404", "408", "409", "413", "415", "422"} <= set(upload["responses"])
    for download in (params["get"], result["get"]):
        assert "application/octet-stream" in download["responses"]["200"]["content"]
    assert "result_blob" in document()["components"]["schemas"]["DidIt"]["properties"]


async def test_a_body_comes_in_pieces_of_bounded_size(store: Store) -> None:
    seen: list[int] = []
    put = store.blobs.put

    async def watched(tenant: str, chunks: AsyncIterator[bytes], **named: Any) -> Any:
        async def passed() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                seen.append(len(chunk))
                yield chunk

        return await put(tenant, passed(), **named)

    store.blobs.put = watched  # type: ignore[method-assign,assignment]
    async with served(store) as server, asking(server) as session:
        made = await created(session, upload=True)
        assert (await said(session, "PUT", f"/commands/{made}/params", data=noise(8 * limits.MIB)))[0] == 200
    assert sum(seen) == 8 * limits.MIB
    assert max(seen) < 3 * limits.HTTP_PIECE

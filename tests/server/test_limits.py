"""What is too large, too slow or too much is refused, while others are served."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from perdure import Engine, Store, limits
from perdure.server.serving import serving
from tests.server.conftest import Served, until
from tests.server.shop import Shop

HEAD = b"POST /v1/tenants/acme/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Raw:
    """A connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader = reader
        self._writer = writer
        self.authorization = f"Authorization: Bearer {token}\r\n".encode()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> bytes:
        """Return everything that comes until the server closes."""
        async with asyncio.timeout(30):
            return await self._reader.read()

    async def status(self) -> int:
        async with asyncio.timeout(30):
            return int((await self._reader.readuntil(b"\r\n\r\n")).split()[1])

    async def close(self) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def raw(local: Served) -> AsyncIterator[Raw]:
    host, port = local.server.url.removeprefix("http://").split(":")
    made = Raw(*await asyncio.open_connection(host, int(port)), local.token)
    yield made
    await made.close()


async def serves(local: Served) -> bool:
    return (await local.deliver("other", "Place", {"order": "1", "amount": 1})).status == 200


async def test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes(local: Served, raw: Raw) -> None:
    await raw.send(HEAD + raw.authorization + b"Content-Length: %d\r\n\r\n" % (limits.HTTP_BODY_MAX + 1))

    assert await raw.status() == 413
    assert await serves(local)


async def test_a_body_that_grows_too_large_is_cut_at_the_limit(local: Served) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 * limits.MIB:
            sent += limits.MIB // 4
            yield b" " * (limits.MIB // 4)

    said = await local.ask("POST", "/v1/tenants/acme/messages", data=endless(), headers={"Content-Type": "application/json"})

    assert (said.status, said.code) == (413, "payload-too-large")
    assert sent < 32 * limits.MIB
    assert await serves(local)


async def test_a_body_up_to_the_limit_is_taken(local: Served) -> None:
    text = "x" * (limits.MESSAGE_MAX - 100)

    said = await local.deliver("m", "greet()", [text])

    assert said.status == 200


async def test_a_message_over_its_limit_is_refused(local: Served) -> None:
    body = io.BytesIO(b'{"id": "m", "kind": "greet()", "payload": ["' + b"x" * limits.MESSAGE_MAX + b'"]}')

    said = await local.ask("POST", "/v1/tenants/acme/messages", data=body, headers={"Content-Type": "application/json"})

    assert (said.status, said.code) == (413, "payload-too-large")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /docs HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * limits.HTTP_HEAD_MAX + b"\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\n" + b"X-Many: yes\r\n" * (limits.HTTP_HEAD_MAX // 13 + 1) + b"\r\n",
        b"GET /" + b"x" * limits.HTTP_HEAD_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: x\r\nX-Never-Ends: " + b"x" * (limits.HTTP_HEAD_MAX + 1),
    ],
)
async def test_a_head_that_is_too_large_is_refused(local: Served, raw: Raw, head: bytes) -> None:
    await raw.send(head)

    said = await raw.end()

    assert said.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"headers-too-large"' in said
    assert await serves(local)


async def test_a_head_that_does_not_come_to_its_end_is_refused(monkeypatch: pytest.MonkeyPatch, local: Served) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_SECONDS", 0.05)
    host, port = local.server.url.removeprefix("http://").split(":")
    slow = Raw(*await asyncio.open_connection(host, int(port)), local.token)
    await slow.send(b"GET /docs HTTP/1.1\r\nHost")

    said = await slow.end()

    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request-too-slow"' in said
    await slow.close()


async def test_a_connection_on_which_nothing_comes_is_closed(monkeypatch: pytest.MonkeyPatch, local: Served) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_SECONDS", 0.05)
    host, port = local.server.url.removeprefix("http://").split(":")
    mute = Raw(*await asyncio.open_connection(host, int(port)), local.token)

    assert b" 408 " in await mute.end()
    await mute.close()


async def test_a_second_head_that_does_not_come_to_its_end_is_refused(monkeypatch: pytest.MonkeyPatch, local: Served, raw: Raw) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_SECONDS", 0.05)
    await raw.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await raw.status() == 200

    await raw.send(b"GET /docs HTTP/1.1\r\nHost")

    assert b"HTTP/1.1 408 " in await raw.end()


async def test_a_body_that_trickles_is_refused_while_others_are_served(monkeypatch: pytest.MonkeyPatch, local: Served, raw: Raw) -> None:
    monkeypatch.setattr(limits, "HTTP_BODY_SECONDS", 0.05)
    await raw.send(HEAD + raw.authorization + b"Content-Length: 100\r\n\r\n{")

    assert await serves(local)
    said = await raw.end()

    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request-too-slow"' in said


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /ü HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    ],
)
async def test_what_is_no_http_is_refused_with_a_problem(local: Served, raw: Raw, sent: bytes) -> None:
    await raw.send(sent)

    said = await raw.end()

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"body-malformed"' in said
    assert await serves(local)


async def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing_behind(local: Served, raw: Raw) -> None:
    await raw.send(HEAD + raw.authorization + b"Content-Length: 100\r\n\r\n{")
    await until(lambda: local.in_flight == 1)

    await raw.close()

    await until(lambda: local.in_flight == 0)
    assert await serves(local)


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(local: Served) -> None:
    await local.deliver("m", "Place", {"order": "7", "amount": 3})
    async with local.waiting_for(local.deliver("p", "Pay", {"order": "7"})):
        await until(lambda: local.in_flight == 1)

    await until(lambda: local.in_flight == 0)


async def test_more_requests_than_the_limit_are_refused_and_the_health_is_told(monkeypatch: pytest.MonkeyPatch, local: Served) -> None:
    monkeypatch.setattr(limits, "HTTP_REQUESTS_MAX", 1)
    await local.deliver("m", "Place", {"order": "7", "amount": 3})
    async with local.waiting_for(local.deliver("p", "Pay", {"order": "7"})):
        await until(lambda: local.in_flight == 1)
        said = await local.ask("GET", "/v1/tenants/acme/processes")
        health = await local.ask("GET", "/health/live", token=None)

    assert (said.status, said.code, said.headers["Retry-After"]) == (503, "overloaded", "1")
    assert health.status == 200


async def test_more_connections_than_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch, local: Served, raw: Raw) -> None:
    await raw.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await raw.status() == 200
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_MAX", 1)
    host, port = local.server.url.removeprefix("http://").split(":")

    reader, writer = await asyncio.open_connection(host, int(port))
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_what_the_server_has_done_is_counted(local: Served) -> None:
    token = await local.new_token("read", tenant="*")
    await serves(local)
    await local.ask("GET", "/nowhere")
    await local.ask("GET", "/v1/tenants/acme/processes", token="pdt_wrong")

    said = await local.ask("GET", "/metrics", token=token)

    assert said.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = said.body.decode().splitlines()
    assert 'perdure_http_requests_total{method="POST",route="/v1/tenants/{tenant}/messages",status="200"} 1' in lines
    assert 'perdure_http_requests_total{method="GET",route="(none)",status="404"} 1' in lines
    assert 'perdure_http_refused_tokens_total{code="token-invalid"} 1' in lines
    assert "perdure_http_requests_in_flight 1" in lines


async def test_a_request_that_does_not_come_to_its_end_holds_up_a_stop_for_so_long_only(
    memory: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "HTTP_STOP_SECONDS", 0.05)
    async with asyncio.timeout(30), Engine(memory, Shop().app) as engine:
        async with serving(engine, dev=True) as server:
            host, port = server.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(HEAD.replace(b"Host: x", b"Host: localhost") + b"Content-Length: 9\r\n\r\n{")
            await until(lambda: server.application.metrics.in_flight == 1)

        assert await reader.read() == b""
        writer.close()

    assert "1 requests were not finished within 0.05 s" in caplog.text

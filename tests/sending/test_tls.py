"""Posting over TLS: who the server is, is known before anything is sent."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from perdure.clock import VirtualClock
from perdure.sending.outcomes import Accepted, Outcome, Refused
from perdure.sending.sender import Sender
from perdure.sending.targets import Allowed
from tests.sending.site import Site, answer


async def to_loopback(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


async def post(url: str, authority: trustme.CA | None = None) -> Outcome:
    tls = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(tls)
    sender = Sender(clock=VirtualClock(), allowed=Allowed(networks=("127.0.0.0/8",)), tls=tls, resolve=to_loopback)
    return await sender.post(url, headers={}, body=b"{}", timeout=20)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, host: str) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(found)
    return found


async def test_a_certificate_of_the_host_is_needed_and_nothing_is_sent_without(authority: trustme.CA) -> None:
    async with Site(answer("200 OK"), tls=server_tls(authority, "hooks.example")) as site:
        assert await post(site.url(host="hooks.example"), authority) == Accepted(200)
        for outcome in (await post(site.url(host="other.example"), authority), await post(site.url(host="hooks.example"))):
            assert isinstance(outcome, Refused)
            assert (outcome.reason, outcome.retryable) == ("tls", False)
            assert "certificate" in outcome.detail

        assert len(site.requests) == 1


async def test_a_server_that_speaks_no_tls_is_a_refusal() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        outcome = await post(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.retryable) == ("tls", False)

"""Posting to real servers on loopback: what arrived, what surely did not, and what nobody knows."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest

from perdure import limits
from perdure.clock import VirtualClock
from perdure.errors import PayloadTooLarge, UsageError
from perdure.sending.outcomes import Accepted, Ambiguous, Outcome, Refused
from perdure.sending.sender import Sender, _only
from perdure.sending.targets import Allowed
from tests.sending.site import Site, answer

LOOPBACK = Allowed(networks=("127.0.0.0/8",))
QUICK = 0.05  # seconds, for what never answers
SECRET_URL = "?token=sesame#sesame"


async def post(url: str, *, timeout: float = 20.0, body: bytes = b"{}", headers: Any = None, **made: Any) -> Outcome:  # noqa: ASYNC109
    sender = Sender(**{"clock": VirtualClock(), "allowed": LOOPBACK, **made})
    outcome = await sender.post(url, headers=headers or {}, body=body, timeout=timeout)
    assert "sesame" not in repr(outcome), "neither secrets of the URL nor answers are told"
    return outcome


class Timeouts:
    """Those of a request, which a test ends when something has happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = asyncio.timeout
        self._made: list[asyncio.Timeout] = []
        self.end_with_the_body = False
        monkeypatch.setattr(asyncio, "timeout", self._make)

    def _make(self, delay: float | None) -> asyncio.Timeout:
        self._made.append(self._real(delay))
        if self.end_with_the_body and delay == limits.SEND_ANSWER_SECONDS:
            self.end()
        return self._made[-1]

    def end(self) -> None:
        self._made[0].reschedule(asyncio.get_running_loop().time())


async def never() -> None:
    await asyncio.Event().wait()


async def test_the_request_is_what_was_given_and_little_more() -> None:
    async with Site(answer("202 Accepted")) as site:
        outcome = await post(
            site.url("/a%2Fb?q=%41&r=a+b"), body=b'{"a": 1}', headers={"Content-Type": "application/json", "webhook-id": "m"}
        )

        assert outcome == Accepted(202)
        [request] = site.requests
        head, _, body = request.partition(b"\r\n\r\n")
        assert body == b'{"a": 1}'
        assert sorted(head.split(b"\r\n")) == sorted(
            [
                b"POST /a%2Fb?q=%41&r=a+b HTTP/1.1",
                f"Host: 127.0.0.1:{site.port}".encode(),
                b"User-Agent: perdure",
                b"Accept: */*",
                b"Content-Type: application/json",
                b"webhook-id: m",
                b"Content-Length: 8",
                b"Connection: close",
            ]
        )


async def test_each_request_has_a_connection_of_its_own() -> None:
    async with Site(answer("200 OK", "Connection: keep-alive", "Set-Cookie: a=b; Path=/")) as site:
        sender = Sender(clock=VirtualClock(), allowed=LOOPBACK)

        for _ in range(3):
            assert await sender.post(site.url(), headers={}, body=b"", timeout=20) == Accepted(200)

        assert site.connections == 3
        assert not [request for request in site.requests if b"Cookie" in request]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 410, 413, 422, 499])
async def test_a_status_of_the_four_hundreds_is_a_refusal_for_good(status: int) -> None:
    async with Site(answer(f"{status} No", "Retry-After: 3", body=b"sesame")) as site:
        outcome = await post(site.url())

    assert outcome == Refused(reason="status", detail=f"http://127.0.0.1:{site.port}/hook: refused with status {status}", status=status)


@pytest.mark.parametrize("status", [408, 425, 429])
async def test_some_refusals_may_be_tried_again(status: int) -> None:
    async with Site(answer(f"{status} Later")) as site, Site(answer(f"{status} Later", "Retry-After: 3")) as waiting:
        outcome, told = await post(site.url()), await post(waiting.url())

    assert isinstance(outcome, Refused)
    assert isinstance(told, Refused)
    assert (outcome.retryable, outcome.retry_after, told.retryable, told.retry_after) == (True, None, True, 3_000_000)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
async def test_a_status_of_the_five_hundreds_says_nothing(status: int) -> None:
    async with Site(answer(f"{status} Oh", body=b"sesame")) as site:
        outcome = await post(site.url())

    assert outcome == Ambiguous(reason="status", detail=f"http://127.0.0.1:{site.port}/hook: answered with status {status}", status=status)


async def test_unavailable_with_a_time_to_come_back_is_a_refusal() -> None:
    async with Site(answer("503 Later", "Retry-After: 7")) as site, Site(answer("500 Oh", "Retry-After: 7")) as broken:
        outcome, other = await post(site.url()), await post(broken.url())

    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.retryable, outcome.retry_after) == (503, True, 7_000_000)
    assert isinstance(other, Ambiguous)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_a_refusal_and_is_not_followed(status: int) -> None:
    async with Site(answer("200 OK")) as other:
        async with Site(answer(f"{status} There", f"Location: {other.url()}?sesame")) as site:
            outcome = await post(site.url())

        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.status, outcome.retryable) == ("redirect", status, False)
        assert other.connections == 0


async def test_a_refused_connection_is_a_refusal() -> None:
    async with Site(b"") as site:
        url = site.url(f"/hook{SECRET_URL}")

    outcome = await post(url)

    assert outcome == Refused(
        reason="not-connected",
        detail=f"http://127.0.0.1:{site.port}/hook: the connection was refused; nothing was sent",
        retryable=True,
    )


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "sesame"), socket.gaierror(socket.EAI_AGAIN, "sesame"), None])
async def test_a_name_without_address_is_a_refusal(error: OSError | None) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("hooks.example", 80)
        if error is not None:
            raise error
        return []

    outcome = await post(f"http://HOOKS.example./{SECRET_URL}", resolve=resolve)

    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.retryable) == ("name-not-found", True)


async def test_the_system_looks_up_a_name() -> None:
    async with Site(answer("200 OK")) as site:
        assert await post(site.url(host="localhost"), allowed=Allowed(hosts=("localhost",))) == Accepted(200)


async def test_who_answers_nothing_in_time_is_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = Timeouts(monkeypatch)

    async def mute(*_: object) -> None:
        timeouts.end()
        await never()

    async with Site(mute) as site:
        outcome = await post(site.url(f"/hook{SECRET_URL}"), timeout=20)

    assert outcome == Ambiguous(reason="timed-out", detail=f"http://127.0.0.1:{site.port}/hook: no answer within 20 s, after sending began")


async def test_a_time_that_ends_before_a_connection_is_there_is_a_refusal() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await never()
        raise AssertionError

    async with Site(b"") as mute:
        looking_up = await post("http://hooks.example/", timeout=QUICK, resolve=resolve)
        shaking_hands = await post(mute.url().replace("http:", "https:"), timeout=QUICK)

    for outcome in (looking_up, shaking_hands):
        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.retryable) == ("timed-out", True)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
        b"sesame\r\n\r\n",
        b"HTTP/1.1 999999 sesame\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: sesame\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
    ids=range(7),
)
async def test_an_answer_that_is_none_is_ambiguous(reply: bytes) -> None:
    async with Site(reply) as site:
        outcome = await post(site.url())

    assert isinstance(outcome, Ambiguous)
    assert (outcome.reason, outcome.status) == ("cut-off", None)


async def test_a_connection_that_is_reset_after_sending_is_ambiguous() -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with Site(reset) as site:
        outcome = await post(site.url())

    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "cut-off"


async def test_the_status_counts_whatever_becomes_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEND_ANSWER_SECONDS", QUICK)

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await never()

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"a" * 65_536)
            await writer.drain()

    for reply in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nsesame",
        mute,
        endless,
    ):
        async with Site(reply) as site:
            assert await post(site.url()) == Accepted(200)


async def test_the_status_counts_when_the_time_ends_within_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = Timeouts(monkeypatch)
    timeouts.end_with_the_body = True

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await never()

    async with Site(mute) as site:
        assert await post(site.url()) == Accepted(200)


# --- where it goes -----------------------------------------------------------------------------------------


async def test_nobody_is_connected_to_who_is_not_allowed() -> None:
    async with Site(answer("200 OK")) as site:
        for url in (
            site.url(),
            site.url(host="localhost"),
            site.url(host="[::ffff:127.0.0.1]"),
            site.url(host="2130706433"),
            site.url(host="127.1"),
        ):
            outcome = await post(url, allowed=Allowed())
            assert isinstance(outcome, Refused)
            assert (outcome.reason, outcome.retryable) == ("target", False)

        assert site.connections == 0


async def test_a_name_is_looked_up_once_and_only_what_was_checked_is_connected_to() -> None:
    answers = [["10.0.0.1", "::1", "127.0.0.1", "169.254.169.254"], ["169.254.169.254"]]

    async def rebinding(_host: str, _port: int) -> list[str]:
        return answers.pop(0)

    async with Site(answer("200 OK")) as site:
        assert await post(site.url(host="hooks.example"), resolve=rebinding) == Accepted(200)
        assert b"Host: hooks.example" in site.requests[0]
        assert len(answers) == 1

        outcome = await post(site.url(host="hooks.example"), resolve=rebinding)

        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.retryable, site.connections) == ("target", False, 1)
        assert "169.254.169.254 is no address of the public internet" in outcome.detail


def test_no_socket_is_made_for_an_address_that_was_not_checked() -> None:
    make = _only(["127.0.0.1"])

    make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))).close()
    with pytest.raises(PermissionError):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", 80)))


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Site(answer("500 Proxy")) as proxy, Site(answer("200 OK")) as site:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))

        assert await post(site.url()) == Accepted(200)
        assert proxy.connections == 0


def test_perdure_is_imported_without_the_http_client() -> None:
    program = "import perdure, sys; sys.exit('aiohttp' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- what callers do wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"a": "b\r\nc: d"},
        {"a b": "c"},
        {"": "a"},
        {"a": "ü"},
        {"Host": "x"},
        {"content-length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"a": 1},
    ],
)
async def test_headers_that_are_none_are_errors_of_the_caller(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        await post("http://127.0.0.1/", headers=headers)


async def test_sizes_and_times_have_limits() -> None:
    with pytest.raises(PayloadTooLarge):
        await post("http://127.0.0.1/", body=b"a" * (limits.SEND_BODY_MAX + 1))
    with pytest.raises(UsageError):
        await post("http://127.0.0.1/", headers={f"h{n}": "a" * 1_000 for n in range(9)})
    for timeout in (0, -1, float("nan"), float("inf"), limits.SEND_SECONDS_MAX + 1):
        with pytest.raises(UsageError):
            await post("http://127.0.0.1/", timeout=timeout)


async def test_only_so_many_requests_are_under_way_and_waiting_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEND_CONNECTIONS", 1)
    arrived = asyncio.Event()

    async def mute(*_: object) -> None:
        arrived.set()
        await never()

    async with Site(mute) as site:
        sender = Sender(clock=VirtualClock(), allowed=LOOPBACK)
        first = asyncio.create_task(sender.post(site.url(), headers={}, body=b"", timeout=20))
        await arrived.wait()

        outcome = await sender.post(site.url(), headers={}, body=b"", timeout=QUICK)

        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.retryable, site.connections) == ("timed-out", True, 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

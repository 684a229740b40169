"""`perdure serve`, as a process that is stopped and killed."""

from __future__ import annotations

import asyncio
import signal
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from perdure import open_store
from perdure.tokens.contract import Grant
from tests.server.conftest import until
from tests.server.running import client, running, start
from tests.stores import DURABLE, store_url

PATH = "/v1/tenants/acme/messages?wait_ms="
LONG, SHORT = 30_000, 4_000  # milliseconds to wait for a reply; for so long a request that a kill cut off may be under way
CHARGE = {"id": "m", "kind": "charge()", "payload": [3]}


@pytest.fixture(params=DURABLE)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_url(request, request.param, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


async def post(session: aiohttp.ClientSession, key: str, body: Any = CHARGE, *, wait_ms: int = LONG) -> tuple[int, bytes]:
    async with session.post(f"{PATH}{wait_ms}", json=body, headers={"Idempotency-Key": key}) as response:
        return response.status, await response.read()


async def test_a_request_that_a_kill_cut_off_is_done_once_and_answered_alike_ever_after(tmp_path: Path, store: str) -> None:
    (tmp_path / "hold").touch()
    async with running(tmp_path, store, "--dev") as server, client(server) as session:
        cut_off = asyncio.create_task(post(session, '"k"', wait_ms=SHORT))
        await until((tmp_path / "holding").exists)
        server.kill()
        with pytest.raises(aiohttp.ClientError):
            await cut_off
    (tmp_path / "hold").unlink()

    answers: list[tuple[int, bytes]] = []
    async with running(tmp_path, store, "--dev") as server, client(server) as session:
        while len(answers) < 2:
            answer = await post(session, '"k"', wait_ms=SHORT)
            answers += [answer] if answer[0] != 409 else []
        server.kill()
    async with running(tmp_path, store, "--dev") as server, client(server) as session:
        answers.append(await post(session, '"k"', wait_ms=SHORT))
        other = await post(session, '"k"', {**CHARGE, "payload": [4]}, wait_ms=SHORT)

    assert len(set(answers)) == 1
    assert answers[0][0] == 200
    assert b'"value":{"charged":3}' in answers[0][1]
    assert (tmp_path / "ledger").read_text() == "3\n"
    assert other[0] == 422


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_stops_ends_long_polls_at_once_and_finishes_what_is_under_way(
    tmp_path: Path, file: str, number: signal.Signals
) -> None:
    (tmp_path / "hold").touch()
    async with running(tmp_path, file, "--dev") as server, client(server) as session, AsyncExitStack() as stack:
        polls = asyncio.create_task(post(session, '"k"'))
        await until((tmp_path / "holding").exists)
        asked = session.get("/v1/tenants/acme/processes/m/events", headers={"Accept": "text/event-stream"})
        stream = await stack.enter_async_context(asked)
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        stack.callback(writer.close)
        body = b'{"id": "n", "kind": "charge()", "payload": [4]}'
        head = f"POST /v1/tenants/acme/messages HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:9])
        async with session.get("/metrics") as response:  # what was sent before is there now
            assert "in_flight 4" in await response.text()

        server.stop(number)

        status, _ = await polls
        await stream.content.read()
        writer.write(body[9:])
        finished = await reader.read()
        code, errors = await server.end()

    assert status == 202
    assert finished.startswith(b"HTTP/1.1 202 ")
    assert (code, errors) == (0, "")


async def _under_way(session: aiohttp.ClientSession, count: int) -> bool:
    async with session.get("/metrics") as response:
        return f"perdure_http_requests_in_flight {count + 1}\n" in await response.text()


async def test_without_dev_a_token_is_asked_for(tmp_path: Path, file: str) -> None:
    async with running(tmp_path, file) as server, client(server) as session:
        assert (await post(session, '"k"'))[0] == 401
        async with open_store(file) as store:
            token = (await store.tokens.create("c", [Grant("deliver")], tenant="acme")).text
        session.headers["Authorization"] = f"Bearer {token}"

        assert (await post(session, '"k"'))[0] == 200
        server.stop()
        assert await server.end() == (0, "")


async def test_tls_is_spoken_with_a_certificate(tmp_path: Path, file: str) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with (
        running(tmp_path, file, "--dev", "--tls-cert", "cert.pem") as server,
        client(server) as session,
        session.get("/health/ready", ssl=trusting) as response,
    ):
        assert (server.url[:8], response.status) == ("https://", 200)


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["--app", "ledger_app:app"], 2, "error [config-invalid]: store is missing"),
        (["--app", "nothing:app", "--store", "sqlite:///a.db"], 2, "error [config-invalid]: app: 'nothing:app'"),
        (["--app", "ledger_app:nothing", "--store", "sqlite:///a.db"], 2, "expected a perdure.App"),
        (["--app", "ledger_app", "--store", "sqlite:///a.db"], 2, "MODULE:NAME"),
        (["--app", "ledger_app:app", "--store", "moon://"], 2, "error [unknown-scheme]"),
        (["--app", "ledger_app:app", "--store", "sqlite:///a.db", "--dev", "--host", "0.0.0.0"], 2, "only loopback"),
        (["--app", "ledger_app:app", "--store", "sqlite:///a.db", "--tls-cert", "none.pem"], 2, "none.pem"),
        (["--app", "ledger_app:app", "--store", "sqlite:///a.db", "--host", "192.0.2.1"], 2, "cannot be listened on"),
        (["--config", "none.toml"], 2, "none.toml"),
    ],
)
async def test_what_cannot_be_served_is_told_in_one_line(tmp_path: Path, arguments: list[str], status: int, named: str) -> None:
    process = await start(tmp_path, *arguments)
    out, errors = await process.communicate()

    assert (process.returncode, out) == (status, b"")
    assert named in errors.decode()
    assert "Traceback" not in errors.decode()

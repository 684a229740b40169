"""`Idempotency-Key` across two servers on one database: whoever is asked, and whoever is killed, there is one effect and one answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.server.conftest import until
from tests.server.running import Running, running
from tests.stores import store_url

DUPLICATES = 1_000
CONNECTIONS = 200  # of each server
CHARGE = {"id": "m", "kind": "charge()", "payload": [3]}
PICK = {"deployment": "acme", "target": "warehouse-7", "command": "pick", "params": {"order": "7"}}
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
MESSAGES, COMMANDS = "/v1/tenants/acme/messages", "/v1/tenants/acme/commands"


class Pair:
    """Two servers on one database, and what they have answered."""

    def __init__(self, servers: list[Running], sessions: list[aiohttp.ClientSession]) -> None:
        self.servers = servers
        self.sessions = sessions
        self.answers: Counter[tuple[int, bytes]] = Counter()
        self.running = 0  # times that somebody was told to come again

    async def post(self, path: str, body: Any, *, at: int) -> None:
        """Send a request until it is answered, to the other server when the one does not live."""
        while True:
            try:
                async with self.sessions[at].post(path, json=body, headers=KEY) as response:
                    answer = response.status, await response.read()
            except aiohttp.ClientError:
                at = 1 - at
                continue
            if answer[0] != 409:
                self.answers[answer] += 1
                return
            assert b'"idempotency-key-in-use"' in answer[1]
            self.running += 1

    async def flood(self, path: str, body: Any, *, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        """Send the same request many times, to both, and do something meanwhile."""
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for number in range(DUPLICATES):
                group.create_task(self.post(path, body, at=number % 2))
            if meanwhile is not None:
                await meanwhile()

    async def get(self, path: str) -> Any:
        async with self.sessions[1].get(path) as response:
            return await response.json()


@pytest.fixture
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    store = store_url(request, "postgres", tmp_path)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(tmp_path, store, "--dev")) for _ in range(2)]
        sessions = [
            await stack.enter_async_context(aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=CONNECTIONS)))
            for server in servers
        ]
        yield Pair(servers, sessions)


async def test_a_thousand_messages_at_two_servers_are_one_effect_and_one_answer(pair: Pair, tmp_path: Path) -> None:
    await pair.flood(f"{MESSAGES}?wait_ms=30000", CHARGE)

    assert list(pair.answers.values()) == [DUPLICATES]
    [(status, body)] = pair.answers
    assert (status, b'"value":{"charged":3}' in body) == (200, True)
    assert (tmp_path / "ledger").read_text() == "3\n"


async def test_a_thousand_commands_at_two_servers_are_one_command_and_one_answer(pair: Pair) -> None:
    await pair.flood(COMMANDS, PICK)

    assert list(pair.answers.values()) == [DUPLICATES]
    assert [status for status, _ in pair.answers] == [201]
    assert len((await pair.get(COMMANDS))["commands"]) == 1


async def test_a_message_whose_server_is_killed_is_one_effect_and_one_answer(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()

    async def kill() -> None:
        await until(lambda: pair.running > 0)  # some have been told that the first one is under way
        pair.servers[0].kill()
        (tmp_path / "hold").unlink()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(pair.post(f"{MESSAGES}?wait_ms=2000", CHARGE, at=0))
        await until((tmp_path / "holding").exists)
        await pair.flood(f"{MESSAGES}?wait_ms=2000", CHARGE, meanwhile=kill)
        await first

    assert list(pair.answers.values()) == [DUPLICATES + 1]
    done = await pair.get(f"{MESSAGES}/m?wait_ms=30000")
    assert done["reply"] == {"outcome": "ok", "value": {"charged": 3}}
    assert (tmp_path / "ledger").read_text() == "3\n"


async def test_commands_whose_server_is_killed_are_one_command_and_one_answer(pair: Pair) -> None:
    async def kill() -> None:
        await until(lambda: pair.answers.total() > 0)
        pair.servers[0].kill()

    await pair.flood(COMMANDS, PICK, meanwhile=kill)

    assert list(pair.answers.values()) == [DUPLICATES]
    assert len((await pair.get(COMMANDS))["commands"]) == 1


async def test_another_body_is_refused_by_the_other_server(pair: Pair) -> None:
    await pair.post(COMMANDS, PICK, at=0)

    await pair.post(COMMANDS, {**PICK, "params": {"order": "8"}}, at=1)

    assert sorted(status for status, _ in pair.answers) == [201, 422]
    assert len((await pair.get(COMMANDS))["commands"]) == 1

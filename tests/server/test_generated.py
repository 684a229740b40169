"""Requests that Schemathesis makes of the server's own OpenAPI document: what fits is not refused, what does not is, and all is as described."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from perdure import open_store
from perdure.tokens.contract import CAPABILITIES, WORK, Grant
from tests.deploying.shops import identity, shop
from tests.gate.tree import ROOT
from tests.server.running import client, running

KNOWN = "PERDURE_TEST_KNOWN"  # the hooks of `tests.server.generated` read it
MADE = 5  # of each kind
ARCHIVE = shop(1, "Shop")  # whose type is none of the app's
APP = """
import msgspec

import perdure
from perdure import limits

limits.HTTP_ATTEMPTS_MAX = 1_000_000  # with each request that succeeds comes one with an invalid token

app = perdure.App("shop")


class Place(msgspec.Struct):
    order: str
    amount: int


@app.process
class Order(perdure.Process):
    total: int = 0

    @perdure.on(Place, key=lambda message: f"order/{message.order}", start=True)
    async def place(self, message: Place) -> int:
        self.total += message.amount
        return self.total

    @perdure.query
    def summary(self) -> int:
        return self.total
"""
SOAK_REQUESTS = int(os.environ.get("PERDURE_SOAK_REQUESTS", "5000"))
GATE = ("--phases", "examples,fuzzing", "--max-examples", "15", "--generation-deterministic")
SOAK = ("--generation-database", "none", "--max-examples", str(max(1, SOAK_REQUESTS // 25)))


@pytest.mark.parametrize(
    ("arguments", "least"), [(GATE, 300), pytest.param(SOAK, SOAK_REQUESTS, marks=pytest.mark.soak)], ids=["gate", "soak"]
)
async def test_the_server_does_what_its_document_says(tmp_path: Path, arguments: tuple[str, ...], least: int) -> None:
    (tmp_path / "shop_app.py").write_text(APP)
    store = f"sqlite:///{tmp_path / 'store.db'}"
    async with running(tmp_path, store, app="shop_app:app") as server:
        async with open_store(store) as opened:
            grants = [Grant(one) for one in CAPABILITIES if one != WORK]
            token = (await opened.tokens.create("generated", [*grants, Grant(WORK, "acme", "warehouse-7")], tenant="*")).text
        async with client(server) as session:
            session.headers["Authorization"] = f"Bearer {token}"
            known = await _fill(session)
            said, status = await _schemathesis(tmp_path, f"{server.url}/openapi.json", token, known, *arguments)
            requests = await _answered(session)
        server.stop()
        ended, errors = await server.end()

    assert status == 0, said
    assert requests >= least, said
    assert (ended, "Traceback" in errors) == (0, False), errors


async def _fill(session: aiohttp.ClientSession) -> dict[str, list[str]]:
    """Make things, some of them of the names that the document's examples have, and return their ids."""
    known: dict[str, list[str]] = {"messages": [], "processes": [], "commands": [], "dead-letters": []}
    async with session.post("/v1/packages?no_load=true", data=ARCHIVE, headers={"Content-Type": "application/zip"}) as response:
        assert response.ok, await response.text()
    known |= {"archive": [base64.b64encode(ARCHIVE).decode()], "hash": [identity(ARCHIVE)], "type": ["Shop"]}
    for number in range(7, 7 + MADE):
        message = {"id": f"order-{number}", "kind": "Place", "payload": {"order": "7", "amount": 1}}
        started = {**message, "to": {"way": "start", "process_type": "Order", "process_id": f"order-{number}"}}
        said = await _post(session, "messages?wait_ms=30000", started)
        known["messages"].append(said["message_id"])
        known["processes"].append(said["process_id"])
        to = {"way": "key", "key": "nobody"}
        dead = await _post(session, "messages?wait_ms=30000", {**message, "id": f"dead-{number}", "to": to, "expires_after_ms": 1})
        known["dead-letters"].append(dead["message_id"])
        command = {"deployment": "acme", "target": "warehouse-7", "command": "pick", "params": number}
        known["commands"].append((await _post(session, "commands", command))["command_id"])
    return known


async def _post(session: aiohttp.ClientSession, path: str, body: Any) -> Any:
    async with session.post(f"/v1/tenants/acme/{path}", json=body) as response:
        assert response.ok, await response.text()
        return await response.json()


async def _answered(session: aiohttp.ClientSession) -> int:
    """Return how many requests the server has answered, and see that it failed at none."""
    async with session.get("/metrics") as response:
        lines = re.findall(r'perdure_http_requests_total{.*status="(\d+)"} (\d+)', await response.text())
    assert not [status for status, _ in lines if status >= "500"]
    return sum(int(count) for _, count in lines)


async def _schemathesis(folder: Path, url: str, token: str, known: dict[str, list[str]], *arguments: str) -> tuple[str, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "schemathesis.cli", "run", url, "--header", f"Authorization: Bearer {token}", "--checks", "all"),
        *("--continue-on-failure", "--no-color", "--suppress-health-check", "all"),
        *arguments,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.server.generated", KNOWN: json.dumps(known)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(), process.returncode or 0
